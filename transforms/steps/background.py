"""Everything in the frame but the faces: those are filled in, the rest goes through a conventional coder."""

import importlib.metadata
from collections.abc import Iterable

from apache_beam.metrics import Metrics

from mien.models.images import encode_image
from mien.models.privacy import redact_faces
from mien.transforms.elements import CodedPhoto, PhotoInWork
from mien.transforms.settings import CompressSettings
from mien.transforms.steps.align import hidden_of
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage

VERSION = importlib.metadata.version("mien")


def code_background(photo: PhotoInWork, settings: CompressSettings) -> CodedPhoto:
    """The photo as it is stored: every face but those that are kept redacted or filled in, then coded."""
    mask = settings.policy.mask  # how much of the faces goes that must not be recognised
    height, width = photo.pixels.shape[:2]
    hidden = [
        hidden_of(face, face.action, *(("face", 0.0) if face.action == "preserve" else (mask, settings.margin)))
        for face in photo.coded
        if face.action != "keep"
    ]
    filled = redact_faces(photo.pixels, hidden) if hidden else photo.pixels
    return CodedPhoto(
        photo.uri,
        photo.source_bytes,
        width,
        height,
        encode_image(filled, settings.background, settings.quality),
        settings.background,
        photo.coded,
        settings.policy.id,
        VERSION,
        photo.name,
        photo.origin,
    )


class _Background(Stage):
    stage = "background"

    def __init__(self, settings: CompressSettings) -> None:
        self._settings = settings

    def work(self, element: PhotoInWork) -> Iterable[CodedPhoto]:
        coded = code_background(element, self._settings)
        for face in coded.faces:
            Metrics.counter(NAMESPACE, f"action_{face.action}").inc()
        yield coded


class CodeBackground(IsolatedStages):
    """PhotoInWork with coded faces -> CodedPhoto."""

    def __init__(self, settings: CompressSettings) -> None:
        super().__init__([_Background(settings)], CodedPhoto)
