import pathlib

import numpy as np
import pytest
from PIL import Image

from mien.models import FaceCodec, FaceMagnifier
from mien.models.codec.bitstream import read_header
from mien.models.errors import FaceShapeError, FaceTooLargeError, FaceTooSmallError, MagnifyError, WeightsError
from mien.models.evaluation.magnified import shrunk
from mien.models.magnify.consistency import rms, shrink
from mien.models.magnify.magnifier import DOUBTFUL, GREY, RMS, Magnified

DATA = pathlib.Path(__file__).parents[2] / "data"


@pytest.fixture(scope="module")
def magnifier() -> FaceMagnifier:
    return FaceMagnifier.load()


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """512 px, of a person who does not exist."""
    return np.asarray(Image.open(DATA / "samples/1.jpg").convert("RGB"))


@pytest.fixture(scope="module")
def magnified(magnifier: FaceMagnifier, face: np.ndarray) -> dict[int, Magnified]:
    return {size: magnifier.magnify(shrunk(face, size), size=256) for size in (8, 32)}


def test_a_small_face_becomes_a_large_one_that_shrinks_to_it(magnified: dict[int, Magnified], face: np.ndarray) -> None:
    for size, made in magnified.items():
        (picture,) = made.pictures
        assert (picture.shape, picture.dtype) == ((256, 256, 3), np.uint8)
        assert made.rms == (rms(picture, shrunk(face, size)),)
        assert made.rms[0] < made.limit
        assert made.flagged == (False,)
        assert made.likeness[0] > 0.5


def test_it_is_nearer_to_the_face_than_bicubic_is_in_detail(magnified: dict[int, Magnified], face: np.ndarray) -> None:
    """Detail: what a picture of 64 px has beyond one of 16 px, the mean."""
    original = shrink(face, 256)
    small = Image.fromarray(shrunk(face, 32)).resize((256, 256), Image.Resampling.BICUBIC)

    def detail(picture: np.ndarray) -> float:
        fine = shrink(picture, 128) - np.kron(shrink(picture, 32), np.ones((4, 4, 1)))
        return float(fine.std())

    assert 0.6 < detail(magnified[32].pictures[0]) / detail(original) < 1.4
    assert detail(np.asarray(small)) / detail(original) < 0.75
    wrong = [
        np.square(shrink(p, 128) - shrink(original, 128)).mean() for p in (magnified[32].pictures[0], np.asarray(small))
    ]
    assert wrong[0] < 1.2 * wrong[1]


def test_identity_is_told(magnified: dict[int, Magnified]) -> None:
    assert magnified[32].similarity[0] > 0.52
    assert magnified[32].preserved == (True,)
    assert magnified[8].preserved == (False,)


def test_a_payload_is_the_face_before_it_was_made_consistent(magnified: dict[int, Magnified], face: np.ndarray) -> None:
    payload, small = magnified[32].payloads[0], shrunk(face, 32)
    assert len(payload) <= 64
    assert read_header(payload).score == round(255 * magnified[32].likeness[0])
    decoded = FaceCodec.load().decode(payload, 256)
    assert rms(decoded, small) > magnified[32].rms[0]


@pytest.mark.slow
def test_strength_goes_from_faithful_to_realistic(magnifier: FaceMagnifier, face: np.ndarray) -> None:
    small = shrunk(face, 32)
    errors = [magnifier.magnify(small, size=128, strength=strength).rms[0] for strength in (0.0, 0.5)]
    realistic = magnifier.magnify(small, size=128, strength=1.0)
    assert errors[0] < 1 < errors[1] < realistic.rms[0]
    assert RMS in realistic.reasons[0]
    assert np.array_equal(realistic.pictures[0], FaceCodec.load().decode(realistic.payloads[0], 128))


@pytest.mark.slow
def test_samples_differ_and_are_all_consistent(magnifier: FaceMagnifier, face: np.ndarray) -> None:
    small = shrunk(face, 8)
    made = magnifier.magnify(small, size=128, samples=3, seed=5)
    assert len(set(made.payloads)) == 3
    assert all(error < made.limit for error in made.rms)
    assert np.abs(made.pictures[1].astype(int) - made.pictures[2]).mean() > 3
    again = magnifier.magnify(small, size=128, samples=2, seed=5)
    assert np.array_equal(again.pictures, made.pictures[:2])
    assert magnifier.magnify(small, size=128, samples=2, seed=6).payloads[1] not in made.payloads


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 13, 100, 256])
def test_any_size_is_taken(magnifier: FaceMagnifier, face: np.ndarray, size: int) -> None:
    made = magnifier.magnify(shrunk(face, size), size=256)
    assert made.pictures.shape == (1, 256, 256, 3)
    assert made.rms[0] < made.limit


def test_what_is_no_face_is_flagged(magnifier: FaceMagnifier, face: np.ndarray) -> None:
    small = shrunk(face, 32)
    assert DOUBTFUL in magnifier.magnify(np.ascontiguousarray(small[::-1]), size=128).reasons[0]
    grey = np.repeat(small.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    assert magnifier.magnify(grey, size=128).reasons == ((GREY,),)


@pytest.mark.parametrize(
    ("picture", "error", "words"),
    [
        (np.zeros((7, 7, 3), np.uint8), FaceTooSmallError, "7 px"),
        (np.zeros((257, 257, 3), np.uint8), FaceTooLargeError, "257 px"),
        (np.zeros((32, 30, 3), np.uint8), FaceShapeError, "30 x 32"),
        (np.zeros((32, 32), np.uint8), FaceShapeError, "grey"),
        (np.zeros((32, 32, 4), np.uint8), FaceShapeError, "RGB"),
        (np.zeros((32, 32, 3), np.float32), FaceShapeError, "uint8"),
        ([[1]], FaceShapeError, "list"),
    ],
)
def test_bad_pictures(magnifier: FaceMagnifier, picture: np.ndarray, error: type[MagnifyError], words: str) -> None:
    with pytest.raises(error, match=words):
        magnifier.magnify(picture)


def test_bad_arguments(magnifier: FaceMagnifier) -> None:
    face = np.zeros((200, 200, 3), np.uint8)
    for wrong in ({"size": 100}, {"strength": 1.1}, {"samples": 0}):
        with pytest.raises(ValueError, match="not"):
            magnifier.magnify(face, **wrong)
    with pytest.raises(FaceTooLargeError, match="128 px asked for"):
        magnifier.magnify(face, size=128)


def test_missing_weights(tmp_path: pathlib.Path) -> None:
    with pytest.raises(WeightsError):
        FaceMagnifier.load(str(tmp_path))
