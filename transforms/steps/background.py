"""Everything in the frame but the faces: those are filled in, the rest goes through a conventional coder."""

import importlib.metadata
from collections.abc import Iterable
from typing import Literal

from apache_beam.metrics import Metrics

from mien.models.images import encode_image
from mien.models.privacy import MaskKind, redact_faces
from mien.transforms.elements import CodedPhoto, PhotoInWork
from mien.transforms.steps.code_faces import hidden_of
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage

BackgroundCodec = Literal["avif", "webp", "jpeg"]
QUALITY = 60
VERSION = importlib.metadata.version("mien")


def code_background(
    photo: PhotoInWork, policy: str, codec: BackgroundCodec, quality: int, mask: MaskKind = "face"
) -> CodedPhoto:
    """The photo as it is stored: every face but those that are kept redacted or filled in, then coded.

    mask: how much of the faces goes that must not be recognised.
    """
    height, width = photo.pixels.shape[:2]
    hidden = [
        hidden_of(face, face.action, "face" if face.action == "preserve" else mask)
        for face in photo.coded
        if face.action != "keep"
    ]
    filled = redact_faces(photo.pixels, hidden) if hidden else photo.pixels
    return CodedPhoto(
        photo.uri,
        photo.source_bytes,
        width,
        height,
        encode_image(filled, codec, quality),
        codec,
        photo.coded,
        policy,
        VERSION,
        photo.name,
        photo.origin,
    )


class _Background(Stage):
    stage = "background"

    def __init__(self, policy: str, codec: BackgroundCodec, quality: int, mask: MaskKind) -> None:
        self._policy = policy
        self._codec = codec
        self._quality = quality
        self._mask = mask

    def work(self, element: PhotoInWork) -> Iterable[CodedPhoto]:
        coded = code_background(element, self._policy, self._codec, self._quality, self._mask)
        for face in coded.faces:
            Metrics.counter(NAMESPACE, f"action_{face.action}").inc()
        yield coded


class CodeBackground(IsolatedStages):
    """PhotoInWork with coded faces -> CodedPhoto. policy: the id that is recorded; mask: the policy's."""

    def __init__(
        self, policy: str, codec: BackgroundCodec = "avif", quality: int = QUALITY, mask: MaskKind = "face"
    ) -> None:
        super().__init__([_Background(policy, codec, quality, mask)], CodedPhoto)
