"""Makes the package's weights from a training run: decoder.safetensors (generator, basis, tables), encoder.safetensors.

    python -m mien.models.training.export RUN models/weights --generator generator.safetensors \
        --basis basis.safetensors --samples SAMPLES --faces FACES

The static tables come from what the encoder makes of the training faces: each latent's mean and deviation, and one
shape (a generalised normal distribution) for all of them.
"""

import argparse
import logging
import pathlib

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from scipy.stats import gennorm

from mien.models.codec import COLOURS, PRECISION, Encoder
from mien.models.training.data import Samples, read_faces, to_tensor

LATENTS = 192
FINEST, STEPS_AN_OCTAVE, STEP_COUNT = 0.012, 4, 32
NARROWEST, WIDEST, CLASSES_AN_OCTAVE = 0.13, 64.0, 3  # deviation in quantiser steps; narrower is never coded
COLOUR_DEVIATION, COLOUR_SHAPE = 2.5, 1.0
log = logging.getLogger(__name__)


def table(ratio: float, shape: float) -> NDArray[np.uint16]:
    """Counts of the symbols -m..m for a deviation of `ratio` steps; they add up to 1 << PRECISION, none is 0."""
    largest = int(np.ceil(5.5 * ratio)) + 2
    edges = np.arange(2 * largest + 2) - largest - 0.5
    mass = np.diff(gennorm.cdf(edges, shape, scale=ratio / gennorm.std(shape)))
    mass /= mass.sum()
    counts = np.floor(mass * ((1 << PRECISION) - len(mass))).astype(np.int64) + 1
    counts[largest] += (1 << PRECISION) - counts.sum()
    return counts.astype(np.uint16)


def fit_shape(latents: NDArray[np.float64]) -> float:
    """The shape that gives the normalised latents (N, K) the highest likelihood."""
    shapes = np.arange(0.5, 2.21, 0.1)
    likelihood = [gennorm.logpdf(latents, shape, scale=1 / gennorm.std(shape)).mean() for shape in shapes]
    return float(shapes[int(np.argmax(likelihood))])


def make_tables(latents: NDArray[np.float64]) -> dict[str, torch.Tensor]:
    """Tables, steps and centre for the coordinates (N, K) of the training faces."""
    centre, deviation = latents.mean(0), latents.std(0)
    shape = fit_shape((latents[:, :64] - centre[:64]) / deviation[:64])
    log.info("shape %.1f, deviations %s", shape, np.round(deviation[[0, 3, 15, 31, 63, 127, -1]], 3))
    ratios = NARROWEST * 2 ** (np.arange(np.log2(WIDEST / NARROWEST) * CLASSES_AN_OCTAVE + 1) / CLASSES_AN_OCTAVE)
    steps = FINEST * 2 ** (np.arange(STEP_COUNT) / STEPS_AN_OCTAVE)
    found = [
        np.array([1 << PRECISION], np.uint16),
        *(table(r, shape) for r in ratios),
        table(COLOUR_DEVIATION, COLOUR_SHAPE),
    ]
    octave = np.log2(deviation[None] / steps[:, None] / NARROWEST) * CLASSES_AN_OCTAVE
    classes = np.clip(np.floor(octave + 0.5).astype(int) + 1, 0, len(ratios)).astype(np.uint8)
    colours = np.full((STEP_COUNT, COLOURS), len(found) - 1, np.uint8)
    return {
        "tables.counts": torch.from_numpy(np.concatenate(found).view(np.int16)),
        "tables.offsets": torch.from_numpy(np.cumsum([0, *map(len, found)])),
        "tables.classes": torch.from_numpy(np.concatenate([classes, colours], 1)),
        "steps": torch.from_numpy(steps.astype(np.float32)),
        "basis.centre": torch.from_numpy(centre.astype(np.float32)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    for name in ("generator", "basis", "samples"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--faces", required=True, type=pathlib.Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    basis = load_file(options.basis)
    average = torch.load(options.run / "checkpoint.pt", map_location="cpu", weights_only=True)["average"]
    encoder = Encoder(len(basis["deviation"])).eval()
    encoder.load_state_dict(average)
    unit = basis["deviation"][:LATENTS]
    real = read_faces([options.faces / name for name in ("train", "train256", "wild_train")])
    samples = Samples(options.samples)
    found = []
    with torch.inference_mode():
        for part in np.array_split(real, len(real) // 16):
            found.append(encoder(to_tensor(part))[:, :LATENTS] * unit)
    # a quarter of samples keeps room for faces unlike the portraits that most of the real ones are
    known = (samples.w - basis["mean"]) @ basis["analysis"][:, :LATENTS]
    latents = torch.cat([*found, known[: len(real) // 3]]).double().numpy()
    state = {name: value.half() for name, value in load_file(options.generator).items()}
    state |= {"basis.mean": basis["mean"], "basis.synthesis": basis["synthesis"][:LATENTS].half()}
    state |= make_tables(latents)
    options.target.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, options.target / "decoder.safetensors")
    average["output.weight"], average["output.bias"] = (
        average["output.weight"][:LATENTS],
        average["output.bias"][:LATENTS],
    )
    state = {name: value.half().contiguous() for name, value in average.items()}
    state["latents.deviation"] = unit.contiguous()
    save_file(state, options.target / "encoder.safetensors")
    for name in ("decoder", "encoder"):
        log.info("%s: %.1f MB", name, (options.target / f"{name}.safetensors").stat().st_size / 1e6)


if __name__ == "__main__":
    main()
