"""Trains the network that guesses latents from small faces, models/magnify/predictor.py.

    python -m mien.models.training.magnify samples RUN --teacher teacher.safetensors --count 3000
    python -m mien.models.training.magnify pairs RUN --faces FACES
    python -m mien.models.training.magnify train RUN
    python -m mien.models.training.magnify view RUN
    python -m mien.models.training.magnify export RUN models/weights

`samples` draws made-up faces whose latents are known, 64 px each; `pairs` shrinks them and real faces, whose latents
are those that the codec's encoder finds at full size (the teacher), and lets the encoder look at the small ones;
`train` is a regression in the coordinates of the base layer, in which a step is equally visible everywhere; `view` fits
the linear reading of the generator's features that models/magnify/fitting.py needs. `samples` and `pairs` go on where
they stopped.
"""

import argparse
import io
import json
import logging
import pathlib
import time

import cv2
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from mien.models.codec import STYLES, FaceCodec
from mien.models.magnify import LARGEST, SIZES, VIEW, Guess, cells, enlarged
from mien.models.runtime import tune_process
from mien.models.training.data import read_faces, to_tensor, vary
from mien.models.weights import pack_weights

SETS = ("train", "train256", "wild_train")
KERNELS = (Image.Resampling.BOX, Image.Resampling.BOX, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)
HELD = 7  # every seventh face is held back
EMA = 0.99
OCTAVES = 0.35  # of size, within which errors count for one of SIZES
RIDGE = 1e-5  # of the view, a share of the features' mean square
SHRINKAGE = 0.2  # of their covariance towards its diagonal
log = logging.getLogger(__name__)


def samples(options: argparse.Namespace) -> None:
    """RUN/coords.npy (count, K) and RUN/small64.npy (count, 64, 64, 3) uint8, of faces that do not exist."""
    from mien.models.training.generator_import import Teacher

    decoder = FaceCodec.load().decoder
    teacher = Teacher(options.teacher)
    random = torch.Generator().manual_seed(77)
    with torch.inference_mode():
        mean = teacher.map(torch.randn(8192, 512, generator=random)).mean(0)
        truncation = torch.rand(options.count, 1, generator=random) * 0.5 + 0.5
        w = mean + truncation * (teacher.map(torch.randn(options.count, 512, generator=random)) - mean)
    coords = (w - decoder.mean) @ torch.linalg.pinv(decoder.synthesis.double()).float()
    path, done = options.run / "small64.npy", options.run / "samples.done"
    begin = int(done.read_text()) if done.exists() else 0
    if not begin:
        np.save(options.run / "coords.npy", coords.numpy())
    shape = (options.count, 64, 64, 3)
    small = np.lib.format.open_memmap(path, "r+" if begin else "w+", np.uint8, None if begin else shape)
    for i in tqdm(range(begin, options.count), mininterval=30):
        with torch.inference_mode():
            face = decoder.generator(decoder.mean + coords[i : i + 1] @ decoder.synthesis, 128).clamp(-1, 1)
            face = torch.nn.functional.interpolate(face, size=64, mode="area")
        small[i] = (face * 127.5 + 127.5).round().byte()[0].permute(1, 2, 0).numpy()
        if i % 100 == 99:
            small.flush()
            done.write_text(str(i + 1))


