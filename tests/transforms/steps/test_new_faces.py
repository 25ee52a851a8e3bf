import dataclasses
from typing import Any

import numpy as np

from mien.models.codec.face_codec import FaceCodec
from mien.models.privacy.deidentify import Deidentifier, NewFace
from mien.transforms.elements import Decision, PhotoInWork, Pixels
from mien.transforms.policy.pseudonyms import Key, sealed_seeds
from mien.transforms.steps.align import MAX_NEW_YAW, align_faces
from mien.transforms.steps.new_faces import draw_new_faces
from mien.transforms.steps.people import embeddings_of
from tests.transforms.steps.conftest import FACE, TWIN, UNALIGNED


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
