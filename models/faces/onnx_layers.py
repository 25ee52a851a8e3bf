"""The convolutions of a vendored ONNX file as torch layers, for networks that are written out in torch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn


def convolutions(path: str) -> Iterator[nn.Module]:
    """The convolutions of the ONNX file in their order, float32, with any batch normalisation worked in."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    arrays = {one.name: torch.from_numpy(numpy_helper.to_array(one).astype(np.float32)) for one in graph.initializer}
    for node in graph.node:
        if node.op_type in ("Cast", "Identity") and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    nodes = [node for node in graph.node if node.op_type not in ("Cast", "Identity")]
    for node, following in zip(nodes, [*nodes[1:], None], strict=True):
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        said: dict[str, Any] = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        weight = arrays[node.input[1]]
        bias = arrays[node.input[2]] if len(node.input) > 2 else None
        settings = {"stride": said["strides"], "padding": said["pads"][:2], "groups": said["group"]}
        if node.op_type == "Conv":
            layer: nn.Module = nn.Conv2d(
                weight.shape[1] * said["group"], len(weight), said["kernel_shape"], bias=bias is not None, **settings
            )
        else:
            layer = nn.ConvTranspose2d(len(weight), weight.shape[1], said["kernel_shape"], **settings)
            assert following is not None
            gain, shift, mean, variance = (arrays[name] for name in following.input[1:5])
            (epsilon,) = (one.f for one in following.attribute if one.name == "epsilon")
            gain = gain / torch.sqrt(variance + epsilon)
            weight, bias = weight * gain[:, None, None], shift - mean * gain
        layer.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
        yield layer
