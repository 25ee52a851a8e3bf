import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.models.codec.face_codec import Coded, FaceCodec
from mien.models.faces.alignment import align_face
from mien.models.faces.face import Face
from mien.models.images.files import decode_image
from mien.models.painting.inpaint import face_mask
from mien.models.privacy.deidentify import Deidentifier, NewFace
from mien.transforms.elements import Decision, PhotoInWork, Pixels
from mien.transforms.policy.pseudonyms import Key, sealed_seeds
from mien.transforms.policy.rules import load_policy
from mien.transforms.settings import CompressSettings
from mien.transforms.steps.align import MAX_NEW_YAW, MAX_YAW, align_faces
from mien.transforms.steps.background import code_background
from mien.transforms.steps.code_faces import code_photo, coded_face
from mien.transforms.steps.new_faces import draw_new_faces
from mien.transforms.steps.people import embeddings_of

DATA = Path(__file__).parents[2] / "data" / "photos"
# a face of allhands.jpg in a part of 400 x 400 that is there twice, a place without a face, and one that is not aligned
FACE = Face((112.0, 120.0, 127.0, 127.0), 0.9, transform=(0.4, 0.058, 62.7, -0.058, 0.4, 87.1))
TWIN = Face((512.0, 120.0, 127.0, 127.0), 0.9, transform=(0.4, 0.058, 462.7, -0.058, 0.4, 87.1))
WALL = Face((0.0, 0.0, 100.0, 100.0), 0.5, transform=(0.2, 0.0, 0.0, 0.0, 0.2, 0.0))
UNALIGNED = Face((700.0, 300.0, 60.0, 60.0), 0.6)
FACES = (FACE, TWIN, WALL, UNALIGNED)
Decided = Callable[..., PhotoInWork]
QUICK = CompressSettings(
    policy=load_policy("compress"), face_bytes=64, effort="fast", background="webp", quality=90, max_pixels=10**6
)


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    part = decode_image((DATA / "allhands.jpg").read_bytes())[400:800, 60:460]
    return np.ascontiguousarray(np.hstack([part, part]))


@pytest.fixture(scope="module")
def codec() -> FaceCodec:
    return FaceCodec.load()


@pytest.fixture
def decided(pixels: Pixels) -> Decided:
    def photo(*actions: str) -> PhotoInWork:
        decisions = tuple(Decision(action, "rule") for action in actions)
        return PhotoInWork("u", "n.jpg", None, 9, pixels, FACES[: len(actions)], decisions)

    return photo


def test_only_faces_to_code_are_aligned(pixels: Pixels, decided: Decided) -> None:
    photo = align_faces(decided("preserve", "keep", "fill", "realistic"))
    assert [face is not None for face in photo.aligned] == [True, False, False, False]
    crop = align_faces(decided("preserve", "keep")).aligned[0]
    assert crop is not None
    assert np.array_equal(crop, align_face(pixels, FACE.transform))


def test_nothing_hidden_gets_into_the_crop_of_a_neighbour(pixels: Pixels) -> None:
    a, b, x, c, d, y = FACE.transform
    near = dataclasses.replace(FACE, transform=(a, b, x + 100, c, d, y))
    other = pixels.copy()
    (rows, columns), alpha = face_mask(near.transform, (pixels.shape[0], pixels.shape[1]))
    other[rows, columns][alpha > 0] = 255 - other[rows, columns][alpha > 0]
    crops = []
    for source in (pixels, other):  # differ in the hidden face alone
        decisions = (Decision("preserve", "r"), Decision("realistic", "r"))
        photo = align_faces(PhotoInWork("u", "n", None, 9, source, (FACE, near), decisions))
        crops.append(photo.aligned[0])
    assert crops[0] is not None
    assert crops[1] is not None
    assert np.array_equal(crops[0], crops[1])


