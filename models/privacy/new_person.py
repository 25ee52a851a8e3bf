"""Another person in place of a face, fitted to the photo: what the generator draws goes on into its surroundings.

The encoder reads the photo's own latents. A share of the person in them is exchanged for a drawn one's, of the pool
(models/privacy/pool.py), and a few gradient steps at 128 px do three things: they fit a ring around the face (jaw,
temples, ears, hairline, what is behind) to the photo, they keep light and colour inside of it, and they drive the
person away,
for two recognisers that see the picture as it will stand in the photo. No landmark and no pixel of the old face within
the ring is copied. What comes out is checked as it will stand there; else the next of the pool's people is taken.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.models.codec import COLOURS, INPUT, FaceCodec, Latents, colour_values, refinement, tint
from mien.models.faces import arcface_crop, dlib_recogniser
from mien.models.runtime import one_thread

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

SIZE, SMALL = 512, 128
JOIN = (0.5, 0.54), (0.36, 0.45)  # centre and half axes of what of the photo changes, in sides of the square
# Photo pixels of the square up to which so many steps are made, and above.
STEPS, STEPS_ABOVE = {64: 1, 128: 2}, 3
LEAST_FINE = 24
EXCHANGED, STYLE_KEPT = 0.9, 0.3  # share of the person's part of the base latents; of the style latents
TOWARDS, AWAY = 0.4, 0.5  # weights of the drawn person's likeness and of the original's
EYES_SHARE = 0.25  # of the identity gradient that the eyes get: recognisers are fooled there first
AROUND, PRIOR, LOOKS, LOW, EYES = 0.3, 0.1, 0.08, 1.0, 0.4
RATES = (0.08, 0.01)  # of Adam: base in deviations, style in the latents' own units
FAR_COSINE, FAR_DISTANCE = 0.12, 0.76  # from here on the original drives no further: about what strangers have


def ellipse(size: int, centre: tuple[float, float], axes: tuple[float, float], low: float, high: float) -> Tensor:
    """(1, 1, size, size): 1 inside, 0 outside, smooth between the distances low and high, in shares of the axes."""
    place = (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(place, place, indexing="ij")
    distance = torch.sqrt(((x - centre[0]) / axes[0]) ** 2 + ((y - centre[1]) / axes[1]) ** 2)
    share = ((high - distance) / (high - low)).clamp(0, 1)
    return (share * share * (3 - 2 * share))[None, None]


@functools.cache
def face_part(size: int, grow: float = 1.0) -> Tensor:
    """(1, 1, size, size): the face within the ring."""
    return ellipse(size, (0.5, 0.56), (0.27 * grow, 0.36 * grow), 0.85, 1.1)


@functools.cache
def ring_part(size: int) -> Tensor:
    """(1, 1, size, size): the ring around the face, in which the new one goes over into the photo."""
    return (face_part(size, 1.35) - face_part(size)).clamp(min=0)


@functools.cache
def join_part(size: int) -> Tensor:
    """(1, 1, size, size): the new face's share of the photo."""
    return ellipse(size, *JOIN, 0.74, 1.0)


@functools.cache
def eyes_part(size: int) -> Tensor:
    """(1, 1, size, size): about the eyes of an aligned face."""
    both = [ellipse(size, (x, 0.475), (0.085, 0.05), 0.7, 1.3) for x in (0.383, 0.617)]
    return torch.maximum(*both)


@dataclass(frozen=True)
class Target:
    """A person of the pool: (64,) deviations of the base layer's first latents, (192,) and (128,) embeddings."""

    place: Tensor
    first: Tensor
    second: Tensor


@dataclass(frozen=True)
class Reading:
    """What is seen in an aligned face (1, 3, 256, 256) in -1..1: base and style latents, colours (4,), the two
    recognisers' embeddings (1, 192) and (1, 128), and how well the codec understood it, 0 to 1."""

    face: Tensor
    base: Tensor
    style: Tensor
    colours: Tensor
    first: Tensor
    second: Tensor
    score: float


@dataclass(frozen=True)
class Fitted:
    """latents: what draws the new face. picture: (S, S, 3) uint8, with its surroundings. shown: (1, 3, 256, 256), the
    aligned square as it will stand in the photo. ring: by how much the two differ around the face, 0 to 2."""

    latents: Latents
    picture: Pixels
    shown: Tensor
    ring: float


