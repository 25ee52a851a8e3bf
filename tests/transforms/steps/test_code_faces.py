import dataclasses
from typing import Any

import numpy as np
import pytest

from mien.models.codec.face_codec import Coded, FaceCodec
from mien.models.faces.alignment import align_face
from mien.models.privacy.deidentify import Deidentifier
from mien.transforms.elements import Decision, PhotoInWork, Pixels
from mien.transforms.settings import CompressSettings
from mien.transforms.steps.align import MAX_YAW, align_faces
from mien.transforms.steps.code_faces import code_photo, coded_face
from tests.transforms.steps.conftest import FACE, QUICK, TWIN, Decided


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
