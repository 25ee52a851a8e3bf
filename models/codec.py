"""The face codec: an aligned 512 x 512 face to at most `max_bytes` bytes, and back.

A payload holds the latents of the base layer, one style vector w of the generator in the basis of training.basis,
quantised with one uniform step, and four symbols that put right what the generator's colours miss. The step
is the finest that fits the ceiling. Bits come from static integer tables (models/bitstream.py); models/FORMAT.md has
the layout.
"""

import functools
import hashlib
import pathlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import fsspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from torch import Tensor

from mien.models import refinement
from mien.models.bitstream import HEADER, Tables, read_payload, write_payload
from mien.models.encoder import INPUT, Encoder
from mien.models.errors import PrivacyError, WeightsError
from mien.models.generator import Generator
from mien.models.recogniser import Recogniser, arcface_crop
from mien.models.runtime import one_thread

Objective = Literal["identity", "realistic", "private"]
Effort = Literal["fast", "good", "best"]
Images = NDArray[np.uint8]

SIZE = 512
BASE_BYTES = 64  # of the base layer, its header included
COLOURS = 4  # symbols after the latents: saturation, and the log gains of R, G, B
SATURATIONS, GAIN_STEP = 8, 0.03
FACE = (slice(int(0.30 * 128), int(0.86 * 128)), slice(int(0.24 * 128), int(0.76 * 128)))  # skin, in a 128 px face
SEEN = (slice(8, 29), slice(6, 26))  # the face, in a 32 px one
PEOPLE, PERSON_DEVIATION = 10, 0.8  # draws for objective "private", and how far from the mean person they are
STRANGER = 0.3  # cosine under which the recogniser takes two faces for two people; same person > 0.52
REALISTIC = 0.85  # truncation towards the mean face, as StyleGAN's psi
PACKAGED = pathlib.Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Coded:
    """One encoded face: its payload, and how well that stands for the original (see FaceCodec.scores)."""

    payload: bytes
    score: float


