"""Faces to train on: pre-generated samples with known w, and real aligned faces; augmentations that keep the label."""

import io
import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIZE = 256


class Samples:
    """What training.samples wrote: w (N, 512) float32 and faces (N, 256, 256, 3) uint8, memory-mapped."""

    def __init__(self, folder: str | pathlib.Path) -> None:
        folder = pathlib.Path(folder)
        count = int((folder / "done").read_text())
        self.w = torch.from_numpy(np.load(folder / "w.npy")[:count])
        self.faces = np.load(folder / "faces.npy", mmap_mode="r")[:count]


def read_faces(folders: Sequence[str | pathlib.Path], size: int = SIZE) -> np.ndarray:
    """All pictures of the folders, in the order of their names, (N, size, size, 3) uint8."""
    paths = [path for folder in folders for path in sorted(pathlib.Path(folder).glob("*.jpg"))]
    if not paths:
        raise FileNotFoundError(f"no .jpg in {', '.join(map(str, folders))}")
    return np.stack([read_face(path, size) for path in paths])


def read_face(path: pathlib.Path, size: int = SIZE) -> np.ndarray:
    """A picture as (size, size, 3) uint8."""
    with Image.open(path) as picture:
        box = Image.Resampling.BOX if picture.width > size else Image.Resampling.BICUBIC
        return np.array(picture.convert("RGB").resize((size, size), box))


def to_tensor(faces: np.ndarray) -> Tensor:
    """(N, S, S, 3) uint8 to (N, 3, S, S) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(faces)).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(rgb: Tensor) -> np.ndarray:
    """(B, 3, H, W) in -1..1 to (B, H, W, 3) uint8."""
    return (rgb.clamp(-1, 1) * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def worsen(face: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A face (S, S, 3) uint8 as a small, noisy or compressed photo shows it: the encoder's input, not its target."""
    size = face.shape[0]
    if random.random() < 0.4:
        small = int(2 ** random.uniform(5, 8))
        picture = Image.fromarray(face).resize((small, small), Image.Resampling.BOX)
        face = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
    if random.random() < 0.3:
        noisy = face + random.normal(0, random.uniform(1, 8), face.shape)
        face = noisy.clip(0, 255).astype(np.uint8)
    if random.random() < 0.4:
        file = io.BytesIO()
        Image.fromarray(face).save(file, "JPEG", quality=int(random.uniform(25, 90)))
        face = np.asarray(Image.open(file).convert("RGB"))
    return face


def vary(face: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Another picture of a real face, as input and target: mirrored, colours and light changed, a little moved."""
    if random.random() < 0.5:
        face = face[:, ::-1]
    if random.random() < 0.7:
        gain = random.uniform(0.85, 1.15) * random.uniform(0.94, 1.06, 3)
        light = 255 * (face / 255.0) ** random.uniform(0.8, 1.25)
        face = (light * gain).clip(0, 255).astype(np.uint8)
    if random.random() < 0.7:
        size, angle, scale = face.shape[0], np.deg2rad(random.normal(0, 2)), np.exp(random.normal(0, 0.025))
        cos, sin, middle = scale * np.cos(angle), scale * np.sin(angle), (size - 1) / 2
        shift = random.normal(0, 0.008 * size, 2) + middle - middle * np.array([cos - sin, sin + cos])
        # beyond its border the picture goes on mirrored, as in the aligned faces
        wide = Image.fromarray(np.pad(face, ((24, 24), (24, 24), (0, 0)), "reflect"))
        matrix = (cos, -sin, shift[0] + 24, sin, cos, shift[1] + 24)
        face = np.asarray(wide.transform((size, size), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(face)
