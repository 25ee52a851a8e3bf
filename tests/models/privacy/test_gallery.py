import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from mien.models import FaceCodec
from mien.models.errors import GalleryError
from mien.models.faces.detection import FaceDetector
from mien.models.faces.landmarks import FaceLandmarker
from mien.models.images.files import decode_image, encode_image
from mien.models.privacy.gallery import LEAST_IN, OUT, Gallery, embed, gallery_digest, least_in, load_gallery

DATA = Path(__file__).parents[2] / "data"
FACES = Path(__file__).parents[4] / "shared/faces"
SAMPLES = [DATA / "samples/1.jpg", DATA / "samples/2.jpg"]


@pytest.fixture(scope="module")
def tools():
    with FaceDetector(("mediapipe",)) as detector, FaceLandmarker() as landmarker:
        yield detector, landmarker


@pytest.fixture(scope="module")
def load(tools):
    recogniser = FaceCodec.load().recogniser
    return lambda uri: load_gallery(str(uri), recogniser, *tools)


def write(folder: Path, *paths: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for path in paths:
        shutil.copy(path, folder)
    return folder


def test_people_of_a_folder_are_matched_and_others_are_not(load, tmp_path: Path) -> None:
    folder = write(tmp_path / "people", SAMPLES[0])
    (folder / "notes.txt").write_text("not a photo")
    people = load(folder)
    assert len(people) == 1
    assert people.digest == gallery_digest(str(folder))
    assert np.linalg.norm(people.embeddings, axis=1) == pytest.approx(1, abs=1e-4)
    mirrored = decode_image(SAMPLES[0].read_bytes())[:, ::-1]
    file = fsspec.filesystem("memory")
    file.pipe("/reference/mirrored.png", encode_image(np.ascontiguousarray(mirrored), "png"))
    file.pipe("/reference/deeper/other.jpg", SAMPLES[1].read_bytes())
    other, same = load("memory://reference").embeddings
    assert people.match(same) == "in"
    assert people.match(other) == "out"


def test_a_doubtful_match_is_neither_in_nor_out() -> None:
    base, side = np.eye(192, dtype=np.float32)[:2]
    gallery = Gallery(np.stack([base, -base]))
    turned = [c * base + (1 - c**2) ** 0.5 * side for c in (LEAST_IN + 0.01, LEAST_IN - 0.01, OUT - 0.01)]
    assert [gallery.match(e) for e in turned] == ["in", "doubtful", "out"]
    assert [gallery.match(e, 300) for e in turned] == ["doubtful", "doubtful", "out"]
    assert gallery.match(np.full(192, np.nan)) == "doubtful"


@pytest.mark.parametrize(
    ("name", "message"),
    [("two.png", r"two\.png: 2 faces were found"), ("grey.png", r"grey\.png: no face"), ("cut.jpg", r"cut\.jpg: ")],
)
def test_a_photo_that_shows_not_one_face_is_named(load, tmp_path: Path, name: str, message: str) -> None:
    folder = write(tmp_path / "people", SAMPLES[0])
    if name == "two.png":
        both = np.concatenate([decode_image(path.read_bytes())[64:448:2, 64:448:2] for path in SAMPLES], 1)
        (folder / name).write_bytes(encode_image(both, "png"))
    elif name == "grey.png":
        (folder / name).write_bytes(encode_image(np.full((300, 300, 3), 128, np.uint8), "png"))
    else:
        (folder / name).write_bytes(SAMPLES[1].read_bytes()[:5000])
    with pytest.raises(GalleryError, match=message):
        load(folder)


def test_galleries_that_are_not_there(load, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(GalleryError, match="the gallery is empty"):
        load(tmp_path / "empty")
    with pytest.raises(GalleryError, match="no such gallery"):
        load(tmp_path / "none")
    with pytest.raises(GalleryError, match="cannot be listed"):
        load("nosuchstore://bucket/people")


def test_embeddings_are_not_shown_or_pickled() -> None:
    gallery = Gallery(np.eye(192, dtype=np.float32)[:3])
    assert repr(gallery) == "Gallery(3 people)"
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(gallery)


def test_the_more_references_the_more_alike_a_face_must_be() -> None:
    assert [round(least_in(n), 2) for n in (1, 30, 300, 1000, 10_000)] == [0.56, 0.59, 0.65, 0.68, 0.73]
    assert all(least_in(n) <= least_in(n + 1) for n in range(1, 200))


@pytest.mark.skipif(not FACES.is_dir(), reason="the aligned faces of ../shared/faces are not here")
def test_a_stranger_who_is_like_one_of_many_is_in_doubt() -> None:
    recogniser = FaceCodec.load().recogniser
    alike = FACES / "train/H001053.jpg"
    others = [path for path in sorted((FACES / "train").iterdir()) if path != alike][:40]
    faces = [FACES / "candid_train/P0130.jpg", alike, *others]
    stranger, *people = embed(np.stack([decode_image(path.read_bytes()) for path in faces]), recogniser)
    assert Gallery(np.stack(people[:1])).match(stranger) == "in"  # as 1 in 14,000 strangers is
    assert Gallery(np.stack(people)).match(stranger) == "doubtful"
