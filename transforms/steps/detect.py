"""Finding the faces of a photo: boxes, landmarks, pose, and the square each one is aligned to; and regions of other
kinds, which detectors of one's own and box files give, and which are boxes alone.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

from apache_beam.metrics import Metrics

from mien.models.faces import (
    FACE_KIND,
    Box,
    Face,
    FaceDetector,
    FaceLandmarker,
    OwnDetector,
    aligned_faces,
    join_faces,
)
from mien.models.runtime import tune_process
from mien.transforms.elements import PhotoInWork, Pixels
from mien.transforms.settings import FindSettings
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage


class Detects(Protocol):
    """What FaceDetector and FaceSearch have."""

    def detect(self, pixels: Pixels, places: Sequence[Box] | None = None) -> list[Face]:
        """As FaceDetector.detect."""


def find_faces(
    photo: PhotoInWork,
    detector: Detects,
    landmarker: FaceLandmarker,
    landmarks_from: float = 0.0,
    more: Sequence[Face] = (),
) -> PhotoInWork:
    """The photo with its faces, largest first, as mien.models.faces.find finds them, and behind them what is no face.

    more: what else is known to be there; its faces are joined to those that are found.
    """
    found = detector.detect(photo.pixels)
    given = [face for face in more if face.kind == FACE_KIND]
    if given:
        found = join_faces(found, given)
    faces = aligned_faces(photo.pixels, found, landmarker, landmarks_from)
    return dataclasses.replace(photo, faces=(*faces, *(face for face in more if face.kind != FACE_KIND)))


class FaceSearch:
    """mien's own detectors, those of them that the settings name: they search photos, and what is made of them again.

    Not to be shared by threads.
    """

    def __init__(self, settings: FindSettings) -> None:
        names = [name for name in settings.detectors if name not in settings.own]
        self._detector = FaceDetector(names) if names else None
        self._min_score = settings.min_score

    def detect(self, pixels: Pixels, places: Sequence[Box] | None = None) -> list[Face]:
        """As FaceDetector.detect, of at least the score that is asked for; nothing where no detector is named."""
        found = self._detector.detect(pixels, places) if self._detector else []
        return [face for face in found if face.score >= self._min_score]

    def close(self) -> None:
        """Frees the models; a second time does nothing."""
        if self._detector:
            self._detector.close()


class Finder:
    """Finds all that the settings ask for in a photo. Not to be shared by threads. landmarks_from: as in
    mien.models.faces.find. DetectorError for a detector of one's own that cannot be made."""

    def __init__(self, settings: FindSettings, landmarks_from: float = 0.0) -> None:
        self._settings, self._landmarks_from = settings, landmarks_from
        self._own = [OwnDetector(name) for name in settings.own]
        self._search, self._landmarker = FaceSearch(settings), FaceLandmarker()

    def find(self, photo: PhotoInWork) -> PhotoInWork:
        """The photo with its faces and what else was found. DetectorError where a detector of one's own fails on it,
        BoxesError where what the box file says of it cannot be."""
        height, width = photo.pixels.shape[:2]
        more = [face for detector in self._own for face in detector.find(photo.pixels)]
        more = [face for face in more if face.score >= self._settings.min_score]
        if self._settings.boxes:
            more += self._settings.boxes.of(photo.name, photo.uri, (width, height), not self._settings.detectors)
        return find_faces(photo, self._search, self._landmarker, self._landmarks_from, more)

    def close(self) -> None:
        """Frees the models."""
        for one in (self._search, self._landmarker):
            one.close()
        for own in self._own:
            with contextlib.suppress(Exception):  # another's code, and nothing hangs on it any more
                own.close()


class _Detect(Stage):
    """MediaPipe's objects are not thread safe: each DoFn instance has its own."""

    stage = "detect"

    def __init__(self, settings: FindSettings, landmarks_from: float) -> None:
        self._settings = settings
        self._landmarks_from = landmarks_from

    def setup(self) -> None:
        tune_process(self._settings.threads)
        self._finder = Finder(self._settings, self._landmarks_from)

    def teardown(self) -> None:
        self._finder.close()

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        found = self._finder.find(element)
        Metrics.counter(NAMESPACE, "faces").inc(len(found.faces))
        yield found


class DetectFaces(IsolatedStages):
    """PhotoInWork -> PhotoInWork with faces. landmarks_from: as in mien.models.faces.find."""

    def __init__(self, settings: FindSettings, landmarks_from: float = 0.0) -> None:
        super().__init__([_Detect(settings, landmarks_from)], PhotoInWork)
