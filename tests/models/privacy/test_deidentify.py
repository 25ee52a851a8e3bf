from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.models import FaceCodec
from mien.models.codec.decoder import COLOURS
from mien.models.codec.rate_control import BASE_BYTES
from mien.models.errors import PrivacyError, WeightsError
from mien.models.faces.appearance import Looks
from mien.models.faces.recogniser import SAME_PERSON
from mien.models.privacy import deidentify
from mien.models.privacy.deidentify import (
    LOOKALIKE,
    MAX_TURN,
    MOUTH,
    SEED,
    SKIN,
    STEPS,
    STRANGER,
    Deidentifier,
    rounded,
)
from mien.models.training.privacy import base_payload, read_base
from mien.models.weights.folder import WeightsFolder

DATA = Path(__file__).parents[2] / "data"
SEEDS = [bytes([number]) * SEED for number in (1, 2)]


@pytest.fixture(scope="module")
def codec() -> FaceCodec:
    return FaceCodec.load()


@pytest.fixture(scope="module")
def deidentifier(codec: FaceCodec) -> Deidentifier:
    return Deidentifier(codec)


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    """Two aligned faces (512, 512, 3) of people who do not exist."""
    return [np.asarray(Image.open(DATA / f"samples/{n}.jpg").convert("RGB").resize((512, 512))) for n in (1, 2)]


@pytest.fixture(scope="module")
def owned(deidentifier: Deidentifier, faces: list[np.ndarray]) -> list[bytes]:
    """SEEDS for the first face's person, as NamePeople gives them."""
    return [seed + deidentifier.embedding(faces[0]).astype("<f4").tobytes() for seed in SEEDS]


@pytest.fixture(scope="module")
def payloads(deidentifier: Deidentifier, faces: list[np.ndarray], owned: list[bytes]) -> list[tuple[int, bytes]]:
    """(face, payload): the first face as two people, the second as one."""
    return [
        (i, deidentifier.new_face(faces[i], seed=seed)) for i, seed in ((0, owned[0]), (0, owned[1]), (1, SEEDS[0]))
    ]


def test_a_different_person_with_the_same_looks(codec, deidentifier, faces, payloads) -> None:
    looks = Looks()
    for i, payload in payloads:
        assert len(payload) <= BASE_BYTES
        new = codec.decode(payload)
        assert deidentifier.embedding(new) @ deidentifier.embedding(faces[i]) < STRANGER
        found, wanted = looks.measure(new), looks.measure(faces[i])
        assert np.abs(found[:2] - wanted[:2]).max() <= MAX_TURN
        assert abs(found[MOUTH] - wanted[MOUTH]) < 0.2
        assert np.abs(found[SKIN] - wanted[SKIN]).max() < 0.3


@pytest.mark.slow
def test_a_seed_is_a_person_and_no_seed_is_chance(codec, deidentifier, faces, owned, payloads) -> None:
    """The same person in a second photo: mirrored, and darker."""
    second = (faces[0][:, ::-1] * 0.9).astype(np.uint8)
    written = [payloads[0][1], payloads[1][1], deidentifier.new_face(second, seed=owned[0])]
    one, other, again = (deidentifier.embedding(codec.decode(payload)) for payload in written)
    assert again @ one > SAME_PERSON
    assert again @ other < SAME_PERSON
    assert deidentifier.new_face(faces[0]) not in [payload for _, payload in payloads]


@pytest.mark.slow
def test_rounded_looks_and_the_seed_are_all_that_counts(deidentifier, faces, owned, payloads, monkeypatch) -> None:
    """Another picture that has the same looks, in steps, gives the same bytes."""
    looks = Looks().measure(faces[0])
    near = np.where(np.abs(looks / STEPS - np.rint(looks / STEPS)) < 0.4, looks + 0.05 * np.array(STEPS), looks)
    assert np.array_equal(rounded(near), rounded(looks))
    measure, traits = Looks.measure, deidentifier.traits(deidentifier.embedding(faces[0]))
    monkeypatch.setattr(Looks, "measure", lambda self, face: near if face is faces[1] else measure(self, face))
    monkeypatch.setattr(deidentifier, "traits", lambda embedding: traits)
    assert deidentifier.new_face(faces[1], seed=owned[0]) == payloads[0][1]


@pytest.mark.slow
def test_nobody_who_is_to_be_avoided(codec, deidentifier, faces, owned, payloads, monkeypatch) -> None:
    somebody = deidentifier.embedding(codec.decode(payloads[0][1]))
    new = deidentifier.embedding(codec.decode(deidentifier.new_face(faces[0], avoid=[somebody], seed=owned[0])))
    assert new @ somebody < LOOKALIKE
    monkeypatch.setattr(deidentify, "TRIES", 1)
    with pytest.raises(PrivacyError, match="none of 1 new faces"):
        deidentifier.new_face(faces[0], avoid=[somebody], seed=owned[0])


def test_a_face_that_cannot_be_measured_is_refused(deidentifier) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    with pytest.raises(PrivacyError, match="no landmarks"):
        deidentifier.new_face(noise)
    with pytest.raises(ValueError, match="32 bytes"):
        deidentifier.new_face(noise, seed=b"short")


@pytest.mark.slow
def test_nothing_that_is_stored_leads_back(codec, deidentifier, faces, payloads) -> None:
    """Prefixes, mixtures and extrapolations of stored latents: none is the original to the recogniser."""
    original = deidentifier.embedding(faces[0])
    (symbols, step), (others, _) = (read_base(codec, p) for _, p in payloads[:2])
    variants = [symbols * 2, -symbols, symbols + others, symbols - others]
    for kept in (8, 32):
        variants.append(np.where(np.arange(len(symbols)) < kept, symbols, 0))
        variants.append(np.where(np.arange(len(symbols)) < kept, 0, symbols))
    for variant in variants:
        variant[-COLOURS:] = symbols[-COLOURS:]
        assert deidentifier.embedding(codec.decode(base_payload(codec, variant, step), 256)) @ original < LOOKALIKE


def test_tensors_of_another_basis_are_refused() -> None:
    with pytest.raises(WeightsError, match="another codec"):
        deidentify.person_tensors("0123456789abcdef", WeightsFolder())
