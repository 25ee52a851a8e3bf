"""Which faces are coded, with how many bytes, and that nothing looks worse for it than plain AVIF."""

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.models.codec import FaceCodec, Original
from mien.models.errors import BudgetError
from mien.models.faces import FaceDetector, FaceLandmarker
from mien.models.images import decode_image, enlarge, extract
from mien.transforms.compress import prepared, store_photo
from mien.transforms.elements import CodedPhoto, Decision, ListedFile, Photo, PhotoInWork
from mien.transforms.formats import blob_of
from mien.transforms.policy import load_policy
from mien.transforms.restore import restore_photo
from mien.transforms.settings import CompressSettings
from mien.transforms.sources import photo_of_blob
from mien.transforms.steps.choose import LEAST_FACE, choose_faces, face_shares
from tests.transforms.steps.conftest import FACE, Decided

DATA = Path(__file__).parents[2] / "data"
SMALL = CompressSettings(policy=load_policy("compress"), effort="fast", detectors=("mediapipe",))


def within(most: int, **more: object) -> CompressSettings:
    return dataclasses.replace(SMALL, photo_bytes=most, **more)  # type: ignore[arg-type]  # its fields


@pytest.fixture(scope="module")
def portrait() -> Iterator[PhotoInWork]:
    """One person, whose face fills a fifth of the picture."""
    with Image.open(DATA / "photos" / "allhands.jpg") as image:
        part = image.crop((60, 400, 460, 800)).resize((800, 800), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    part.save(stream, "JPEG", quality=92)
    detector, landmarker = FaceDetector(("mediapipe",)), FaceLandmarker()
    found = prepared(Photo("/in/x.jpg", stream.getvalue(), "x.jpg"), detector, landmarker)
    yield dataclasses.replace(found, faces=found.faces[:1])
    detector.close()
    landmarker.close()


def read_back(coded: CodedPhoto) -> CodedPhoto:
    blob = blob_of(coded)
    return photo_of_blob(blob, ListedFile("/out/x.jpg.avif", "x.jpg.avif", len(blob), 1.0))


def plain_avif(photo: PhotoInWork, most: int, original: Original) -> tuple[float, float]:
    """The distances of the whole and of the face of the best of AVIFs of several sizes, as Pillow writes them."""
    found = []
    height, width = photo.pixels.shape[:2]
    for share in (0.06, 0.09, 0.13, 0.18, 0.25, 0.36, 0.5):
        size = max(1, round(width * share)), max(1, round(height * share))
        small = Image.fromarray(photo.pixels).resize(size, Image.Resampling.LANCZOS)
        low, high, data = -1, 101, b""
        while high - low > 1:
            stream, middle = io.BytesIO(), (low + high) // 2
            small.save(stream, "AVIF", quality=middle, speed=6, max_threads=1)
            if len(stream.getvalue()) <= most:
                low, data = middle, stream.getvalue()
            else:
                high = middle
        if data:
            likeness = original.compare(enlarge(decode_image(data), (width, height)))
            found.append((likeness.whole, likeness.faces[0].distance))
    return min(found, key=sum)


@pytest.mark.slow
@pytest.mark.parametrize("most", [700, 1000, 2000, 6000])
def test_no_photo_is_worse_than_plain_avif(portrait: PhotoInWork, codec: FaceCodec, most: int) -> None:
    coded = store_photo(portrait, codec, within(most))
    blob = blob_of(coded)
    assert 0.93 * most <= len(blob) <= most
    original = Original(codec.encoder, portrait.pixels, [portrait.faces[0].transform])
    ours = original.compare(restore_photo(read_back(coded), codec))
    whole, face = plain_avif(portrait, most, original)
    coded_face = any(each.payload for each in coded.faces)  # which the trunk doubts more than LPIPS does
    assert ours.whole <= (1.1 if coded_face else 1.03) * whole
    assert ours.faces[0].distance <= (1.2 if coded_face else 1.03) * face


@pytest.mark.slow
def test_few_bytes_are_coded_and_many_are_pixels(portrait: PhotoInWork, codec: FaceCodec) -> None:
    few, many, free = (
        store_photo(portrait, codec, each) for each in (within(800, effort="good"), within(20_000), SMALL)
    )
    assert [face.action for face in few.faces] == ["preserve"]
    assert LEAST_FACE <= len(few.faces[0].payload) <= 100
    for coded in (many, free):
        assert [(face.action, face.rule, face.payload) for face in coded.faces] == [("keep", "otherwise (pixels)", b"")]
        stored = extract(blob_of(coded))
        assert (stored.faces, stored.unlisted) == ((), 1)
    assert len(free.background) > 5000


@pytest.mark.slow
def test_who_decides_otherwise_is_obeyed(portrait: PhotoInWork, codec: FaceCodec) -> None:
    neural = store_photo(portrait, codec, within(20_000, faces="neural"))
    pixels = store_photo(portrait, codec, within(600, faces="pixels"))
    assert [face.action for face in neural.faces] == ["preserve"]
    assert [face.rule for face in pixels.faces] == ["otherwise (pixels)"]
    assert len(blob_of(neural)) <= 20_000
    assert len(blob_of(pixels)) <= 600


@pytest.mark.parametrize("most", [1, 200])
def test_too_few_bytes_for_the_header(decided: Decided, most: int) -> None:
    with pytest.raises(BudgetError, match=rf"needs at least \d+ bytes, and {most} are allowed"):
        choose_faces(decided("preserve", "preserve"), within(most))


def test_what_it_needs_at_least_is_enough(decided: Decided, codec: FaceCodec) -> None:
    with pytest.raises(BudgetError) as caught:
        store_photo(decided("keep"), codec, within(50))
    least = caught.value.least
    assert len(blob_of(store_photo(decided("keep"), codec, within(least)))) <= least
    with pytest.raises(BudgetError):
        store_photo(decided("keep"), codec, within(least - 1))


def test_faces_that_become_somebody_else_are_never_pixels(decided: Decided) -> None:
    for faces in ("auto", "neural", "pixels"):
        photo = choose_faces(decided("realistic", "fill"), within(900, faces=faces))
        assert [each.action for each in photo.decisions] == ["realistic", "fill"]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(16, 16), (4000, 6)])
