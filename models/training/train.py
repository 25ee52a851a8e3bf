"""Trains the encoder of the base layer. The same command runs on two cores and on a GPU, and goes on where it stopped.

    python -m mien.models.training.train RUN --generator generator.safetensors --basis basis.safetensors \
        --recogniser recogniser.safetensors --trunk mobilenet_v2-b0353104.pth --samples SAMPLES \
        --faces FACES --backbone squeezenet_v1.1.ncnn.bin --heads squeeze.pth --minutes 60

Two phases. `regression`: the trunk is frozen and its maps of all samples are computed once; the layers after it learn
the latents of synthetic faces, whose w is known. `pictures`: everything but generator and recogniser learns from what
the generator draws: LPIPS, L1 and recogniser against real faces and samples, through the quantiser (straight-through
rounding), beside the latents where they are known. RUN gets checkpoint.pt (with EMA weights), log.jsonl and pictures of
dev faces.
"""

import argparse
import json
import logging
import pathlib
import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from mien.models.codec import Encoder, Generator
from mien.models.faces import arcface_crop
from mien.models.training.data import Samples, read_faces, to_tensor, to_uint8, vary, worsen
from mien.models.training.losses import FaceLoss
from mien.models.training.trunk_import import read_trunk

log = logging.getLogger(__name__)
EMA = 0.99


