"""The face recogniser: MobileFaceNet (Chen et al., 2018, arXiv 1804.07573) with ArcFace training, 192-d embeddings.

Its embedding is a side input of the codec's encoder and a part of the identity objective.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBEDDING = 192
# Where ArcFace's 112 px crop lies in an FFHQ-aligned face, as a share of its side: length and centre, on average.
CROP_SIDE, CROP_X, CROP_Y = 0.768, 0.5015, 0.499
# Blocks as (expansion, output, stride, repeats).
BLOCKS = ((128, 64, 2, 1), (128, 64, 1, 4), (256, 128, 2, 1), (256, 128, 1, 6), (512, 128, 2, 1), (256, 128, 1, 2))


class Conv(nn.Module):
    """Convolution with TensorFlow's SAME padding (uneven where the stride is 2), PReLU if `act`."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
        self.prelu = nn.PReLU(outputs) if act else nn.Identity()
        self.pad = (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1) if kernel == 3 else None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.prelu(self.conv(F.pad(x, self.pad) if self.pad else x))
        return out


class Block(nn.Module):
    """Inverted residual: expand, depthwise, project."""

    def __init__(self, inputs: int, hidden: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Conv(inputs, hidden), Conv(hidden, hidden, 3, stride, groups=hidden), Conv(hidden, outputs, act=False)
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out + x if self.residual else out


class Recogniser(nn.Module):
    """(B, 3, 112, 112) RGB in -1..1, ArcFace-aligned, to (B, 192) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Conv(3, 64, 3, 2), Conv(64, 64, 3, groups=64), Conv(64, 64, act=False))
        inputs, blocks = 64, []
        for hidden, outputs, stride, repeats in BLOCKS:
            for _ in range(repeats):
                blocks.append(Block(inputs, hidden, outputs, stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(
            Conv(128, 512),
            Conv(512, 512, 7, groups=512, act=False),
            Conv(512, 512, act=False),
            Conv(512, EMBEDDING, act=False),
        )

    def features(self, faces: Tensor) -> Tensor:
        """The (B, 128, 7, 7) map before the embedding."""
        out: Tensor = self.blocks(self.stem(faces))
        return out

    def forward(self, faces: Tensor) -> Tensor:
        return F.normalize(self.last(self.features(faces)).flatten(1))


def arcface_crop(face: Tensor) -> Tensor:
    """(B, 3, S, S) FFHQ-aligned to (B, 3, 112, 112), by area where S is larger; differentiable."""
    theta = torch.tensor(
        [[CROP_SIDE, 0, 2 * CROP_X - 1], [0, CROP_SIDE, 2 * CROP_Y - 1]], dtype=face.dtype, device=face.device
    )
    small = F.interpolate(face, size=round(112 / CROP_SIDE), mode="area") if face.shape[-1] > 200 else face
    grid = F.affine_grid(theta[None].expand(len(face), -1, -1), [len(face), 3, 112, 112], align_corners=False)
    return F.grid_sample(small, grid, align_corners=False)
