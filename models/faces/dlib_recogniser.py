"""dlib's face descriptor in torch: a second recogniser, made by others from other faces than the first.

A residual network of 29 layers (He et al., 2015, arXiv 1512.03385) by Davis King, who gave its weights to the public
domain (CC0). They come from a port to whole numbers of 8 bits. Differentiable.
"""

import functools

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mien.models.errors import WeightsError
from mien.models.weights import third_party_file

FILE = "dlib_recogniser.safetensors"
EMBEDDING = 128
SAME_PERSON = 0.6  # Euclidean distance, dlib's own threshold
CHIP = 150  # pixels
# Where dlib's chip lies in an FFHQ-aligned face, as a share of its side: length and centre, medians over 54 faces.
CHIP_SIDE, CHIP_X, CHIP_Y = 0.698, 0.5, 0.609
MEAN = (122.782, 117.001, 104.298)  # of the colours, which are then divided by 256
# Blocks in order as (channels, whether the side is halved).
DLIB_BLOCKS = (
    *[(32, False)] * 3,
    *[(64, True), (64, False), (64, False), (64, False)],
    *[(128, True), (128, False), (128, False)],
    *[(256, True), (256, False), (256, False), (256, True)],
)


class Block(nn.Module):
    """Two convolutions beside a straight way; where the side is halved, without padding before the first of them."""

    def __init__(self, inputs: int, outputs: int, halved: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 2, 0) if halved else nn.Conv2d(inputs, outputs, 3, 1, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.halved = halved

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.relu(self.conv1(x)))
        if self.halved:
            x = F.avg_pool2d(x, 2)
        # what one of the two ways lacks in size or channels is 0
        out, x = _grown(out, x), _grown(x, out)
        return F.relu(out + x)


def _grown(x: Tensor, other: Tensor) -> Tensor:
    missing = [max(0, b - a) for a, b in zip(x.shape[1:], other.shape[1:], strict=True)]
    return F.pad(x, (0, missing[2], 0, missing[1], 0, missing[0])) if any(missing) else x


class DlibRecogniser(nn.Module):
    """(B, 3, 150, 150) RGB in -1..1, as dlib cuts its chips, to (B, 128), of a length about 1.4."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 7, 2)
        inputs, blocks = 32, []
        for outputs, halved in DLIB_BLOCKS:
            blocks.append(Block(inputs, outputs, halved))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(inputs, EMBEDDING, bias=False)
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)

    def forward(self, chips: Tensor) -> Tensor:
        x = ((chips + 1) * 127.5 - self.mean) / 256
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2)
        out: Tensor = self.last(self.blocks(x).mean((2, 3)))
        return out

    def embedding(self, face: Tensor) -> Tensor:
        """Aligned faces (B, 3, S, S) in -1..1 to (B, 128): of one person's they are nearer than SAME_PERSON."""
        found: Tensor = self(dlib_chip(face))
        return found


def dlib_chip(face: Tensor) -> Tensor:
    """(B, 3, S, S) FFHQ-aligned to (B, 3, 150, 150), by area where S is larger; differentiable."""
    theta = torch.tensor(
        [[CHIP_SIDE, 0, 2 * CHIP_X - 1], [0, CHIP_SIDE, 2 * CHIP_Y - 1]], dtype=face.dtype, device=face.device
    )
    side = round(CHIP / CHIP_SIDE)
    small = F.interpolate(face, size=side, mode="area") if face.shape[-1] > 1.3 * side else face
    grid = F.affine_grid(theta[None].expand(len(face), -1, -1), [len(face), 3, CHIP, CHIP], align_corners=False)
    return F.grid_sample(small, grid, align_corners=False)


@functools.cache
@torch.inference_mode(False)  # what is made in that mode knows no gradients
def dlib_recogniser() -> DlibRecogniser:
    """The recogniser with its vendored weights, loaded once a process. WeightsError where they cannot be read."""
    path = third_party_file(FILE)
    try:
        tensors = load_file(path)
        # dlib normalises after each convolution: here its factor is a part of the weights
        state = {}
        for name in [name.removesuffix(".range") for name in tensors if name.endswith(".range")]:
            step, least = tensors[f"{name}.range"]
            weight = tensors[name].float() * step + least
            gain = tensors.get(f"{name}.gain")
            state[name] = weight if gain is None else weight * gain.view(-1, *[1] * (weight.dim() - 1))
        state.update({name: value for name, value in tensors.items() if name.endswith(".bias")})
        found = DlibRecogniser().eval().requires_grad_(False)
        found.load_state_dict(state)
    except (SafetensorError, RuntimeError, KeyError) as error:
        raise WeightsError(f"model file {path} does not hold dlib's recogniser: {error}") from error
    return found.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in its stubs