class Trainer:
    """Everything a step needs; phases are methods."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.run = options, options.run
        self.run.mkdir(parents=True, exist_ok=True)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.random = np.random.default_rng()
        basis = load_file(options.basis, device=self.device)
        self.mean, self.deviation = basis["mean"], basis["deviation"]
        self.analysis, self.synthesis = basis["analysis"], basis["synthesis"]
        self.generator = Generator().eval().requires_grad_(False)
        self.generator.load_state_dict({k: v.float() for k, v in load_file(options.generator).items()})
        self.loss = FaceLoss(options.backbone, options.heads, options.recogniser)
        self.encoder = Encoder(len(self.deviation)).eval()
        self.encoder.trunk = read_trunk(options.trunk)
        self.encoder.recogniser.load_state_dict({k: v.float() for k, v in load_file(options.recogniser).items()})
        self.encoder.recogniser.requires_grad_(False)
        for part in (self.generator, self.loss.lpips, self.loss.recogniser, self.encoder):
            part.to(self.device)
        self.loss.place = self.loss.place.to(self.device)
        self.samples = Samples(options.samples)
        self.known = (self.samples.w.to(self.device) - self.mean) @ self.analysis / self.deviation
        self.seconds, self.step, self.phase = 0.0, 0, "regression"
        self.average = {k: v.clone() for k, v in self.encoder.state_dict().items()}
        self.checkpoint = self.run / "checkpoint.pt"
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
            self.encoder.load_state_dict(state["encoder"])
            self.average = state["average"]
            self.seconds, self.step, self.phase = state["seconds"], state["step"], state["phase"]
            log.info("goes on from step %d of phase %s", self.step, self.phase)

    def save(self) -> None:
        state: dict[str, Any] = {"encoder": self.encoder.state_dict(), "average": self.average}
        state |= {"seconds": self.seconds, "step": self.step, "phase": self.phase}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def record(self, **values: float | str) -> None:
        row = {"phase": self.phase, "step": self.step, "seconds": round(self.seconds, 1), **values}
        log.info("%s", row)
        with (self.run / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def latent_loss(self, latents: Tensor, known: Tensor) -> Tensor:
        """Visible error of the latents (the basis makes it a plain distance), and a little of the relative one."""
        weight = self.deviation.square() / self.deviation.square().mean() + 0.05
        return ((latents - known).square() * weight).mean()

    # Phase one

    def maps(self, faces: np.ndarray) -> list[Tensor]:
        """Frozen trunk and recogniser maps of (N, 256, 256, 3) uint8 faces, fp16."""
        found: list[list[Tensor]] = [[], [], []]
        for part in np.array_split(faces, max(1, len(faces) // 16)):
            with torch.inference_mode():
                for rows, value in zip(found, self.encoder.maps(to_tensor(part).to(self.device)), strict=True):
                    rows.append(value.half())
        return [torch.cat(rows) for rows in found]

    def regression(self, steps: int = 6000, batch: int = 64) -> None:
        begin = time.monotonic()
        faces = np.stack([worsen(face, self.random) for face in self.samples.faces])
        maps = [torch.cat(pair) for pair in zip(self.maps(self.samples.faces), self.maps(faces), strict=True)]
        known, count, held = self.known.repeat(2, 1), len(self.known), 200
        rows = torch.cat([torch.arange(held, count), torch.arange(count + held, 2 * count)])
        log.info("maps of %d faces in %.0f s", len(known), time.monotonic() - begin)
        head = [p for name, p in self.encoder.named_parameters() if not name.startswith(("trunk", "recogniser"))]
        optimiser = torch.optim.AdamW(head, 1e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, total_steps=steps, pct_start=0.05)
        for step in range(steps + 1):
            if step % 500 == 0:
                with torch.no_grad():
                    latents = self.encoder.latents(*(m[:held].float() for m in maps))
                weight = self.deviation.square()
                error = ((latents - known[:held]).square() * weight).sum() / (known[:held].square() * weight).sum()
                self.seconds, begin = self.seconds + time.monotonic() - begin, time.monotonic()
                self.step = step
                self.record(unexplained=round(float(error), 4))
            if step == steps:
                break
            some = rows[torch.randint(len(rows), (batch,))]
            loss = self.latent_loss(self.encoder.latents(*(m[some].float() for m in maps)), known[some])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        self.average = {k: v.clone() for k, v in self.encoder.state_dict().items()}
        self.phase, self.step = "pictures", 0
        self.save()

    # Phase two

    def quantise(self, latents: Tensor, step: float) -> Tensor:
        """Straight-through rounding in the coordinates of the basis; (B, K) in units of deviation, both ways."""
        raw = latents * self.deviation
        return latents + ((raw / step).round() * step - raw).detach() / self.deviation

    def draw(self, latents: Tensor, size: int = 512) -> Tensor:
        face: Tensor = self.generator(self.mean + (latents * self.deviation) @ self.synthesis, size)
        return face

    def batch(self, real: np.ndarray, chance: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(inputs, targets, known latents, which rows have them): three real faces to one sample."""
        inputs, targets, known, has = [], [], [], []
        for _ in range(self.options.batch):
            sample = self.random.random() < 0.25
            if sample:
                i = int(self.random.integers(len(self.samples.w)))
                face = np.array(self.samples.faces[i])
                known.append(self.known[i])
            else:
                face = vary(real[self.random.choice(len(real), p=chance)], self.random)
                known.append(torch.zeros_like(self.deviation))
            has.append(sample)
            targets.append(face)
            inputs.append(worsen(face, self.random) if self.random.random() < 0.5 else face)
        seen, wanted = (to_tensor(np.stack(t)).to(self.device) for t in (inputs, targets))
        return seen, wanted, torch.stack(known), torch.tensor(has, device=self.device)

    def pictures(self) -> None:
        folder, options = self.options.faces, self.options
        sets = [read_faces([folder / name]) for name in ("train", "train256", "wild_train")]
        real = np.concatenate(sets)
        # the few candid pictures are closest to what users have
        share = np.concatenate([np.full(len(s), part / len(s)) for s, part in zip(sets, (0.5, 0.2, 0.3), strict=True)])
        dev = {name: read_faces([folder / name]) for name in ("dev", "wild_dev")}
        trunk = [p for name, p in self.encoder.named_parameters() if name.startswith("trunk")]
        head = [p for name, p in self.encoder.named_parameters() if not name.startswith(("trunk", "recogniser"))]
        groups = [{"params": trunk, "lr": options.rate / 4}, {"params": head, "lr": options.rate}]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.02, betas=(0.9, 0.98))
        base = [g["lr"] for g in groups]
        end, last_saved, last_seen = self.seconds + options.minutes * 60, self.seconds, -1e9
        first, sums = self.seconds, {"count": 0.0}
        while self.seconds < end:
            begin = time.monotonic()
            left = (end - self.seconds) / (end - first)
            for group, rate in zip(optimiser.param_groups, base, strict=True):
                group["lr"] = rate * min(1.0, (self.step + 1) / 20, left / 0.4 + 0.02)
            inputs, targets, known, has = self.batch(real, share / share.sum())
            latents = self.encoder(inputs)
            found, parts = self.loss(self.draw(self.quantise(latents, options.step)), targets)
            rate = torch.log2(1 + (latents * self.deviation / options.step).square()).sum(1)  # bits, roughly
            far = F.relu(latents.square().mean(1) - 1)
            total = found.mean() + options.rate_weight * rate.mean() + 0.02 * far.mean()
            if has.any():
                total = total + 0.02 * self.latent_loss(latents[has], known[has])
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
            if self.seconds - last_saved > 240:
                self.save()
                last_saved = self.seconds
            if self.seconds - last_seen > 900:
                self.look(dev)
                last_seen = self.seconds
        self.save()
        self.look(dev)

    def look(self, dev: dict[str, np.ndarray]) -> None:
        """Figures of the averaged weights on the first dev faces, and a picture: original above result."""
        encoder = Encoder(len(self.deviation)).to(self.device).eval()
        encoder.load_state_dict(self.average)
        for name, faces in dev.items():
            target = to_tensor(faces[:12]).to(self.device)
            with torch.inference_mode():
                latents = self.quantise(encoder(target), self.options.step)
                ours = torch.cat([self.draw(part) for part in latents.split(4)])
                small = F.interpolate(ours, size=256, mode="area")
                lpips = self.loss.lpips(small, target).mean()
                cosine = F.cosine_similarity(
                    self.loss.recogniser(arcface_crop(small)), self.loss.recogniser(arcface_crop(target))
                ).mean()
            self.record(set=name, lpips=round(float(lpips), 4), cosine=round(float(cosine), 4))
            rows = [np.concatenate(list(to_uint8(t)), 1) for t in (target, small)]
            Image.fromarray(np.concatenate(rows)).save(self.run / f"{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    for name in ("generator", "basis", "recogniser", "trunk", "samples", "backbone", "heads"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument(
        "--faces", required=True, type=pathlib.Path, help="folder with train, train256, wild_train, dev, wild_dev"
    )
    parser.add_argument("--minutes", type=float, default=60, help="of the phase `pictures`, from now")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument(
        "--rate", type=float, default=2e-4, help="learning rate of the layers after the trunk; a quarter for it"
    )
    parser.add_argument("--step", type=float, default=0.05, help="quantiser step in the coordinates of the basis")
    parser.add_argument("--rate-weight", type=float, default=2e-5, help="loss a bit")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    trainer = Trainer(options)
    if trainer.phase == "regression":
        trainer.regression()
    trainer.pictures()


if __name__ == "__main__":
    main()
