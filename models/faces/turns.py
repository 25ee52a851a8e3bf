"""A photo turned by quarters, and boxes between the photo and its turned copies."""

import numpy as np
import numpy.typing as npt

TURNS = (0, 1, 2, 3)  # quarters, against the clock


def turned(pixels: npt.NDArray[np.uint8], turn: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) turned by so many quarters against the clock."""
    return np.ascontiguousarray(np.rot90(pixels, turn))


def turned_boxes(boxes: npt.NDArray[np.float64], turn: int, shape: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Where boxes (N, 4) of a picture of the shape (height, width, ...) lie when it is turned by so many quarters."""
    height, width = shape[:2]
    for _ in range(turn % 4):
        x, y, w, h = boxes.T
        boxes = np.stack([y, width - x - w, h, w], -1)
        height, width = width, height
    return boxes


def turned_back(boxes: npt.NDArray[np.float64], turn: int, shape: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Boxes (N, 4) of a copy that was turned by so many quarters, in the picture of the shape (height, width, ...)."""
    height, width = (shape[1], shape[0]) if turn % 2 else shape[:2]
    return turned_boxes(boxes, -turn % 4, (height, width))