class FaceCodec:
    """Encoder and decoder with their weights. Not to be made by hand: FaceCodec.load().

    Faces are (512, 512, 3) uint8 RGB, FFHQ-aligned. What is encoded with effort "fast" is the same, bit for bit,
    whatever the batch and the number of threads.
    """

    MIN_SCORE = 0.4  # below it a face was not understood; see the model card for what was measured

    def __init__(self, decoder: bytes, encoder: bytes) -> None:
        tensors, known = load_tensors(decoder), hashlib.sha256(decoder).digest()
        self._number = int.from_bytes(known[:2], "big")
        self.model = f"base1-{self._number:04x}"
        self.tables = Tables(
            tensors.pop("tables.counts").numpy().view(np.uint16),
            tensors.pop("tables.offsets").numpy(),
            tensors.pop("tables.classes").numpy(),
        )
        self._steps = tensors.pop("steps").numpy()
        basis = {name: tensors.pop(f"basis.{name}").float() for name in ("mean", "synthesis", "centre")}
        self._mean, self._synthesis, self._centre = basis["mean"], basis["synthesis"], basis["centre"]
        self._generator = Generator().eval().requires_grad_(False)
        self._generator.load_state_dict({name: value.float() for name, value in tensors.items()})
        state = {name: value.float() for name, value in load_tensors(encoder).items()}
        self._unit, self._person = state.pop("latents.deviation"), state.pop("latents.person")
        self._encoder = Encoder(len(self._unit)).eval().requires_grad_(False)
        self._encoder.load_state_dict(state)
        for part in (self._generator, self._encoder):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's stubs

    @classmethod
    def load(cls, uri: str | None = None) -> "FaceCodec":
        """The codec with the package's weights, or those of a folder at a path or fsspec URI; loaded once a process.

        WeightsError where they cannot be read.
        """
        return _load(uri)

    @property
    def recogniser(self) -> Recogniser:
        """The recogniser that the encoder looks with."""
        return self._encoder.recogniser

    def encode(
        self, face: Images, max_bytes: int = 320, objective: Objective = "identity", effort: Effort = "fast"
    ) -> bytes:
        """One face (512, 512, 3) uint8 RGB to at most max_bytes bytes. ValueError for another shape, dtype or argument.

        identity: the same person, as well as the bytes allow; realistic: a more typical face, the person may change;
        private: a person who does not exist, in the same pose and light, drawn anew at each call (PrivacyError where
        none was found). effort: fast is one pass of the encoder, good and best refine it by gradient steps.
        """
        return self.encode_batch(_one(face), max_bytes, objective, effort)[0]

    def encode_batch(
        self, faces: Images, max_bytes: int = 320, objective: Objective = "identity", effort: Effort = "fast"
    ) -> list[bytes]:
        """Faces (N, 512, 512, 3) uint8 RGB to N payloads, as encode() does."""
        return [coded.payload for coded in self.code_batch(faces, max_bytes, objective, effort)]

    @torch.inference_mode()
    def code_batch(
        self, faces: Images, max_bytes: int = 320, objective: Objective = "identity", effort: Effort = "fast"
    ) -> list[Coded]:
        """encode_batch() with the score of each face, at no extra cost.

        With objective "private" the score is only of light and dark, and PrivacyError is raised where no draw was
        unlike the original.
        """
        _check_faces(faces)
        if objective not in get_args(Objective) or effort not in get_args(Effort):
            raise ValueError(f"no objective {objective!r} or no effort {effort!r}")
        if max_bytes < HEADER.size + 2:
            raise ValueError(f"a face needs at least {HEADER.size + 2} bytes, not {max_bytes}")
        return [self._code(face, min(max_bytes, BASE_BYTES), objective, effort) for face in _tensors(faces, INPUT)]

    def decode(self, payload: bytes, size: int = SIZE) -> Images:
        """A payload to the aligned face (size, size, 3) uint8 RGB; size 128, 256 or 512, the smaller the faster.

        A PayloadError says what is wrong with bytes that encode() did not write; ValueError for another size.
        """
        return self.decode_batch([payload], size)[0]

    @torch.inference_mode()
    def decode_batch(self, payloads: Sequence[bytes], size: int = SIZE) -> Images:
        """N payloads to (N, size, size, 3) uint8 RGB, as decode() does."""
        read = [self._read(payload) for payload in payloads]
        faces = [self._draw(latents[None], colours[None], size) for latents, colours in read]
        if not faces:
            return np.empty((0, size, size, 3), np.uint8)
        rgb = (torch.cat(faces) * 127.5 + 127.5).round().byte()
        return np.ascontiguousarray(rgb.permute(0, 2, 3, 1).numpy())

    @torch.inference_mode()
    def scores(self, faces: Images, payloads: Sequence[bytes]) -> NDArray[np.float32]:
        """How well each payload stands for its face, (N,) float32, 0 to 1.

        Same person, and light and dark in the same places.

        Below MIN_SCORE the face was not understood (not a face, or hidden, or turned away), and the caller falls back.
        """
        _check_faces(faces)
        found = [
            self._score(face, self._draw(latents[None], colours[None], 128))
            for face, (latents, colours) in zip(_tensors(faces, INPUT), map(self._read, payloads), strict=True)
        ]
        return np.array(found, np.float32)

    @property
    def basis(self) -> str:
        """Names the base layer's coordinates: what was fitted to other latents does not fit these."""
        parts = (self._mean, self._synthesis, self._centre)
        return hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts)).hexdigest()[:16]

    def picture(self, latents: Tensor, size: int = SIZE) -> Tensor:
        """Latents (B, K) of the base layer, not quantised, to faces (B, 3, size, size) in -1..1; differentiable."""
        return self._draw(latents, None, size)

    @torch.inference_mode()
    def draw_base(self, latents: NDArray[np.float32], size: int = SIZE) -> Images:
        """Latents (K,) float32 of the base layer, not quantised, to a face (size, size, 3) uint8 RGB."""
        drawn = self._draw(torch.from_numpy(latents)[None], None, size)[0]
        return np.ascontiguousarray((drawn * 127.5 + 127.5).round().byte().permute(1, 2, 0).numpy())

    def write_base(
        self, latents: NDArray[np.float32], gains: NDArray[np.float64], max_bytes: int = BASE_BYTES
    ) -> bytes:
        """The payload of latents (K,) float32, at the finest step that fits; gains: logarithms (3,) for R, G and B."""
        colours = np.concatenate([[0], np.rint(gains / GAIN_STEP)]).astype(np.int32)
        symbols, step = self._quantise(torch.from_numpy(latents), min(max_bytes, BASE_BYTES), colours)
        return write_payload(symbols, step, self.tables, self._number)

    def _read(self, payload: bytes) -> tuple[Tensor, Tensor]:
        """(latents (K,), colours (4,)) of a payload."""
        symbols, step = read_payload(payload, self.tables, self._number)
        return self._dequantise(symbols, step), _colour_values(symbols)

    def _dequantise(self, symbols: NDArray[np.int32], step: int) -> Tensor:
        return self._centre + torch.from_numpy(symbols[:-COLOURS].astype(np.float32) * self._steps[step])

    def _draw(self, latents: Tensor, colours: Tensor | None, size: int) -> Tensor:
        """(B, K) latents and (B, 4) colours to (B, 3, size, size) in -1..1."""
        face: Tensor = self._generator(self._mean + latents @ self._synthesis, size)
        return face.clamp(-1, 1) if colours is None else _tint(face, colours)

    def _cosine(self, face: Tensor, drawn: Tensor) -> float:
        ours, theirs = self.recogniser(arcface_crop(drawn)), self.recogniser(arcface_crop(face[None]))
        return float((ours * theirs).sum())

    def _score(self, face: Tensor, drawn: Tensor) -> float:
        """Geometric mean of the recogniser's cosine and the correlation of light and dark, each 0 where negative."""
        return (max(self._cosine(face, drawn), 0.0) * max(_correlation(face, drawn), 0.0)) ** 0.5

    def _code(self, face: Tensor, ceiling: int, objective: Objective, effort: Effort) -> Coded:
        """One face (3, 256, 256) in -1..1."""
        with one_thread():
            latents = self._encoder(face[None])[0] * self._unit
        if objective == "private":
            return self._code_another_person(face, latents, ceiling)
        if objective == "realistic":
            latents = self._centre + REALISTIC * (latents - self._centre)
        if effort != "fast":
            latents = refinement.refine(
                lambda latents, size: self._draw(latents, None, size),
                lambda latents: self._dequantise(*self._quantise(latents, ceiling, np.zeros(COLOURS, np.int32))),
                self._encoder,
                self._unit,
                face,
                latents,
                effort,
                identity=objective == "identity",
            )
        payload, drawn = self._write(face, latents, ceiling)
        return Coded(payload, self._score(face, drawn))

    def _code_another_person(self, face: Tensor, latents: Tensor, ceiling: int) -> Coded:
        """A person who does not exist, in the pose and light of the face; drawn anew at each call.

        What the recogniser sees in the latents (a linear subspace, fitted in training.export) is replaced by chance. Of
        several draws the one most like the original in light and dark is taken that the recogniser does not link to it.
        """
        random, place = torch.Generator().manual_seed(secrets.randbits(63)), latents / self._unit
        rest = place - self._person @ (self._person.T @ place)
        people = self._person @ torch.randn(self._person.shape[1], PEOPLE, generator=random) * PERSON_DEVIATION
        draws = [(rest + person) * self._unit for person in people.T]
        likeness = [_correlation(face, self._draw(draw[None], None, 128)) for draw in draws]
        for i in np.argsort(likeness)[::-1]:
            payload, drawn = self._write(face, draws[i], ceiling)
            if self._cosine(face, drawn) < STRANGER:
                return Coded(payload, max(likeness[i], 0.0))
        raise PrivacyError(f"none of {PEOPLE} new faces was unlike the original")

    def _write(self, face: Tensor, latents: Tensor, ceiling: int) -> tuple[bytes, Tensor]:
        """The payload of the latents, and what it shows: (1, 3, 128, 128) in -1..1."""
        symbols, step = self._quantise(latents, ceiling, np.zeros(COLOURS, np.int32))
        drawn = self._draw(self._dequantise(symbols, step)[None], None, 128)
        first, (symbols, step) = step, self._quantise(latents, ceiling, self._colours(face, drawn))
        if step != first:  # the colours took bytes from the latents
            drawn = self._draw(self._dequantise(symbols, step)[None], None, 128)
        return write_payload(symbols, step, self.tables, self._number), _tint(drawn, _colour_values(symbols)[None])

    def _colours(self, face: Tensor, drawn: Tensor) -> NDArray[np.int32]:
        """The four symbols that give the drawn face (1, 3, 128, 128) the saturation and mean of the original's skin."""
        small = F.interpolate(face[None], size=128, mode="area")
        skin, ours = (picture[:, :, *FACE] + 1 for picture in (small, drawn))
        chroma = [(t - t.mean(1, keepdim=True)).square().mean().sqrt() for t in (skin, ours)]
        saturation = int(np.clip(np.rint(float(chroma[0] / chroma[1].clamp(min=1e-3) - 1) * SATURATIONS), -8, 8))
        ours = _tint(ours - 1, _colour_values(np.array([saturation, 0, 0, 0], np.int32))[None]) + 1
        means = [t.mean((0, 2, 3)).clamp(min=0.02) for t in (skin, ours)]
        gains = np.rint((means[0] / means[1]).log().numpy() / GAIN_STEP)
        return np.concatenate([[saturation], gains]).astype(np.int32)

    def _quantise(self, latents: Tensor, ceiling: int, colours: NDArray[np.int32]) -> tuple[NDArray[np.int32], int]:
        """(symbols, step) of the finest step whose payload is within the ceiling; ValueError where none is."""
        offsets = (latents - self._centre).numpy()
        for step in range(self.tables.steps):
            symbols = np.concatenate([np.rint(offsets / self._steps[step]).astype(np.int32), colours])
            symbols = self.tables.clip(symbols, step)
            if self.tables.estimate(symbols, step) / 8 > ceiling - HEADER.size + 1:
                continue
            if len(write_payload(symbols, step, self.tables, self._number)) <= ceiling:
                return symbols, step
        raise ValueError(f"this face does not fit {ceiling} bytes")


