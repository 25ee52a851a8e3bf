"""A realistic different person in place of a face: chosen from the pool, fitted to the photo, and checked there.

The pool's people (models/privacy/pool.py) do not exist. One who fits the head by apparent age and sex and is unlike the
original, everybody else in the photo and a gallery is taken, by chance or by a seed; models/privacy/new_person.py
then draws the photo's face as that person. What was drawn is looked at by two recognisers as it will stand in the
photo: the original must be no more alike than strangers are. Else the next of the pool's people is tried.
"""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.models.codec import BASE_BYTES, INPUT, FaceCodec, allocate, colour_symbols
from mien.models.errors import NotUnderstoodError, PrivacyError
from mien.models.faces import EMBEDDING, doubt
from mien.models.privacy.age import apparent
from mien.models.privacy.new_person import Fitted, PersonFitter, Reading, Target
from mien.models.privacy.person_file import person_tensors
from mien.models.privacy.pool import Pool, load_pool
from mien.models.runtime import one_thread
from mien.models.weights import WeightsFolder, weights_in_use

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

# What 95 of 100 pairs of different people stay below (cosine of the first recogniser) and above (distance of the
# second); of the people of the development faces.
ALIKE, NEAR = 0.26, 0.68
# The same for everybody else's faces, by the first recogniser: 998 of 1,000 pairs are below it. Lower, a gallery would
# leave nobody.
LOOKALIKE = 0.45
# How much less a person fits by a unit of sex and of age, of glasses and of a beard, of likeness to the
# original, and of each of the looks.
TRAITS, WORN, UNLIKE, DIFFERENT = np.array([3.0, 1.5]), np.array([6.0, 2.0]), 1.0, 0.75
SAME_LOOKS = np.array([0.01, 0.01, 1.0, 0.5, 1.0, 1.0, 0.5, 0.5, 0.3, 0.3, 0.15, 0.15, 0.15])
NAMED = 2.5  # with a seed: how much harder the steps are drawn to the pool's person
MOST_UNFIT = 2.0  # more than who fits best: a person without glasses does not take the place of one with glasses
FITTING = 12  # of the pool's people that fit a head best, among whom chance or the seed chooses
TRIES = 4
# How likely a new face looks flawed: a logistic reading of what it differs by around the face, of the doubt that it is
# a clear face (models/faces/understanding.py), and of its likeness to the pool's person, fitted to 70 new faces in
# portraits, 11 of them labelled flawed by eye. Area under its curve 0.80 in ten-fold cross-validation; above
# MOST_FLAWED are 6 of the 11 and 4 of the other 59. Asked of faces from LARGE photo pixels of the square on.
RING, DOUBT, LIKENESS, FLAWED, MOST_FLAWED, LARGE = 10.0, 1.1, -4.8, 5.3, -0.3, 128
LEAST_SCORE = 0.36  # of FaceCodec.scores: below it not even a face that was found to be clear gets a new one
MOST_WORN = 0.6  # by which glasses may be more or less there than they were
MOST_CHANGED = np.array([0.8, 0.8])  # by which apparent sex and age may differ from the original's
# Length of the recogniser's embedding before it is made 1: real faces of the development set have at least 68; what is
# blurred or no face any more has less than this.
CLEAR = 45.0
SEED = 32  # bytes


@dataclass(frozen=True)
class NewFace:
    """picture: (S, S, 3) uint8, the face with its surroundings, to be joined into the photo (models/privacy/join.py).
    person: the pool's, by number. score: how well the codec understood the face that was there, as FaceCodec.scores."""

    picture: Pixels
    person: int
    score: float


