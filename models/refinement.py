"""Efforts above "fast": gradient steps on the latents of one face, through the quantiser and the generator.

The distance is made of what the package carries: pixels over a pyramid, features of the encoder's own trunk (used as
LPIPS uses a classifier's; Zhang et al., 2018), and the recogniser's cosine.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.encoder import Encoder
from mien.models.recogniser import arcface_crop

SIZE = 256  # px of the generator's way and of the distance
STEPS = {"good": 6, "best": 60}
RATE = 0.08  # Adam's, in units of each latent's deviation; falls to nothing along a half cosine
TRUNK_LAYERS = (3, 5, 8, 12, 15)  # outputs of the trunk at 128, 64, 32, 16 and 16 px
FEATURES, PIXELS, IDENTITY, PRIOR = 1.0, 0.6, 0.15, 0.003


def features(encoder: Encoder, face: Tensor) -> list[Tensor]:
    """Maps of the trunk for (B, 3, 256, 256) in -1..1, each place's channels of length 1."""
    x, found = ((face + 1) / 2 - encoder.mean) / encoder.std, []
    for i, layer in enumerate(list(encoder.trunk)[: TRUNK_LAYERS[-1] + 1]):
        x = layer(x)
        if i in TRUNK_LAYERS:
            found.append(x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-8))
    return found


def face_weight(size: int) -> Tensor:
    """(1, 1, size, size), mean 1: the face counts, what is around it counts a third."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    distance = torch.sqrt(((x - 0.5) / 0.34) ** 2 + ((y - 0.54) / 0.42) ** 2)
    weight = 0.35 + 0.65 * torch.sigmoid((1.1 - distance) * 12)
    return (weight / weight.mean())[None, None]


def distance(encoder: Encoder, target: Tensor, identity: bool) -> Callable[[Tensor], Tensor]:
    """The distance of a drawn face from target, both (1, 3, 256, 256) in -1..1, as a function of the drawn face."""
    place, wanted = face_weight(SIZE), features(encoder, target)
    person = encoder.recogniser(arcface_crop(target))

    def measure(drawn: Tensor) -> Tensor:
        total = torch.zeros(())
        for a, b in zip(features(encoder, drawn), wanted, strict=True):
            part = F.interpolate(place, size=a.shape[-2:], mode="area")
            total = total + FEATURES / len(wanted) * ((a - b).square().sum(1, keepdim=True) * part).mean()
        a, b, part = drawn, target, place
        for _ in range(4):
            total = total + PIXELS / 4 * ((a - b).abs() * part).mean()
            a, b, part = (F.avg_pool2d(t, 2) for t in (a, b, part))
        if identity:
            total = total + IDENTITY * (1 - (encoder.recogniser(arcface_crop(drawn)) * person).sum())
        return total

    return measure


@torch.inference_mode(False)
@torch.enable_grad()
def refine(
    draw: Callable[[Tensor, int], Tensor],
    quantise: Callable[[Tensor], Tensor],
    encoder: Encoder,
    unit: Tensor,
    face: Tensor,
    latents: Tensor,
    effort: Literal["good", "best"],
    identity: bool,
) -> Tensor:
    """Better latents (K,) for face (3, 256, 256) in -1..1, starting from `latents`.

    draw: (B, K) latents and a size to (B, 3, size, size). quantise: (K,) latents to the nearest that the ceiling
    allows. unit: (K,) the latents' deviations. The second half of the steps goes through the quantiser, straight
    through; of those the best is returned, or the start where nothing was better.
    """
    face, start, unit = face.clone()[None], latents.clone(), unit.clone()
    measure = distance(encoder, face, identity)
    moved = torch.zeros_like(start).requires_grad_(True)  # in units of deviation
    optimiser = torch.optim.Adam([moved], RATE, betas=(0.9, 0.95))
    steps = STEPS[effort]
    best, lowest = start, float("inf")
    for step in range(steps + 1):
        current = start + moved * unit
        through = step >= steps // 2 or step == 0
        if through:
            current = current + (quantise(current.detach()) - current).detach()
        found = measure(draw(current[None], SIZE))
        if through and float(found.detach()) < lowest:
            best, lowest = (start + moved * unit).detach().clone(), float(found.detach())
        if step == steps:
            break
        prior = PRIOR * ((start + moved * unit) / unit).square().mean()
        optimiser.param_groups[0]["lr"] = RATE * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / steps)).item())
        optimiser.zero_grad()
        (found + prior).backward()
        optimiser.step()
    return best
