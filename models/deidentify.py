"""A realistic different person in place of a face: another's face with the pose, expression, gaze and light of this one.

The new face is a draw of the generator's own prior, on which nothing of the original has an influence but a short list
of numbers, rounded coarsely: its looks (models/appearance.py), the colour of its skin and, where wanted, apparent age
and sex. The original's latents are never computed. What was drawn is checked on the decoded picture.
"""

import functools
import hashlib
import pathlib
import secrets
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mien.models.appearance import NAMES, Looks
from mien.models.codec import BASE_BYTES, FaceCodec
from mien.models.errors import PrivacyError, WeightsError
from mien.models.recogniser import arcface_crop

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

# Cosine of two embeddings below which the recogniser takes two faces for two people: 96 of 100 pairs of different people
# are below it (232,221 pairs of shared/faces), and no draw is more like its original than strangers are.
STRANGER = 0.3
TRIES, CORRECTIONS = 12, 2
TRUNCATION = 0.6  # of the prior, as StyleGAN's psi
FARTHEST = 2.5  # deviations, of a latent
MAX_TURN = 8.0  # degrees between the yaws and the pitches of the original and the new face
# What is kept of the original is rounded to multiples of these (units as in appearance.NAMES), and limited to this range.
STEPS = (4.0, 4.0, 0.06, 0.12, 0.06, 0.06, 0.06, 0.05, 0.2, 0.2, 0.1, 0.1, 0.1)
LOWEST = (-44.0, -32.0, 0.0, 0.48, -0.12, 0.0, -0.18, -0.2, -0.8, -0.8, 3.5, 3.0, 2.5)
HIGHEST = (44.0, 24.0, 0.48, 1.44, 0.24, 0.48, 0.18, 0.1, 0.8, 0.8, 5.5, 5.5, 5.5)
SKIN = slice(10, 13)
FOLLOWED = slice(0, 3)  # what is corrected by measuring the drawn face: the rest comes with the latents well enough
SEXES, AGES = (-0.7, 0.7), (0.5, 1.0, 1.5, 2.0)  # as the recogniser's embedding shows them, see training.person
GAINS = 0.6  # the farthest that skin may be tinted, a logarithm
PACKAGED = pathlib.Path(__file__).parent / "weights" / "person.safetensors"


class Deidentifier:
    """Draws new people. Safe to share among threads; WeightsError where its tensors do not fit the codec."""

    def __init__(self, codec: FaceCodec) -> None:
        self._codec, self._looks = codec, Looks()
        tensors = _tensors(codec.basis)
        self._mean, self._deviation = tensors["prior.mean"], tensors["prior.deviation"]
        self._looks_slope, self._looks_offset = tensors["looks.slope"], tensors["looks.offset"]
        self._looks_direction = tensors["looks.direction"]
        self._read, self._read_offset = tensors["traits.read"], tensors["traits.read_offset"]
        self._traits_slope, self._traits_offset = tensors["traits.slope"], tensors["traits.offset"]
        self._traits_direction = tensors["traits.direction"]

    @torch.inference_mode()
    def embedding(self, face: Pixels) -> Floats:
        """The recogniser's embedding, (192,) of length 1, of an aligned face (512, 512, 3) uint8 RGB."""
        picture = torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1)[None].float() / 127.5 - 1
        small = F.interpolate(picture, size=256, mode="area")
        return self._codec.recogniser(arcface_crop(small))[0].double().numpy()

    def new_face(
        self, face: Pixels, avoid: Sequence[Floats] = (), seed: bytes | None = None, keep_traits: bool = True
    ) -> bytes:
        """The payload, at most 64 bytes, of a person who does not exist, with the looks of the face.

        face: (512, 512, 3) uint8 RGB, aligned. avoid: embeddings of people whom the new face may not resemble either
        (others in the photo, a gallery). seed: the same seed draws the same person, with the looks of each face it is
        given; None draws anew, from the system's randomness. keep_traits: apparent age and sex stay.

        PrivacyError where the face's looks cannot be measured, or none of TRIES draws was unlike all of them, with the
        right pose: the face must then be hidden in another way.
        """
        looks = self._looks.measure(face)
        if looks is None:
            raise PrivacyError("no landmarks were found in the face, so that no new one can be posed like it")
        original = self.embedding(face)
        others = np.stack([original, *avoid])
        wanted = rounded(looks)
        traits = self.traits(original) if keep_traits else None
        secret = secrets.token_bytes(32) if seed is None else seed
        for attempt in range(TRIES):
            latents, drawn = self._pose(_person(secret, attempt, len(self._looks_direction)), wanted, traits)
            if drawn is None:
                continue
            payload = self._codec.write_base(latents, np.clip(wanted[SKIN] - drawn[SKIN], -GAINS, GAINS), BASE_BYTES)
            new = self._codec.decode(payload)
            seen = self._looks.measure(new)
            if seen is None or np.abs(seen[:2] - looks[:2]).max() > MAX_TURN:
                continue
            if (others @ self.embedding(new)).max() < STRANGER:
                return payload
        raise PrivacyError(f"none of {TRIES} new faces was unlike the original")

    def traits(self, embedding: Floats) -> Floats:
        """Apparent sex and age, (2,), rounded to SEXES and AGES."""
        found = self._read @ embedding + self._read_offset
        return np.array([min(scale, key=lambda v: abs(v - f)) for scale, f in zip((SEXES, AGES), found, strict=True)])

    def _pose(self, person: Floats, wanted: Floats, traits: Floats | None) -> tuple[NDArray[np.float32], Floats | None]:
        """Latents of a person (K,), in deviations, with the wanted looks, and the looks that they were seen to have."""
        if traits is not None:
            person = person + self._traits_direction @ (traits - self._traits_slope @ person - self._traits_offset)
        place = person + self._looks_direction @ (wanted - self._looks_slope @ person - self._looks_offset)
        for correction in range(CORRECTIONS + 1):
            place = np.clip(place, -FARTHEST, FARTHEST)
            latents = self._mean.astype(np.float32)
            latents[: len(place)] += self._deviation[: len(place)] * place
            seen = self._looks.measure(self._codec.draw_base(latents, 256))
            if seen is None or correction == CORRECTIONS:
                break
            missing = np.zeros(len(NAMES))
            missing[FOLLOWED] = (wanted - seen)[FOLLOWED]
            place = place + self._looks_direction @ missing
        return latents, seen


def rounded(looks: Floats) -> Floats:
    """Looks as they are kept: in steps, within limits."""
    found: Floats = np.clip(np.rint(looks / STEPS) * STEPS, LOWEST, HIGHEST)
    return found


def _person(secret: bytes, attempt: int, latents: int) -> Floats:
    """A draw of the prior, (latents,) in deviations; the same for the same secret and attempt."""
    seed = hashlib.sha256(b"mien person %d " % attempt + secret).digest()
    random = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
    return random.standard_normal(latents) * TRUNCATION


@functools.cache
def _tensors(basis: str) -> dict[str, Floats]:
    try:
        with safe_open(PACKAGED, "np") as file:
            if (file.metadata() or {}).get("basis") != basis:
                raise WeightsError(f"{PACKAGED} was made for another codec than the one that is loaded")
            return {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"cannot read {PACKAGED}: {error}") from error
