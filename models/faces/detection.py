"""Finding faces: detectors over a photo's tiles at several sizes, joined. A missed face is a leak: recall rules.

Measured by `python -m mien.models.benchmark_detection`, on 14 group photos with 482 faces.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mien.models.faces.cascade import Cascade
from mien.models.faces.centerface import CenterFaceDetector, load_centerface
from mien.models.faces.face import Face
from mien.models.faces.mediapipe_tasks import close_task, mediapipe_image, open_face_detector
from mien.models.faces.retinaface import load_retinaface, open_retinaface
from mien.models.faces.roughness import is_rough, smoothed
from mien.models.faces.tiles import Found, Level, Tile, enlarged, located, merge, pyramid, tiles

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float64]
Box: TypeAlias = tuple[float, float, float, float]


class Detector(Protocol):
    """One way of finding faces. Not to be shared by threads."""

    def find(self, pixels: Pixels, places: Boxes | None = None) -> Found:
        """(H, W, 3) uint8 RGB to boxes in its pixels, not merged. places: (N, 4) boxes; it need not look elsewhere."""

    def close(self) -> None:
        """Frees what it holds; a second time does nothing."""


class MediaPipeDetector:
    """MediaPipe's full-range model (192 x 192) over tiles at 1 (or `finest`), 1/2, 1/4, ... of the photo, to the whole.

    finest: the largest size that is searched, as a fraction of the photo's. min_score: of a face, 0 to 1.
    """

    TILE = 192
    OVERLAP = 64  # what is larger is whole at the next smaller size

    def __init__(self, finest: float = 1.0, min_score: float = 0.5):
        self.finest = finest
        self._task = open_face_detector(min_score)

    def find(self, pixels: Pixels, places: Boxes | None = None) -> Found:
        """It looks everywhere, whatever the places: it is quick."""
        parts = []
        for level in pyramid(pixels, self.TILE):
            height, width = level.pixels.shape[:2]
            whole = max(width, height) <= self.TILE
            if whole or max(level.scale_x, level.scale_y) <= self.finest * 1.001:
                parts += [self._find(level, tile) for tile in tiles(width, height, self.TILE, self.OVERLAP)]
            if whole:
                parts.append(self._find_framed(level))
        return Found.joined(parts)

    def _find(self, level: Level, tile: Tile) -> Found:
        part = level.pixels[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        return located(level, tile, self.OVERLAP, *self._detect(part))

    def _find_framed(self, level: Level) -> Found:
        """The whole photo in a wide grey border, so that a face that fills it is found."""
        height, width = level.pixels.shape[:2]
        border = max(width, height) // 2
        framed = np.pad(level.pixels, ((border, border), (border, border), (0, 0)), constant_values=128)
        boxes, scores = self._detect(framed)
        return located(level, Tile(0, 0, width, height), 0, boxes - np.array([border, border, 0, 0]), scores)

    def _detect(self, pixels: Pixels) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        detections = self._task.detect(mediapipe_image(pixels)).detections
        boxes = [
            (box.origin_x, box.origin_y, box.width, box.height)
            for box in (detection.bounding_box for detection in detections)
        ]
        scores = [detection.categories[0].score for detection in detections]
        return np.array(boxes, np.float64).reshape(-1, 4), np.array(scores, np.float64)

    def close(self) -> None:
        close_task(self._task)


# A name, and how it is made; alone: it is the only one.
DETECTORS: dict[str, Callable[[bool], Detector]] = {
    "mediapipe": lambda alone: MediaPipeDetector() if alone else MediaPipeDetector(finest=0.25, min_score=0.6),
    "centerface": lambda _: CenterFaceDetector(),
}
DEFAULT = ("centerface",)


def load_detectors() -> None:
    """Loads once a process what all FaceDetectors in it can share. WeightsError."""
    load_centerface()
    load_retinaface()


class FaceDetector:
    """Finds the faces of a photo with one or several detectors, joined, and with the cascade in all turns of the photo.

    detectors: names from DETECTORS, which search the upright photo. A FaceDetector is for one thread; make one in each.
    It holds native graphs until close() or the end of a `with`. ValueError for an unknown name or none; WeightsError
    for missing or damaged models.
    """

    def __init__(self, detectors: Sequence[str] = DEFAULT):
        unknown = [name for name in detectors if name not in DETECTORS]
        if unknown or not detectors or len(set(detectors)) < len(detectors):
            raise ValueError(
                f"detectors: one or several of {', '.join(DETECTORS)}; not {', '.join(detectors) or 'none'}"
            )
        self._detectors = [DETECTORS[name](len(detectors) == 1) for name in detectors]
        self._cascade = Cascade(open_retinaface(), CenterFaceDetector())

    def detect(self, pixels: Pixels, places: Sequence[Box] | None = None) -> list[Face]:
        """(H, W, 3) uint8 RGB to its faces with box and score, the largest first; the same for the same pixels.

        A noisy, dithered or blocky photo is searched in a smoothed copy too. places: boxes (x, y, width, height), for a
        photo that was searched before it was changed there: in and beside them the search is as wide, elsewhere it is
        for upright faces in a reduced copy. ValueError for another shape or dtype.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ValueError(f"(H, W, 3) uint8 wanted, {pixels.shape} {pixels.dtype} given")
        height, width = pixels.shape[:2]
        copies = [enlarged(pixels)]
        if is_rough(pixels):
            copies.append(enlarged(smoothed(pixels)))
        shape = copies[0].shape
        scale = np.array([width / shape[1], height / shape[0]] * 2)
        chosen = np.array(places, np.float64).reshape(-1, 4) / scale if places is not None else None
        found = Found.joined([detector.find(copy, chosen) for detector in self._detectors for copy in copies])
        for copy in copies:
            found = merge(Found.joined([found, self._cascade.find(copy, merge(found), chosen)]))
        faces = [
            Face(box=(x, y, w, h), score=min(1.0, score))
            for (x, y, w, h), score in zip((found.boxes * scale).tolist(), found.scores.tolist(), strict=True)
        ]
        return sorted(faces, key=lambda face: (-face.box[2] * face.box[3], face.box))

    def close(self) -> None:
        """Frees the models; a second time does nothing."""
        for detector in self._detectors:
            detector.close()

    def __enter__(self) -> "FaceDetector":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
