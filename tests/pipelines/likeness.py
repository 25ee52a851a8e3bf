"""Whether the pixels of a place are still those of the original."""

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Box = tuple[float, float, float, float]


def likeness(a: Pixels, b: Pixels, place: npt.NDArray[np.bool_]) -> float:
    """Correlation of the details of two (H, W, 3) uint8 pictures where place (H, W) is true: 1 the same, 0 unrelated.

    Details are what a blur of 3 pixels takes away: a fill has the light of the face, but not its features.
    """
    grey = [cv2.cvtColor(part, cv2.COLOR_RGB2GRAY).astype(np.float32) for part in (a, b)]
    ours, theirs = ((part - cv2.GaussianBlur(part, (0, 0), 3))[place] for part in grey)
    norm = np.linalg.norm(ours) * np.linalg.norm(theirs)
    return float(ours @ theirs / norm) if norm else 0.0


def places(
    boxes: list[Box], shape: tuple[int, ...], scale: float = 1.0
) -> tuple[list[npt.NDArray[np.bool_]], npt.NDArray[np.bool_]]:
    """Where each box lies in a picture of this shape (H, W, ...), and what is far from all of them.

    boxes: x, y, width, height, in pixels that are `scale` pixels of the picture.
    """
    inside = []
    far = np.ones(shape[:2], np.bool_)
    for box in boxes:
        x, y, width, height = (side * scale for side in box)
        inside.append(np.zeros(shape[:2], np.bool_))
        inside[-1][max(0, round(y)) : round(y + height), max(0, round(x)) : round(x + width)] = True
        far[max(0, round(y - height)) : round(y + 2 * height), max(0, round(x - width)) : round(x + 2 * width)] = False
    return inside, far
