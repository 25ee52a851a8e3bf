"""Trains the encoder for the style layer, and further for the base layer, so that one pass gives both.

    python -m mien.models.training.style train RUN --faces FACES --backbone ... --heads ... --minutes 60
    python -m mien.models.training.style export RUN models/weights

`train` starts from the present encoder; outputs that it does not have yet, those for the style layer, start at 0. It
learns from what the generator draws at 512 px of real faces, through the quantiser at steps drawn by chance, and now
and then without the style layer. It goes on from RUN/style.pt, whichever machine made it. `export` writes
encoder.safetensors with the averaged weights.

Latents of made-up faces do not teach the style layer: a regression on 1,600 faces whose 768 style latents were drawn at
chance learned them by heart and explained less than nothing of those of others.
"""

import argparse
import json
import logging
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from mien.models.codec import SPREAD, STYLE, STYLES, Encoder, FaceCodec, FaceDecoder
from mien.models.faces import arcface_crop
from mien.models.training.data import SIZE, read_faces, to_tensor, to_uint8, vary, worsen
from mien.models.training.layers import AN_OCTAVE, FINEST, NARROWEST
from mien.models.training.losses import FaceLoss
from mien.models.weights import PACKAGED, pack_weights, read_weights

SETS, SHARES = ("train", "train256", "wild_train"), (0.45, 0.2, 0.35)  # the few candid pictures are closest to users'
EMA = 0.99
STEP_RANGE = (0.01, 0.08)  # quantiser steps in training, from an even draw of their logarithms
ALONE = 0.2  # share of batches without the style layer: the base layer is to stand alone
log = logging.getLogger(__name__)


def style_deviation(decoder: FaceDecoder) -> Tensor:
    """(S,) what the tables expect of the style layer."""
    row = decoder.tables[STYLE].classes[SPREAD].astype(float)
    return torch.from_numpy(FINEST * NARROWEST * 2 ** ((row - 1) / AN_OCTAVE)).float()