def test_faces_that_cannot_be_coded_fall_back(decided: Decided, codec: FaceCodec) -> None:
    for action, fallback in (("preserve", "keep"), ("realistic", "fill")):
        photo = code_photo(align_faces(decided(*[action] * 4)), codec, QUICK)
        good, _, nothing, unaligned = photo.coded
        assert (good.action, good.rule, good.model) == (action, "rule", codec.model)
        assert 0 < len(good.payload) <= 64
        assert good.score >= FaceCodec.MIN_SCORE
        assert (nothing.action, nothing.rule, nothing.payload) == (fallback, "rule (covered, turned or no face)", b"")
        assert (unaligned.action, unaligned.rule, unaligned.model) == (fallback, "rule (not aligned)", "")
        assert photo.aligned == ()


def test_a_covered_face_stays_or_goes_but_is_never_drawn_anew(
    pixels: Pixels, decided: Decided, codec: FaceCodec
) -> None:
    crop = align_face(pixels, FACE.transform)
    crop[270:460, 160:350] = (90, 150, 205)
    deidentifier = Deidentifier(codec)
    for action, fallback in (("preserve", "keep"), ("realistic", "fill"), ("deidentify", "fill")):
        photo = dataclasses.replace(decided(action), aligned=(crop,))
        photo = code_photo(photo, codec, QUICK, deidentifier)
        (face,) = photo.coded
        assert (face.action, face.rule, face.payload) == (fallback, "rule (covered, turned or no face)", b"")


def test_auto_keeps_the_person(decided: Decided, codec: FaceCodec) -> None:
    settings = CompressSettings(policy=QUICK.policy)  # 320 bytes, auto
    (known,) = code_photo(align_faces(decided("preserve")), codec, settings).coded
    assert (known.action, known.rule) == ("preserve", "rule")
    side = FACE.transform[0] * 512
    assert 200 < len(known.payload) <= 320 * side / 256 + 3


@pytest.mark.parametrize(
    ("action", "same_person", "expected"),
    [
        ("preserve", False, ("keep", "rule (not the same person)", b"")),
        ("preserve", True, ("preserve", "rule", b"payload")),
        ("preserve", None, ("preserve", "rule", b"payload")),
        ("realistic", None, ("realistic", "rule", b"payload")),
    ],
)
def test_who_is_not_known_again_stays(action: str, same_person: bool | None, expected: tuple[str, str, bytes]) -> None:
    found = coded_face(
        FACE, Decision(action, "rule"), Coded(b"payload", 0.7, same_person), "model", aligned=True, clear=True
    )
    assert (found.action, found.rule, found.payload) == expected


@pytest.mark.parametrize("yaw", [-MAX_YAW - 1, MAX_YAW + 1])
def test_a_face_turned_away_falls_back(pixels: Pixels, codec: FaceCodec, yaw: float) -> None:
    turned = dataclasses.replace(FACE, pose=(yaw, 0.0, 0.0))
    near = dataclasses.replace(TWIN, pose=(MAX_YAW - 1, 0.0, 0.0))
    decisions = (Decision("preserve", "r"), Decision("realistic", "r"), Decision("preserve", "r"))
    photo = align_faces(PhotoInWork("u", "n", None, 9, pixels, (turned, turned, near), decisions))
    coded = code_photo(photo, codec, QUICK).coded
    assert [(face.action, face.rule, bool(face.payload)) for face in coded] == [
        ("keep", "r (turned away)", False),
        ("fill", "r (turned away)", False),
        ("preserve", "r", True),
    ]


def test_a_face_beyond_the_generators_reach_is_filled_in_the_photo(pixels: Pixels, codec: FaceCodec) -> None:
    near, far = (dataclasses.replace(FACE, pose=(yaw, 0.0, 0.0)) for yaw in (MAX_NEW_YAW - 1, MAX_NEW_YAW + 1))
    decisions = (
        Decision("realistic", "r"),
        Decision("deidentify", "r"),
        Decision("realistic", "r"),
        Decision("keep", "k"),
    )
    photo = align_faces(PhotoInWork("u", "n", None, 9, pixels, (near, far, UNALIGNED, TWIN), decisions), in_photo=True)
    assert [face is not None for face in photo.aligned] == [True, False, False, False]
    photo = dataclasses.replace(photo, aligned=(np.zeros((512, 512, 3), np.uint8), *photo.aligned[1:]))
    coded = draw_new_faces(photo, codec, Deidentifier(codec))
    assert [(face.action, face.rule) for face in coded.coded] == [
        ("fill", "r (covered, turned or no face)"),
        ("fill", "r (turned away)"),
        ("fill", "r (not aligned)"),
        ("keep", "k"),
    ]
    assert coded.new == (None, None, None, None)


