"""Efforts above "fast": gradient steps on the latents of one face, through the quantiser and the generator.

The distance is made of what the package carries: pixels over a pyramid, features of the encoder's own trunk (used as
LPIPS uses a classifier's; Zhang et al., 2018), and the recogniser's cosine.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.codec.bitstream import SPREAD
from mien.models.codec.decoder import BASE, GRID_16, GRID_32, STYLE, FaceDecoder, Latents, colour_symbols
from mien.models.codec.encoder import Encoder
from mien.models.codec.rate_control import allocate, rate
from mien.models.faces import arcface_crop, seen
from mien.models.painting import edge_distance

# Adam's rates, falling to a fiftieth along a half cosine: of the base layer in units of each latent's deviation, of the
# others in the latents' own units (style: three times as much diverges, a third converges too slowly)
RATES = {BASE: 0.08, STYLE: 0.01, GRID_16: 0.0007, GRID_32: 0.0007}
COLOUR_RATE = 0.01
# the grids cost many bytes for what they bring, and many steps: from this ceiling on they are tried, by best alone
LEAST = {BASE: 0, STYLE: 0, GRID_16: 400, GRID_32: 600}
LOOK = 2  # steps after which it is seen whether they are enough
LAGRANGE = 0.12  # loss a bit, in squared quantiser steps: where distortion and rate of a uniform quantiser balance
# the quantiser step that a ceiling leads to, measured on refined faces: STEP_AT_100 * (100 / ceiling) ** FALL
STEP_AT_100, FALL = 0.042, 0.88
TRUNK_LAYERS = (3, 5, 8, 12, 15)  # outputs of the trunk at 128, 64, 32, 16 and 16 px
FEATURES, PIXELS, IDENTITY = 1.0, 0.5, 0.2


def features(encoder: Encoder, face: Tensor) -> list[Tensor]:
    """Maps of the trunk for (B, 3, 256, 256) in -1..1, each place's channels of length 1."""
    x, found = ((face + 1) / 2 - encoder.mean) / encoder.std, []
    for i, layer in enumerate(list(encoder.trunk)[: TRUNK_LAYERS[-1] + 1]):
        x = layer(x)
        if i in TRUNK_LAYERS:
            found.append(x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-8))
    return found


