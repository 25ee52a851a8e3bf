"""Makes the generator's starting weights from the PyPI wheel random-face 2021.7.21.1 (Apache-2.0, OpenVINO IR v10).

    pip download --no-deps random-face==2021.7.21.1 && unzip random_face-*.whl
    python -m mien.models.training.generator_import random_face/random_face/data teacher.safetensors

Writes the synthesis network in mien's layout (channels before a Haar step band by band, the transform's 1/2 folded into
the styles) and the mapping network, fp32. The heads for 128 and 256 px are not in the IR: training.heads fits them.
"""

import argparse
import pathlib
import xml.etree.ElementTree as ElementTree

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from mien.models.codec import CHANNELS, LEVELS, Generator

DTYPES = {"f32": np.float32, "f16": np.float16, "i64": np.int64, "i32": np.int32}


class Graph:
    """The constants and the wiring of one OpenVINO IR file."""

    def __init__(self, stem: pathlib.Path) -> None:
        root = ElementTree.parse(stem.with_suffix(".xml")).getroot()
        blob = stem.with_suffix(".bin").read_bytes()
        inputs: dict[str, dict[int, str]] = {}
        for edge in root.iter("edge"):
            inputs.setdefault(edge.attrib["to-layer"], {})[int(edge.attrib["to-port"])] = edge.attrib["from-layer"]
        self.constants: dict[str, Tensor] = {}
        self.nodes: dict[str, tuple[str, str, list[str]]] = {}
        self.users: dict[str, list[str]] = {}
        for layer in root.iter("layer"):
            key = layer.attrib["id"]
            if layer.attrib["type"] == "Const":
                data = layer.find("data")
                assert data is not None
                shape = [int(n) for n in data.attrib["shape"].split(",") if n.strip()]
                dtype, offset = DTYPES[data.attrib["element_type"]], int(data.attrib["offset"])
                values = np.frombuffer(blob, dtype, int(np.prod(shape)), offset)
                self.constants[key] = torch.from_numpy(values.reshape(shape).copy())
                continue
            sources = [inputs[key][port] for port in sorted(inputs.get(key, {}))]
            self.nodes[key] = (layer.attrib["type"], layer.attrib["name"], sources)
            for source in sources:
                self.users.setdefault(source, []).append(key)

    def constant(self, key: str) -> Tensor | None:
        """The one constant among a node's inputs."""
        return next((self.constants[s] for s in self.nodes[key][2] if s in self.constants), None)

    def needed(self, key: str) -> Tensor:
        found = self.constant(key)
        if found is None:
            raise ValueError(f"node {key} has no constant input")
        return found

    def user(self, key: str, kind: str | None = None) -> str:
        return next(u for u in self.users[key] if kind in (None, self.nodes[u][0]))

    def of_kind(self, *kinds: str) -> list[str]:
        return sorted((k for k, node in self.nodes.items() if node[0] in kinds), key=int)


def band_major(channels: int) -> Tensor:
    """The IR keeps LL first, then LH, HL, HH of each channel in turn."""
    rest = torch.arange(channels // 4, channels).view(-1, 3).T.reshape(-1)
    return torch.cat([torch.arange(channels // 4), rest])


def read_synthesis(graph: Graph) -> dict[str, Tensor]:
    """The IR's synthesis network as a state dict of Generator, less the heads that it does not have."""
    styles = {}
    for key in graph.of_kind("MatMul"):
        add = graph.user(key)
        scale = graph.constant(graph.user(graph.user(add, "Reshape")))
        factor = float(scale) if scale is not None and scale.numel() == 1 else 1.0
        number = int(graph.nodes[key][1].split("_")[1].split("/")[0])
        styles[number] = (graph.needed(key) * factor, graph.needed(add).reshape(-1) * factor)
    style = [styles[number] for number in sorted(styles)]

    state: dict[str, Tensor] = {}

    def put_style(name: str, index: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = style[index]

    names = ["first", *(f"levels.{i}.{j}" for i in range(LEVELS) for j in range(2))]
    style_of = [0, *(2 + 3 * i + j for i in range(LEVELS) for j in range(2))]
    depthwise, convs = None, iter(zip(names, style_of, strict=True))
    for key in graph.of_kind("Convolution", "GroupConvolution"):
        weight = graph.needed(key)
        if graph.nodes[key][0] == "GroupConvolution":
            depthwise = weight
            continue
        after = graph.user(key)
        if weight.shape[0] == 12:  # half the LL band is the box-downsampled 512 px picture
            state["heads.512.weight"], state["heads.512.bias"] = (
                weight[:3] * 0.5,
                graph.needed(after).reshape(-1)[:3] * 0.5,
            )
            break
        name, index = next(convs)
        put_style(f"{name}.style", index)
        if depthwise is not None:
            state[f"{name}.depthwise"] = depthwise.reshape(-1, 1, 3, 3)
        state[f"{name}.pointwise"] = weight
        state[f"{name}.noise"] = graph.needed(after)
        state[f"{name}.bias"] = graph.needed(graph.user(after)).reshape(-1)
        depthwise = None
    state["start"] = graph.needed(next(key for key, node in graph.nodes.items() if node[1] == "Expand_9"))
    put_style("heads.512.style", 22)
    for i in range(LEVELS):
        put_style(f"up.{i}", 1 + 3 * i)
        order, before = band_major(CHANNELS[i]), "first" if i == 0 else f"levels.{i - 1}.1"
        for part in ("pointwise", "bias"):
            state[f"{before}.{part}"] = state[f"{before}.{part}"][order]
        for part in ("weight", "bias"):
            state[f"up.{i}.{part}"] = state[f"up.{i}.{part}"][order] * 0.5
    return state


def read_mapping(graph: Graph) -> dict[str, Tensor]:
    """The eight layers from z to w, numbered."""
    state = {}
    for i, key in enumerate(graph.of_kind("MatMul")):
        reshape = next(s for s in graph.nodes[graph.user(key, "Add")][2] if s != key)
        state[f"mapping.{i}.weight"], state[f"mapping.{i}.bias"] = graph.needed(key), graph.needed(reshape).reshape(-1)
    return state


class Teacher:
    """The generator as downloaded, with its mapping network, from the file that main() writes."""

    def __init__(self, path: str | pathlib.Path) -> None:
        state = load_file(path)
        self.generator = Generator().eval().requires_grad_(False)
        self.mapping = [(state.pop(f"mapping.{i}.weight"), state.pop(f"mapping.{i}.bias")) for i in range(8)]
        missing, unexpected = self.generator.load_state_dict(state, strict=False)
        if unexpected or not all(name.startswith(("heads.128", "heads.256")) for name in missing):
            raise ValueError(f"{path} is not a teacher: missing {missing}, unexpected {unexpected}")

    def map(self, z: Tensor) -> Tensor:
        """z ~ N(0, 1), (B, 512), to w (B, 512)."""
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for weight, bias in self.mapping:
            w = F.leaky_relu(F.linear(w, weight.to(w), bias.to(w)), 0.2) * 2**0.5
        return w


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path, help="folder with SynthesisNetwork.xml and MappingNetwork.xml")
    parser.add_argument("target", type=pathlib.Path)
    options = parser.parse_args()
    state = read_synthesis(Graph(options.source / "SynthesisNetwork")) | read_mapping(
        Graph(options.source / "MappingNetwork")
    )
    save_file({name: value.float().contiguous() for name, value in state.items()}, options.target)


if __name__ == "__main__":
    main()
