"""The second look, on real faces in one picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from mien.models.faces.detection import FaceDetector
from mien.models.faces.face import Face
from mien.models.faces.find import located_faces
from mien.models.faces.landmarks import FaceLandmarker
from mien.models.images.files import decode_image
from mien.models.privacy.redaction import Hidden, redact_faces
from mien.transforms.elements import CodedFace
from mien.transforms.steps.verify import Leaks, leaks

Pixels = npt.NDArray[np.uint8]

SAMPLES = Path(__file__).parents[2] / "data/samples"
LARGE, SMALL = (decode_image((SAMPLES / name).read_bytes()) for name in ("1.jpg", "2.jpg"))


@pytest.fixture(scope="module")
def detector() -> Iterator[FaceDetector]:
    with FaceDetector() as one:
        yield one


@pytest.fixture(scope="module")
def landmarker() -> Iterator[FaceLandmarker]:
    with FaceLandmarker() as one:
        yield one


@pytest.fixture
def look(detector: FaceDetector, landmarker: FaceLandmarker) -> Callable[..., Leaks]:
    def again(
        original: Pixels,
        written: Pixels,
        faces: Sequence[CodedFace],
        hidden: Mapping[int, Hidden],
        found: Sequence[Face] | None = None,
    ) -> Leaks:
        found = detector.detect(written) if found is None else found
        return leaks(original, written, faces, hidden, found, landmarker.locate)

    return again


def done(face: Face, action: str) -> CodedFace:
    return CodedFace(face.box, face.transform, action, "r", "", b"", 0.0)


def inside(one: Face, other: Face) -> bool:
    (x, y, w, h), (left, top, width, height) = one.box, other.box
    return x > left and y > top and x + w < left + width and y + h < top + height


@pytest.mark.parametrize(("side", "x", "y"), [(120, 190, 340), (150, 130, 320)])
def test_a_face_before_a_kept_one_is_not_taken_for_it(
    look: Callable[..., Leaks],
    detector: FaceDetector,
    landmarker: FaceLandmarker,
    side: int,
    x: int,
    y: int,
) -> None:
    picture = LARGE.copy()
    picture[y : y + side, x : x + side] = cv2.resize(SMALL, (side, side), interpolation=cv2.INTER_AREA)
    parent, child = located_faces(picture, detector, landmarker)
    assert inside(child, parent)
    seen = look(picture, picture, [done(parent, "keep")], {})
    assert [face.box for face in seen.found] == [child.box]
    assert not look(picture, picture, [done(parent, "keep"), done(child, "keep")], {})


def test_a_kept_face_is_found_again_as_itself(
    look: Callable[..., Leaks], detector: FaceDetector, landmarker: FaceLandmarker
) -> None:
    (face,) = located_faces(LARGE, detector, landmarker)
    found = detector.detect(LARGE)
    assert len(found) > 1  # boxes so different that they pass for several faces
    assert not look(LARGE, LARGE, [done(face, "keep")], {}, found)


def test_a_hidden_face_that_was_left_is_told_by_the_recogniser(
    look: Callable[..., Leaks], detector: FaceDetector, landmarker: FaceLandmarker
) -> None:
    (face,) = located_faces(LARGE, detector, landmarker)
    hidden = {0: Hidden(face.box, face.transform, "pixelate", "face")}
    assert look(LARGE, LARGE, [done(face, "pixelate")], hidden).known == (0,)
    safe = redact_faces(LARGE, list(hidden.values()))
    assert not look(LARGE, safe, [done(face, "pixelate")], hidden)


def test_a_filled_face_is_compared_where_a_part_of_it_is_found(
    look: Callable[..., Leaks], detector: FaceDetector, landmarker: FaceLandmarker
) -> None:
    (face,) = located_faces(LARGE, detector, landmarker)
    part = Face((face.box[0] + 100, face.box[1] + 100, 60.0, 60.0), 0.9)
    assert inside(part, face)
    filled = {0: Hidden(face.box, face.transform, "fill", "face")}
    assert look(LARGE, LARGE, [done(face, "fill")], filled, [part]).known == (0,)