def test_a_filled_face_goes_with_all_of_its_box(pixels: Pixels, decided: Decided, codec: FaceCodec) -> None:
    photo = code_photo(align_faces(decided("fill")), codec, QUICK)
    other = pixels.copy()
    x, y, w, h = (round(v) for v in FACE.box)
    other[y : y + h, x : x + w] = 255 - other[y : y + h, x : x + w]
    backgrounds = [
        code_background(dataclasses.replace(photo, pixels=source), QUICK).background for source in (pixels, other)
    ]
    assert backgrounds[0] == backgrounds[1]


def test_a_codec_that_fails_on_one_face_loses_no_other(decided: Decided, codec: FaceCodec) -> None:
    class OutOfMemory(FaceCodec):
        def __init__(self) -> None:
            self.__dict__.update(codec.__dict__)

        def code_batch(self, faces: Pixels, *settings: Any) -> list[Coded]:
            if np.array_equal(faces[0], bad):
                raise MemoryError
            return super().code_batch(faces, *settings)

    photo = align_faces(decided("preserve", "preserve"))
    good = photo.aligned[0]
    assert good is not None
    bad = np.ascontiguousarray(good[:, ::-1])
    photo = dataclasses.replace(photo, aligned=(good, bad))
    coded = code_photo(photo, OutOfMemory(), QUICK)
    assert [face.rule for face in coded.coded] == ["rule", "rule (not coded)"]


def test_the_background_keeps_only_what_may_stay(pixels: Pixels, decided: Decided, codec: FaceCodec) -> None:
    photo = code_photo(align_faces(decided("preserve", "keep")), codec, QUICK)
    coded = code_background(photo, QUICK)
    assert (coded.width, coded.height, coded.background_codec, coded.policy) == (800, 400, "webp", QUICK.policy.id)
    shown = decode_image(coded.background).astype(np.float32)
    for face, kept in zip(photo.coded, (False, True), strict=True):
        (rows, columns), alpha = face_mask(face.transform, (400, 800))
        error = np.abs(shown[rows, columns] - pixels[rows, columns])[alpha > 0.9].mean()
        assert (error < 6) == kept


class Asked(Deidentifier):
    """Draws nobody, which takes seconds a face, and remembers the seeds."""

    seeds: list[bytes | None]

    def face_in_photo(self, *args: Any) -> NewFace:
        self.seeds.append(args[3])
        return NewFace(np.zeros((512, 512, 3), np.uint8), 7, 0.9)


def test_with_a_key_a_face_has_its_own_person_s_seed_or_no_new_face(pixels: Pixels, codec: FaceCodec) -> None:
    key = Key(b"0123 a key for tests 4567")
    faces = (UNALIGNED, TWIN, FACE)
    photo = PhotoInWork("u", "n", None, 9, pixels, faces, tuple(Decision("deidentify", "rule") for _ in faces))
    x, y, w, h = FACE.box
    seeds = sealed_seeds("u", [((600.0, 0.0, 9.0, 9.0), b"nobody"), ((x + 3, y, w, h - 4), b"somebody")], key)
    photo = dataclasses.replace(photo, embeddings=embeddings_of(pixels, faces), seeds=seeds)
    deidentifier = Asked(codec)
    deidentifier.seeds = []
    done = draw_new_faces(align_faces(photo, in_photo=True), codec, deidentifier, key=key)
    assert [face.action for face in done.coded] == ["fill", "fill", "deidentify"]
    assert done.coded[1].rule == "rule (no new face)"
    assert [new is not None for new in done.new] == [False, False, True]
    assert deidentifier.seeds == [b"somebody"]
