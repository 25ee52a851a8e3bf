"""The face codec: an aligned 512 x 512 face to at most `max_bytes` bytes, and back.

A payload holds latents of the generator in layers: a base layer that stands alone, and, as far as the bytes go, style
and grid layers that bring the person closer (models/codec/decoder.py). The encoder network gives the latents in one
pass, gradient steps make them better (models/codec/refinement.py), and models/codec/rate_control.py chooses layers
and quantiser steps. Bits come from static integer tables (models/codec/bitstream.py); models/FORMAT.md has the layout.
"""

import contextlib
import functools
import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeVar, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.models.codec.bitstream import HEADER
from mien.models.codec.decoder import (
    COLOURS,
    GAIN_STEP,
    SATURATIONS,
    FaceDecoder,
    Latents,
    Symbols,
    colour_values,
    tint,
)
from mien.models.codec.encoder import INPUT, Encoder
from mien.models.codec.generator import SIZES
from mien.models.codec.rate_control import BASE_BYTES, Allocation, allocate, enhancements
from mien.models.codec.refinement import Plan, Task, features, refine
from mien.models.errors import WeightsError
from mien.models.faces import Recogniser, Verification, arcface_crop
from mien.models.runtime import one_thread
from mien.models.weights import CODEC_FILES, PACKAGED, WeightsFolder, read_weights, weights_in_use

Objective = Literal["identity", "realistic", "private"]
Effort = Literal["auto", "fast", "good", "best"]
Images = NDArray[np.uint8]

SIZE = 512
SKIN_128 = (slice(int(0.30 * 128), int(0.86 * 128)), slice(int(0.24 * 128), int(0.76 * 128)))  # skin, in a 128 px face
INNER = ((0.25, 0.9), (0.2, 0.8))  # rows and columns of the face, as shares of the aligned square
FACE_32 = (slice(8, 29), slice(6, 26))  # the face, in a 32 px one
REALISTIC = 0.85  # truncation towards the mean face, as StyleGAN's psi
# Step of the style layer under effort fast: the encoder does not know it any better, and finer steps cost bytes for
# nothing (measured on faces/dev and wild_dev, see the model card).
FAST_FINEST = 12
PLANS = {"good": Plan(8), "best": Plan(0, 48, free=24, grids=True)}
# Effort auto: px of the aligned square in its photo, about twice the face's width, and the steps that a face of at most
# that size may take. A step costs 0.4 s; the smallest faces are not worth one: the background holds them in few bytes.
AUTO = ((64.0, Plan(0)), (128.0, Plan(2)), (256.0, Plan(8)), (math.inf, Plan(16)))
FULL = 256.0  # px of the square from which on effort auto uses all bytes that are allowed; below, in proportion


@dataclass(frozen=True)
class Coded:
    """One encoded face: its payload, and how well that stands for the original (see FaceCodec.scores).

    same_person: whether what it shows, as large as it is seen, is the same person to two recognisers
    (models/faces/verification.py); None with effort "fast", which does not look, and where the person may change.
    """

    payload: bytes
    score: float
    same_person: bool | None = None