class Trainer:
    """Everything a step needs."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.run = options, options.run
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.random = np.random.default_rng()
        decoder = FaceCodec.load(options.weights).decoder
        self.decoder, self.base = decoder, len(decoder.centre)
        deviation = style_deviation(decoder)
        start = read_weights((pathlib.Path(options.weights or PACKAGED) / "encoder.safetensors").read_bytes())
        self.unit = torch.cat([start.pop("latents.deviation")[: self.base].float(), deviation])
        self.encoder = Encoder(len(self.unit)).eval()
        widened(start, len(self.unit))
        self.encoder.load_state_dict({name: value.float() for name, value in start.items()})
        self.encoder.recogniser.requires_grad_(False)
        self.loss = FaceLoss(options.backbone, options.heads, self.encoder.recogniser.state_dict())
        self.average = {k: v.clone() for k, v in self.encoder.state_dict().items()}
        self.seconds, self.step = 0.0, 0
        self.checkpoint = self.run / "style.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self.encoder.load_state_dict(state["encoder"])
            self.average = state["average"]
            self.seconds, self.step = state["seconds"], state["step"]
            log.info("goes on from step %d", self.step)
        for name in ("mean", "synthesis", "centre", "style", "styles"):
            setattr(decoder, name, getattr(decoder, name).to(self.device))
        for part in (decoder.generator, self.encoder, self.loss.lpips, self.loss.recogniser):
            part.to(self.device)
        self.loss.place, self.unit = self.loss.place.to(self.device), self.unit.to(self.device)
        self.average = {k: v.to(self.device) for k, v in self.average.items()}

    def save(self) -> None:
        state = {"encoder": self.encoder.state_dict(), "average": self.average, "unit": self.unit}
        state |= {"seconds": self.seconds, "step": self.step}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def record(self, **values: float | str) -> None:
        row = {"step": self.step, "seconds": round(self.seconds, 1), **values}
        log.info("%s", row)
        with (self.run / "style-log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def pictures(self) -> None:
        options = self.options
        sets = [read_faces([options.faces / name]) for name in SETS]
        real = np.concatenate(sets)
        chance = np.concatenate([np.full(len(s), part / len(s)) for s, part in zip(sets, SHARES, strict=True)])
        dev = {name: read_faces([options.faces / name]) for name in ("dev", "wild_dev")}
        trunk = [p for name, p in self.encoder.named_parameters() if name.startswith("trunk")]
        head = [p for name, p in self.encoder.named_parameters() if not name.startswith(("trunk", "recogniser"))]
        rates = (options.rate / 4, options.rate)
        groups = [{"params": part, "lr": rate} for part, rate in zip((trunk, head), rates, strict=True)]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.02, betas=(0.9, 0.98))
        first, end = self.seconds, self.seconds + options.minutes * 60
        saved, seen, sums = self.seconds, -1e9, {"count": 0.0}
        while self.seconds < end:
            begin, left = time.monotonic(), (end - self.seconds) / (end - first)
            for group, rate in zip(optimiser.param_groups, rates, strict=True):
                group["lr"] = rate * min(1.0, (self.step + 1) / 20, left / 0.4 + 0.02)
            faces = [vary(real[self.random.choice(len(real), p=chance)], self.random) for _ in range(options.batch)]
            inputs = [worsen(face, self.random) if self.random.random() < 0.4 else face for face in faces]
            wanted, given = (to_tensor(np.stack(t)).to(self.device) for t in (faces, inputs))
            latents = self.encoder(given) * self.unit
            width = float(np.exp(self.random.uniform(*np.log(STEP_RANGE))))
            shown = latents + ((latents / width).round() * width - latents).detach()
            if self.random.random() < ALONE:
                shown = torch.cat([shown[:, : self.base], 0 * shown[:, self.base :]], 1)
            found, parts = self.loss(self.draw(shown), wanted)
            rate = torch.log2(1 + (latents / width).square()).sum(1)  # bits, roughly
            total = found.mean() + options.rate_weight * width**2 * rate.mean()
            optimiser.zero_grad()
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_([*trunk, *head], 1.0)
            optimiser.step()
            with torch.no_grad():
                for name, value in self.encoder.state_dict().items():
                    self.average[name].lerp_(value, 1 - EMA)
            self.step += 1
            self.seconds += time.monotonic() - begin
            for name, value in [*((k, v.mean()) for k, v in parts.items()), ("rate", rate.mean()), ("norm", norm)]:
                sums[name] = sums.get(name, 0) + float(value.detach())
            sums["count"] += 1
            if self.step % 25 == 0:
                count = sums.pop("count")
                self.record(**{name: round(value / count, 4) for name, value in sums.items()})
                sums = {"count": 0.0}
            if self.seconds - saved > 180:
                self.save()
                saved = self.seconds
            if self.seconds - seen > 900:
                self.look(dev)
                seen = self.seconds
        self.save()
        self.look(dev)

    def draw(self, latents: Tensor) -> Tensor:
        """(N, base + style) to (N, 3, 512, 512), not clipped, so that no gradient is lost."""
        decoder = self.decoder
        w = (decoder.mean + latents[:, : self.base] @ decoder.synthesis)[:, None].repeat(1, STYLES, 1)
        style = (latents[:, self.base :] @ decoder.style).view(len(w), len(decoder.styles), -1)
        face: Tensor = decoder.generator(w.index_add(1, decoder.styles, style))
        return face

    @torch.inference_mode()
    def look(self, dev: dict[str, np.ndarray]) -> None:
        """Figures of the averaged weights on the first dev faces, unquantised, and a picture: original above result."""
        encoder = Encoder(len(self.unit)).to(self.device).eval()
        encoder.load_state_dict(self.average)
        for name, faces in dev.items():
            target = to_tensor(faces[:12]).to(self.device)
            ours = torch.cat([self.draw(encoder(part) * self.unit) for part in target.split(4)])
            ours = F.interpolate(ours, size=SIZE, mode="area")
            lpips = self.loss.lpips(ours, target).mean()
            ids = [self.loss.recogniser(arcface_crop(t)) for t in (ours, target)]
            self.record(set=name, lpips=round(float(lpips), 4), cosine=round(float((ids[0] * ids[1]).sum(1).mean()), 4))
            rows = [np.concatenate(list(to_uint8(t)), 1) for t in (target, ours)]
            Image.fromarray(np.concatenate(rows)).save(self.run / f"style-{name}.png")


def widened(state: dict[str, Tensor], outputs: int) -> None:
    """The encoder's last layer with as many outputs, new ones at 0."""
    more = outputs - len(state["output.weight"])
    state["output.weight"] = F.pad(state["output.weight"].float(), (0, 0, 0, more))
    state["output.bias"] = F.pad(state["output.bias"].float(), (0, more))


def train(options: argparse.Namespace) -> None:
    """Trains for some minutes more."""
    Trainer(options).pictures()


def export(options: argparse.Namespace) -> None:
    """Replaces encoder.safetensors in the target."""
    state = torch.load(options.run / "style.pt", map_location="cpu", weights_only=True)
    path = options.target / "encoder.safetensors"
    found = state["average"] | {"latents.deviation": state["unit"]}

    def small(name: str, value: Tensor) -> bool:
        """The recogniser stays in fp16: its embeddings are compared with thresholds."""
        return value.dim() > 1 and value.numel() > 4096 and not name.startswith("recogniser")

    save_file(pack_weights(found, small), path)
    log.info("%.1f MB", path.stat().st_size / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work in (train, export):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        command.add_argument("run", type=pathlib.Path)
        if work is export:
            command.add_argument("target", type=pathlib.Path)
            continue
        command.add_argument("--weights", help="folder; the package's own if not named")
        command.add_argument("--faces", required=True, type=pathlib.Path)
        command.add_argument("--backbone", required=True)
        command.add_argument("--heads", required=True)
        command.add_argument("--minutes", type=float, default=60, help="from now")
        command.add_argument("--batch", type=int, default=4)
        command.add_argument("--rate", type=float, default=2e-4, help="of the layers after the trunk; a quarter for it")
        command.add_argument("--rate-weight", type=float, default=0.1, help="loss a bit, in squared quantiser steps")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.run.mkdir(parents=True, exist_ok=True)
    options.work(options)


if __name__ == "__main__":
    main()
