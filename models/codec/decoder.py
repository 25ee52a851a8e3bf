"""From payloads to pictures: the latents of a face, layer by layer, and what they change in the generator.

    base     w, one style vector, in the basis of training.basis; four symbols for the colours of the whole picture
    style    what the 23 style vectors are apart from w, in a basis of directions learned in training.layers
    grid 16  what is added to the generator's features at 16 x 16 px, a few learned channels at each place
    grid 32  the same at 32 x 32 px

All coordinates are scaled so that a step of one size is equally visible everywhere: an encoder may use one quantiser
step for all of them, and the squared error of the latents stands for what is seen.
"""

import copy
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mien.models.codec.bitstream import LAYERS, SPREAD, Header, Tables, decode_section, read_header
from mien.models.codec.generator import STYLES, Generator
from mien.models.errors import WrongModelError
from mien.models.runtime import multiplies_bfloat16
from mien.models.weights import codec_name, codec_number, read_weights

Symbols = NDArray[np.int32]

BASE, STYLE, GRID_16, GRID_32 = range(len(LAYERS))
GRIDS = {GRID_16: 16, GRID_32: 32}  # layer -> px of the features it adds to
COLOURS = 4  # symbols after the base layer's latents: saturation, and the log gains of R, G, B
SATURATIONS, GAIN_STEP = 8, 0.03


@dataclass(frozen=True)
class Latents:
    """The latents of one face. layers: of base, style and grids, 1-d each, None where there is none.

    colours: (4,) factor on the distance from grey, log gains of R, G, B.
    """

    layers: tuple[Tensor | None, ...]
    colours: Tensor


class FaceDecoder:
    """The generator, bases and tables of one model."""

    def __init__(self, base: bytes, layers: bytes) -> None:
        """base, layers: the files decoder.safetensors and layers.safetensors."""
        self.number = codec_number(base, layers)
        self.model = codec_name(self.number)
        tensors, more = read_weights(base), read_weights(layers)
        for name in ("tables.counts", "tables.offsets", "tables.classes", "steps", "basis.centre"):
            tensors.pop(name, None)  # of a base layer that stood alone; layers.safetensors has its own
        self.mean, self.synthesis = (tensors.pop(f"basis.{name}").float() for name in ("mean", "synthesis"))
        self.tables = tuple(read_tables(more, name, 0 if i else COLOURS) for i, name in enumerate(LAYERS))
        self.steps, self.centre = more["steps"].numpy(), more["base.centre"]
        self.styles = more["style.styles"]
        self.style = more["style.basis"]
        self.grids = {
            layer: (more[f"grid{px}.channels"].float(), more[f"grid{px}.places"].float()) for layer, px in GRIDS.items()
        }
        self.generator = Generator().eval().requires_grad_(False)
        self.generator.load_state_dict({name: value.float() for name, value in tensors.items()})
        self.generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    def read(self, payload: bytes) -> tuple[Header, Latents]:
        """The header and latents of a payload of this model; a PayloadError for other bytes."""
        header = read_header(payload)
        if header.model != self.number:
            raise WrongModelError(f"the coded face needs model {header.model:04x}, loaded is {self.number:04x}")
        found: list[Symbols | None] = [None] * len(LAYERS)
        steps = [0] * len(LAYERS)
        for section in header.sections:
            found[section.layer] = decode_section(section, self.tables[section.layer])
            steps[section.layer] = section.step
        return header, self.dequantise(found, steps)

    def dequantise(self, symbols: Sequence[Symbols | None], steps: Sequence[int]) -> Latents:
        """Symbols and steps of each layer to latents; those of the base layer have the colours behind them."""
        base, *layers = (
            None if found is None else torch.from_numpy(found.astype(np.float32) * self.steps[step])
            for found, step in zip(symbols, steps, strict=True)
        )
        colours = symbols[BASE]
        assert base is not None
        assert colours is not None
        return Latents((self.centre + base[:-COLOURS], *layers), colour_values(colours[-COLOURS:]))

    def draw(self, latents: Sequence[Latents], size: int, tinted: bool = True) -> Tensor:
        """N faces as (N, 3, size, size) in -1..1; tinted: with their colours put right. Differentiable."""
        return self._draw(self.generator, torch.float32, latents, size, tinted)

    def sketch(self, latents: Sequence[Latents], size: int, tinted: bool = True) -> Tensor:
        """draw() to be looked at by the encoder only: where the processor multiplies bfloat16, in that type.

        In half the time, and by 0.3 grey levels of 255 off on average.
        """
        if not multiplies_bfloat16():
            return self.draw(latents, size, tinted)
        return self._draw(self._sketching, torch.bfloat16, latents, size, tinted)

    @functools.cached_property
    def _sketching(self) -> Generator:
        found: Generator = copy.deepcopy(self.generator).bfloat16()
        return found.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    def _draw(
        self, generator: Generator, dtype: torch.dtype, latents: Sequence[Latents], size: int, tinted: bool
    ) -> Tensor:
        w = torch.cat([self._styles(one) for one in latents]).to(dtype)
        grids = {px: maps for layer, px in GRIDS.items() if (maps := self._maps(latents, layer, px)) is not None}
        face: Tensor = generator(w, size, {px: maps.to(dtype) for px, maps in grids.items()}).float().clamp(-1, 1)
        return tint(face, torch.stack([one.colours for one in latents])) if tinted else face

    def _styles(self, latents: Latents) -> Tensor:
        """(1, 23, 512) style vectors."""
        base, style = latents.layers[BASE], latents.layers[STYLE]
        assert base is not None
        w = (self.mean + base @ self.synthesis).expand(1, STYLES, -1)
        if style is None:
            return w
        return w.index_add(1, self.styles, (style @ self.style).view(1, len(self.styles), -1))

    def _maps(self, latents: Sequence[Latents], layer: int, px: int) -> Tensor | None:
        """(N, channels, px, px) that a grid layer adds; None where no face has that layer."""
        grids = [one.layers[layer] for one in latents]
        if all(grid is None for grid in grids):
            return None
        channels, places = self.grids[layer]
        empty = torch.zeros(channels.shape[1], px * px)
        maps = [
            empty if grid is None else channels.T @ grid.view(len(channels), len(places)) @ places for grid in grids
        ]
        return torch.stack(maps).view(len(grids), -1, px, px).contiguous(memory_format=torch.channels_last)