class FaceCodec:
    """Encoder and decoder with their weights. Not to be made by hand: FaceCodec.load().

    Faces are (512, 512, 3) uint8 RGB, FFHQ-aligned. What is encoded with effort "fast" is the same, bit for bit,
    whatever the batch and the number of threads.
    """

    MIN_SCORE = 0.46  # below it a face was not understood; see the model card for what was measured
    objectives: tuple[Objective, ...] = ("identity", "realistic")  # mien.models.FaceCodec has private too

    def __init__(self, decoder: bytes, layers: bytes, encoder: bytes) -> None:
        self.decoder = FaceDecoder(decoder, layers)
        self.model = self.decoder.model
        state = {name: value.float() for name, value in read_weights(encoder).items()}
        self._unit = state.pop("latents.deviation")
        self.encoder = Encoder(len(self._unit)).eval().requires_grad_(False)
        self.encoder.load_state_dict(state)
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    @classmethod
    def load(cls, uri: str | None = None) -> Self:
        """The codec with the weights of a folder at a path or fsspec URI, by default those in use: the package's,
        unless mien.models.weights.folder.use_weights was told of others. Loaded once a process.

        WeightsError where they cannot be read.
        """
        folder = WeightsFolder(uri) if uri else weights_in_use()
        return load_codec(folder, cls)  # type: ignore[arg-type]  # mypy takes no type[Self] for hashable

    @property
    def recogniser(self) -> Recogniser:
        """The recogniser that the encoder looks with."""
        return self.encoder.recogniser

    def encode(
        self, face: Images, max_bytes: int = 320, objective: Objective = "identity", effort: Effort = "fast"
    ) -> bytes:
        """One face (512, 512, 3) uint8 RGB to at most max_bytes bytes. ValueError for another shape, dtype or argument.

        identity: the same person, as well as the bytes allow; realistic: a more typical face, the person may change.
        effort: fast is one pass of the encoder, good and
        best refine it by gradient steps, auto by as many as it takes until recognisers take it for the same person.
        """
        return self.encode_batch(_one(face), max_bytes, objective, effort)[0]

    def encode_batch(
        self, faces: Images, max_bytes: int = 320, objective: Objective = "identity", effort: Effort = "fast"
    ) -> list[bytes]:
        """Faces (N, 512, 512, 3) uint8 RGB to N payloads, as encode() does."""
        return [coded.payload for coded in self.code_batch(faces, max_bytes, objective, effort)]

    @torch.inference_mode()
    def code_batch(
        self,
        faces: Images,
        max_bytes: int = 320,
        objective: Objective = "identity",
        effort: Effort = "fast",
        sides: Sequence[float] | None = None,
    ) -> list[Coded]:
        """encode_batch() with the score of each face, at no extra cost.

        sides: px that each aligned square takes in its photo, of which only the face is pasted back (models.composite):
        then only that counts, as large as it is seen. With effort "auto" small faces get fewer steps and bytes.
        """
        self.check(faces, max_bytes, objective, effort)
        known: Sequence[float | None] = [None] * len(faces) if sides is None else sides
        if len(known) != len(faces):
            raise ValueError(f"{len(faces)} faces have {len(known)} sides")
        return [
            self._code(Task(face, max_bytes, objective == "identity", side), effort)
            for face, side in zip(_tensors(faces, INPUT), known, strict=True)
        ]

    def check(self, faces: Images, max_bytes: int, objective: Objective, effort: Effort) -> None:
        """ValueError for what code_batch() does not take."""
        _check_faces(faces)
        if objective not in self.objectives or effort not in get_args(Effort):
            raise ValueError(f"no objective {objective!r} or no effort {effort!r}")
        if max_bytes < HEADER.size + 2:
            raise ValueError(f"a face needs at least {HEADER.size + 2} bytes, not {max_bytes}")

    def decode(self, payload: bytes, size: int = SIZE) -> Images:
        """A payload to the aligned face (size, size, 3) uint8 RGB; size 128, 256 or 512, the smaller the faster.

        A PayloadError says what is wrong with bytes that encode() did not write; ValueError for another size.
        """
        return self.decode_batch([payload], size)[0]

    @torch.inference_mode()
    def decode_batch(self, payloads: Sequence[bytes], size: int = SIZE) -> Images:
        """N payloads to (N, size, size, 3) uint8 RGB, as decode() does."""
        read = [self.decoder.read(payload)[1] for payload in payloads]
        faces = np.empty((len(read), size, size, 3), np.uint8)
        for i, latents in enumerate(read):  # a batch of four took 1.4 times as long a face: features leave the cache
            faces[i] = _to_uint8(self.decoder.draw([latents], size))[0]
        return faces

    @torch.inference_mode()
    def scores(self, faces: Images, payloads: Sequence[bytes]) -> NDArray[np.float32]:
        """How well each payload stands for its face, (N,) float32, 0 to 1.

        Same person, light and dark and features in the same places.

        Below MIN_SCORE the face was not understood (not a face, or hidden, or turned away), and the caller falls back.
        """
        _check_faces(faces)
        read = [self.decoder.read(payload)[1] for payload in payloads]
        found = [
            self._score(face, self._person_of(face[None]), self.decoder.sketch([latents], 128))
            for face, latents in zip(_tensors(faces, INPUT), read, strict=True)
        ]
        return np.array(found, np.float32)

    @torch.inference_mode()
    def self_score(self, face: Images) -> float:
        """The score, 0 to 1, of what the base layer's own latents of a face (256, 256, 3) uint8 RGB draw, unquantised.

        Low for what the encoder, trained on real faces, sees no face in: of 44 faces drawn from the generator's prior
        those below 0.6 were smeared, torn or half hidden.
        """
        picture = torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1).float() / 127.5 - 1
        latents, person = self.look(picture)
        drawn = self.picture(latents[None, : len(self.decoder.centre)], 128)
        return self._score(picture, person, drawn)

    @property
    def basis(self) -> str:
        """Names the base layer's coordinates: what was fitted to other latents does not fit these."""
        parts = (self.decoder.mean, self.decoder.synthesis, self.decoder.centre)
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]

    @property
    def base_deviation(self) -> Tensor:
        """(K,) the deviation of each of the base layer's latents over the generator's faces."""
        return self._unit[: len(self.decoder.centre)]

    def base_latents(self, face: Tensor) -> Tensor:
        """What the encoder makes of a face (3, 256, 256) in -1..1 for the base layer, (K,)."""
        return self.look(face)[0][: len(self.decoder.centre)]

    def picture(self, latents: Tensor, size: int = SIZE) -> Tensor:
        """Latents (B, K) of the base layer, not quantised, to faces (B, 3, size, size) in -1..1; differentiable."""
        return self.decoder.draw([_base(one) for one in latents], size, tinted=False)

    @torch.inference_mode()
    def draw_base(self, latents: NDArray[np.float32], size: int = SIZE, exact: bool = True) -> Images:
        """Latents (K,) float32 of the base layer, not quantised, to a face (size, size, 3) uint8 RGB.

        exact: as it is decoded; else as quickly as this processor can (FaceDecoder.sketch).
        """
        draw = self.decoder.draw if exact else self.decoder.sketch
        drawn = draw([_base(torch.from_numpy(latents))], size, tinted=False)
        return np.ascontiguousarray(_to_uint8(drawn)[0])

    def write_base(
        self, latents: NDArray[np.float32], gains: NDArray[np.float64], max_bytes: int = BASE_BYTES
    ) -> bytes:
        """The payload of latents (K,) float32, at the finest step that fits; gains: logarithms (3,) for R, G and B."""
        colours = np.concatenate([[0], np.rint(gains / GAIN_STEP)]).astype(np.int32)
        found = allocate(self.decoder, _base(torch.from_numpy(latents)), colours, min(max_bytes, BASE_BYTES))
        return found.payload(self.decoder, 255)

    @torch.inference_mode()
    def code_latents(self, face: Tensor, latents: Tensor, score: Callable[[Tensor], float]) -> Coded:
        """The payload, at most 64 bytes, of latents (K,) of the base layer, with the colours of the face's skin.

        face: (3, 256, 256) in -1..1 that they are to stand for. score: of what they show, (1, 3, 128, 128) in -1..1,
        how well they do, 0 to 1.
        """
        plain = self.decoder.sketch([_base(latents)], 128, tinted=False)
        colours = self.colours(face, plain)
        found = score(tint(plain, colour_values(colours)[None]))
        chosen = allocate(self.decoder, _base(latents), colours, BASE_BYTES, finest=FAST_FINEST)
        return Coded(chosen.payload(self.decoder, round(255 * found)), found)

    def look(self, face: Tensor) -> tuple[Tensor, Tensor]:
        """Of a face (3, 256, 256) in -1..1 the latents of base and style, and the recogniser's embedding (1, 192)."""
        with one_thread():
            maps = self.encoder.maps(face[None])
            return self.encoder.latents(*maps)[0] * self._unit, maps[-1]

    def _person_of(self, face: Tensor) -> Tensor:
        """(1, 192) embedding of (1, 3, S, S)."""
        found: Tensor = self.recogniser(arcface_crop(face))
        return found

    def _score(self, face: Tensor, person: Tensor, drawn: Tensor) -> float:
        """How well drawn (1, 3, 128, 128) stands for face (3, 256, 256), whose embedding is person.

        Geometric mean of three likenesses, each 0 where negative: the recogniser's cosine, the correlation of light and
        dark, and the mean cosine of the trunk's features over the face.
        """
        small = F.interpolate(face[None], size=128, mode="area")
        likenesses = [
            float((self._person_of(drawn) * person).sum()),
            _correlation(face, drawn),
            _feature_cosine(features(self.encoder, drawn), features(self.encoder, small)),
        ]
        return float(np.prod(np.maximum(likenesses, 0.0)) ** (1 / len(likenesses)))

    def _code(self, task: Task, effort: Effort) -> Coded:
        face = task.face
        found, person = self.look(face)
        base, style = found[: len(self.decoder.centre)], found[len(self.decoder.centre) :]
        plan = PLANS.get(effort)
        if not task.identity:  # the person may change, so there is nobody to keep
            base = self.decoder.centre + REALISTIC * (base - self.decoder.centre)
            style = REALISTIC * style
        elif effort == "auto":
            side = math.inf if task.side is None else task.side
            plan = next(plan for most, plan in AUTO if side <= most)
            task = replace(task, ceiling=_share(task.ceiling, side))
        latents = Latents((base, style if len(style) else None, None, None), _NO_COLOURS)
        chosen, drawn = self._allocate(face, latents, task.ceiling)
        if plan is None:
            score = self._score(face, person, drawn)
            return Coded(chosen.payload(self.decoder, round(255 * score)), score)
        known = Verification(self.recogniser, face[None], task.side) if task.identity else None
        if known and effort == "auto":
            task = replace(task, enough=lambda picture: known.margin(picture) >= 1)
        if plan.steps and not (task.enough and task.enough(drawn)):
            start, unit = Latents(latents.layers, chosen.dequantised(self.decoder).colours), self._unit[: len(base)]
            refined = refine(self.decoder, self.encoder, unit, start, task, plan)
            # as it is decoded, and with the skin's own colours: steps that end early leave it redder or darker
            with contextlib.suppress(ValueError):  # where it does not fit so few bytes after all, the one pass does
                chosen, drawn = self._allocate(face, refined, task.ceiling, 0, decoded_size(task.side))
        score = self._score(face, person, F.interpolate(drawn, size=128, mode="area"))
        same = known.margin(drawn) >= 0 if known else None
        return Coded(chosen.payload(self.decoder, round(255 * score)), score, same)

    def _allocate(
        self, face: Tensor, latents: Latents, ceiling: int, finest: int = FAST_FINEST, size: int = 128
    ) -> tuple[Allocation, Tensor]:
        """What to write of the latents, with the colours put right, and what it shows: (1, 3, size, size) in -1..1."""
        above = enhancements(self.decoder, latents, finest=finest)
        first = allocate(self.decoder, latents, np.zeros(COLOURS, np.int32), ceiling, above=above)
        plain = self.decoder.sketch([first.dequantised(self.decoder)], size, tinted=False)
        found = allocate(self.decoder, latents, self.colours(face, plain), ceiling, above=above)
        shown = found.dequantised(self.decoder)
        if found.steps != first.steps or found.layers != first.layers:  # the colours took bytes from the latents
            return found, self.decoder.sketch([shown], size)
        return found, tint(plain, shown.colours[None])

    def likeness(self, face: Tensor, person: Tensor, drawn: Tensor) -> float:
        """As scores(): how well drawn (1, 3, 128, 128) stands for face (3, 256, 256) of that embedding (1, 192)."""
        return self._score(face, person, drawn)

    def colours(self, face: Tensor, drawn: Tensor) -> Symbols:
        """The four symbols that give the drawn face (1, 3, S, S) the saturation and mean of the original's skin."""
        small = (F.interpolate(picture, size=128, mode="area") for picture in (face[None], drawn))
        skin, ours = (picture[:, :, *SKIN_128] + 1 for picture in small)
        chroma = [(t - t.mean(1, keepdim=True)).square().mean().sqrt() for t in (skin, ours)]
        saturation = int(np.clip(np.rint(float(chroma[0] / chroma[1].clamp(min=1e-3) - 1) * SATURATIONS), -8, 8))
        ours = tint(ours - 1, colour_values(np.array([saturation, 0, 0, 0], np.int32))[None]) + 1
        means = [t.mean((0, 2, 3)).clamp(min=0.02) for t in (skin, ours)]
        gains = np.rint((means[0] / means[1]).log().numpy() / GAIN_STEP)
        return np.concatenate([[saturation], gains]).astype(np.int32)


