"""Gradient steps that make what the generator draws shrink to a small face, before any pixel is corrected.

The fewer pixels a result lacks of its input, the less is laid over it, and outlines of hair and glasses are drawn once.
What a face looks like at 32 px is read, linearly, from the generator's features at that level: a tenth of the work of a
picture of 128 px. The reading is rough; how far it is off where the steps begin is taken as constant.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.models.codec import STYLES, Descent, FaceCodec, face_weight
from mien.models.magnify.consistency import shrink

VIEW = 32  # px of the features
FIT_STEPS = 6
RATE, LAST = 0.3, 0.2  # Adam's first rate in deviations of the guess's errors; the share to which it falls
# Of the squared distance from the guess, in those deviations, against the squared error of the pixels in -10..10.
PRIOR = 0.3
PIXELS = 100.0


class Fitting:
    """Fits latents of the codec's base layer. weight (3, C), bias (3,): the features at VIEW px to RGB in -1..1."""

    def __init__(self, codec: FaceCodec, weight: Tensor, bias: Tensor) -> None:
        self._codec, self._weight, self._bias = codec, weight, bias

    @torch.inference_mode(False)
    @torch.enable_grad()
    def fit(self, small: NDArray[np.uint8], guess: Tensor, shown: NDArray[np.float32], spread: Tensor) -> Tensor:
        """Latents (K,) near the guess (K,), whose face shrinks to the small one, (s, s, 3) uint8, but for its colour.

        shown: (S, S, 3), 0 to 255, what the guess shows. spread: (K,) the deviations of the guess's errors: how far
        each latent may go.
        """
        size = min(len(small), VIEW)
        guess, spread = guess.clone(), spread.clone()  # what was made in inference mode knows no gradients
        place = F.interpolate(face_weight(2 * VIEW), size=size, mode="area")
        with torch.no_grad():
            missing = _tensor(shrink(small, size) - shrink(shown, size)) + self._view(guess, size)
        moved = torch.zeros_like(guess).requires_grad_(True)
        descent = Descent([moved], [False])
        for step in range(FIT_STEPS):
            error = missing - self._view(guess + moved * spread, size)
            error = error - error.mean((2, 3), keepdim=True)  # colours are put right afterwards
            loss = PIXELS * (error.square() * place).mean() + PRIOR * moved.square().mean()
            descent.step(torch.autograd.grad(loss, [moved]), RATE * (1 - (1 - LAST) * step / FIT_STEPS))
        return guess + moved.detach() * spread

    def _view(self, latents: Tensor, size: int) -> Tensor:
        """Latents (K,) to what their face looks like at size px, (1, 3, size, size)."""
        decoder = self._codec.decoder
        w = (decoder.mean + latents @ decoder.synthesis).expand(1, STYLES, -1)
        features = decoder.generator.features(w, VIEW)
        rgb = torch.einsum("bchw,kc->bkhw", features, self._weight) + self._bias[None, :, None, None]
        return F.interpolate(rgb, size=size, mode="area")


def _tensor(difference: NDArray[np.float32]) -> Tensor:
    """(s, s, 3) grey levels to (1, 3, s, s), of -1..1."""
    return torch.from_numpy(difference / 127.5).permute(2, 0, 1)[None]