def _correlation(face: Tensor, drawn: Tensor) -> float:
    """Of the grey faces at 32 px, (3, S, S) and (1, 3, T, T)."""
    grey = [F.interpolate(t.mean(1, keepdim=True), size=32, mode="area")[0, 0][SEEN] for t in (drawn, face[None])]
    a, b = (g - g.mean() for g in grey)
    return float((a * b).sum() / ((a * a).sum() * (b * b).sum() + 1e-6).sqrt())


def _tint(face: Tensor, colours: Tensor) -> Tensor:
    """(B, 3, S, S) in -1..1 with (B, 4) colours: a factor on the distance from grey, then log gains; black stays."""
    light = face + 1
    grey = light.mean(1, keepdim=True)
    light = grey + (light - grey) * colours[:, :1, None, None]
    return (light * colours[:, 1:, None, None].exp() - 1).clamp(-1, 1)


def _colour_values(symbols: NDArray[np.int32]) -> Tensor:
    """The (4,) colours that the last four symbols mean."""
    found = torch.from_numpy(symbols[-COLOURS:].astype(np.float32))
    return torch.cat([(1 + found[:1] / SATURATIONS).clamp(min=0), found[1:] * GAIN_STEP])


@functools.lru_cache(maxsize=2)
def _load(uri: str | None) -> FaceCodec:
    base = str(PACKAGED) if uri is None else uri.rstrip("/")
    files = []
    for name in ("decoder.safetensors", "encoder.safetensors"):
        try:
            with fsspec.open(f"{base}/{name}", "rb") as file:
                files.append(file.read())
        except Exception as error:  # every store has errors of its own
            raise WeightsError(f"cannot read the codec's weights {base}/{name}: {error}") from error
    try:
        return FaceCodec(*files)
    except Exception as error:
        raise WeightsError(f"{base} does not hold the weights of this version's codec: {error}") from error


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
    """Each face as (3, size, size) in -1..1, shrunk by area in integers, so that it is exact."""
    factor = SIZE // size
    shape = (size, factor, size, factor, 3)
    return [
        torch.from_numpy(face.reshape(shape).sum((1, 3), dtype=np.int32).astype(np.float32) / (factor**2 * 127.5) - 1)
        .permute(2, 0, 1)
        .contiguous()
        for face in faces
    ]