def test_odd_photos_and_photos_without_faces(codec: FaceCodec, size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    photo = PhotoInWork("u", "n.png", None, 10**6, pixels)
    coded = store_photo(photo, codec, within(900))
    assert len(blob_of(coded)) <= 900
    assert restore_photo(read_back(coded), codec).shape == pixels.shape


@pytest.mark.slow
def test_nothing_is_larger_than_its_source(decided: Decided, codec: FaceCodec) -> None:
    photo = dataclasses.replace(decided("keep"), source_bytes=3000)
    assert len(blob_of(store_photo(photo, codec, within(10**6)))) <= 3000


@pytest.mark.slow
def test_two_hundred_faces_in_their_own_pixels_cost_nothing(decided: Decided, codec: FaceCodec) -> None:
    one = decided("preserve")
    many = dataclasses.replace(one, faces=(FACE,) * 200, decisions=(Decision("preserve", "otherwise"),) * 200)
    coded = store_photo(many, codec, within(1000, faces="pixels"))
    assert len(coded.faces) == 200
    assert len(blob_of(coded)) <= 1000
    assert extract(blob_of(coded)).unlisted == 200


def test_bytes_are_shared_by_size() -> None:
    assert face_shares(1000, [300.0], 320) == [100]
    assert face_shares(10**6, [300.0], 320) == [320]
    assert face_shares(1000, [300.0], 64) == [64]
    assert face_shares(1000, [300.0, 30.0, 290.0], 320)[1] == 0  # too little for the smallest
    large, small = face_shares(4000, [400.0, 100.0], 320)
    assert large > 2 * small > 0
    assert sum(face_shares(1000, [100.0] * 200, 320)) <= 300
    assert face_shares(1000, [], 320) == []
