"""LPIPS with SqueezeNet 1.1 (Zhang et al., 2018, arXiv 1801.03924), for losses and figures; not among the weights.

The backbone is read from ncnn's fp16 file (shared/assets), the linear heads from the PyPI package lpips 0.1.4.
"""

import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

FIRES = (
    (64, 16, 64),
    (128, 16, 64),
    (128, 32, 128),
    (256, 32, 128),
    (256, 48, 192),
    (384, 48, 192),
    (384, 64, 256),
    (512, 64, 256),
)
POOL_BEFORE = (0, 2, 4)  # fires with a max pooling before them
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Distance of two batches (B, 3, H, W) in -1..1: (B,)."""

    def __init__(self, backbone: str | pathlib.Path, heads: str | pathlib.Path) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, 2)
        self.fires = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(i, s, 1), nn.Conv2d(s, e, 1), nn.Conv2d(s, e, 3, padding=1)]) for i, s, e in FIRES
        )
        blob, at = pathlib.Path(backbone).read_bytes(), 0
        # ncnn's order of a fire module: squeeze, expand 1x1, expand 3x3
        for conv in [self.first, *(c for fire in self.fires for c in fire)]:
            count = conv.weight.numel()
            if blob[at : at + 4] != b"\x47\x6b\x30\x01":
                raise ValueError(f"{backbone} is not ncnn's fp16 format at byte {at}")
            weight = np.frombuffer(blob, np.float16, count, at + 4).astype(np.float32)
            at += 4 + (2 * count + 3) // 4 * 4
            bias = np.frombuffer(blob, np.float32, conv.bias.numel(), at)
            at += 4 * conv.bias.numel()
            conv.weight.data = torch.from_numpy(weight.reshape(conv.weight.shape))
            conv.bias.data = torch.from_numpy(bias.copy())
        state = torch.load(heads, map_location="cpu", weights_only=True)
        self.heads = nn.ParameterList(state[f"lin{i}.model.1.weight"] for i in range(7))
        self.register_buffer("shift", torch.tensor(SHIFT)[None, :, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[None, :, None, None])
        self.eval().requires_grad_(False)

    def features(self, x: Tensor) -> list[Tensor]:
        """The seven maps of LPIPS, each pixel's channels of length 1."""
        x = F.relu(self.first((x - self.shift) / self.scale))
        found = [x]
        for i, (squeeze, one, three) in enumerate(self.fires):
            if i in POOL_BEFORE:
                x = F.max_pool2d(x, 3, 2, ceil_mode=True)
            x = F.relu(squeeze(x))
            x = torch.cat([F.relu(one(x)), F.relu(three(x))], 1)
            if i in (1, 3, 4, 5, 6, 7):
                found.append(x)
        return [f / (f.square().sum(1, keepdim=True).sqrt() + 1e-10) for f in found]

    def compare(self, a: list[Tensor], b: list[Tensor], weight: Tensor | None = None) -> Tensor:
        """Distance of two lists of features; weight (1, 1, S, S) counts some places more."""
        total = torch.zeros(len(a[0]), device=a[0].device)
        for x, y, head in zip(a, b, self.heads, strict=True):
            distance = F.conv2d((x - y).square(), head)
            if weight is not None:
                part = F.interpolate(weight, size=distance.shape[-2:], mode="area")
                distance = distance * part / part.mean()
            total = total + distance.mean((1, 2, 3))
        return total

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.compare(self.features(a), self.features(b))
