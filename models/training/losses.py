"""What counts as a difference between two faces, in training and in refinement."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from mien.models.codec import face_weight
from mien.models.evaluation import Lpips
from mien.models.faces import Recogniser, arcface_crop

SIZE = 256


@dataclass
class Weights:
    """Of the parts of the loss."""

    lpips: float = 1.0
    pixels: float = 0.6
    identity: float = 0.3


class FaceLoss:
    """Loss of (B, 3, S, S) pictures in -1..1 against targets of 256 px."""

    def __init__(
        self, backbone: str, heads: str, recogniser: str | dict[str, Tensor], weights: Weights | None = None
    ) -> None:
        """recogniser: a safetensors file, or its tensors."""
        self.lpips = Lpips(backbone, heads)
        self.recogniser = Recogniser().eval().requires_grad_(False)
        state = load_file(recogniser) if isinstance(recogniser, str) else recogniser
        self.recogniser.load_state_dict({k: v.float() for k, v in state.items()})
        self.weights, self.place = weights or Weights(), face_weight(SIZE)

    def parts(self, ours: Tensor, target: Tensor) -> dict[str, Tensor]:
        """(B,) each: LPIPS, L1 over a pyramid of 256 to 32 px, 1 - cosine of the recogniser."""
        small = F.interpolate(ours, size=SIZE, mode="area") if ours.shape[-1] != SIZE else ours
        found = {"lpips": self.lpips.compare(self.lpips.features(small), self.lpips.features(target), self.place)}
        pixels, a, b, place = torch.zeros(len(ours), device=ours.device), small, target, self.place
        for _ in range(4):
            pixels = pixels + ((a - b).abs() * place).mean((1, 2, 3)) / 4
            a, b, place = (F.avg_pool2d(t, 2) for t in (a, b, place))
        found["pixels"] = pixels
        embed = [self.recogniser(arcface_crop(t)) for t in (small, target)]
        found["identity"] = 1 - (embed[0] * embed[1]).sum(1)
        return found

    def __call__(self, ours: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """((B,) weighted sum, its parts)."""
        found = self.parts(ours, target)
        return torch.stack([getattr(self.weights, name) * value for name, value in found.items()]).sum(0), found