class Deidentifier:
    """Gives faces new people. Safe to share among threads; WeightsError where its files do not fit the codec."""

    @torch.inference_mode(False)  # what is made in that mode knows no gradients
    def __init__(self, codec: FaceCodec) -> None:
        self._codec = codec
        tensors = person_tensors(codec.basis, weights_in_use())
        self._pool: Pool = load_pool(codec.basis, weights_in_use())
        self._fitter = PersonFitter(codec, tensors, self._pool.wearing[:1, : self._pool.places.shape[1]])

    def apparent(self, embedding: Floats) -> Floats:
        """Apparent sex and age, (2,), see mien.models.privacy.age."""
        return apparent(embedding, self._codec.basis)

    def embedding(self, face: Pixels) -> Floats:
        """The first recogniser's embedding, (192,) of length 1, of an aligned face (512, 512, 3) uint8 RGB."""
        with torch.inference_mode():
            found: Floats = self._fitter.recognised(_tensor(face)).first[0].double().numpy()
        return found

    @property
    def people(self) -> Floats:
        """(N, 64) the pool's people without their looks, in deviations of the base layer's first latents."""
        return self._pool.places @ self._fitter.still.T

    def person_of(self, face: Pixels) -> Floats:
        """(64,) what the encoder sees of the person in an aligned face (512, 512, 3) uint8 RGB, in the same units."""
        return self._fitter.still @ self._fitter.place_of(self._fitter.read(_tensor(face)).base)

    def new_face(
        self, face: Pixels, avoid: Sequence[Floats] = (), seed: bytes | None = None, max_bytes: int = BASE_BYTES
    ) -> bytes:
        """The payload, at most max_bytes, of a person who does not exist, with the pose, expression and light of the
        aligned face (512, 512, 3) uint8 RGB.

        avoid: embeddings of people whom the new face may not resemble either (others in the photo, a gallery). seed:
        the same seed chooses the same person; None chooses anew, from the system's randomness. A seed is SEED bytes; an
        embedding of the person, (192,) float32, may stand behind them, the same for all photos: the pool's people who
        fit are then chosen by it.

        PrivacyError where none of TRIES people became unlike all of them: the face must then be hidden in another way.
        ValueError for another shape of seed.
        """
        read = self._fitter.read(_tensor(face))
        for person in self._people(read, avoid, seed, ()):
            fitted = self._fitted(read, person, seed, None)
            colours = colour_symbols(fitted.latents.colours)
            found = allocate(self._codec.decoder, fitted.latents, colours, max_bytes)
            payload = found.payload(self._codec.decoder, 255)
            if self._good(_tensor(self._codec.decode(payload)), read, avoid):
                return payload
        raise PrivacyError(f"none of {TRIES} new faces was unlike the original")

    def face_in_photo(
        self,
        face: Pixels,
        side: float,
        avoid: Sequence[Floats] = (),
        seed: bytes | None = None,
        taken: Collection[int] = (),
    ) -> NewFace:
        """The new face that goes on into what is around it in the photo.

        face: (512, 512, 3) uint8 RGB, aligned. side: photo pixels of the aligned square. taken: people of the pool who
        are in the photo already. The others, and errors: as for new_face(); NotUnderstoodError where the codec does not
        understand the face (LEAST_SCORE): a lamp that a detector took for a face must not become one.
        """
        read = self._fitter.read(_tensor(face))
        if read.score < LEAST_SCORE:
            raise NotUnderstoodError("the codec does not understand the face")
        for person in self._people(read, avoid, seed, taken):
            fitted = self._fitted(read, person, seed, side)
            good = self._good(fitted.shown, read, avoid) and self._agrees(fitted, read)
            if good and (side < LARGE or self.flaw(fitted, person) <= MOST_FLAWED):
                return NewFace(fitted.picture, person, read.score)
        raise PrivacyError(f"none of {TRIES} new faces was unlike the original")

    def _people(self, read: Reading, avoid: Sequence[Floats], seed: bytes | None, taken: Collection[int]) -> list[int]:
        """At most TRIES of the pool's people who fit the face and resemble nobody, in the order to be tried."""
        if seed is not None and len(seed) not in (SEED, SEED + 4 * EMBEDDING):
            raise ValueError(f"a seed is {SEED} bytes, or these and an embedding, not {len(seed)} bytes")
        pool, first, near = self._pool, read.first[0].double().numpy(), np.zeros(len(self._pool))
        if seed is not None and len(seed) > SEED:
            first = np.frombuffer(seed[SEED:], "<f4").astype(np.float64)
        else:
            near = np.linalg.norm(pool.second - read.second[0].double().numpy(), axis=1)
            near = np.maximum(DIFFERENT - near, 0)
        unfit = np.abs(pool.traits - self.apparent(first)) @ TRAITS + UNLIKE * (
            np.maximum(pool.first @ first, 0) + near
        )
        worn = pool.worn_by(self._fitter.place_of(read.base), read.first[0].double().numpy())
        unfit = unfit + np.abs(pool.worn - worn) @ WORN
        if seed is None or len(seed) == SEED:  # a person of one seed is the same whatever the pose
            unfit = unfit + np.abs(pool.looks - self._fitter.looks_of(read)) @ SAME_LOOKS
        free = np.array([i not in taken for i in range(len(pool))])
        for other in avoid:
            free &= pool.first @ other < LOOKALIKE
        unfit = np.where(free, unfit, np.inf)
        fitting = np.argsort(unfit, kind="stable")[:FITTING]
        fitting = fitting[unfit[fitting] <= min(unfit[fitting[0]] + MOST_UNFIT, 1e9)]
        secret = secrets.token_bytes(SEED) if seed is None else seed[:SEED]
        # each has a number of its own, so that who else fits in another photo seldom changes who is taken
        numbers = {int(i): hashlib.sha256(b"mien pool %d " % i + secret).digest() for i in fitting}
        return sorted(numbers, key=lambda i: numbers[i])[:TRIES]

    @torch.inference_mode(False)
    def _fitted(self, read: Reading, person: int, seed: bytes | None, side: float | None) -> Fitted:
        pool = self._pool
        target = Target(*(torch.from_numpy(part[person]).float() for part in (pool.places, pool.first, pool.second)))
        with one_thread():  # sums are added in one order: the same seed gives the same picture in any process
            return self._fitter.fit(read, target, side, NAMED if seed is not None else 1.0)

    @torch.inference_mode()
    def _good(self, shown: Tensor, read: Reading, avoid: Sequence[Floats]) -> bool:
        """Whether what is seen (1, 3, 256, 256) is a clear face, and as unlike everybody as strangers are."""
        first, second, length = self._fitter.recognised(shown)
        found = first[0].double().numpy()
        return bool(
            length >= CLEAR
            and (first * read.first).sum() < ALIKE
            and (second - read.second).norm() > NEAR
            and all(found @ other < LOOKALIKE for other in avoid)
        )

    @torch.inference_mode()
    def flaw(self, fitted: Fitted, person: int) -> float:
        """The logarithm of the odds that a new face of the pool's person looks flawed in the photo."""
        shown = ((fitted.shown[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        likeness = float(self._fitter.recognised(fitted.shown).first[0].double().numpy() @ self._pool.first[person])
        doubted = doubt(shown, self._codec.recogniser)
        return RING * fitted.ring + DOUBT * doubted + LIKENESS * likeness + FLAWED

    @torch.inference_mode()
    def _agrees(self, fitted: Fitted, read: Reading) -> bool:
        """Whether apparent sex and age are about the original's, and glasses wholly kept or wholly gone."""
        first, known = (self._fitter.recognised(fitted.shown).first, read.first)
        found, before = (one[0].double().numpy() for one in (first, known))
        base = fitted.latents.layers[0]
        assert base is not None
        places = self._fitter.place_of(base), self._fitter.place_of(read.base)
        glasses, worn = (self._pool.worn_by(place, one)[0] for place, one in zip(places, (found, before), strict=True))
        changed = np.abs(self.apparent(found) - self.apparent(before))
        return bool((changed <= MOST_CHANGED).all() and abs(glasses - worn) <= MOST_WORN)


def _tensor(face: Pixels) -> Tensor:
    """(512, 512, 3) uint8 to (1, 3, 256, 256) in -1..1."""
    picture = torch.from_numpy(np.array(face)).permute(2, 0, 1)[None].float() / 127.5 - 1
    return F.interpolate(picture, size=INPUT, mode="area")


def check_files(basis: str, folder: WeightsFolder) -> None:
    """WeightsError where what a Deidentifier needs beside the codec of that basis is not in the folder."""
    person_tensors(basis, folder)
    load_pool(basis, folder)
