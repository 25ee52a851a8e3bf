"""The layers beyond the base: which directions they have, and the tables that code them.

    python -m mien.models.training.layers gradients RUN --faces FACES --backbone ... --heads ...
    python -m mien.models.training.layers bases RUN
    python -m mien.models.training.layers refine RUN --faces FACES --part 0 --of 2
    python -m mien.models.training.layers tables RUN models/weights

`gradients`: for real training faces as the encoder sees them, how the loss of parts of the face (eyes, mouth, forehead,
the rest, the recogniser) falls with the 23 style vectors and with the features at 16 and 32 px, and how visible chance
directions are (Hutchinson's estimate of J^T J, as in training.basis). `bases`: the style layer's directions are the
principal ones of all gradients, freed of what moves all styles alike, which is the base layer's; a grid's are the
principal channels times the principal places. Each is scaled to be as visible a unit as the base layer's. `refine`:
training faces at several ceilings with effort `best`, for the statistics. `tables`: each symbol's deviation and each
layer's shape of distribution from these. It all goes on where it stopped; parts may run side by side.
"""

import argparse
import logging
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from mien.models.codec import (
    BASE,
    GRIDS,
    LAYERS,
    PLANS,
    PRECISION,
    SPREAD,
    STYLE,
    FaceCodec,
    Plan,
    face_weight,
    read_tables,
)
from mien.models.evaluation import Lpips
from mien.models.faces import arcface_crop
from mien.models.training.data import read_faces, to_tensor
from mien.models.training.export import COLOUR_DEVIATION, COLOUR_SHAPE, table
from mien.models.weights import pack_weights

SETS = ("wild_train", "train", "train256")
# Styles that gain from a direction of their own: 16 to 21 add nothing (TRAINING.md), and 22, the head's, would change
# the colours of the three sizes apart.
KEPT = [*range(16)]
DIRECTIONS = 768
CHANNELS, PLACES = {16: 32, 32: 16}, {16: 256, 32: 256}
# centre and radii of Gaussian windows on eyes, mouth, forehead and hair, as shares of the aligned square
WINDOWS = ((0.5, 0.46, 0.26, 0.10), (0.5, 0.68, 0.2, 0.13), (0.5, 0.22, 0.4, 0.2))
FINEST, AN_OCTAVE, STEP_COUNT = 0.004, 4, 32  # quantiser steps, and classes of deviation
NARROWEST, CLASSES = 0.13, 36  # deviation in steps of the lowest class: narrower is never coded; the widest is 56
SHAPES = (0.6, 0.8, 1.0, 1.2, 1.5)  # exponents of generalised normal distributions
CEILINGS = (80, 320, 1200)  # of the faces refined for the statistics
log = logging.getLogger(__name__)


# Gradients


def windows(size: int = 256) -> list[Tensor]:
    """(1, 1, size, size) each, together 1 everywhere."""
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    found = [torch.exp(-(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2))[None, None] for cx, cy, rx, ry in WINDOWS]
    return [*found, (1 - torch.stack(found).sum(0)).clamp(min=0)]


