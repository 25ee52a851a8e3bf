"""LPIPS with SqueezeNet 1.1 (Zhang et al., 2018, arXiv 1801.03924), for losses and figures; not among the weights.

The backbone is read from ncnn's fp16 file (squeezenet_v1.1.bin) or from torchvision's squeezenet1_1 (a .pth), the
linear heads from squeeze.pth of the PyPI package lpips 0.1.4. That package itself needs torchvision and downloads the
backbone; here both are files, and one picture's maps serve many comparisons.
"""

import importlib.util
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.models.errors import WeightsError

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
TORCHVISION = (3, 4, 6, 7, 9, 10, 11, 12)  # where the fires are in torchvision's Sequential
WIDTHS = (64, 128, 256, 384, 384, 512, 512)  # of the maps that are compared
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Distance of two batches (B, 3, H, W) in -1..1: (B,). WeightsError for files that do not hold the weights."""

    def __init__(self, backbone: str | pathlib.Path, heads: str | pathlib.Path) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 64, 3, 2)
        self.fires = nn.ModuleList(
            nn.ModuleList([nn.Conv2d(i, s, 1), nn.Conv2d(s, e, 1), nn.Conv2d(s, e, 3, padding=1)]) for i, s, e in FIRES
        )
        try:
            if pathlib.Path(backbone).suffix in (".pth", ".pt"):
                self._read_torchvision(backbone)
            else:
                self._read_ncnn(pathlib.Path(backbone).read_bytes())
        except Exception as error:  # pickle's errors are of every kind
            raise WeightsError(f"{backbone} does not hold SqueezeNet 1.1: {error}") from error
        try:
            state = torch.load(heads, map_location="cpu", weights_only=True)
            found = [state[f"lin{i}.model.1.weight"].reshape(1, width, 1, 1) for i, width in enumerate(WIDTHS)]
        except Exception as error:
            raise WeightsError(f"{heads} does not hold LPIPS's heads for SqueezeNet: {error}") from error
        self.heads = nn.ParameterList(found)
        self.register_buffer("shift", torch.tensor(SHIFT)[None, :, None, None])
        self.register_buffer("scale", torch.tensor(SCALE)[None, :, None, None])
        self.eval().requires_grad_(False)

    def _read_ncnn(self, blob: bytes) -> None:
        at = 0
        # ncnn's order of a fire module: squeeze, expand 1x1, expand 3x3
        for conv in [self.first, *(c for fire in self.fires for c in fire)]:
            count = conv.weight.numel()
            if blob[at : at + 4] != b"\x47\x6b\x30\x01":
                raise ValueError(f"not ncnn's fp16 format at byte {at}")
            weight = np.frombuffer(blob, np.float16, count, at + 4).astype(np.float32)
            at += 4 + (2 * count + 3) // 4 * 4
            bias = np.frombuffer(blob, np.float32, conv.bias.numel(), at)
            at += 4 * conv.bias.numel()
            conv.weight.data = torch.from_numpy(weight.reshape(conv.weight.shape))
            conv.bias.data = torch.from_numpy(bias.copy())

    def _read_torchvision(self, path: str | pathlib.Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        named: dict[str, nn.Module] = {"features.0": self.first}
        for place, fire in zip(TORCHVISION, self.fires, strict=True):
            for part, conv in zip(("squeeze", "expand1x1", "expand3x3"), fire.children(), strict=True):
                named[f"features.{place}.{part}"] = conv
        for name, conv in named.items():
            conv.load_state_dict({key: state[f"{name}.{key}"] for key in ("weight", "bias")})

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


def packaged_heads() -> pathlib.Path | None:
    """squeeze.pth of the PyPI package lpips, if that is installed; it is not imported."""
    spec = importlib.util.find_spec("lpips")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = pathlib.Path(folder) / "weights" / "v0.1" / "squeeze.pth"
        if path.is_file():
            return path
    return None
