from pathlib import Path

import pytest

from mien.models.faces.alignment import similarity
from mien.models.faces.detection import FaceDetector
from mien.models.faces.face import Face
from mien.models.faces.find import without_doubles
from mien.models.faces.landmarks import FaceLandmarker
from mien.models.images.files import decode_image
from mien.transforms.elements import PhotoInWork
from mien.transforms.steps.detect import find_faces

DATA = Path(__file__).parents[2] / "data"


@pytest.mark.parametrize("name", ["samples/1.jpg", "samples/2.jpg", "face.jpg"])
def test_one_face_that_fills_the_frame_is_one_face(name: str) -> None:
    pixels = decode_image((DATA / name).read_bytes())
    with FaceDetector() as detector:
        landmarker = FaceLandmarker()
        photo = find_faces(PhotoInWork("u", "n", None, 9, pixels), detector, landmarker)
        without = find_faces(photo, detector, landmarker, landmarks_from=1 + max(photo.faces[0].box[2:]))
        landmarker.close()
    assert len(photo.faces) == 1
    assert photo.faces[0].transform
    assert without.faces
    assert not any(face.landmarks or face.transform for face in without.faces)


def test_doubles_are_joined_and_no_box_is_lost() -> None:
    whole = Face((100.0, 80.0, 300.0, 400.0), 0.9, transform=similarity(250.0, 250.0, 500.0, 0.0))
    part = Face((60.0, 300.0, 200.0, 130.0), 0.5, transform=similarity(255.0, 257.0, 508.0, 0.1))
    beside = Face((400.0, 80.0, 300.0, 400.0), 0.9, transform=similarity(550.0, 250.0, 500.0, 0.0))
    small = Face((200.0, 200.0, 50.0, 60.0), 0.9, transform=similarity(250.0, 250.0, 100.0, 0.0))
    unaligned = Face((110.0, 90.0, 290.0, 390.0), 0.6)
    found = without_doubles([whole, beside, part, unaligned, small])
    assert [face.box for face in found] == [(60.0, 80.0, 340.0, 400.0), beside.box, unaligned.box, small.box]
    assert found[0].transform == whole.transform
