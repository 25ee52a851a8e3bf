"""Magnifying faces: a face of 8 to 256 px to one of 128, 256 or 512 px that looks real and shrinks to the small one.

A network guesses the latents of the codec's base layer from the few pixels (models/magnify/predictor.py), some
gradient steps fit them to these (models/magnify/fitting.py), the generator draws them, and what the result, shrunk,
lacks of the input is added (models/magnify/consistency.py). So a magnified face is a payload of the codec with the
small picture laid over it. The details are made up: at 8 px hardly anything says who it is.
"""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.models.codec import SIZE, FaceCodec, load_codec
from mien.models.codec import SIZES as DRAWN
from mien.models.errors import FaceShapeError, FaceTooLargeError, FaceTooSmallError, WeightsError
from mien.models.faces import SAME_PERSON, arcface_crop
from mien.models.magnify.consistency import consistent, rms_limit, shrink
from mien.models.magnify.fitting import Fitting
from mien.models.magnify.predictor import ENCODER_SIZE, LARGEST, SIZES, SMALLEST, Guess, cells, enlarged
from mien.models.runtime import one_thread
from mien.models.weights import MAGNIFIER_FILE, PACKAGED, WeightsFolder, basis_of, read_weights, weights_in_use

Pixels = NDArray[np.uint8]

MOST = 256  # px of an input: a larger face needs no magnifying
TRUNCATION = 0.3  # how far strength 1 draws the latents towards the mean face, as a share
ANONYMOUS = 16  # px below which no input says who it is, whatever the recogniser takes the result for
LOOKED = 32  # px at most at which the likeness is judged
CANDIDATES = 3  # draws for each further face, of which the one that fits the input best is taken
COLOURLESS = 1.0  # mean distance of the channels, grey levels, up to which a picture has no colour
# Correlation of light and dark, input and drawn face at the input's own size, below which the input was not understood;
# see the model card for what was measured.
LEAST_LIKENESS = 0.7

RMS, DOUBTFUL, GREY = "rms over the limit", "not understood as a face", "no colour"


@dataclass(frozen=True)
class Magnified:
    """N magnified faces of one small face.

    pictures: (N, size, size, 3) uint8 RGB; the first is the best guess, the others are drawn from what it leaves open.
    rms: (N,) error in grey levels of each, shrunk to the input's size, to the input. limit: from which it is flagged.
    reasons: why each is flagged, empty where it is not. similarity: (N,) cosine of the recogniser's embeddings of
    result and enlarged input; preserved: (N,) whether that speaks for one person, never below ANONYMOUS px.
    likeness: (N,) correlation of light and dark with the input before the two were made consistent. payloads: of the
    faces before that, as FaceCodec.decode takes them; the score in them is the likeness.
    """

    pictures: Pixels
    rms: tuple[float, ...]
    limit: float
    reasons: tuple[tuple[str, ...], ...]
    similarity: tuple[float, ...]
    preserved: tuple[bool, ...]
    likeness: tuple[float, ...]
    payloads: tuple[bytes, ...]

    @property
    def flagged(self) -> tuple[bool, ...]:
        """(N,) whether each should be looked at before it is used."""
        return tuple(bool(reasons) for reasons in self.reasons)


