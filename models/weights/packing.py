"""Weights in safetensors files: fp16, or int8 with one scale a row, as small as they can be without harm."""

from collections.abc import Callable

import torch
from safetensors.torch import load
from torch import Tensor

_SCALE = ".scale"


def read_weights(data: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file; those of int8 with a scale beside them as float32.

    What safetensors raises where it is none.
    """
    tensors = load(data)
    for name in [name for name in tensors if name + _SCALE in tensors]:
        scale = tensors.pop(name + _SCALE)
        tensors[name] = tensors[name].float() * scale.view(-1, *[1] * (tensors[name].dim() - 1))
    return tensors


def pack_weights(tensors: dict[str, Tensor], small: Callable[[str, Tensor], bool]) -> dict[str, Tensor]:
    """What read_weights() gives back: int8 with the largest value of each row as 127 where small() says so, else fp16.

    Integers stay as they are.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if not value.is_floating_point():
            found[name] = value.contiguous()
        elif small(name, value):
            scale = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
            found[name] = (value / scale.view(-1, *[1] * (value.dim() - 1))).round().to(torch.int8).contiguous()
            found[name + _SCALE] = scale.float()
        else:
            found[name] = value.half().contiguous()
    return found
