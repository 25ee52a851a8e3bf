import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file, save_file

from mien.models import FaceCodec
from mien.models.codec.rate_control import BASE_BYTES
from mien.models.errors import NotUnderstoodError, PrivacyError, WeightsError
from mien.models.faces.dlib_recogniser import dlib_recogniser
from mien.models.faces.same_face import SAME_PERSON
from mien.models.privacy import deidentify
from mien.models.privacy.deidentify import ALIKE, LOOKALIKE, NEAR, SEED, Deidentifier, NewFace, check_files
from mien.models.privacy.new_person import ring_part
from mien.models.privacy.pool import load_pool
from mien.models.weights.folder import PACKAGED, PERSON_FILE, POOL_FILE, WeightsFolder

DATA = Path(__file__).parents[2] / "data"
SIDE = 64.0  # photo pixels: few steps


@pytest.fixture(scope="module")
def codec() -> FaceCodec:
    return FaceCodec.load()


@pytest.fixture(scope="module")
def deidentifier(codec: FaceCodec) -> Deidentifier:
    return Deidentifier(codec)


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """An aligned face (512, 512, 3) of somebody who does not exist."""
    return np.asarray(Image.open(DATA / "samples/1.jpg").convert("RGB").resize((512, 512)))


@pytest.fixture(scope="module")
def seed(deidentifier: Deidentifier, face: np.ndarray) -> bytes:
    """As NamePeople gives it."""
    return bytes([1]) * SEED + deidentifier.embedding(face).astype("<f4").tobytes()


@pytest.fixture(scope="module")
def new(deidentifier: Deidentifier, face: np.ndarray, seed: bytes) -> NewFace:
    return deidentifier.face_in_photo(face, SIDE, seed=seed)


def second(face: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return dlib_recogniser().embedding(torch.from_numpy(face.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1)


def large(picture: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((512, 512), Image.Resampling.BICUBIC))


def test_a_different_person_in_the_same_surroundings(deidentifier, face, new) -> None:
    assert new.picture.shape == (128, 128, 3)
    picture = large(new.picture)
    assert deidentifier.embedding(picture) @ deidentifier.embedding(face) < ALIKE + 0.05  # without the photo around
    assert (second(picture) - second(face)).norm() > NEAR - 0.05
    difference, ring = np.abs(picture.astype(float) - face).mean(2), ring_part(512)[0, 0].numpy()
    assert (difference * ring).sum() / ring.sum() < 35  # 26.5 here; 50.5 for a picture of somebody else
    assert new.score >= FaceCodec.MIN_SCORE


@pytest.mark.slow
def test_a_seed_is_a_person_and_the_same_bytes(deidentifier, face, seed, new) -> None:
    """Again, on two threads, and in a second photo: mirrored, and darker."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    again = deidentifier.face_in_photo(face, SIDE, seed=seed)
    torch.set_num_threads(before)
    assert np.array_equal(again.picture, new.picture)
    other = deidentifier.face_in_photo((face[:, ::-1] * 0.9).astype(np.uint8), SIDE, seed=seed)
    assert other.person == new.person
    assert deidentifier.embedding(large(other.picture)) @ deidentifier.embedding(large(new.picture)) > SAME_PERSON


def test_who_is_chosen(deidentifier, face, seed, new) -> None:
    """By the seed alone; nobody of the photo, and nobody who resembles somebody there."""
    read = deidentifier._fitter.read(deidentify._tensor(face))
    chosen = deidentifier._people(read, (), seed, ())
    assert new.person in chosen
    assert new.person not in deidentifier._people(read, (), seed, {new.person})
    somebody = deidentifier._pool.first[new.person]
    assert new.person not in deidentifier._people(read, [somebody], seed, ())
    keys = [hashlib.sha256(bytes([i])).digest() + seed[SEED:] for i in range(40)]
    firsts = [deidentifier._people(read, (), key, ())[0] for key in keys]
    assert len(set(firsts)) > 3
    with pytest.raises(ValueError, match="32 bytes"):
        deidentifier._people(read, (), b"short", ())


def test_glasses_and_traits_are_the_originals(deidentifier, face) -> None:
    read = deidentifier._fitter.read(deidentify._tensor(face))
    pool, traits = deidentifier._pool, deidentifier.apparent(read.first[0].double().numpy())
    worn = pool.worn_by(deidentifier._fitter.place_of(read.base), read.first[0].double().numpy())
    people = deidentifier._people(read, (), bytes(SEED), ())
    assert np.abs(pool.worn[people, 0] - worn[0]).max() < 0.6
    assert np.abs(pool.traits[people] - traits).mean() < np.abs(pool.traits - traits).mean()


def test_what_resembles_the_original_is_refused(deidentifier, face, monkeypatch) -> None:
    fitted = deidentifier._fitted
    read = deidentifier._fitter.read(deidentify._tensor(face))
    assert not deidentifier._good(read.face, read, ())
    monkeypatch.setattr(deidentify, "ALIKE", -1.0)
    monkeypatch.setattr(deidentify, "TRIES", 1)
    monkeypatch.setattr(deidentifier, "_fitted", lambda read, person, seed, side: fitted(read, person, seed, 60.0))
    monkeypatch.setattr(deidentifier, "_people", lambda *_: [0])
    with pytest.raises(PrivacyError, match="none of 1 new faces"):
        deidentifier.face_in_photo(face, SIDE)


def test_what_is_no_face_is_refused(deidentifier) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    with pytest.raises(NotUnderstoodError, match="does not understand"):
        deidentifier.face_in_photo(noise, SIDE)


@pytest.mark.slow
def test_a_payload_is_another_person_in_64_bytes(codec, deidentifier, face) -> None:
    payload = codec.encode(face, objective="private")
    assert len(payload) <= BASE_BYTES
    decoded = codec.decode(payload)
    assert deidentifier.embedding(decoded) @ deidentifier.embedding(face) < ALIKE
    assert ALIKE < LOOKALIKE < SAME_PERSON


def test_files_of_another_codec_or_damaged_ones_are_refused(codec, tmp_path) -> None:
    with pytest.raises(WeightsError, match="another codec"):
        check_files("0123456789abcdef", WeightsFolder())
    (tmp_path / PERSON_FILE).write_bytes((PACKAGED / PERSON_FILE).read_bytes())
    with pytest.raises(WeightsError, match=r"pool\.safetensors: No such file"):
        check_files(codec.basis, WeightsFolder(str(tmp_path)))
    data = (PACKAGED / POOL_FILE).read_bytes()
    (tmp_path / POOL_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(WeightsError, match=r"cannot read .*pool\.safetensors"):
        load_pool(codec.basis, WeightsFolder(str(tmp_path)))
    tensors = load_file(PACKAGED / POOL_FILE)
    tensors["places"] = tensors["places"][:, :10].copy()
    (tmp_path / "other").mkdir()
    save_file(tensors, tmp_path / "other" / POOL_FILE, metadata={"basis": codec.basis})
    with pytest.raises(WeightsError, match="its tensors are"):
        load_pool(codec.basis, WeightsFolder(str(tmp_path / "other")))