class Probe:
    """What one face says: gradients of the loss's parts, and of random projections of all that is seen."""

    def __init__(self, codec: FaceCodec, backbone: str, heads: str) -> None:
        self.codec, self.lpips = codec, Lpips(backbone, heads)
        self.place = face_weight(256)
        self.even, self.windows = (1 + self.place) / 2, windows()

    def losses(self, drawn: Tensor, target: Tensor) -> list[Tensor]:
        ours, theirs = self.lpips.features(drawn), self.lpips.features(target)
        found = []
        for window in self.windows:
            share = window.mean()
            features = self.lpips.compare(ours, theirs, window * self.even / share) * share * 2
            found.append(features.sum() + 0.5 * ((drawn - target).abs() * window * self.place).mean())
        known = self.codec.recogniser
        found.append(0.2 * (1 - (known(arcface_crop(drawn)) * known(arcface_crop(target))).sum()))
        return found

    def seen(self, drawn: Tensor) -> Tensor:
        """All that is seen of a face as one vector, so scaled that squared distances add up to the loss."""
        parts = []
        for feature, head in zip(self.lpips.features(drawn), self.lpips.heads, strict=True):
            part = F.interpolate(self.even, size=feature.shape[-2:], mode="area")
            parts.append(feature * (head.clamp(min=0) * part / part.mean() / feature[0, 0].numel()).sqrt())
        small, part = F.avg_pool2d(drawn, 4), F.avg_pool2d(self.place, 4)
        parts += [small * (part / small[0].numel()).sqrt() * 0.5, self.codec.recogniser(arcface_crop(drawn)) * 0.3]
        return torch.cat([p.flatten() for p in parts])

    def __call__(self, face: np.ndarray) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Of a face (256, 256, 3): gradients by loss, then by input (styles, features at 16 and 32 px); the same of
        one projection of what is seen."""
        target = to_tensor(face[None])
        with torch.no_grad():
            base = self.codec.base_latents(target[0])
        decoder = self.codec.decoder
        w = (decoder.mean + base @ decoder.synthesis)[None, None].repeat(1, 23, 1).requires_grad_(True)
        added = {px: torch.zeros(1, 512, px, px, requires_grad=True) for px in GRIDS.values()}
        drawn, inputs = decoder.generator(w, 256, added), [w, *added.values()]
        rows = [list(torch.autograd.grad(one, inputs, retain_graph=True)) for one in self.losses(drawn, target)]
        seen = self.seen(drawn)
        signs = torch.randint(0, 2, seen.shape).float() * 2 - 1
        return rows, list(torch.autograd.grad((seen * signs).sum(), inputs))


def gradients(options: argparse.Namespace) -> None:
    """Writes RUN/gradients-PART.pt, now and then."""
    faces = np.concatenate([read_faces([options.faces / name]) for name in SETS])
    order = np.random.default_rng(0).permutation(len(faces))[options.part :: options.of][: options.count]
    probe = Probe(FaceCodec.load(options.weights), options.backbone, options.heads)
    rows, visible, begin = [], [], time.monotonic()
    sums = {name: torch.zeros(n, n) for px in GRIDS.values() for name, n in ((f"c{px}", 512), (f"p{px}", px * px))}
    for n, index in enumerate(order):
        found, seen = probe(faces[index])
        for styles, *grids in found:
            rows.append(styles[0].half() * 1000)
            for px, grid in zip(GRIDS.values(), grids, strict=True):
                flat = grid[0].flatten(1) / grid.norm()
                sums[f"c{px}"] += flat @ flat.T
                sums[f"p{px}"] += flat.T @ flat
        visible.append([part[0].half() * 100 for part in seen])
        if n % 10 == 9 or n == len(order) - 1:
            log.info("%d of %d faces, %.0f s", n + 1, len(order), time.monotonic() - begin)
            state = {"rows": torch.stack(rows), "styles": torch.stack([v[0] for v in visible]), **sums}
            state |= {str(px): torch.stack([v[1 + i] for v in visible]) for i, px in enumerate(GRIDS.values())}
            torch.save(state, options.run / f"gradients-{options.part}.pt")


# Bases


def smooth(values: Tensor, width: int) -> Tensor:
    """Geometric mean over `width` neighbours: few faces make the estimates noisy."""
    edge = width // 2
    return F.avg_pool1d(F.pad(values.log()[None, None], (edge, edge), "replicate"), width, 1)[0, 0].exp()


def style_basis(rows: Tensor, visible: Tensor, unit: float) -> Tensor:
    """(DIRECTIONS, 16, 512) from gradients (N, 23, 512) and projections of what is seen (M, 23, 512)."""
    kept = [(part[:, KEPT] - part[:, KEPT].mean(1, keepdim=True)).flatten(1) for part in (rows, visible)]
    even = [part / part.norm(dim=1, keepdim=True) for part in kept]
    directions = torch.linalg.svd(torch.cat([even[0], 0.5 * even[1]]), full_matrices=False).Vh[:DIRECTIONS]
    seen = smooth((kept[1] @ directions.T).square().mean(0).sqrt(), 9)
    return (directions * unit / seen[:, None]).view(-1, len(KEPT), rows.shape[-1])


def grid_basis(channels: Tensor, places: Tensor, visible: Tensor, px: int, unit: float) -> tuple[Tensor, Tensor]:
    """(C, 512) and (P, px * px) from the sums of gradients and the projections (M, 512, px, px)."""
    u = torch.linalg.eigh(channels).eigenvectors.flip(1)[:, : CHANNELS[px]].T
    v = torch.linalg.eigh(places).eigenvectors.flip(1)[:, : PLACES[px]].T
    seen = torch.einsum("ck,nkp,qp->ncq", u, visible.flatten(2), v).square().mean(0)
    along = smooth(seen.mean(0) / seen.mean(), 15).sqrt()
    return u * unit / seen.mean(1, keepdim=True).sqrt(), v / along[:, None]


def bases(options: argparse.Namespace) -> None:
    """Writes RUN/bases.safetensors from all gradients."""
    parts = [torch.load(path, weights_only=True) for path in sorted(options.run.glob("gradients-*.pt"))]
    decoder = FaceCodec.load(options.weights).decoder
    visible = torch.cat([p["styles"] for p in parts]).float() / 100
    unit = float((visible.sum(1) @ decoder.synthesis.T).square().mean(0).sqrt()[:64].mean())
    style = style_basis(torch.cat([p["rows"] for p in parts]).float(), visible, unit)
    log.info("%d gradients; a unit of the base layer is %.2f visible", sum(len(p["rows"]) for p in parts), unit)
    found = {"style.basis": style.flatten(1), "style.styles": torch.tensor(KEPT)}
    for px in GRIDS.values():
        maps = torch.cat([p[str(px)] for p in parts if str(px) in p]).float() / 100
        channels, places = (torch.stack([p[f"{name}{px}"].float() for p in parts]).sum(0) for name in "cp")
        found[f"grid{px}.channels"], found[f"grid{px}.places"] = grid_basis(channels, places, maps, px, unit)
    found = pack_weights(found, lambda _, value: value.dim() > 1)
    save_file(found, options.run / "bases.safetensors")


# Statistics


def refine(options: argparse.Namespace) -> None:
    """Writes RUN/refined-PART.pt: for each ceiling the latents' symbols times their steps, (faces, symbols) a layer."""
    faces = np.concatenate([read_faces([options.faces / name], 512)[: options.count] for name in SETS[:2]])
    order = np.random.default_rng(1).permutation(len(faces))[options.part :: options.of]
    codec, begin = FaceCodec.load(options.weights), time.monotonic()
    PLANS["best"] = Plan(options.steps, 0, options.steps // 2, grids=True)
    found: dict[str, list[Tensor]] = {}
    for n, index in enumerate(order):
        for ceiling in options.ceilings:
            _, latents = codec.decoder.read(codec.encode(faces[index], ceiling, effort="best"))
            for name, values in zip(LAYERS, latents.layers, strict=True):
                if values is not None:
                    found.setdefault(f"{name}/{ceiling}", []).append(values)
            found.setdefault(f"face/{ceiling}", []).append(torch.tensor(int(index)))
        log.info("%d of %d faces, %.0f s", n + 1, len(order), time.monotonic() - begin)
        torch.save({k: torch.stack(v) for k, v in found.items()}, options.run / f"refined-{options.part}.pt")


def levels(deviation: NDArray[np.float64]) -> NDArray[np.int64]:
    """The class of each symbol at the finest step; it falls by one a step."""
    octaves = np.log2(np.maximum(deviation, 1e-9) / FINEST / NARROWEST)
    found: NDArray[np.int64] = np.floor(octaves * AN_OCTAVE + 0.5).astype(np.int64) + 1
    return found


def layer_tables(name: str, deviation: NDArray[np.float64], shape: float, colours: bool) -> dict[str, Tensor]:
    """counts, offsets and levels of a layer by its name."""
    name = name.replace(" ", "")
    ratios = NARROWEST * 2 ** (np.arange(CLASSES) / AN_OCTAVE)
    found = [np.array([1 << PRECISION], np.uint16), *(table(ratio, shape) for ratio in ratios)]
    found += [table(COLOUR_DEVIATION, COLOUR_SHAPE)] if colours else []
    return {
        f"{name}.counts": torch.from_numpy(np.concatenate(found).view(np.int16)),
        f"{name}.offsets": torch.from_numpy(np.cumsum([0, *map(len, found)])),
        f"{name}.levels": torch.from_numpy(levels(deviation)),
    }


def best_shape(name: str, latents: Tensor, deviation: NDArray[np.float64], steps: Tensor) -> float:
    """The shape of distribution with which the symbols of (N, K) latents, multiples of their steps, cost least."""
    rows = []
    for one in latents.numpy():
        smallest = np.abs(one[np.abs(one) > FINEST / 2]).min(initial=np.inf)
        if np.isfinite(smallest):
            step = int(np.abs(steps.numpy() - smallest).argmin())
            rows.append((np.rint(one / float(steps[step])).astype(np.int32), step))
    bits = {}
    for shape in SHAPES:
        coder = read_tables({**layer_tables(name, deviation, shape, False), "steps": steps}, name, 0)
        bits[shape] = sum(
            min(
                float(coder.best_rows(symbols[None], step)[1][0]),
                coder.estimate(coder.clip(symbols, step + SPREAD), step + SPREAD),
            )
            for symbols, step in rows
        )
    log.info("%s: bits a face by shape %s", name, {k: round(v / len(rows)) for k, v in bits.items()})
    return min(bits, key=lambda shape: bits[shape])


def deviations(latents: Tensor, width: int) -> NDArray[np.float64]:
    """(K,) root of the mean square of (N, K), smoothed over `width` neighbours."""
    found = (latents.square().mean(0) + (FINEST / 8) ** 2).sqrt()
    return smooth(found, width).double().numpy()


def tables(options: argparse.Namespace) -> None:
    """Writes layers.safetensors: bases, steps and tables; without refined faces, tables that are a first guess."""
    base = load_file(options.target / "decoder.safetensors")
    known = load_file(options.run / "bases.safetensors")
    parts = [torch.load(path, weights_only=True) for path in sorted(options.run.glob("refined-*.pt"))]

    def values(layer: int) -> Tensor | None:
        found = [v for p in parts for k, v in p.items() if k.startswith(f"{LAYERS[layer]}/")]
        return torch.cat(found) if found else None

    centre = base["basis.centre"].float()
    found = {**known, "steps": FINEST * 2 ** (torch.arange(STEP_COUNT) / AN_OCTAVE), "base.centre": centre}
    guess: dict[int, NDArray[np.float64]] = {BASE: deviation_of_version_1(base), STYLE: np.full(DIRECTIONS, 0.03)}
    for layer, px in GRIDS.items():
        guess[layer] = np.full(CHANNELS[px] * PLACES[px], 0.006)
    for layer, name in enumerate(LAYERS):
        latents, shape = values(layer), 1.0
        deviation = guess[layer]
        if latents is not None:
            latents = latents - centre if layer == BASE else latents
            deviation = deviations(latents, 5 if layer in (BASE, STYLE) else 33)
            shape = best_shape(LAYERS[layer], latents, deviation, found["steps"])
        found |= layer_tables(name, deviation, shape, layer == BASE)
    save_file({k: v.contiguous() for k, v in found.items()}, options.target / "layers.safetensors")
    log.info("%.2f MB", (options.target / "layers.safetensors").stat().st_size / 1e6)


def deviation_of_version_1(base: dict[str, Tensor]) -> NDArray[np.float64]:
    """(K,) what the classes of version 1's first row say."""
    classes = base["tables.classes"].numpy()[0, : len(base["basis.centre"])].astype(float)
    return 0.13 * 2 ** ((classes - 1) / 3) * float(base["steps"][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work in (gradients, bases, refine, tables):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        command.add_argument("run", type=pathlib.Path)
        if work is tables:
            command.add_argument("target", type=pathlib.Path)
            continue
        command.add_argument("--weights", help="folder; the package's own if not named")
        if work is bases:
            continue
        command.add_argument("--faces", required=True, type=pathlib.Path)
        command.add_argument("--part", type=int, default=0)
        command.add_argument("--of", type=int, default=1)
        command.add_argument("--count", type=int, default=200, help="faces (refine: of each set)")
        if work is gradients:
            command.add_argument("--backbone", required=True)
            command.add_argument("--heads", required=True)
        else:
            command.add_argument("--ceilings", type=int, nargs="+", default=CEILINGS)
            command.add_argument("--steps", type=int, default=24, help="at 128 px")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.run.mkdir(parents=True, exist_ok=True)
    options.work(options)


if __name__ == "__main__":
    main()
