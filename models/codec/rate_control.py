"""Which layers and quantiser steps a face gets, so that its payload stays within a ceiling of bytes.

The latents' coordinates are equally visible (see models.decoder), so the squared error of the latents stands for the
distortion: of all choices of layers and steps that fit, the one with the least error is taken. Bits come from the
tables, and the real coder has the last word.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.models.codec.bitstream import HEADER, SECTION, SPREAD, Tables, write_base, write_layer
from mien.models.codec.decoder import BASE, FaceDecoder, Latents, Symbols

# The share of a step from which on a value is rounded up, less 1: small symbols cost more bits than they are worth. The
# others let a payload fill its ceiling, where the next finer step does not fit.
ROUND_UP, ROUNDINGS = 0.4, (0.4, 0.34, 0.28, 0.46)
# What an error counts, by layer: the grids' coordinates are less visible than their scales say (by 0.25 the style layer
# gets its share of 1,200 bytes, by 1 the grids take them all and the person is less alike).
WEIGHTS = (1.0, 1.0, 0.25, 0.25)
BASE_BYTES = 64  # of the base section at most, so that it stands alone in as many


@dataclass(frozen=True)
class Allocation:
    """What is written of one face: the symbols of each layer (None: left out), their steps and rows of tables.

    coded: the symbols' bytes, b"" for a layer that is left out; empty where only the estimate was asked for.
    """

    symbols: tuple[Symbols | None, ...]
    steps: tuple[int, ...]
    rows: tuple[int, ...]
    coded: tuple[bytes, ...] = ()

    @property
    def layers(self) -> tuple[int, ...]:
        """Those that are written."""
        return tuple(i for i, symbols in enumerate(self.symbols) if symbols is not None)

    def dequantised(self, decoder: FaceDecoder) -> Latents:
        """The latents that the symbols stand for."""
        return decoder.dequantise(self.symbols, self.steps)

    def payload(self, decoder: FaceDecoder, score: int = 0) -> bytes:
        """The bytes; score: 0 to 255, how well they stand for the face."""
        found = write_base(self.coded[BASE], self.steps[BASE], score, decoder.number)
        for i in self.layers[1:]:
            found = write_layer(found, i, self.coded[i], self.steps[i], self.rows[i] - self.steps[i] - SPREAD)
        return found


@dataclass(frozen=True)
class _Curve:
    """What a layer may become, with steps and roundings, and left out (last; not for the base layer)."""

    bytes: NDArray[np.float64]
    errors: NDArray[np.float64]
    symbols: list[Symbols | None]
    steps: list[int]
    rows: list[int]


Curves: TypeAlias = dict[int, _Curve]  # by layer


def _quantise(values: NDArray[np.float32], step: float, round_up: float) -> Symbols:
    found: Symbols = (np.sign(values) * np.floor(np.abs(values) / step + round_up)).astype(np.int32)
    return found


def _curve(
    values: NDArray[np.float32],
    tables: Tables,
    steps: NDArray[np.float32],
    colours: Symbols | None,
    roundings: Sequence[float],
    weight: float,
    finest: int,
) -> _Curve:
    """colours: behind the symbols of the base layer, whose tables are always those of its step; None elsewhere."""
    lengths, errors, chosen, rows = [], [], [], []
    found: list[Symbols | None] = []
    for step in range(finest, len(steps)):
        several = np.stack([_quantise(values, steps[step], round_up) for round_up in roundings])
        if colours is None:
            best, bits = tables.best_rows(several, step)
        else:
            several = np.column_stack([several, np.tile(colours, (len(several), 1))])
            best, bits = np.full(len(several), step + SPREAD), np.full(len(several), np.inf)
        if (lossy := np.isinf(bits)).any():
            row = step + SPREAD
            several[lossy] = tables.clip(several[lossy], row)
            bits[lossy] = tables.estimates(several[lossy], row)
        sizes = bits / 8 + (HEADER.size if colours is not None else SECTION)
        lengths += [size if colours is None or size < BASE_BYTES else math.inf for size in sizes.tolist()]
        missed = values - several[:, : len(values)] * steps[step]
        errors += [weight * float(one) for one in np.square(missed).sum(1)]
        found += list(several)
        chosen += [step] * len(several)
        rows += best.tolist()
    if colours is None:
        lengths.append(0.0)
        errors.append(weight * float(np.square(values).sum()))
        found.append(None)
        chosen.append(0)
        rows.append(0)
    return _Curve(np.array(lengths), np.array(errors), found, chosen, rows)


def enhancements(decoder: FaceDecoder, latents: Latents, exact: bool = True, finest: int = 0) -> Curves:
    """What may become of the layers above the base layer, for allocate(): the same whatever colours and ceiling."""
    values = ((i, layer) for i, layer in enumerate(latents.layers) if i != BASE and layer is not None)
    return {i: _layer_curve(decoder, i, layer.detach().numpy(), None, exact, finest) for i, layer in values}


def _layer_curve(
    decoder: FaceDecoder, layer: int, values: NDArray[np.float32], colours: Symbols | None, exact: bool, finest: int
) -> _Curve:
    roundings = ROUNDINGS if exact else (ROUND_UP,)
    return _curve(values, decoder.tables[layer], decoder.steps, colours, roundings, WEIGHTS[layer], finest)


def allocate(
    decoder: FaceDecoder,
    latents: Latents,
    colours: Symbols,
    ceiling: int,
    exact: bool = True,
    finest: int = 0,
    above: Curves | None = None,
) -> Allocation:
    """The layers and steps with the least error of the latents whose payload has at most `ceiling` bytes.

    colours: (4,) the base layer's last symbols. exact: by the real coder, else by the tables' estimate alone, which is
    quicker and a byte or two off. finest: step of the enhancement layers, for latents that are not known any better.
    above: enhancements() of the same latents, where they are known.
    ValueError where not even the coarsest base layer fits.
    """
    base = latents.layers[BASE]
    assert base is not None
    values = (base.detach() - decoder.centre).numpy()
    curves = {BASE: _layer_curve(decoder, BASE, values, colours, exact, 0)}
    curves |= enhancements(decoder, latents, exact, finest) if above is None else above
    choices, lengths, _ = _combinations(curves)
    # now and then the coder needs a little less than the estimate, more often up to a byte a layer more
    for i in np.flatnonzero(lengths <= ceiling + 1)[::-1]:
        found = _allocation(curves, choices[i], len(latents.layers))
        if not exact:
            return found
        coded = tuple(
            b"" if symbols is None else decoder.tables[layer].code(symbols, row)
            for layer, (symbols, row) in enumerate(zip(found.symbols, found.rows, strict=True))
        )
        found = dataclasses.replace(found, coded=coded)
        if len(coded[BASE]) + HEADER.size <= BASE_BYTES and len(found.payload(decoder)) <= ceiling:
            return found
    raise ValueError(f"this face does not fit {ceiling} bytes")


def _combinations(curves: dict[int, _Curve]) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Choices of a step a layer, in the order of the curves, their bytes and errors: none is outdone."""
    choices, lengths, errors = np.zeros((1, 0), np.intp), np.zeros(1), np.zeros(1)
    for curve in curves.values():
        lengths = np.add.outer(lengths, curve.bytes).ravel()
        errors = np.add.outer(errors, curve.errors).ravel()
        steps = len(curve.bytes)
        choices = np.column_stack([np.repeat(choices, steps, 0), np.tile(np.arange(steps), len(choices))])
        order = np.lexsort((errors, lengths))
        before = np.minimum.accumulate(np.concatenate([[np.inf], errors[order][:-1]]))
        order = order[errors[order] < before]
        choices, lengths, errors = choices[order], lengths[order], errors[order]
    return choices, lengths, errors