def read_tables(tensors: Mapping[str, Tensor], name: str, colours: int) -> Tables:
    """Tables of a layer by its name.

    A symbol's class falls by one a step; the last class is for the colours, whatever the step.
    """
    name = name.replace(" ", "")
    counts, offsets = tensors[f"{name}.counts"].numpy().view(np.uint16), tensors[f"{name}.offsets"].numpy()
    rows = np.arange(-SPREAD, len(tensors["steps"]) + SPREAD)
    last = len(offsets) - 2
    widest = last - bool(colours)
    classes = np.clip(tensors[f"{name}.levels"].numpy()[None] - rows[:, None], 0, widest)
    classes = np.concatenate([classes, np.full((len(rows), colours), last)], 1)
    return Tables(counts, offsets, classes.astype(np.uint8), SPREAD)


def colour_values(symbols: Symbols) -> Tensor:
    """The four symbols as (4,): the factor on the distance from grey, log gains of R, G, B."""
    saturation = max(0.0, 1 + float(symbols[0]) / SATURATIONS)
    return torch.tensor([saturation, *(float(s) * GAIN_STEP for s in symbols[1:])])


def colour_symbols(colours: Tensor) -> Symbols:
    """The symbols nearest to (4,) colours."""
    found = colours.detach().numpy()
    return np.rint([(found[0] - 1) * SATURATIONS, *(found[1:] / GAIN_STEP)]).astype(np.int32)


def tint(face: Tensor, colours: Tensor) -> Tensor:
    """(B, 3, S, S) in -1..1 with (B, 4) colours: a factor on the distance from grey, then log gains; black stays."""
    light = face + 1
    grey = light.mean(1, keepdim=True)
    light = grey + (light - grey) * colours[:, :1, None, None]
    return (light * colours[:, 1:, None, None].exp() - 1).clamp(-1, 1)