class Seen(NamedTuple):
    """What the recognisers see: (B, 192) of length 1, (B, 128), and the length of the first before it was made 1."""

    first: Tensor
    second: Tensor
    length: float


class PersonFitter:
    """Draws a face as another person. Safe to share among threads."""

    def __init__(self, codec: FaceCodec, tensors: Mapping[str, Floats], kept: Floats) -> None:
        """tensors: of person.safetensors. kept: (N, 64), slopes of what else stays as it is, beside the looks."""
        self._codec = codec
        self._mean, self._deviation = (torch.from_numpy(tensors[f"prior.{n}"]).float() for n in ("mean", "deviation"))
        self._looks_slope, self._looks_offset = tensors["looks.slope"], tensors["looks.offset"]
        slope = np.concatenate([self._looks_slope, kept])
        slope /= np.linalg.norm(slope, axis=1, keepdims=True)
        # onto what leaves pose, expression, gaze, light and glasses as they are
        still = np.eye(slope.shape[1]) - slope.T @ np.linalg.solve(slope @ slope.T, slope)
        self.still: Floats = still
        self._still = torch.from_numpy(still).float()
        self._unit = codec.base_deviation.clone()

    def recognised(self, faces: Tensor) -> Seen:
        """What is seen in aligned faces (B, 3, S, S) in -1..1; differentiable."""
        recogniser = self._codec.recogniser
        found = recogniser.last(recogniser.features(arcface_crop(faces))).flatten(1)
        return Seen(F.normalize(found), dlib_recogniser().embedding(faces), float(found.detach()[0].norm()))

    @torch.inference_mode(False)
    @torch.no_grad()
    def read(self, face: Tensor) -> Reading:
        """What is seen in a face (1, 3, 256, 256)."""
        codec, face = self._codec, face.clone()
        with one_thread():
            found, person = (one.clone() for one in codec.look(face[0]))
            base, style = found[: len(self._mean)], found[len(self._mean) :]
            plain = codec.decoder.sketch([Latents((base, style, None, None), NO_COLOURS)], SMALL)
            colours = colour_values(codec.colours(face[0], plain))
            score = codec.likeness(face[0], person, tint(plain, colours[None]))
            first, second, _ = self.recognised(face)
        return Reading(face, base, style, colours, first, second, score)

    def looks_of(self, read: Reading) -> Floats:
        """The looks (models/faces/appearance.py) that are to be expected of a face's base latents, (13,)."""
        found: Floats = self._looks_slope @ self.place_of(read.base) + self._looks_offset
        return found

    def place_of(self, base: Tensor) -> Floats:
        """(64,) where a face's base latents lie, in deviations of the first of them."""
        found: Floats = self._place(base).double().numpy()
        return found

    def _place(self, base: Tensor) -> Tensor:
        drawn = len(self._still)
        return (base[:drawn] - self._mean[:drawn]) / self._deviation[:drawn]

    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(self, read: Reading, person: Target, side: float | None, towards: float = 1.0) -> Fitted:
        """The face as another person.

        side: photo pixels of the aligned square that the new face is joined into. None where it is to stand alone: all
        of the person is then exchanged in the base layer, and nothing is fitted but pose, light and colour.
        towards: how much the person's likeness counts.
        """
        decoder, drawn = self._codec.decoder, len(self._still)
        mean, deviation, others = self._mean, self._deviation, torch.eye(drawn) - self._still
        size = next((one for one in (128, 256) if side and side <= one * 1.1), SIZE)
        least = next((steps for largest, steps in STEPS.items() if side and side <= largest), STEPS_ABOVE)
        exchanged = EXCHANGED if side else 1.0  # what is to be stored keeps nothing that could be reckoned back
        start = self._place(read.base)
        start = start + exchanged * (self._still @ (person.place - start))
        rest = mean[drawn:] + (1 - exchanged) * (read.base - mean)[drawn:]
        base = torch.cat([mean[:drawn] + deviation[:drawn] * start, rest])
        small = F.interpolate(read.face, size=SMALL, mode="area")
        fine = min(SMALL, max(LEAST_FINE, round(side))) if side else SMALL  # pixels: no more is known of the photo
        ring = self._distance_within(small, AROUND * (1 - face_part(SMALL)) + ring_part(SMALL))
        coarse = 16 if side else 8
        low, within = F.interpolate(small, size=coarse, mode="area"), face_part(coarse, 0.9)
        mix = join_part(SMALL) if side else torch.ones(1, 1, SMALL, SMALL)
        seen_by = 1 - (1 - EYES_SHARE) * eyes_part(SMALL)
        eyes: Callable[[Tensor, Sequence[Tensor]], Tensor] | None = None

        scales = [RATES[0] * self._unit, torch.full((len(read.style),), RATES[1])]
        moved = [
            (one / scale).requires_grad_(True)
            for one, scale in zip((base, read.style * STYLE_KEPT), scales, strict=True)
        ]
        tone = (read.colours / refinement.COLOUR_RATE).requires_grad_(True)
        descent = refinement.Descent([*moved, tone], [False, True, False])

        def current() -> Latents:
            return Latents((moved[0] * scales[0], moved[1] * scales[1], None, None), tone * refinement.COLOUR_RATE)

        missing = torch.zeros(())
        for step in range(least):
            latents = current()
            seen = decoder.draw([latents], SMALL)
            if step == 0 and size > SMALL:  # how the small head differs from the large one, taken as constant
                with torch.no_grad():
                    missing = F.interpolate(decoder.draw([latents], 2 * SMALL), size=SMALL, mode="area") - seen
            seen = seen + missing
            if fine < SMALL:
                seen = F.interpolate(F.interpolate(seen, size=fine, mode="area"), size=SMALL, mode="bilinear")
            if eyes is None:
                eyes = self._distance_within(seen.detach(), eyes_part(SMALL))
            shown = seen * seen_by + seen.detach() * (1 - seen_by)
            first, second, _ = self.recognised(shown * mix + small * (1 - mix))
            cosine, distance = (first * read.first).sum(), (second - read.second).norm()
            identity = AWAY * bool(side) * (F.relu(cosine - FAR_COSINE) + 2 * F.relu(FAR_DISTANCE - distance))
            apart = 1 - (first * person.first).sum() + (second - person.second).norm()
            identity = identity + TOWARDS * towards * apart
            features, values = refinement.features(self._codec.encoder, seen), latents.layers[0]
            assert values is not None
            spot, finer = self._place(values), (values[drawn:] - mean[drawn:]) / deviation[drawn:]
            fit = bool(side) * ring(seen, features) + EYES * eyes(seen, features)
            missed = (F.interpolate(seen, size=coarse, mode="area") - low).abs() * within
            fit = fit + LOW * missed.mean() / within.mean()
            fit = fit + PRIOR * spot.square().mean() + 0.02 * finer.square().mean()
            fit = fit + LOOKS * (others @ (spot - start)).square().sum()
            slopes = list(torch.autograd.grad(fit + identity, [*moved, tone]))
            slopes[1] = slopes[1] * bool(side)
            descent.step(slopes, 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / least)))
        with torch.no_grad():
            found = current()
            layers = tuple(None if one is None else one.detach() for one in found.layers)
            latents = Latents(layers, found.colours.detach())
            large = decoder.draw([latents], size)
            mix = join_part(INPUT) if side else torch.ones(())
            new = F.interpolate(large, size=INPUT, mode="area" if size > INPUT else "bilinear")
            missed = (F.interpolate(new, size=SMALL, mode="area") - small).abs().mean(1, keepdim=True)
            around = float((missed * ring_part(SMALL)).sum() / ring_part(SMALL).sum())
            picture = ((large[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        return Fitted(latents, np.ascontiguousarray(picture), new * mix + read.face * (1 - mix), around)

    def _distance_within(self, target: Tensor, weight: Tensor) -> Callable[[Tensor, Sequence[Tensor]], Tensor]:
        """A distance like the refinement's from target (1, 3, S, S), counted where weight (1, 1, S, S) says: of a face
        and of what refinement.features() are of it."""
        wanted, weight = refinement.features(self._codec.encoder, target), weight / weight.mean()
        parts = [F.interpolate(weight, size=one.shape[-2:], mode="area") for one in wanted]

        def measure(drawn: Tensor, features: Sequence[Tensor]) -> Tensor:
            total = torch.zeros(())
            for a, b, part in zip(features, wanted, parts, strict=True):
                total = total + ((a - b).square().sum(1, keepdim=True) * part).mean() / len(wanted)
            a, b, part = drawn, target, weight
            for _ in range(3):
                total = total + 0.17 * ((a - b).abs() * part).mean()
                a, b, part = (F.avg_pool2d(t, 2) for t in (a, b, part))
            return total

        return measure


NO_COLOURS = colour_values(np.zeros(COLOURS, np.int32))