def _allocation(curves: dict[int, _Curve], choice: NDArray[np.intp], layers: int) -> Allocation:
    symbols: list[Symbols | None] = [None] * layers
    steps, rows = [0] * layers, [0] * layers
    for (layer, curve), index in zip(curves.items(), choice, strict=True):
        symbols[layer] = curve.symbols[index]
        if symbols[layer] is not None:
            steps[layer], rows[layer] = curve.steps[index], curve.rows[index]
    return Allocation(tuple(symbols), tuple(steps), tuple(rows))


def rate(decoder: FaceDecoder, latents: Latents, steps: Mapping[int, int], rows: Mapping[int, int]) -> Tensor:
    """Bits of the unrounded latents at the steps and rows of tables of the layers that these name, differentiable.

    Between two symbols the tables' bits are interpolated.
    """
    total = torch.zeros(())
    for layer, step in steps.items():
        values = latents.layers[layer]
        assert values is not None
        values = values - decoder.centre if layer == BASE else values
        tables, row = decoder.tables[layer], rows[layer]
        places = torch.from_numpy(tables.places(row)[: len(values)])
        limits = torch.from_numpy(tables.limits[tables.classes[row]][: len(values)])
        size = (values.abs() / float(decoder.steps[step])).minimum(limits)
        low = size.detach().floor().long()
        bits = torch.from_numpy(tables.bits).float()
        below, above = bits[places + low], bits[places + (low + 1).minimum(limits)]
        total = total + (below + (above - below) * (size - low)).sum()
    return total
