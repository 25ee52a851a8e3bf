"""The encoder network: an aligned face in, latents of the base layer out, one pass.

A MobileNetV2 trunk (Sandler et al., 2018, arXiv 1801.04381; batch norms folded into the convolutions) sees the face at
256 px, the recogniser its own crop. Where things are in the picture matters, so the trunk's 8 x 8 map is flattened, not
only pooled.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.models.faces import EMBEDDING, Recogniser, arcface_crop

INPUT = 256
# (expansion, channels, repeats, stride) of MobileNetV2, table 2
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SQUEEZED, HIDDEN_WIDTH = 32, 512


class InvertedResidual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [nn.Conv2d(inputs, hidden, 1), nn.ReLU6()]
        layers += [nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden), nn.ReLU6(), nn.Conv2d(hidden, outputs, 1)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.residual else out


def trunk() -> nn.Sequential:
    """MobileNetV2 up to its 320 channels: (B, 3, 256, 256), ImageNet-normalised, to (B, 320, 8, 8)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU6()]
    inputs = 32
    for expansion, outputs, repeats, stride in STAGES:
        for i in range(repeats):
            layers.append(InvertedResidual(inputs, outputs, stride if i == 0 else 1, expansion))
            inputs = outputs
    return nn.Sequential(*layers)


class Encoder(nn.Module):
    """(B, 3, 256, 256) RGB in -1..1 to (B, latents), in units of each latent's deviation."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        self.trunk, self.recogniser = trunk(), Recogniser()
        self.squeeze = nn.Conv2d(320, SQUEEZED, 1)
        self.identity = nn.Conv2d(128, SQUEEZED, 1)
        self.inputs = nn.LayerNorm(SQUEEZED * (64 + 49) + 320 + EMBEDDING)
        self.hidden = nn.Linear(SQUEEZED * (64 + 49) + 320 + EMBEDDING, HIDDEN_WIDTH)
        self.output = nn.Linear(HIDDEN_WIDTH, latents)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[None, :, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[None, :, None, None], persistent=False)

    def maps(self, face: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 320, 8, 8) of the trunk, (B, 128, 7, 7) of the recogniser and its embedding (B, 192)."""
        known = self.recogniser.features(arcface_crop(face))
        embedding = F.normalize(self.recogniser.last(known).flatten(1))
        return self.trunk(((face + 1) / 2 - self.mean) / self.std), known, embedding

    def latents(self, seen: Tensor, known: Tensor, embedding: Tensor) -> Tensor:
        """What maps() found to (B, latents)."""
        parts = [
            self.squeeze(seen).flatten(1),
            self.identity(known).flatten(1),
            seen.mean((2, 3)),
            embedding * EMBEDDING**0.5,
        ]
        out: Tensor = self.output(F.gelu(self.hidden(self.inputs(torch.cat(parts, 1)))))
        return out

    def forward(self, face: Tensor) -> Tensor:
        return self.latents(*self.maps(face))
