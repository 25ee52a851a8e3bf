"""On the faces of real group photos, as they come out of real codecs."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from mien.models.audit.figures import AS_IT_WAS, AS_IT_WAS_DB, PARTLY
from mien.models.audit.photo import CELL, joined
from mien.models.audit.pixel_leaks import Kept, kept_pixels
from mien.models.faces.same_face import same_face
from mien.models.images.files import decode_image, encode_image
from mien.models.painting.inpaint import box_mask, fill_faces

DATA = Path(__file__).parents[2] / "data"
Pixels = npt.NDArray[np.uint8]
PHOTO = decode_image((DATA / "photos" / "usds.jpg").read_bytes())
TRUTH = json.loads((DATA / "faces.json").read_text())["usds.png"]
BOXES = np.array(TRUTH["faces"], float) * (PHOTO.shape[1] / TRUTH["width"])


def kept(output: Pixels) -> list[Kept]:
    return [kept_pixels(PHOTO, output, box, CELL) for box in BOXES]


def as_it_was(found: Kept) -> bool:
    return found.face >= AS_IT_WAS or found.psnr >= AS_IT_WAS_DB


def changed(change: Callable[[Pixels, float], Pixels]) -> Pixels:
    output = PHOTO.copy()
    for x, y, width, height in BOXES:
        left, top = max(0, round(x - 0.2 * width)), max(0, round(y - 0.2 * height))
        part = output[top : round(y + 1.2 * height), left : round(x + 1.2 * width)]
        part[:] = change(part, float(np.sqrt(width * height)))
    return output


def pixelated(part: Pixels, side: float) -> Pixels:
    height, width = part.shape[:2]
    block = side / 8
    small = cv2.resize(part, (round(width / block), round(height / block)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def blurred(part: Pixels, side: float) -> Pixels:
    return np.asarray(cv2.GaussianBlur(part, (0, 0), side / 10), np.uint8)


@pytest.mark.parametrize(("codec", "quality"), [("jpeg", 40), ("webp", 60), ("avif", 60)])
def test_a_face_that_was_only_coded_again_is_as_it_was(codec: str, quality: int) -> None:
    found = kept(decode_image(encode_image(PHOTO, codec, quality)))  # type: ignore[arg-type]
    assert len(found) > 5
    assert all(as_it_was(one) for one in found)


@pytest.mark.parametrize("change", [pixelated, blurred])
def test_a_face_that_was_redacted_is_not(change: Callable[[Pixels, float], Pixels]) -> None:
    found = kept(decode_image(encode_image(changed(change), "jpeg", 90)))
    assert not any(as_it_was(one) or one.cells >= PARTLY for one in found)


def test_a_filled_face_keeps_nothing_and_half_of_one_is_found() -> None:
    filled = fill_faces(PHOTO, [box_mask(box.tolist(), PHOTO.shape[:2]) for box in BOXES])
    assert max(one.face for one in kept(decode_image(encode_image(filled, "avif", 60)))) < 0.1
    half = PHOTO.copy()
    for x, y, width, height in BOXES.round().astype(int):
        half[y + height // 2 : y + 2 * height, x : x + width] = filled[y + height // 2 : y + 2 * height, x : x + width]
    found = kept(decode_image(encode_image(half, "avif", 60)))
    assert np.mean([one.cells >= PARTLY for one in found]) > 0.7


def test_a_face_over_the_border_and_one_beside_the_photo() -> None:
    assert kept_pixels(PHOTO, PHOTO, (-20, -20, 60, 60), CELL).face == 1
    assert kept_pixels(PHOTO, PHOTO, (5000, 5000, 60, 60), CELL).face == 0


def test_boxes_of_one_face_are_joined() -> None:
    assert same_face((0, 0, 10, 10), (1, 1, 10, 10))
    assert same_face((0, 0, 10, 10), (2, 2, 6, 6))  # a part of it
    assert not same_face((0, 0, 10, 10), (6, 6, 10, 10))
    assert not same_face((0, 0, 10, 10), (3, 3, 4, 4))  # another face before it
    found = joined({"a": [(0, 0, 10, 10), (50, 50, 20, 20)], "b": [(1, 0, 10, 10)]})
    assert found == [((50, 50, 20, 20), ("a",)), ((0, 0, 10, 10), ("a", "b"))]