def face_weight(size: int) -> Tensor:
    """(1, 1, size, size), mean 1: the face counts, what is around it counts a third."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    distance = torch.sqrt(((x - 0.5) / 0.34) ** 2 + ((y - 0.54) / 0.42) ** 2)
    weight = 0.35 + 0.65 * torch.sigmoid((1.1 - distance) * 12)
    return (weight / weight.mean())[None, None]


def pasted_weight(size: int) -> Tensor:
    """(1, 1, size, size), mean 1: what the mask pastes back counts, what is around it a twentieth."""
    at = (torch.arange(size).numpy().astype(np.float32) + 0.5) * (512 / size) - 0.5
    inside = np.clip(edge_distance(at[None], at[:, None]) / 0.06, 0, 1)
    weight = torch.from_numpy(0.05 + 0.95 * inside).float()
    return (weight / weight.mean())[None, None]


def distance(encoder: Encoder, target: Tensor, identity: bool, side: float | None = None) -> Callable[[Tensor], Tensor]:
    """The distance of a drawn face from target, both (1, 3, S, S) in -1..1, as a function of the drawn face.

    S: 128 or 256. side: px that the aligned square takes in its photo: what is finer is not seen, and only what the
    mask pastes back counts; None: all of the square counts, as it is.
    """
    target = seen(target, side)
    place = face_weight(target.shape[-1]) if side is None else pasted_weight(target.shape[-1])
    wanted = features(encoder, target)
    # features count what is around the face for more than pixels do
    even = (1 + place) / 2 if side is None else place
    person = encoder.recogniser(arcface_crop(target))

    def measure(drawn: Tensor) -> Tensor:
        total, drawn = torch.zeros(()), seen(drawn, side)
        for a, b in zip(features(encoder, drawn), wanted, strict=True):
            part = F.interpolate(even, size=a.shape[-2:], mode="area")
            total = total + FEATURES / len(wanted) * ((a - b).square().sum(1, keepdim=True) * part).mean()
        a, b, part = drawn, target, place
        for _ in range(4):
            total = total + PIXELS / 4 * ((a - b).abs() * part).mean()
            a, b, part = (F.avg_pool2d(t, 2) for t in (a, b, part))
        if identity:
            total = total + IDENTITY * (1 - (encoder.recogniser(arcface_crop(drawn)) * person).sum())
        return total

    return measure


@dataclass(frozen=True)
class Plan:
    """Steps at 128 px, then steps at 256 px; the first `free` of them go without the quantiser.

    grids: whether the grid layers are tried.
    """

    small: int
    large: int = 0
    free: int = 0
    grids: bool = False

    @property
    def steps(self) -> int:
        return self.small + self.large


@dataclass(frozen=True)
class Task:
    """What is to be fitted.

    face: (3, 256, 256) in -1..1. ceiling: bytes at most. identity: whether the person counts. side: as in distance().
    enough: of what is drawn, (1, 3, 128, 128) in -1..1, whether no further step is needed.
    """

    face: Tensor
    ceiling: int
    identity: bool = True
    side: float | None = None
    enough: Callable[[Tensor], bool] | None = None


@torch.inference_mode(False)
@torch.enable_grad()
def refine(decoder: FaceDecoder, encoder: Encoder, unit: Tensor, start: Latents, task: Task, plan: Plan) -> Latents:
    """The latents of a face, refined from the encoder's; not rounded.

    unit: (K,) the deviations of the base layer's latents. Free steps know the rate that is expected of the ceiling; the
    others go through the quantiser, straight through, each with the allocation that the ceiling allows. Of those, and
    of the start, the best is returned.
    """
    face, ceiling = task.face.clone()[None], task.ceiling
    sizes = (128,) * plan.small + (256,) * plan.large
    sizes += sizes[-1:]  # the last step is looked at only
    measures = {
        size: distance(encoder, F.interpolate(face, size=size, mode="area"), task.identity, task.side)
        for size in set(sizes)
    }
    scales = {
        i: RATES[i] * (unit.clone() if i == BASE else torch.ones(tables.symbols))
        for i, tables in enumerate(decoder.tables)
        if ceiling >= LEAST[i] and (plan.grids or i <= STYLE)
    }
    moved: list[Tensor] = []
    for i, scale in scales.items():
        value = start.layers[i]
        moved.append(((torch.zeros(len(scale)) if value is None else value.clone()) / scale).requires_grad_(True))
    colours = (start.colours.clone() / COLOUR_RATE).requires_grad_(True)
    optimiser = Descent([*moved, colours], [i != BASE for i in scales] + [False])
    width = STEP_AT_100 * (100 / ceiling) ** FALL
    expected = int(np.abs(np.log(decoder.steps / width)).argmin())
    steps = dict.fromkeys(scales, expected)
    rows = dict.fromkeys(scales, expected + SPREAD)
    best, lowest, size = start, math.inf, sizes[0]
    for step in range(plan.steps + 1):
        values = dict(zip(scales, (m * s for m, s in zip(moved, scales.values(), strict=True)), strict=True))
        current = Latents(tuple(values.get(i) for i in range(len(start.layers))), colours * COLOUR_RATE)
        drawn, chosen = current, None
        if step == 0 or step >= plan.free:
            try:
                chosen = allocate(decoder, current, colour_symbols(current.colours), ceiling, exact=False)
            except ValueError:  # so few bytes hold nothing that is far from the mean face
                break
            drawn = straight_through(current, chosen.dequantised(decoder))
        if step and chosen:
            steps = {i: chosen.steps[i] for i in scales if chosen.symbols[i] is not None}
            rows = {i: chosen.rows[i] for i in steps}
        shown = decoder.draw([drawn], sizes[step])
        found = measures[sizes[step]](shown)
        if sizes[step] != size:  # of another picture: not to be compared with those before
            size, lowest = sizes[step], math.inf
        if chosen and float(found.detach()) < lowest:
            best, lowest = current, float(found.detach())
        if step == plan.steps:
            break
        if chosen and task.enough and step and step % LOOK == 0 and task.enough(shown.detach()):
            best = current
            break
        total = found + LAGRANGE * width**2 * rate(decoder, current, steps, rows)
        gradients = torch.autograd.grad(total, [*moved, colours])
        optimiser.step(gradients, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / plan.steps)))
    return Latents(tuple(None if layer is None else layer.detach() for layer in best.layers), best.colours.detach())


class Descent:
    """Adam (Kingma and Ba, 2015, arXiv 1412.6980); where `together`, with one second moment for all of a tensor.

    Adam moves every coordinate by as much. Where all are equally visible that spreads the change over more of them than
    need be, and each costs bits.
    """

    def __init__(self, tensors: Sequence[Tensor], together: Sequence[bool]) -> None:
        self.tensors, self.together, self.steps = tensors, together, 0
        self.first = [torch.zeros_like(t) for t in tensors]
        self.second = [torch.zeros_like(t) for t in tensors]

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """One step; its length is the rate, in units of the tensors."""
        self.steps += 1
        for value, g, m, v, together in zip(
            self.tensors, gradients, self.first, self.second, self.together, strict=True
        ):
            m.lerp_(g, 0.1)
            v.lerp_(g.square().mean().expand_as(v) if together else g.square(), 0.05)
            size = (v / (1 - 0.95**self.steps)).sqrt() + 1e-12
            value -= rate * m / (1 - 0.9**self.steps) / size


def straight_through(values: Latents, rounded: Latents) -> Latents:
    """Rounded in the value, as unrounded in the gradient; a layer that was left out is 0."""

    def one(value: Tensor | None, to: Tensor | None) -> Tensor | None:
        if value is None:
            return None
        return value + ((torch.zeros_like(value) if to is None else to) - value).detach()

    layers = tuple(one(v, r) for v, r in zip(values.layers, rounded.layers, strict=True))
    return Latents(layers, values.colours + (rounded.colours - values.colours).detach())
