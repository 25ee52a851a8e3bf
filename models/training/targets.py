"""What the encoder should have found: training faces refined once, without the quantiser, and the way there.

    python -m mien.models.training.targets RUN --faces FACES

Each face, and afterwards each mirror image, takes SMALL steps at 128 px and LARGE steps at 256 px from the present
encoder's latents. RUN gets a shard of COUNT faces every few minutes, `targets-NNNN.npz`: `name` (file, "mirrored" in
front where it is), `start` and `end` (N, K) latents, `colours` (N, 4) at the end, `latents` and `gradients`
(N, len(KEPT), K) before the steps KEPT, `loss` (N, steps + 1). It goes on where the last shard ended.
"""

import argparse
import logging
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.codec import (
    BASE,
    COLOUR_RATE,
    COLOURS,
    FALL,
    LAGRANGE,
    RATES,
    SPREAD,
    STEP_AT_100,
    STYLE,
    Descent,
    FaceCodec,
    Latents,
    colour_values,
    distance,
    rate,
)
from mien.models.runtime import tune_process
from mien.models.training.data import read_face, to_tensor

CANDID, PORTRAITS = ("wild_train", "candid_train", "candid_train256"), ("train", "train256")
SMALL, LARGE = 20, 0
KEPT = (0, 1, 2, 4, 8)  # steps whose latents and gradients are kept
OFTEN = 9
COUNT = 16
BYTES = 320  # the ceiling whose expected quantiser step sets what bits count
log = logging.getLogger(__name__)


def order(folder: pathlib.Path) -> list[tuple[pathlib.Path, bool]]:
    """Files, and whether they are to be mirrored: candid and official portraits in turn, mirror images last."""
    random = np.random.default_rng(0)
    sets = []
    for names in (CANDID, PORTRAITS):
        files = [path for name in names for path in sorted((folder / name).glob("*.jpg"))]
        sets.append([files[i] for i in random.permutation(len(files))])
    both = min(map(len, sets))
    files = [path for pair in zip(*sets, strict=False) for path in pair] + sets[0][both:] + sets[1][both:]
    return [(path, mirrored) for mirrored in (False, True) for path in files]


def refine(codec: FaceCodec, face: Tensor) -> dict[str, Tensor]:
    """What a shard has of a face (3, 256, 256) in -1..1, but its name."""
    decoder, encoder = codec.decoder, codec.encoder
    with torch.no_grad():
        start = codec.look(face)[0].clone()
    base = len(decoder.centre)
    scale = torch.cat([RATES[BASE] * codec.base_deviation, torch.full((len(start) - base,), RATES[STYLE])])
    with torch.no_grad():
        plain = Latents((start[:base], start[base:], None, None), colour_values(np.zeros(COLOURS, np.int32)))
        colours = colour_values(codec.colours(face, decoder.draw([plain], 128, tinted=False))) / COLOUR_RATE
    parts = [part.clone().requires_grad_(True) for part in (start / scale).split([base, len(start) - base])]
    colours.requires_grad_(True)
    descent = Descent([*parts, colours], [False, True, False])
    width = STEP_AT_100 * (100 / BYTES) ** FALL
    step_of_quantiser = int(np.abs(np.log(decoder.steps / width)).argmin())
    steps = dict.fromkeys((BASE, STYLE), step_of_quantiser)
    rows = dict.fromkeys((BASE, STYLE), step_of_quantiser + SPREAD)
    latents, gradients, losses, missing = [], [], [], torch.zeros(())
    measures = {size: distance(encoder, F.interpolate(face[None], size=size, mode="area"), True) for size in (128, 256)}
    for step in range(SMALL + LARGE + 1):
        size = 128 if step < SMALL or not LARGE else 256
        whole = torch.cat(parts) * scale
        current = Latents((whole[:base], whole[base:], None, None), colours * COLOUR_RATE)
        seen = decoder.draw([current], size)
        if step % OFTEN == 0:
            with torch.no_grad():
                missing = F.interpolate(decoder.draw([current], 512), size=size, mode="area") - seen
        found = measures[size](seen + missing)
        losses.append(found.detach())
        if step == SMALL + LARGE:
            break
        total = found + LAGRANGE * width**2 * rate(decoder, current, steps, rows)
        found_gradients = torch.autograd.grad(total, [*parts, colours])
        if step in KEPT:
            latents.append(whole.detach())
            gradients.append(torch.cat(found_gradients[:2]) / scale)
        descent.step(found_gradients, 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / (SMALL + LARGE))))
    return {
        "start": start,
        "end": whole.detach(),
        "colours": colours.detach() * COLOUR_RATE,
        "latents": torch.stack(latents),
        "gradients": torch.stack(gradients),
        "loss": torch.stack(losses),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--faces", required=True, type=pathlib.Path)
    parser.add_argument("--weights", help="folder; the package's own if not named")
    parser.add_argument("--minutes", type=float, default=1e9, help="from now")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options.run.mkdir(parents=True, exist_ok=True)
    tune_process(1)
    codec, end = FaceCodec.load(options.weights), time.monotonic() + options.minutes * 60
    files = order(options.faces)
    for first in range(0, len(files), COUNT):
        path = options.run / f"targets-{first // COUNT:04d}.npz"
        if path.exists():
            continue
        names, found = [], []
        for file, mirrored in files[first : first + COUNT]:
            if time.monotonic() > end:
                return
            face = to_tensor(read_face(file)[None])[0]
            found.append(refine(codec, face.flip(-1) if mirrored else face))
            names.append("mirrored " * mirrored + f"{file.parent.name}/{file.name}")
        values = {key: torch.stack([one[key] for one in found]).numpy() for key in found[0]}
        partial = path.with_suffix(".partial.npz")
        np.savez(partial, name=np.array(names), **values)  # type: ignore[arg-type]  # not in numpy's stubs
        partial.rename(path)
        log.info(
            "%d faces, loss %.4f to %.4f", first + len(names), values["loss"][:, 0].mean(), values["loss"][:, -1].mean()
        )


if __name__ == "__main__":
    main()
