"""A realistic different person in place of a face: another's, with the pose, expression, gaze and light of this one.

The new face is a draw of the generator's own prior, on which nothing of the original has an influence but a short list
of numbers, rounded coarsely: its looks (models/faces/appearance.py), the colour of its skin and, where wanted,
apparent age and sex. The original's latents are never computed. What was drawn is checked on the decoded picture.
"""

import functools
import hashlib
import secrets
from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from mien.models.codec import BASE_BYTES, FaceCodec
from mien.models.errors import PrivacyError, WeightsError
from mien.models.faces import EMBEDDING, NAMES, Looks, arcface_crop, bareness
from mien.models.runtime import one_thread
from mien.models.weights import PACKAGED, PERSON_FILE, WeightsFolder, basis_of, weights_in_use

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

# Cosine of two embeddings below which the recogniser takes two faces for two people: 96 of 100 pairs of different
# people are below it (232,221 pairs of shared/faces; same person > 0.52).
STRANGER = 0.3
# The same for everybody else's faces: 998 of 1,000 pairs are below it. Lower, a gallery would leave nobody to draw.
LOOKALIKE = 0.45
TRIES, CORRECTIONS, WRITINGS = 64, 2, 3  # people; measured moves of each; writings of it, until the pose is right
CANDIDATES = 4  # draws, of which the one is taken that has to be moved least to have the looks
# Length of the recogniser's embedding before it is made 1: real faces in shared/faces/dev have at least 68; what is
# blurred, behind sunglasses or no face any more has less than this. Looked at on 48 new faces.
CLEAR = 56.0
# Bareness (models/faces/appearance.py) and self_score of the codec that are asked of the first draw, and by how much
# less of each further one. Looked at on 45 draws: those less bare than 0.86 were hooded, behind dark glasses or hair,
# bearded or painted wrong; those with a score below 0.6 were smeared or torn.
BARE, REAL, LESS = 0.9, 0.7, 0.01
_SKETCHED, _DRAWN = 128, 256  # pixels of the faces that are looked at first, and of those that are measured
MAX_MOUTH, MAX_EYES = 0.12, 0.2  # by which mouth and eyes may be opened otherwise than the original's
# With a seed: steps towards the person's own embedding before each correction, their length in deviations, and how much
# further that embedding must be from the person's, so that the same draw is taken in each photo.
LIKENING, LIKENING_STEP, MARGIN = 3, 0.4, 0.2
# Of the prior, as StyleGAN's psi; PERSON of it in the directions that change the person most, so that people differ.
TRUNCATION, PERSON = 0.55, 1.2
FARTHEST = 2.5  # deviations, of a latent
MAX_TURN = 8.0  # degrees between the yaws and the pitches of the original and the new face
# What is kept of the original is rounded to multiples of STEPS (units as in appearance.NAMES), within this range.
STEPS = (4.0, 4.0, 0.06, 0.12, 0.06, 0.06, 0.06, 0.05, 0.2, 0.2, 0.1, 0.1, 0.1)
LOWEST = (-44.0, -32.0, 0.0, 0.48, -0.12, 0.0, -0.18, -0.2, -0.8, -0.8, 3.5, 3.0, 2.5)
HIGHEST = (44.0, 24.0, 0.48, 1.44, 0.24, 0.48, 0.18, 0.1, 0.8, 0.8, 5.5, 5.5, 5.5)
SKIN, MOUTH, EYES = slice(10, 13), NAMES.index("mouth_opening"), NAMES.index("eyes")
# Looks in which a person's own embedding is taken.
PLAIN = np.array((0.0, -3.0, 0.05, 0.85, 0.08, 0.3, 0.0, -0.06, 0.0, 0.0, 5.25, 4.9, 4.75))
FOLLOWED = slice(0, 3)  # what is corrected by measuring the drawn face: the rest comes with the latents well enough
SEXES, AGES = (-0.7, 0.7), (0.5, 1.0, 1.5, 2.0)  # as the recogniser's embedding shows them, see training.person
MAX_TRAITS = (1.0, 0.8)  # by which the new face's may be judged otherwise
GAINS = 0.6  # the farthest that skin may be tinted, a logarithm
SEED = 32  # bytes


