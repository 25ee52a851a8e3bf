"""The network that guesses a face's latents from a few pixels.

The codec's encoder was trained on faces of 32 px and more. What it makes of a face of 8 to 64 px, enlarged, is an input
here, beside the recogniser's embedding, the pixels themselves and how many there are; the output is the base layer's
latents. How far off such guesses were on faces held back from training, and in which directions together, is kept for a
few sizes: from that other plausible faces are drawn.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from mien.models.faces import EMBEDDING

Pixels = NDArray[np.uint8]

ENCODER_SIZE = 256  # px at which the encoder sees an enlarged face
CELLS = 16  # px of the pixels that are an input
SMALLEST, LARGEST = 8, 64  # px of the faces it was trained for
SIZES = (8, 16, 32)  # px for which errors are kept
HIDDEN_WIDTH = 288
_WAVES = 4  # sines of the size


class Guess(nn.Module):
    """(B, K) of the encoder in units of deviation, (B, 192), (B, 3, 16, 16) in -1..1 and (B,) sizes to (B, K)."""

    def __init__(self, latents: int) -> None:
        super().__init__()
        inputs = latents + EMBEDDING + 3 * CELLS**2
        self.norm = nn.LayerNorm(inputs)
        self.first = nn.Linear(inputs + 2 * _WAVES, HIDDEN_WIDTH)
        self.second = nn.Linear(HIDDEN_WIDTH, HIDDEN_WIDTH)
        self.output = nn.Linear(HIDDEN_WIDTH, latents)
        self.kept = nn.Linear(2 * _WAVES, latents)  # how far the encoder is to be believed, by size
        self.dropout = nn.Dropout(0.5)  # with less, the training faces are learned by heart
        with torch.no_grad():  # training begins near what the encoder says
            self.kept.bias.fill_(2.0)
            self.output.weight.mul_(0.1)

    def forward(self, latents: Tensor, embedding: Tensor, cells: Tensor, size: Tensor) -> Tensor:
        seen = self.norm(torch.cat([latents, embedding * EMBEDDING**0.5, 2 * cells.flatten(1)], 1))
        waves = _waves(size)
        x = F.gelu(self.first(torch.cat([seen, waves], 1)))
        x = x + F.gelu(self.second(self.dropout(x)))
        out: Tensor = self.output(self.dropout(x)) + torch.sigmoid(self.kept(waves)) * latents
        return out


def _waves(size: Tensor) -> Tensor:
    """(B,) px to (B, 2 * _WAVES), cosines and sines of its logarithm."""
    place = torch.log2(size / SMALLEST) / np.log2(LARGEST / SMALLEST) * torch.pi / 2
    turns = place[:, None] * torch.arange(1, _WAVES + 1)
    return torch.cat([turns.cos(), turns.sin()], 1)


def cells(small: Pixels) -> Tensor:
    """A small face (S, S, 3) uint8 to (3, 16, 16) in -1..1, by area where it is larger."""
    how = cv2.INTER_AREA if len(small) > CELLS else cv2.INTER_CUBIC
    found = cv2.resize(small.astype(np.float32), (CELLS, CELLS), interpolation=how)
    return torch.from_numpy(found / 127.5 - 1).permute(2, 0, 1).contiguous()


def enlarged(small: Pixels, size: int = ENCODER_SIZE) -> Pixels:
    """A small face (S, S, 3) uint8 to (size, size, 3), by cubics; by area where it is larger than that."""
    how = cv2.INTER_CUBIC if len(small) < size else cv2.INTER_AREA
    return np.asarray(cv2.resize(small, (size, size), interpolation=how), np.uint8)
