"""A photo whose faces are decided on, and quick settings."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mien.models.codec.face_codec import FaceCodec
from mien.models.faces.face import Face
from mien.models.images.files import decode_image
from mien.transforms.elements import Decision, PhotoInWork, Pixels
from mien.transforms.policy.rules import load_policy
from mien.transforms.settings import CompressSettings

DATA = Path(__file__).parents[2] / "data" / "photos"
# a face of allhands.jpg in a part of 400 x 400 that is there twice, a place without a face, and one that is not aligned
FACE = Face((112.0, 120.0, 127.0, 127.0), 0.9, transform=(0.4, 0.058, 62.7, -0.058, 0.4, 87.1))
TWIN = Face((512.0, 120.0, 127.0, 127.0), 0.9, transform=(0.4, 0.058, 462.7, -0.058, 0.4, 87.1))
WALL = Face((0.0, 0.0, 100.0, 100.0), 0.5, transform=(0.2, 0.0, 0.0, 0.0, 0.2, 0.0))
UNALIGNED = Face((700.0, 300.0, 60.0, 60.0), 0.6)
FACES = (FACE, TWIN, WALL, UNALIGNED)
Decided = Callable[..., PhotoInWork]
QUICK = CompressSettings(
    policy=load_policy("compress"),
    face_bytes=64,
    effort="fast",
    background="webp",
    quality=90,
    max_pixels=10**6,
    faces="neural",
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
