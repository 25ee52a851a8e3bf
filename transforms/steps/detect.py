"""Finding the faces of a photo: boxes, landmarks, pose, and the square each one is aligned to."""

import dataclasses
from collections.abc import Iterable

from apache_beam.metrics import Metrics

from mien.models.faces import FaceDetector, FaceLandmarker, located_faces
from mien.models.runtime import tune_process
from mien.transforms.elements import PhotoInWork
from mien.transforms.settings import FindSettings
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage


def find_faces(
    photo: PhotoInWork, detector: FaceDetector, landmarker: FaceLandmarker, landmarks_from: float = 0.0
) -> PhotoInWork:
    """The photo with its faces, largest first, as mien.models.faces.find finds them."""
    return dataclasses.replace(photo, faces=located_faces(photo.pixels, detector, landmarker, landmarks_from))


class _Detect(Stage):
    """MediaPipe's objects are not thread safe: each DoFn instance has its own."""

    stage = "detect"

    def __init__(self, settings: FindSettings, landmarks_from: float) -> None:
        self._settings = settings
        self._landmarks_from = landmarks_from

    def setup(self) -> None:
        tune_process(self._settings.threads)
        self._detector = FaceDetector(self._settings.detectors)
        self._landmarker = FaceLandmarker()

    def teardown(self) -> None:
        self._detector.close()
        self._landmarker.close()

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        found = find_faces(element, self._detector, self._landmarker, self._landmarks_from)
        Metrics.counter(NAMESPACE, "faces").inc(len(found.faces))
        yield found


class DetectFaces(IsolatedStages):
    """PhotoInWork -> PhotoInWork with faces. landmarks_from: as in mien.models.faces.find."""

    def __init__(self, settings: FindSettings, landmarks_from: float = 0.0) -> None:
        super().__init__([_Detect(settings, landmarks_from)], PhotoInWork)
