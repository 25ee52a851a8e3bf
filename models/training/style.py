"""Trains the encoder for the style layer, and further for the base layer, so that one pass gives both.

    python -m mien.models.training.style samples RUN --faces ../shared/faces --count 2000
    python -m mien.models.training.style train RUN --faces ../shared/faces --backbone ... --heads ... --minutes 60
    python -m mien.models.training.style export RUN models/weights

`samples`: faces whose latents are known. The base layer's are those of real training faces as the present encoder
sees them, two mixed; the style layer's are drawn at the spread that its tables expect, less for some. `train` starts
from the present encoder, with outputs for the style layer at 0. Its first phase, `regression`, freezes trunk and
recogniser and learns the latents of the samples, and of real faces the base latents that the present encoder gives.
The second, `pictures`, learns from what the generator draws at 256 px, through the quantiser at steps drawn by chance,
and now and then without the style layer. It goes on from RUN/style.pt, whichever machine made it. `export` writes
encoder.safetensors with the averaged weights.
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

from mien.models.bitstream import SPREAD
from mien.models.codec import PACKAGED, FaceCodec
from mien.models.decoder import STYLE, FaceDecoder, Latents, colour_values
from mien.models.encoder import Encoder
from mien.models.recogniser import arcface_crop
from mien.models.training.data import SIZE, read_faces, to_tensor, to_uint8, vary, worsen
from mien.models.training.layers import AN_OCTAVE, FINEST, NARROWEST
from mien.models.training.losses import FaceLoss
from mien.models.weight_files import pack_weights, read_weights

SETS, SHARES = ("train", "train256", "wild_train"), (0.45, 0.2, 0.35)  # the few candid pictures are closest to users'
EMA = 0.99
STEPS = (0.01, 0.08)  # quantiser steps in training, from an even draw of their logarithms
ALONE = 0.2  # share of batches without the style layer: the base layer is to stand alone
log = logging.getLogger(__name__)
_PLAIN = colour_values(np.zeros(4, np.int32))


def split(decoder: FaceDecoder, latents: Tensor) -> list[Latents]:
    """(N, base + style) to what the decoder draws."""
    count = len(decoder.centre)
    return [Latents((one[:count], one[count:], None, None), _PLAIN) for one in latents]


def style_deviation(decoder: FaceDecoder) -> Tensor:
    """(S,) what the tables expect of the style layer."""
    row = decoder.tables[STYLE].classes[SPREAD].astype(float)
    return torch.from_numpy(FINEST * NARROWEST * 2 ** ((row - 1) / AN_OCTAVE)).float()


def known_latents(decoder: FaceDecoder, base: Tensor, count: int) -> Tensor:
    """(count, base + style) from the base latents (N, base) of real faces."""
    random = torch.Generator().manual_seed(1)
    pairs = torch.randint(len(base), (2, count), generator=random)
    share = 0.5 * torch.rand(count, 1, generator=random).square()
    mixed = base[pairs[0]] * (1 - share) + base[pairs[1]] * share
    deviation = style_deviation(decoder)
    laplace = torch.distributions.Laplace(0.0, 2**-0.5).icdf(torch.rand(count, len(deviation), generator=random))
    strength = torch.rand(count, 1, generator=random) * 1.1 + 0.1
    return torch.cat([mixed, laplace.clamp(-4, 4) * deviation * strength], 1)


@torch.inference_mode()
def samples(options: argparse.Namespace) -> None:
    """Writes RUN/latents.npy and RUN/faces.npy, (count, 256, 256, 3) uint8; RUN/done says how many."""
    codec, path, done = FaceCodec.load(options.weights), options.run / "latents.npy", options.run / "done"
    if not path.exists():
        real = read_faces([options.faces / name for name in SETS])
        base = torch.stack([codec.base_latents(to_tensor(face[None])[0]) for face in real])
        np.save(options.run / "base.npy", base.numpy())
        np.save(path, known_latents(codec.decoder, base, options.count).numpy())
    latents = torch.from_numpy(np.load(path))
    begin, shape = int(done.read_text()) if done.exists() else 0, (len(latents), SIZE, SIZE, 3)
    mode = "r+" if begin else "w+"
    faces = np.lib.format.open_memmap(options.run / "faces.npy", mode, np.uint8, None if begin else shape)
    for i in range(begin, len(latents), 4):
        faces[i : i + 4] = to_uint8(codec.decoder.draw(split(codec.decoder, latents[i : i + 4]), SIZE))
        done.write_text(str(min(i + 4, len(latents))))
        if i % 100 == 0:
            log.info("%d of %d", i, len(latents))


class Trainer:
    """Everything a step needs; phases are methods."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.run = options, options.run
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.random = np.random.default_rng()
        decoder = FaceCodec.load(options.weights).decoder
        self.decoder, self.base = decoder, len(decoder.centre)
        deviation = style_deviation(decoder)
        start = read_weights((pathlib.Path(options.weights or PACKAGED) / "encoder.safetensors").read_bytes())
        self.extra = {name: start.pop(name) for name in list(start) if name.startswith("latents.")}
        self.unit = torch.cat([self.extra["latents.deviation"][: self.base].float(), deviation])
        self.encoder = Encoder(len(self.unit)).eval()
        widened(start, len(self.unit))
        self.encoder.load_state_dict({name: value.float() for name, value in start.items()})
        self.encoder.recogniser.requires_grad_(False)
        self.loss = FaceLoss(options.backbone, options.heads, self.encoder.recogniser.state_dict())
        self.average = {k: v.clone() for k, v in self.encoder.state_dict().items()}
        self.seconds, self.step, self.phase = 0.0, 0, "regression"
        self.checkpoint = self.run / "style.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self.encoder.load_state_dict(state["encoder"])
            self.average = state["average"]
            self.seconds, self.step, self.phase = state["seconds"], state["step"], state["phase"]
            log.info("goes on from step %d of phase %s", self.step, self.phase)
        for name in ("mean", "synthesis", "centre", "style", "styles"):
            setattr(decoder, name, getattr(decoder, name).to(self.device))
        for part in (decoder.generator, self.encoder, self.loss.lpips, self.loss.recogniser):
            part.to(self.device)
        self.loss.place, self.unit = self.loss.place.to(self.device), self.unit.to(self.device)
        self.average = {k: v.to(self.device) for k, v in self.average.items()}

    def save(self) -> None:
        state = {"encoder": self.encoder.state_dict(), "average": self.average, "unit": self.unit}
        state |= {"seconds": self.seconds, "step": self.step, "phase": self.phase}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def record(self, **values: float | str) -> None:
        row = {"phase": self.phase, "step": self.step, "seconds": round(self.seconds, 1), **values}
        log.info("%s", row)
        with (self.run / "style-log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    @torch.inference_mode()
    def maps(self, faces: np.ndarray) -> list[Tensor]:
        """Frozen trunk and recogniser maps of (N, 256, 256, 3) uint8 faces, fp16."""
        parts = [
            [m.half() for m in self.encoder.maps(to_tensor(part).to(self.device))]
            for part in np.array_split(faces, max(1, len(faces) // 16))
        ]
        return [torch.cat(column) for column in zip(*parts, strict=True)]

    def regression(self, steps: int = 3000, batch: int = 64) -> None:
        begin, count = time.monotonic(), int((self.run / "done").read_text())
        known = torch.from_numpy(np.load(self.run / "latents.npy")[:count])
        made = np.load(self.run / "faces.npy", mmap_mode="r")[:count]
        real = read_faces([self.options.faces / name for name in SETS])
        base = torch.from_numpy(np.load(self.run / "base.npy"))
        worse = np.stack([worsen(face, self.random) if i % 2 else face for i, face in enumerate(made)])
        maps = [m.clone() for m in self.maps(np.concatenate([worse, real]))]
        wanted = torch.cat([known, F.pad(base, (0, known.shape[1] - base.shape[1]))]).to(self.device)
        mask = torch.ones_like(wanted)
        mask[count:, self.base :] = 0  # what the style layer of a real face is nobody knows
        held, parts = 100, [self.base, len(self.unit) - self.base]
        rows = torch.arange(held, len(wanted))
        head = [p for name, p in self.encoder.named_parameters() if not name.startswith(("trunk", "recogniser"))]
        optimiser = torch.optim.AdamW(head, 5e-4, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-4, total_steps=steps, pct_start=0.05)
        log.info("maps of %d faces in %.0f s", len(wanted), time.monotonic() - begin)
        for step in range(steps + 1):
            if step % 500 == 0:
                with torch.no_grad():
                    found = self.encoder.latents(*(m[:held].float() for m in maps)) * self.unit
                pairs = zip(found.split(parts, 1), wanted[:held].split(parts, 1), strict=True)
                left = [round(float((ours - truth).square().sum() / truth.square().sum()), 4) for ours, truth in pairs]
                self.seconds, begin, self.step = self.seconds + time.monotonic() - begin, time.monotonic(), step
                self.record(base_unexplained=left[0], style_unexplained=left[1])
            if step == steps:
                break
            some = rows[torch.randint(len(rows), (batch,))]
            error = self.encoder.latents(*(m[some].float() for m in maps)) * self.unit - wanted[some]
            loss = (error.square() * mask[some]).sum(1).mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head, 1.0)
            optimiser.step()
            schedule.step()
        self.average = {k: v.clone() for k, v in self.encoder.state_dict().items()}
        self.phase, self.step = "pictures", 0
        self.save()

    def pictures(self) -> None:
        options = self.options
        sets = [read_faces([options.faces / name]) for name in SETS]
        real = np.concatenate(sets)
        chance = np.concatenate([np.full(len(s), part / len(s)) for s, part in zip(sets, SHARES, strict=True)])
        dev = {name: read_faces([options.faces / name]) for name in ("dev", "wild_dev")}
        trunk = [p for name, p in self.encoder.named_parameters() if name.startswith("trunk")]
        head = [p for name, p in self.encoder.named_parameters() if not name.startswith(("trunk", "recogniser"))]
        groups = [{"params": trunk, "lr": options.rate / 4}, {"params": head, "lr": options.rate}]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.02, betas=(0.9, 0.98))
        first, end = self.seconds, self.seconds + options.minutes * 60
        saved, seen, sums = self.seconds, -1e9, {"count": 0.0}
        while self.seconds < end:
            begin, left = time.monotonic(), (end - self.seconds) / (end - first)
            for group, rate in zip(optimiser.param_groups, (options.rate / 4, options.rate), strict=True):
                group["lr"] = rate * min(1.0, (self.step + 1) / 20, left / 0.4 + 0.02)
            faces = [vary(real[self.random.choice(len(real), p=chance)], self.random) for _ in range(options.batch)]
            inputs = [worsen(face, self.random) if self.random.random() < 0.4 else face for face in faces]
            wanted, given = (to_tensor(np.stack(t)).to(self.device) for t in (faces, inputs))
            latents = self.encoder(given) * self.unit
            width = float(np.exp(self.random.uniform(*np.log(STEPS))))
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
        """(N, base + style) to (N, 3, 256, 256), not clipped, so that no gradient is lost."""
        decoder = self.decoder
        w = (decoder.mean + latents[:, : self.base] @ decoder.synthesis)[:, None].repeat(1, 23, 1)
        style = (latents[:, self.base :] @ decoder.style).view(len(w), len(decoder.styles), -1)
        face: Tensor = decoder.generator(w.index_add(1, decoder.styles, style), SIZE)
        return face

    @torch.inference_mode()
    def look(self, dev: dict[str, np.ndarray]) -> None:
        """Figures of the averaged weights on the first dev faces, unquantised, and a picture: original above result."""
        encoder = Encoder(len(self.unit)).to(self.device).eval()
        encoder.load_state_dict(self.average)
        for name, faces in dev.items():
            target = to_tensor(faces[:12]).to(self.device)
            ours = torch.cat([self.draw(encoder(part) * self.unit) for part in target.split(4)])
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
    """Both phases, or the rest of them."""
    trainer = Trainer(options)
    if trainer.phase == "regression":
        trainer.regression()
    trainer.pictures()


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
    for work in (samples, train, export):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        command.add_argument("run", type=pathlib.Path)
        if work is export:
            command.add_argument("target", type=pathlib.Path)
            continue
        command.add_argument("--weights", help="folder; the package's own if not named")
        command.add_argument("--faces", required=True, type=pathlib.Path)
        if work is samples:
            command.add_argument("--count", type=int, default=2000)
            continue
        command.add_argument("--backbone", required=True)
        command.add_argument("--heads", required=True)
        command.add_argument("--minutes", type=float, default=60, help="of the phase `pictures`, from now")
        command.add_argument("--batch", type=int, default=4)
        command.add_argument("--rate", type=float, default=2e-4, help="of the layers after the trunk; a quarter for it")
        command.add_argument("--rate-weight", type=float, default=0.1, help="loss a bit, in squared quantiser steps")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.run.mkdir(parents=True, exist_ok=True)
    options.work(options)


if __name__ == "__main__":
    main()
