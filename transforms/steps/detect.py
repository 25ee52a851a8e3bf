"""Finding the faces of a photo: boxes, landmarks, pose, and the square each one is aligned to."""

import dataclasses
from collections.abc import Iterable, Sequence

from apache_beam.metrics import Metrics

from mien.models.faces import FaceDetector, FaceLandmarker, located_faces
from mien.models.runtime import tune_process
from mien.transforms.elements import PhotoInWork
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage

DETECTORS = ("centerface",)


def find_faces(
    photo: PhotoInWork, detector: FaceDetector, landmarker: FaceLandmarker, landmarks_from: float = 0.0
) -> PhotoInWork:
    """The photo with its faces, largest first, as mien.models.faces.find finds them."""
    return dataclasses.replace(photo, faces=located_faces(photo.pixels, detector, landmarker, landmarks_from))


class _Detect(Stage):
    """MediaPipe's objects are not thread safe: each DoFn instance has its own."""

    stage = "detect"

    def __init__(self, detectors: Sequence[str], threads: int, landmarks_from: float) -> None:
        self._detectors = tuple(detectors)
        self._threads = threads
        self._landmarks_from = landmarks_from

    def setup(self) -> None:
        tune_process(self._threads)
        self._detector = FaceDetector(self._detectors)
        self._landmarker = FaceLandmarker()

    def teardown(self) -> None:
        self._detector.close()
        self._landmarker.close()

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        found = find_faces(element, self._detector, self._landmarker, self._landmarks_from)
        Metrics.counter(NAMESPACE, "faces").inc(len(found.faces))
        yield found


class DetectFaces(IsolatedStages):
    """PhotoInWork -> PhotoInWork with faces.

    detectors: names from mien.models.faces.detection, whose finds are joined; threads: of one worker process;
    landmarks_from: as in mien.models.faces.find.
    """

    def __init__(self, detectors: Sequence[str] = DETECTORS, threads: int = 1, landmarks_from: float = 0.0) -> None:
        super().__init__([_Detect(detectors, threads, landmarks_from)], PhotoInWork)
