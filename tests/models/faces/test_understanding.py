"""What is coded is a face: samples of the generator, whole and covered, and real faces where they are."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.models.codec.face_codec import FaceCodec
from mien.models.errors import WeightsError
from mien.models.faces.recogniser import Recogniser
from mien.models.faces.understanding import Pixels, check_reading, doubt, is_clear
from mien.models.images.files import decode_image

DATA = Path(__file__).parents[2] / "data"
FACES = (DATA / "face.jpg", DATA / "samples" / "1.jpg", DATA / "samples" / "2.jpg")
REAL = Path(__file__).parents[2].parent.parent / "shared" / "faces"


@pytest.fixture(scope="module")
def codec() -> FaceCodec:
    return FaceCodec.load()


def masked(face: Pixels, colour: tuple[int, int, int]) -> Pixels:
    """A mask over nose, mouth and chin of an aligned face."""
    shape = np.array([(170, 300), (256, 270), (342, 300), (345, 390), (300, 450), (212, 450), (167, 390)], np.int32)
    covered = face.copy()
    cv2.fillPoly(covered, [shape], colour, cv2.LINE_AA)
    return covered


@pytest.mark.parametrize("path", FACES, ids=lambda path: path.name)
def test_a_face_is_clear_and_a_covered_or_turned_one_is_not(path: Path, codec: FaceCodec) -> None:
    face = decode_image(path.read_bytes())
    skin = tuple(int(value) for value in np.median(face[330:350, 190:210].reshape(-1, 3), 0))
    assert is_clear(face, codec.recogniser)
    assert is_clear(np.ascontiguousarray(face[::4, ::4]), codec.recogniser)
    for colour in ((90, 150, 205), (240, 240, 240), (20, 20, 20), skin):
        assert not is_clear(masked(face, colour), codec.recogniser)
    for turns in (1, 2, 3):
        assert not is_clear(np.ascontiguousarray(np.rot90(face, turns)), codec.recogniser)


def test_what_is_no_face_is_not_clear(codec: FaceCodec) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (512, 512, 3)).astype(np.uint8)
    wall = decode_image((DATA / "photos" / "usds.jpg").read_bytes())[:200, :200]
    for picture in (noise, np.zeros_like(noise), np.full_like(noise, 128), np.ascontiguousarray(wall)):
        assert not is_clear(picture, codec.recogniser)
    with pytest.raises(ValueError, match=r"\(S, S, 3\)"):
        doubt(noise[:100], codec.recogniser)


def test_the_reading_is_of_one_recogniser(codec: FaceCodec) -> None:
    check_reading(codec.recogniser)
    other = Recogniser().eval()
    with pytest.raises(WeightsError, match="fitted to another recogniser"):
        is_clear(decode_image(FACES[0].read_bytes()), other)
    other.load_state_dict(codec.recogniser.state_dict())
    check_reading(other)


def test_real_faces_are_clear_and_covered_ones_are_not(codec: FaceCodec) -> None:
    paths = [path for name in ("dev", "wild_dev", "candid_dev") for path in sorted((REAL / name).glob("*"))[:8:2]]
    if not paths:
        pytest.skip("shared/faces is not here")
    faces = [decode_image(path.read_bytes()) for path in paths]
    assert sum(is_clear(face, codec.recogniser) for face in faces) == len(faces)
    assert not any(is_clear(masked(face, (90, 150, 205)), codec.recogniser) for face in faces)
