"""The example of tests/README.md: a detector of number plates, dark letters on a bright plate, by OpenCV alone."""

from collections.abc import Iterator

import cv2
import numpy as np


class Plates:
    kind = "plate"

    def detect(self, pixels: np.ndarray) -> Iterator[tuple[float, ...]]:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        letters = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, np.ones((25, 25), np.uint8)) > 120
        lines = cv2.morphologyEx(letters.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 31), np.uint8))
        for outline in cv2.findContours(lines, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
            x, y, width, height = cv2.boundingRect(outline)
            if 60 < width < 400 and 3 < width / height < 8:
                yield x - 0.05 * width, y - 0.4 * height, 1.1 * width, 1.8 * height, 0.9