class Deidentifier:
    """Draws new people. Safe to share among threads; WeightsError where its tensors do not fit the codec."""

    def __init__(self, codec: FaceCodec) -> None:
        self._codec, self._looks = codec, Looks()
        tensors = person_tensors(codec.basis, weights_in_use())
        self._mean, self._deviation = tensors["prior.mean"], tensors["prior.deviation"]
        self._looks_slope, self._looks_offset = tensors["looks.slope"], tensors["looks.offset"]
        self._directions = tensors["person.directions"]
        self._looks_direction = tensors["looks.direction"]
        self._read, self._read_offset = tensors["traits.read"], tensors["traits.read_offset"]
        self._traits_slope, self._traits_offset = tensors["traits.slope"], tensors["traits.offset"]
        self._traits_direction = tensors["traits.direction"]
        scaled = self._looks_slope / np.linalg.norm(self._looks_slope, axis=1, keepdims=True)
        # onto what leaves the looks as they are
        self._still = np.eye(scaled.shape[1]) - scaled.T @ np.linalg.solve(scaled @ scaled.T, scaled)

    def _looks_real(self, face: Pixels, attempt: int) -> bool:
        """Whether a drawn face is bare and whole enough; with each attempt a little less is asked."""
        less = LESS * attempt
        found = self._looks.located(face)
        if not found.landmarks or bareness(face, found.landmarks) < BARE - less:
            return False
        interpolation = cv2.INTER_AREA if len(face) > _DRAWN else cv2.INTER_CUBIC
        seen = np.asarray(cv2.resize(face, (_DRAWN, _DRAWN), interpolation=interpolation), np.uint8)
        return self._codec.self_score(seen) >= REAL - less

    def embedding(self, face: Pixels) -> Floats:
        """The recogniser's embedding, (192,) of length 1, of an aligned face (512, 512, 3) uint8 RGB."""
        return self._seen(face)[0]

    @torch.inference_mode()
    def _seen(self, face: Pixels) -> tuple[Floats, float]:
        """The embedding, and its length before it was made 1."""
        picture = torch.from_numpy(np.array(face)).permute(2, 0, 1)[None].float() / 127.5 - 1
        recogniser = self._codec.recogniser
        features = recogniser.features(arcface_crop(F.interpolate(picture, size=256, mode="area")))
        found: Floats = recogniser.last(features).flatten().double().numpy()
        length = float(np.linalg.norm(found))
        return found / max(length, 1e-9), length

    def new_face(
        self,
        face: Pixels,
        avoid: Sequence[Floats] = (),
        seed: bytes | None = None,
        keep_traits: bool = True,
        max_bytes: int = BASE_BYTES,
    ) -> bytes:
        """The payload, at most 64 bytes and max_bytes, of a person who does not exist, with the looks of the face.

        face: (512, 512, 3) uint8 RGB, aligned. avoid: embeddings of people whom the new face may not resemble either
        (others in the photo, a gallery). seed: the same seed draws the same person, with the looks of each face it is
        given; None draws anew, from the system's randomness. A seed is SEED bytes; an embedding of the person, (192,)
        float32, may stand behind them, the same for all photos: age and sex are then judged by it, for what is doubtful
        in them would change from photo to photo. keep_traits: apparent age and sex stay.

        PrivacyError where the face's looks cannot be measured, or none of TRIES draws was unlike all of them, with the
        right pose: the face must then be hidden in another way. ValueError for another shape of seed.
        """
        if seed is not None and len(seed) not in (SEED, SEED + 4 * EMBEDDING):
            raise ValueError(f"a seed is {SEED} bytes, or these and an embedding, not {len(seed)} bytes")
        with one_thread():  # sums are added in one order: the same seed gives the same bytes in any process
            return self._drawn(face, avoid, seed, keep_traits, max_bytes)

    def _drawn(
        self, face: Pixels, avoid: Sequence[Floats], seed: bytes | None, keep_traits: bool, max_bytes: int
    ) -> bytes:
        """What new_face() gives."""
        shown = self._looks.measure(face)
        if shown is None:
            raise PrivacyError("no landmarks were found in the face, so that no new one can be posed like it")
        original, wanted = self.embedding(face), rounded(shown)
        others = np.stack([original, *avoid])
        limits = np.array([STRANGER, *(LOOKALIKE for _ in avoid)])
        secret = secrets.token_bytes(SEED) if seed is None else seed[:SEED]
        known = original if seed is None or len(seed) == SEED else np.frombuffer(seed[SEED:], "<f4").astype(np.float64)
        traits = self.traits(known) if keep_traits else None
        at_first = wanted if seed is None else PLAIN
        exact = seed is not None  # what draws one person everywhere may not depend on the processor
        for attempt in range(TRIES):
            person, own = self._person(secret, attempt, traits, at_first), None
            latents = self._latents(self._towards(person, at_first))
            if not self._looks_real(self._codec.draw_base(latents, _SKETCHED, exact), attempt):
                continue
            if seed is not None:
                own, clear = self._seen(self._codec.draw_base(latents, _DRAWN))
                if known @ own >= STRANGER - MARGIN or clear < CLEAR:
                    continue
            place, drawn = self._pose(person, wanted, own)
            if drawn is None:
                continue
            for _ in range(WRITINGS):
                gains = np.clip(wanted[SKIN] - drawn[SKIN], -GAINS, GAINS)
                payload = self._codec.write_base(self._latents(place), gains, max_bytes)
                new = self._codec.decode(payload)
                seen = self._looks.measure(new)
                if seen is None:
                    break
                if np.abs(seen[:2] - shown[:2]).max() > MAX_TURN:  # the quantiser turned the head
                    place = self._corrected(place, wanted, seen)
                    continue
                embedding, clear = self._seen(new)
                good = (
                    clear >= CLEAR
                    and abs(seen[MOUTH] - shown[MOUTH]) < MAX_MOUTH
                    and abs(seen[EYES] - shown[EYES]) < MAX_EYES + LESS * attempt
                )
                if traits is not None:
                    good = good and bool((np.abs(self._judged(embedding) - traits) < MAX_TRAITS).all())
                good = good and (seed is not None or self._looks_real(new, attempt))
                # another draw for its looks alone would be another person in this photo than in the others
                if (others @ embedding < limits).all() and (good or seed is not None):
                    return payload
                break
        raise PrivacyError(f"none of {TRIES} new faces was unlike the original")

    def traits(self, embedding: Floats) -> Floats:
        """Apparent sex and age, (2,), rounded to SEXES and AGES."""
        found = zip((SEXES, AGES), self._judged(embedding), strict=True)
        return np.array([min(scale, key=lambda value: abs(value - judged)) for scale, judged in found])

    def apparent(self, embedding: Floats) -> Floats:
        """Apparent sex and age, (2,), not rounded: -1 female to 1 male, and 0 child, 1 young, 2 middle-aged, 3 old."""
        return self._judged(embedding)

    def _judged(self, embedding: Floats) -> Floats:
        found: Floats = self._read @ embedding + self._read_offset
        return found

    def _person(self, secret: bytes, attempt: int, traits: Floats | None, wanted: Floats) -> Floats:
        """A draw of the prior, (drawn,) in deviations, of these traits, for the wanted looks.

        The same for the same arguments. Of CANDIDATES the one that is moved least: the farther, the less it looks real.
        """
        seed = hashlib.sha256(b"mien person %d " % attempt + secret).digest()
        random = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
        people = random.standard_normal((CANDIDATES, len(self._looks_direction))) * TRUNCATION
        people += people @ self._directions @ self._directions.T * (PERSON / TRUNCATION - 1)
        if traits is not None:
            people += (traits - self._traits_offset - people @ self._traits_slope.T) @ self._traits_direction.T
        moved = [float(np.linalg.norm(self._towards(person, wanted) - person)) for person in people]
        chosen: Floats = people[int(np.argmin(moved))]
        return chosen

    def _towards(self, person: Floats, wanted: Floats) -> Floats:
        """The person moved to where the wanted looks are to be expected."""
        missing = wanted - self._looks_slope @ person - self._looks_offset
        found: Floats = np.clip(person + self._looks_direction @ missing, -FARTHEST, FARTHEST)
        return found

    def _latents(self, place: Floats) -> NDArray[np.float32]:
        latents = self._mean.astype(np.float32)
        latents[: len(place)] += self._deviation[: len(place)] * place
        return latents

    def _corrected(self, place: Floats, wanted: Floats, seen: Floats) -> Floats:
        """The place moved by what the looks that were seen there miss."""
        missing = np.zeros(len(NAMES))
        missing[FOLLOWED] = (wanted - seen)[FOLLOWED]
        found: Floats = np.clip(place + self._looks_direction @ missing, -FARTHEST, FARTHEST)
        return found

    def _pose(self, person: Floats, wanted: Floats, own: Floats | None) -> tuple[Floats, Floats | None]:
        """Where, in deviations, a person has the wanted looks, and the looks that were seen there.

        own: the embedding that the drawn face is to keep.
        """
        place = self._towards(person, wanted)
        for correction in range(CORRECTIONS + 1):
            if own is not None and correction < CORRECTIONS:
                for _ in range(LIKENING):
                    place = np.clip(place + LIKENING_STEP * self._likening(place, own), -FARTHEST, FARTHEST)
            size = _DRAWN if correction == CORRECTIONS else _SKETCHED
            seen = self._looks.measure(self._codec.draw_base(self._latents(place), size, exact=own is not None))
            if seen is None or correction == CORRECTIONS:
                break
            place = self._corrected(place, wanted, seen)
        return place, seen

    def _likening(self, place: Floats, own: Floats) -> Floats:
        """The direction, of length 1, in which the face becomes most like the embedding, its looks unchanged."""
        with torch.inference_mode(False), torch.enable_grad():
            moved = torch.from_numpy(self._latents(place)[None]).requires_grad_(True)
            drawn = F.interpolate(self._codec.picture(moved, 128), size=146, mode="bilinear")  # what arcface_crop takes
            likeness = (self._codec.recogniser(arcface_crop(drawn))[0] * torch.from_numpy(own).float()).sum()
            (slope,) = torch.autograd.grad(likeness, moved)
        found: Floats = self._still @ (slope[0, : len(place)].double().numpy() * self._deviation[: len(place)])
        return found / max(float(np.linalg.norm(found)), 1e-9)


def rounded(looks: Floats) -> Floats:
    """Looks as they are kept: in steps, within limits."""
    found: Floats = np.clip(np.rint(looks / STEPS) * STEPS, LOWEST, HIGHEST)
    return found


@functools.cache
def person_tensors(basis: str, folder: WeightsFolder) -> dict[str, Floats]:
    """What a Deidentifier needs of a folder beside the codec of that basis. WeightsError where it does not fit."""
    where, data = f"{folder.uri or PACKAGED}/{PERSON_FILE}", folder.read(PERSON_FILE)
    try:
        made_for = basis_of(data)
        tensors = {name: tensor.astype(np.float64) for name, tensor in load(data).items()}
    except (ValueError, SafetensorError) as error:
        raise WeightsError(f"cannot read {where}: {error}") from error
    if made_for != basis:
        raise WeightsError(f"{where} was made for another codec than the one that is loaded")
    return tensors