def shrunken(face: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A face (S, S, 3) uint8 as small as SMALLEST to LARGEST px: by one of several kernels, now and then by JPEG."""
    draw = random.random()
    size = 8 if draw < 0.3 else 32 if draw < 0.6 else round(2 ** random.uniform(3, 6))
    picture = Image.fromarray(face)
    small = picture.resize((size, size), KERNELS[random.integers(len(KERNELS))])
    if size >= 16 and random.random() < 0.2:
        file = io.BytesIO()
        small.save(file, "JPEG", quality=int(random.uniform(60, 95)))
        small = Image.open(file).convert("RGB")
    return np.array(small)


@torch.inference_mode()
def pairs(options: argparse.Namespace) -> None:
    """RUN/pairs-*.npz: what Guess takes and what it is to give, of every made-up and every real face."""
    codec, random = FaceCodec.load(), np.random.default_rng(options.seed)

    def seen(face: np.ndarray) -> tuple[Tensor, Tensor]:
        latents, embedding = codec.look(to_tensor(face[None])[0])
        return latents[: len(codec.base_deviation)] / codec.base_deviation, embedding[0]

    def write(name: str, faces: np.ndarray, known: Tensor | None, groups: np.ndarray) -> None:
        path = options.run / f"pairs-{name}.npz"
        if path.exists():
            return
        rows: dict[str, list[np.ndarray | np.generic | int]] = {}
        for i, face in enumerate(faces):
            target = seen(face)[0] if known is None else known[i]
            for small in [shrunken(face, random) for _ in range(options.smalls)]:
                latents, embedding = seen(enlarged(small))
                row = {"latents": latents, "embedding": embedding, "cells": cells(small), "target": target}
                for part, value in row.items():
                    rows.setdefault(part, []).append(value.numpy())
                rows.setdefault("size", []).append(np.float32(len(small)))
                rows.setdefault("group", []).append(groups[i])
        np.savez(path, **{part: np.stack(values) for part, values in rows.items()})  # type: ignore[arg-type]
        log.info("%s: %d faces", name, len(faces))

    for turn in range(options.turns):
        for name in SETS:
            faces = read_faces([options.faces / name])
            write(f"{turn}-{name}", np.stack([vary(face, random) for face in faces]), None, np.arange(len(faces)))
        if turn == 0:
            count = int((options.run / "samples.done").read_text())
            known = torch.from_numpy(np.load(options.run / "coords.npy")[:count]) / codec.base_deviation
            made = np.load(options.run / "small64.npy", mmap_mode="r")
            for i in range(0, count, 600):
                part = slice(i, min(i + 600, count))
                write(f"made-{i}", np.array(made[part]), known[part], np.arange(part.start, part.stop))


def read_pairs(run: pathlib.Path) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """All pairs; which of them are real faces; which are held back."""
    parts, real, held = [], [], []
    for path in sorted(run.glob("pairs-*.npz")):
        part = dict(np.load(path))
        group = part.pop("group")
        parts.append(part)
        real.append(np.full(len(group), "made" not in path.name))
        held.append(group % HELD == 0)  # all pictures of a person are, or none is
    found = {name: torch.from_numpy(np.concatenate([p[name] for p in parts])).float() for name in parts[0]}
    return found, torch.from_numpy(np.concatenate(real)), torch.from_numpy(np.concatenate(held))


def train(options: argparse.Namespace) -> None:
    """RUN/guess.pt: the averaged weights that were best on the faces held back, and how their errors vary together."""
    torch.manual_seed(1)
    codec = FaceCodec.load()
    visible = (
        codec.base_deviation.square() / codec.base_deviation.square().mean()
    )  # squared error in units of deviation to what is seen
    found, real, held = read_pairs(options.run)
    target = found.pop("target")
    model = Guess(target.shape[1])
    average = {k: v.clone() for k, v in model.state_dict().items()}
    chance = torch.where(held, 0.0, torch.where(real, options.real / real.sum(), (1 - options.real) / (~real).sum()))
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=options.steps + 1, pct_start=0.05)
    begin, total, best = time.monotonic(), 0.0, (np.inf, average)
    for step in range(options.steps + 1):
        if step % 200 == 0 and step:
            judge = Guess(target.shape[1]).eval()
            judge.load_state_dict(average)
            row = {"step": step, "seconds": round(time.monotonic() - begin, 1), "loss": round(total / 200, 4)}
            row |= unexplained(judge, found, target, held & real, visible)
            log.info("%s", row)
            with (options.run / "magnify-log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            total = 0.0
            error = sum(value for name, value in row.items() if name.startswith("guess-"))
            best = min(best, (error, {k: v.clone() for k, v in average.items()}), key=lambda pair: pair[0])
        rows = torch.multinomial(chance, 128, replacement=True)
        parts = {name: value[rows] for name, value in found.items()}
        parts["cells"] = parts["cells"] + 0.01 * torch.randn_like(parts["cells"])
        loss = ((model(**parts) - target[rows]).square() * visible).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        total += float(loss.detach())
        with torch.no_grad():
            for name, value in model.state_dict().items():
                average[name].lerp_(value, 1 - min(EMA, (step + 1) / (step + 10)))
    model.load_state_dict(best[1])
    factors = error_factors(model.eval(), found, target, held)
    torch.save({"model": best[1], "factors": factors}, options.run / "guess.pt")


@torch.inference_mode()
def unexplained(
    model: Guess, found: dict[str, Tensor], target: Tensor, rows: Tensor, visible: Tensor
) -> dict[str, float]:
    """Visible squared error as a share of the latents', by size, of the network and of the encoder alone."""
    guess, wanted = model(**{name: value[rows] for name, value in found.items()}), target[rows]
    size, row = found["size"][rows], {}
    for low, high in ((8, 8), (9, 31), (32, 32), (33, LARGEST)):
        some = (size >= low) & (size <= high)
        power = (wanted[some].square() * visible).sum()
        for name, ours in (("guess", guess), ("encoder", found["latents"][rows])):
            error = ((ours[some] - wanted[some]).square() * visible).sum() / power
            row[f"{name}-{low}"] = round(float(error), 4)
    return row


@torch.inference_mode()
def error_factors(model: Guess, found: dict[str, Tensor], target: Tensor, held: Tensor) -> Tensor:
    """(sizes, K, K): lower triangular factors of the covariance of the held faces' errors, near each of SIZES."""
    errors = (model(**{name: value[held] for name, value in found.items()}) - target[held]).double()
    octave, rows = torch.log2(found["size"][held]), []
    for size in SIZES:
        near = errors[(octave - np.log2(size)).abs() <= OCTAVES]
        log.info("errors of %d faces of about %d px", len(near), size)
        cov = near.T @ near / len(near)
        cov = (1 - SHRINKAGE) * cov + SHRINKAGE * torch.diag(cov.diag())
        rows.append(torch.linalg.cholesky(cov).float())
    return torch.stack(rows)


@torch.inference_mode()
def view(options: argparse.Namespace) -> None:
    """RUN/view.pt: the linear map from the generator's features at VIEW px to the picture shrunk to as many, ridge."""
    decoder = FaceCodec.load().decoder
    coords = torch.from_numpy(np.load(options.run / "coords.npy"))[: options.count]
    squares, products, errors = torch.zeros(513, 513).double(), torch.zeros(513, 3).double(), []
    weight = torch.zeros(513, 3).double()
    for i, one in enumerate(coords):
        w = (decoder.mean + one @ decoder.synthesis)[None, None].expand(1, STYLES, -1)
        x = decoder.generator.features(w, VIEW)[0].flatten(1).T.double()
        x = torch.cat([x, torch.ones(len(x), 1).double()], 1)
        face = decoder.generator(w, 128).clamp(-1, 1)
        y = torch.nn.functional.interpolate(face, size=VIEW, mode="area")[0].flatten(1).T.double()
        if i == len(coords) * 4 // 5:  # the last fifth is for the figures
            weight = torch.linalg.solve(squares + RIDGE * squares.diag().mean() * torch.eye(513).double(), products)
        if i >= len(coords) * 4 // 5:
            errors.append(float((x @ weight - y).square().mean()))
        squares, products = squares + x.T @ x, products + x.T @ y
    log.info("%.1f grey levels off", 127.5 * np.sqrt(np.mean(errors)))
    torch.save({"weight": weight[:-1].T.float(), "bias": weight[-1].float()}, options.run / "view.pt")


def export(options: argparse.Namespace) -> None:
    """Writes magnifier.safetensors into the target."""
    state = torch.load(options.run / "guess.pt", map_location="cpu", weights_only=True)
    found = state["model"] | {f"factors.{size}": part for size, part in zip(SIZES, state["factors"], strict=True)}
    found |= {f"view.{name}": part for name, part in torch.load(options.run / "view.pt", weights_only=True).items()}
    path = options.target / "magnifier.safetensors"
    packed = pack_weights(found, lambda name, value: value.dim() > 1 and value.numel() > 4096)
    save_file(packed, path, {"basis": FaceCodec.load().basis})
    log.info("%.2f MB", path.stat().st_size / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work in (samples, pairs, train, view, export):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        command.add_argument("run", type=pathlib.Path)
        if work is samples:
            command.add_argument("--teacher", required=True)
            command.add_argument("--count", type=int, default=3000)
        elif work is pairs:
            command.add_argument("--faces", required=True, type=pathlib.Path)
            command.add_argument("--turns", type=int, default=3, help="variations of each real face")
            command.add_argument("--smalls", type=int, default=3, help="small pictures of each variation")
            command.add_argument("--seed", type=int, default=0)
        elif work is train:
            command.add_argument("--steps", type=int, default=1600)
            command.add_argument("--real", type=float, default=0.7, help="share of real faces")
        elif work is view:
            command.add_argument("--count", type=int, default=280)
        else:
            command.add_argument("target", type=pathlib.Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    tune_process(1)
    cv2.setNumThreads(1)
    options.run.mkdir(parents=True, exist_ok=True)
    options.work(options)


if __name__ == "__main__":
    main()
