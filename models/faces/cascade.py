"""Two detectors in a row over the four turns of a photo: RetinaFace proposes faces, CenterFace confirms them.

RetinaFace takes less than half of CenterFace's time; at the low threshold that it needs for small and tilted faces, it
also takes hands and lamps for faces. CenterFace looks at each proposal in a window of its own, in which a face would
have the size and the turn that it knows best.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces.centerface import CenterFaceDetector, centerface_boxes
from mien.models.faces.retinaface import MEAN, PADDING, Net
from mien.models.faces.same_face import lies_across, same_faces
from mien.models.faces.tiles import Found, Level, Tile, located, merge, reduced, tiles, windows
from mien.models.faces.turns import TURNS, turned, turned_back, turned_boxes

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float64]

TILE, OVERLAP = 4096, 128
UPRIGHT_SCORE, TURNED_SCORE = 0.3, 0.2  # of RetinaFace's proposals
CONFIRMED = 0.3  # CenterFace's score
SURE = 0.5  # CenterFace's, of a face that need not be looked at again
TILTS, TILTED_SCORE = (45.0, -45.0), 0.7  # degrees by which a proposal of this score is turned if it is doubted
STRONG = 0.8  # RetinaFace's, of a face that is seen in its own turn
TURNED_PIXELS = 2e6  # of a turned copy; a photo that has more is reduced
MOST = 1000  # proposals of one turn, the best: it bounds the work on patterns
WINDOW, FACE = 128, 48  # px: sides of what CenterFace is shown, and of the face in it
ELSEWHERE_PIXELS = 1e6  # of the upright copy in which all that is not in the given places is looked at
_ROW = 8  # windows side by side in one picture


@dataclass(frozen=True)
class Cascade:
    """net: RetinaFace's network, opened. centerface: what confirms, and searches a turned photo again."""

    net: Net
    centerface: CenterFaceDetector

    def find(self, pixels: Pixels, known: Found, places: Boxes | None = None) -> Found:
        """Faces of (H, W, 3) uint8 RGB in all turns; some of those that are known, in its pixels, may be among them.

        A turned copy has at most TURNED_PIXELS. In a turn in which some face is seen better than upright, the whole
        photo is searched as an upright one is. places: (M, 4) boxes, in and beside which it looks so; elsewhere it
        looks for upright faces in a reduced copy. None: everywhere alike.
        """
        whole, small = Level(pixels, 1.0, 1.0), reduced(pixels, TURNED_PIXELS)
        sure = known.boxes[known.scores >= SURE]
        upright = self._proposed(whole, 0, places)
        found = [self._confirmed(pixels, upright, 0, sure)]
        for turn in TURNS[1:]:
            proposed = self._proposed(small, turn, places)
            confirmed = _not_across(self._confirmed(pixels, proposed, turn, np.zeros((0, 4))), known)
            found.append(confirmed)
            if _better(confirmed, known, SURE) or _better(proposed, upright, STRONG):
                found.append(_not_across(self._as_upright(pixels, turn, places), known))
                if small.scale_x < 1:
                    again = self._confirmed(pixels, self._proposed(whole, turn, places), turn, sure)
                    found.append(_not_across(again, known))
        if places is not None:
            elsewhere = self._proposed(reduced(pixels, ELSEWHERE_PIXELS), 0, None)
            found.append(self._confirmed(pixels, elsewhere, 0, sure))
        return merge(Found.joined(found))

    def _as_upright(self, pixels: Pixels, turn: int, places: Boxes | None) -> Found:
        there = None if places is None else turned_boxes(places, turn, pixels.shape)
        found = self.centerface.find(turned(pixels, turn), there)
        return Found(turned_back(found.boxes, turn, pixels.shape), found.scores, found.cut)

    def _confirmed(self, pixels: Pixels, proposed: Found, turn: int, known: Boxes) -> Found:
        """Those of the proposals that CenterFace confirms, with its scores; those that are known are left out."""
        new = np.array([not same_faces(box, known).any() for box in proposed.boxes], np.bool_)
        boxes, cut = proposed.boxes[new], proposed.cut[new]
        scores = self.scores(pixels, turn, boxes)
        for tilt in TILTS:
            doubted = np.flatnonzero((scores < CONFIRMED) & (proposed.scores[new] >= TILTED_SCORE))
            scores[doubted] = self.scores(pixels, turn, boxes[doubted], tilt)
        sure = scores >= CONFIRMED
        return Found(boxes[sure], scores[sure], cut[sure])

    def _proposed(self, upright: Level, turn: int, places: Boxes | None) -> Found:
        """RetinaFace's boxes in one turn of the photo, in the photo's pixels, each face once."""
        copy = turned(upright.pixels, turn)
        h, w = copy.shape[:2]
        level = Level(copy, *((upright.scale_y, upright.scale_x) if turn % 2 else (upright.scale_x, upright.scale_y)))
        shape = upright.pixels.shape[0] / upright.scale_y, upright.pixels.shape[1] / upright.scale_x
        if places is None:
            parts = list(tiles(w, h, TILE, OVERLAP))
        else:
            parts = windows(level, turned_boxes(places, turn, shape), TILE, OVERLAP // 2)
        found = merge(Found.joined([self._seen(level, part, turn) for part in parts]))
        best = np.argsort(-found.scores, kind="stable")[:MOST]
        return Found(turned_back(found.boxes[best], turn, shape), found.scores[best], found.cut[best])

    def _seen(self, level: Level, tile: Tile, turn: int) -> Found:
        part = level.pixels[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
        border = (0, -tile.height % PADDING, 0, -tile.width % PADDING)
        padded = cv2.copyMakeBorder(part, *border, cv2.BORDER_CONSTANT, value=MEAN)
        boxes, scores, _ = self.net(np.asarray(padded, np.uint8), UPRIGHT_SCORE if turn == 0 else TURNED_SCORE)
        return located(level, tile, OVERLAP, within(boxes, tile.width, tile.height), scores)

    def scores(self, pixels: Pixels, turn: int, boxes: Boxes, tilt: float = 0.0) -> npt.NDArray[np.float64]:
        """CenterFace's score (N,) of each box (N, 4), looked at in this turn; 0 where it sees no face there.

        tilt: degrees by which each window is turned further against the clock.
        """
        found: list[float] = []
        for start in range(0, len(boxes), _ROW * _ROW):
            found += self._scores(pixels, turn, boxes[start : start + _ROW * _ROW], tilt)
        return np.array(found, np.float64)

    def _scores(self, pixels: Pixels, turn: int, boxes: Boxes, tilt: float) -> list[float]:
        """The windows are looked at side by side in one picture."""
        sheet = np.zeros((-(-len(boxes) // _ROW) * WINDOW, _ROW * WINDOW, 3), np.uint8)
        wanted = np.zeros((len(boxes), 4))
        for i, box in enumerate(boxes):
            top, left = i // _ROW * WINDOW, i % _ROW * WINDOW
            window, scale = _window(pixels, box, tilt)
            sheet[top : top + WINDOW, left : left + WINDOW] = turned(window, turn)
            size = (box[3], box[2]) if turn % 2 else (box[2], box[3])
            w, h = size[0] * scale, size[1] * scale
            wanted[i] = left + WINDOW / 2 - w / 2, top + WINDOW / 2 - h / 2, w, h
        seen, scores = centerface_boxes(self.centerface.maps, sheet, CONFIRMED / 2)
        return [float(scores[same_faces(box, seen)].max(initial=0.0)) for box in wanted]


def _not_across(turned_finds: Found, known: Found) -> Found:
    """The finds of a turn without those that are doubtful and lie across a face that is plainly upright: an ear and a
    collar pass for a face on its side."""
    plain = known.boxes[known.scores >= STRONG]
    across = [
        score < SURE and lies_across(box, plain)
        for box, score in zip(turned_finds.boxes, turned_finds.scores, strict=True)
    ]
    kept = ~np.array(across, np.bool_)
    return Found(turned_finds.boxes[kept], turned_finds.scores[kept], turned_finds.cut[kept])


def _better(here: Found, upright: Found, least: float) -> bool:
    """Whether a face is seen with at least this score here and, in its place, with less in the upright photo."""
    for box, score in zip(here.boxes, here.scores, strict=True):
        if score >= least and upright.scores[same_faces(box, upright.boxes)].max(initial=0.0) < score - 0.1:
            return True
    return False


def _window(pixels: Pixels, box: npt.NDArray[np.float64], tilt: float = 0.0) -> tuple[Pixels, float]:
    """What is around a box, (WINDOW, WINDOW, 3), the box's middle in its own, black beyond the photo; and its scale."""
    x, y, w, h = box.tolist()
    scale = FACE / max(1.0, (w * h) ** 0.5)
    side = WINDOW / scale * (2**0.5 if tilt else 1)
    left, top = x + w / 2 - side / 2, y + h / 2 - side / 2
    x0, y0 = int(np.floor(left)) - 1, int(np.floor(top)) - 1
    x1, y1 = int(np.ceil(left + side)) + 1, int(np.ceil(top + side)) + 1
    height, width = pixels.shape[:2]
    part = pixels[max(0, y0) : max(0, min(height, y1)), max(0, x0) : max(0, min(width, x1))]
    if part.size == 0:
        return np.zeros((WINDOW, WINDOW, 3), np.uint8), scale
    x0, y0 = max(0, x0), max(0, y0)
    if scale < 0.5:  # it is read bilinearly: what is much larger is reduced before
        factor = 2 * scale
        size = (max(1, round(part.shape[1] * factor)), max(1, round(part.shape[0] * factor)))
        fx, fy = size[0] / part.shape[1], size[1] / part.shape[0]
        part = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    else:
        fx = fy = 1.0
    # the box's middle, in pixels whose centres are integers, goes to the window's
    middle = ((x + w / 2 - x0) * fx - 0.5, (y + h / 2 - y0) * fy - 0.5)
    matrix = cv2.getRotationMatrix2D(middle, tilt, 1.0) * scale
    matrix[:, :2] /= [fx, fy]
    matrix[:, 2] = (WINDOW - 1) / 2 - matrix[:, :2] @ np.array(middle)
    return np.asarray(cv2.warpAffine(part, matrix, (WINDOW, WINDOW)), np.uint8), scale


def within(boxes: Boxes, width: float, height: float) -> Boxes:
    """Boxes (N, 4) clipped to a picture; one beyond it has no area."""
    low = np.clip(boxes[:, :2], 0, [width, height])
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, [width, height])
    return np.concatenate([low, high - low], 1)
