"""Pre-generates pairs of style and picture, so that a training on two cores need not run the teacher again.

    python -m mien.models.training.samples teacher.safetensors FOLDER --count 5000

Writes FOLDER/w.npy, (count, 512) float32, and FOLDER/faces.npy, (count, 256, 256, 3) uint8, and goes on where it
stopped.
"""

import argparse
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from mien.models.training.data import to_uint8
from mien.models.training.generator_import import Teacher

SIZE = 256


def sample_w(teacher: Teacher, count: int, seed: int = 0) -> Tensor:
    """(count, 512) styles, truncation between 0.5 and 1.0 (TRAINING.md)."""
    random = torch.Generator().manual_seed(seed)
    mean = teacher.map(torch.randn(8192, 512, generator=random)).mean(0)
    truncation = torch.rand(count, 1, generator=random) * 0.5 + 0.5
    return mean + truncation * (teacher.map(torch.randn(count, 512, generator=random)) - mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(options.teacher)
    w = sample_w(teacher, options.count)
    np.save(options.folder / "w.npy", w.numpy())
    path, done = options.folder / "faces.npy", options.folder / "done"
    begin = int(done.read_text()) if done.exists() else 0
    shape = (options.count, SIZE, SIZE, 3)
    faces = np.lib.format.open_memmap(path, "r+" if begin else "w+", np.uint8, None if begin else shape)
    for i in tqdm(range(begin, options.count, options.batch), mininterval=30):
        with torch.inference_mode():
            rgb = teacher.generator(w[i : i + options.batch])
        faces[i : i + options.batch] = to_uint8(F.interpolate(rgb, size=SIZE, mode="area"))
        done.write_text(str(min(i + options.batch, options.count)))


if __name__ == "__main__":
    main()
