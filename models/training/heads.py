"""Fits the generator's heads for 128 and 256 px to its own 512 px pictures, shrunk by area.

    python -m mien.models.training.heads teacher.safetensors SAMPLES generator.safetensors --steps 800

SAMPLES is the folder that training.samples makes. Least squares gives the start (each level's features hold the picture
nearly linearly), Adam on L1 the rest. Writes the complete generator (all heads, no mapping network), fp16.
"""

import argparse
import logging
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from mien.models.codec import LEVELS, Generator, haar_up
from mien.models.training import data
from mien.models.training.generator_import import Teacher

SIZES = (128, 256)
HELD = 24  # samples kept for the figures
log = logging.getLogger(__name__)


class Samples(data.Samples):
    """Pairs of w (B, 512) and the target pictures by size, (B, 3, S, S) in -1..1."""

    def batch(self, index: np.ndarray) -> tuple[Tensor, dict[int, Tensor]]:
        face = data.to_tensor(self.faces[index])
        return self.w[index], {size: F.interpolate(face, size=size, mode="area") for size in SIZES}


@torch.no_grad()
def features(generator: Generator, w: Tensor) -> dict[int, Tensor]:
    """The outputs of the levels that the heads stand on, by size."""
    x = generator.start.expand(len(w), -1, -1, -1).contiguous(memory_format=torch.channels_last)
    x, found = generator.first(x, w), {}
    for i in range(LEVELS - 1):
        x = haar_up(x * generator.up[i](w))
        for conv in generator.levels[i]:
            x = conv(x, w)
        if 8 << i in SIZES:
            found[8 << i] = x
    return found


def start_linear(generator: Generator, samples: Samples, count: int, random: np.random.Generator) -> None:
    """Heads by least squares over some pixels of the first samples, styles at one, the detail branch at zero."""
    rows: dict[int, list[tuple[Tensor, Tensor]]] = {size: [] for size in SIZES}
    for i in range(count):
        w, target = samples.batch(np.array([i]))
        for size, x in features(generator, w).items():
            some = random.integers(0, size * size, 1500)
            rows[size].append((x[0].flatten(1).T[some], target[size][0].flatten(1).T[some]))
    for size in SIZES:
        x, y = (torch.cat(part) for part in zip(*rows[size], strict=True))
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        solution = torch.linalg.solve(x.T @ x + 1e-3 * len(x) * torch.eye(x.shape[1]), x.T @ y)
        log.info("least squares at %d px: %.2f grey levels", size, (x @ solution - y).abs().mean() * 127.5)
        head = generator.heads[str(size)]
        head.weight.data, head.bias.data = solution[:-1].T[:, :, None, None].contiguous(), solution[-1].clone()
        head.style.weight.data.zero_()
        head.style.bias.data.fill_(1)
        head.detail[0].weight.data /= x[:, :-1].std(0)[None, :, None, None]
        head.detail[-1].weight.data.zero_()
        head.detail[-1].bias.data.zero_()
        head.colour.weight.data.zero_()
        head.colour.bias.data.zero_()


def fit_colour(generator: Generator, samples: Samples, first: int, count: int) -> None:
    """The colour matrix of each sample by least squares, and its ridge regression on w."""
    rows: dict[int, list[Tensor]] = {size: [] for size in SIZES}
    for i in range(first, first + count, 4):
        w, target = samples.batch(np.arange(i, i + 4))
        for size, x in features(generator, w).items():
            with torch.no_grad():
                rgb = generator.heads[str(size)](x, w)
            for ours, wanted in zip(rgb.flatten(2), target[size].flatten(2), strict=True):
                ones = torch.cat([ours, torch.ones_like(ours[:1])])
                gram = ones @ ones.T + 20 * torch.eye(4)
                matrix = torch.linalg.solve(gram, ones @ (wanted - ours).T)  # (4, 3): channels in, and shift
                rows[size].append(torch.cat([matrix[:3].T.flatten(), matrix[3]]))
    w = samples.w[first : first + count]
    mean, covariance = w.mean(0), torch.cov(w.T)
    ridge = covariance + 0.1 * covariance.trace() / len(covariance) * torch.eye(len(covariance))
    for size in SIZES:
        colour, layer = torch.stack(rows[size]), generator.heads[str(size)].colour
        slope = torch.linalg.solve(ridge, (w - mean).T @ (colour - colour.mean(0)) / (len(w) - 1))
        layer.weight.data, layer.bias.data = slope.T.contiguous(), colour.mean(0) - mean @ slope


def report(generator: Generator, samples: Samples, when: str) -> None:
    with torch.no_grad():
        parts = [losses(generator, samples, i) for i in np.arange(HELD).reshape(-1, 4)]
    means = {size: round(float(torch.stack([p[size] for p in parts]).mean()) * 127.5, 2) for size in SIZES}
    log.info("%s, grey levels on %d held-out samples: %s", when, HELD, means)


def losses(generator: Generator, samples: Samples, index: np.ndarray) -> dict[int, Tensor]:
    w, target = samples.batch(index)
    return {
        size: F.l1_loss(generator.heads[str(size)](x, w), target[size]) for size, x in features(generator, w).items()
    }


def fit(generator: Generator, samples: Samples, steps: int, batch: int, random: np.random.Generator) -> None:
    heads = [generator.heads[str(size)].requires_grad_(True) for size in SIZES]
    groups = [
        {"params": [p for head in heads for p in head.detail.parameters()], "lr": 1e-3},
        {"params": [p for head in heads for p in (head.weight, head.bias)], "lr": 2e-5},
        {"params": [p for head in heads for p in head.style.parameters()], "lr": 2e-5},
    ]
    optimiser = torch.optim.Adam(groups, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [g["lr"] for g in groups], total_steps=steps, pct_start=0.1
    )
    for step in range(steps + 1):
        if step % 100 == 0:
            report(generator, samples, f"step {step}")
        if step == steps:
            break
        found = losses(generator, samples, random.integers(HELD, len(samples.w), batch))
        optimiser.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        optimiser.step()
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("samples", type=pathlib.Path)
    parser.add_argument("target")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    random, samples = np.random.default_rng(0), Samples(options.samples)
    generator = Teacher(options.teacher).generator
    start_linear(generator, samples, 100, random)
    fit(generator, samples, options.steps, options.batch, random)
    fit_colour(generator, samples, HELD, min(1000, len(samples.w) - HELD) // 4 * 4)
    report(generator, samples, "with the colour matrix")
    state = {name: value.half().contiguous() for name, value in generator.state_dict().items()}
    save_file(state, options.target)


if __name__ == "__main__":
    main()