def _correlation(face: Tensor, drawn: Tensor) -> float:
    """Of the grey faces at 32 px, (3, S, S) and (1, 3, T, T)."""
    grey = [F.interpolate(t.mean(1, keepdim=True), size=32, mode="area")[0, 0][FACE_32] for t in (drawn, face[None])]
    a, b = (g - g.mean() for g in grey)
    return float((a * b).sum() / ((a * a).sum() * (b * b).sum() + 1e-6).sqrt())


def _feature_cosine(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    """Of maps (1, C, S, S) whose places have length 1, within the face; the first, finest map is left out."""
    found = []
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        rows, columns = (slice(round(low * a.shape[-1]), round(high * a.shape[-1])) for low, high in INNER)
        found.append(float((a * b).sum(1)[:, rows, columns].mean()))
    return float(np.mean(found))


_NO_COLOURS = colour_values(np.zeros(COLOURS, np.int32))


def decoded_size(side: float | None) -> int:
    """px at which a face of a square of so many is decoded, as models.composite.needed_size says."""
    return next((size for size in SIZES if side is not None and side <= 1.1 * size), SIZE)


def _share(ceiling: int, side: float) -> int:
    """Of the bytes allowed what a face of this size needs; what stands alone in any case."""
    return max(min(ceiling, BASE_BYTES), round(ceiling * min(1.0, side / FULL)))


def _base(latents: Tensor) -> Latents:
    return Latents((latents, None, None, None), _NO_COLOURS)


def _to_uint8(faces: Tensor) -> Images:
    """(N, 3, S, S) in -1..1 to (N, S, S, 3)."""
    return (faces * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()


Codec = TypeVar("Codec", bound=FaceCodec)


@functools.lru_cache(maxsize=2)
@torch.inference_mode(False)  # what is made in that mode knows no gradients, and refinement needs them
def load_codec(folder: WeightsFolder, kind: type[Codec]) -> Codec:
    """The codec with a folder's weights, as FaceCodec.load. kind: FaceCodec, or a class that goes on from it."""
    files = [folder.read(name) for name in CODEC_FILES]
    try:
        return kind(*files)
    except Exception as error:
        where = folder.uri or PACKAGED
        raise WeightsError(f"{where} does not hold the weights of this version's codec: {error}") from error


def _one(face: Images) -> Images:
    if not isinstance(face, np.ndarray) or face.ndim != 3:
        raise ValueError(
            f"a face must be an array ({SIZE}, {SIZE}, 3), not {getattr(face, 'shape', type(face).__name__)}"
        )
    return face[None]


def _check_faces(faces: Images) -> None:
    if not isinstance(faces, np.ndarray) or faces.shape[1:] != (SIZE, SIZE, 3) or faces.dtype != np.uint8:
        found = f"{faces.shape} {faces.dtype}" if isinstance(faces, np.ndarray) else type(faces).__name__
        raise ValueError(f"faces must be (N, {SIZE}, {SIZE}, 3) uint8, not {found}")


def _tensors(faces: Images, size: int) -> list[Tensor]:
    """Each face as (3, size, size) in -1..1, shrunk by area; the sums are whole numbers, so that it is exact."""
    factor = SIZE // size
    places = [(y, x) for y in range(factor) for x in range(factor)]
    sums = (sum(face[y::factor, x::factor].astype(np.float32) for y, x in places) for face in faces)
    return [torch.from_numpy(one / np.float32(factor**2 * 127.5) - 1).permute(2, 0, 1).contiguous() for one in sums]