class FaceMagnifier:
    """The guessing network beside the codec. Not to be made by hand: FaceMagnifier.load()."""

    def __init__(self, codec: FaceCodec, weights: bytes) -> None:
        self.codec = codec
        self.model = f"magnify1-{hashlib.sha256(weights).hexdigest()[:4]}"
        state = {name: value.float() for name, value in read_weights(weights).items()}
        self._factors = torch.stack([state.pop(f"factors.{size}") for size in SIZES])
        self._fitting = Fitting(codec, state.pop("view.weight"), state.pop("view.bias"))
        self._guess = Guess(len(codec.base_deviation)).eval().requires_grad_(False)
        self._guess.load_state_dict(state)

    @classmethod
    def load(cls, uri: str | None = None) -> "FaceMagnifier":
        """The magnifier with the weights of a folder at a path or fsspec URI, as FaceCodec.load; once a process.

        WeightsError where they cannot be read, or were made for another codec.
        """
        return _load(WeightsFolder(uri) if uri else weights_in_use())

    @torch.inference_mode()
    def magnify(
        self, small: Pixels, *, size: int = SIZE, strength: float = 0.0, samples: int = 1, seed: int = 0
    ) -> Magnified:
        """A small face, (S, S, 3) uint8 RGB with S of 8 to 256, FFHQ-aligned, to `samples` faces of size px.

        strength: from 0, faithful, to 1, realistic. At 0 the latents are as guessed, and all of the difference to the
        input is removed; at 1 the latents are drawn towards the mean face by TRUNCATION and nothing is added to what
        the generator drew, so that the result is flagged wherever that is not the input; in between both are linear.
        samples: the first face is the best guess, each further one is drawn at random from what the input leaves open;
        the same input and seed draw the same faces. size: 128, 256 or 512, not below S.

        FaceTooSmallError, FaceTooLargeError and FaceShapeError (not square, grey, not uint8) for other pictures;
        ValueError for other arguments.
        """
        _check(small, size)
        if not 0 <= strength <= 1 or samples < 1:
            raise ValueError(f"strength is 0 to 1, samples at least 1, not {strength} and {samples}")
        face = _tensor(enlarged(small))
        guess, person = self._guessed(small, face)
        drawn = [self._fitted(small, guess, self._shown(guess))]
        drawn += [self._another(small, guess, seed, i) for i in range(1, samples)]
        centre, limit = self.codec.decoder.centre, rms_limit(len(small))
        coded = [
            self.codec.code_latents(
                face,
                centre + (1 - TRUNCATION * strength) * (latents - centre),
                lambda shown: max(0.0, _likeness(_pixels(shown), small)),
            )
            for latents in drawn
        ]
        made = [consistent(self.codec.decode(one.payload, size), small, 1 - strength) for one in coded]
        similarity = [self._similarity(picture, person) for picture, _ in made]
        return Magnified(
            pictures=np.stack([picture for picture, _ in made]),
            rms=tuple(error for _, error in made),
            limit=limit,
            reasons=tuple(
                _reasons(small, error > limit, one.score < LEAST_LIKENESS)
                for (_, error), one in zip(made, coded, strict=True)
            ),
            similarity=tuple(similarity),
            preserved=tuple(len(small) >= ANONYMOUS and like >= SAME_PERSON for like in similarity),
            likeness=tuple(one.score for one in coded),
            payloads=tuple(one.payload for one in coded),
        )

    def guess(self, small: Pixels) -> Tensor:
        """The latents (K,) of the codec's base layer that a small face most likely has; errors as in magnify()."""
        _check(small, SIZE)
        return self._guessed(small, _tensor(enlarged(small)))[0]

    def _guessed(self, small: Pixels, face: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (K,) and the recogniser's embedding (1, 192) of the enlarged face (3, 256, 256)."""
        unit = self.codec.base_deviation
        latents, person = self.codec.look(face)
        latents = latents[: len(unit)]
        if len(small) > LARGEST:  # the encoder was trained for these
            return latents, person
        with one_thread():
            found = self._guess((latents / unit)[None], person, cells(small)[None], torch.tensor([float(len(small))]))
        return found[0] * unit, person

    def _another(self, small: Pixels, guess: Tensor, seed: int, number: int) -> Tensor:
        """Latents (K,) drawn from what the guess may be wrong by: of CANDIDATES those whose face fits best."""
        key = hashlib.sha256(b"mien magnify %d %d %d " % (seed, number, len(small)) + small.tobytes()).digest()
        random = np.random.Generator(np.random.PCG64(int.from_bytes(key, "big")))
        noise = torch.from_numpy(random.standard_normal((CANDIDATES, len(guess))).astype(np.float32))
        drawn = guess + noise @ self._factor(len(small)).T * self.codec.base_deviation
        shown = [self._shown(one) for one in drawn]
        best = min(range(CANDIDATES), key=lambda i: _misfit(shown[i], small))
        return self._fitted(small, drawn[best], shown[best])

    def _shown(self, latents: Tensor) -> NDArray[np.float32]:
        """The face of latents (K,), (128, 128, 3), 0 to 255."""
        return _pixels(self.codec.picture(latents[None], DRAWN[0]))

    def _fitted(self, small: Pixels, latents: Tensor, shown: NDArray[np.float32]) -> Tensor:
        """Latents (K,) near those given, which show that."""
        spread = self._factor(len(small)).square().sum(1).sqrt() * self.codec.base_deviation
        return self._fitting.fit(small, latents, shown, spread)

    def _factor(self, size: int) -> Tensor:
        """(K, K) of the errors' covariance at a size; between SIZES linear in the logarithm, beyond as at the last."""
        place = float(np.interp(np.log2(size), np.log2(SIZES), range(len(SIZES))))
        low = min(int(place), len(SIZES) - 2)
        return torch.lerp(self._factors[low], self._factors[low + 1], place - low)

    def _similarity(self, picture: Pixels, person: Tensor) -> float:
        seen = F.interpolate(_tensor(picture)[None], size=min(len(picture), ENCODER_SIZE), mode="area")
        return float((self.codec.recogniser(arcface_crop(seen)) * person).sum())


def _check(small: Pixels, size: int) -> None:
    if size not in DRAWN:
        raise ValueError(f"size is {', '.join(map(str, DRAWN))}, not {size}")
    if not isinstance(small, np.ndarray) or small.dtype != np.uint8:
        found = small.dtype if isinstance(small, np.ndarray) else type(small).__name__
        raise FaceShapeError(f"a face is an array of uint8, not {found}")
    if small.ndim != 3 or small.shape[2] != 3:
        raise FaceShapeError(f"a face is (S, S, 3) RGB, not {small.shape}; of grey, stack three channels")
    if small.shape[0] != small.shape[1]:
        raise FaceShapeError(f"a face to magnify is square, not {small.shape[1]} x {small.shape[0]}")
    if len(small) < SMALLEST:
        raise FaceTooSmallError(f"a face of {len(small)} px says too little; at least {SMALLEST} are needed")
    if len(small) > MOST:
        raise FaceTooLargeError(f"a face of {len(small)} px needs no magnifying; at most {MOST} are taken")
    if len(small) > size:
        raise FaceTooLargeError(f"a face of {len(small)} px is larger than the {size} px asked for")


def _reasons(small: Pixels, off: bool, doubtful: bool) -> tuple[str, ...]:
    channels = small.astype(np.float32)
    grey = float((channels.max(2) - channels.min(2)).mean()) <= COLOURLESS
    return tuple(reason for reason, holds in ((RMS, off), (DOUBTFUL, doubtful), (GREY, grey)) if holds)


def _misfit(shown: NDArray[np.float32], small: Pixels) -> float:
    """Mean squared difference of a face (S, S, 3) and a small one, but for its colour."""
    missing = shrink(small, min(len(small), len(shown))) - shrink(shown, min(len(small), len(shown)))
    return float(np.square(missing - missing.mean((0, 1))).mean())


def _likeness(shown: NDArray[np.float32], small: Pixels) -> float:
    """Correlation of light and dark over the middle of a face (S, S, 3) and a small one, at LOOKED px at most."""
    size = min(len(small), LOOKED)
    edge = round(0.15 * size)
    a, b = (shrink(t, size).mean(2)[edge : size - edge, edge : size - edge] for t in (shown, small))
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-6))


def _tensor(face: Pixels) -> Tensor:
    """(S, S, 3) uint8 to (3, S, S) in -1..1."""
    return torch.from_numpy(face.astype(np.float32) / 127.5 - 1).permute(2, 0, 1).contiguous()


def _pixels(face: Tensor) -> NDArray[np.float32]:
    """(1, 3, S, S) in -1..1 to (S, S, 3), 0 to 255."""
    found: NDArray[np.float32] = (face[0] * 127.5 + 127.5).permute(1, 2, 0).numpy()
    return found


@functools.lru_cache(maxsize=2)
@torch.inference_mode(False)
def _load(folder: WeightsFolder) -> FaceMagnifier:
    codec, data = load_codec(folder, FaceCodec), folder.read(MAGNIFIER_FILE)
    where = f"{folder.uri or PACKAGED}/{MAGNIFIER_FILE}"
    try:
        magnifier = FaceMagnifier(codec, data)
    except Exception as error:  # safetensors has errors of its own
        raise WeightsError(f"cannot read the magnifier's weights {where}: {error}") from error
    if basis_of(data) != codec.basis:
        raise WeightsError(f"{where} was made for another codec than the one that is loaded")
    return magnifier
