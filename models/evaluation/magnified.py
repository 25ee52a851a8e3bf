"""Magnified faces beside bicubic and Lanczos: how like the original, how consistent, and whither skin and age drift.

A face of 512 px is shrunk by area to 32 px (16x) and 8 px (64x), rounded to bytes and enlarged again.

- rms: grey levels between the input and the result shrunk again;
- tone: the individual typology angle of the skin (Chardon et al., 1991), degrees: atan((L* - 50) / b*) of the median
  CIELAB colour of forehead and cheeks; light skin has a large angle. It is that of the skin in this light, no more;
- wrinkles: deviation of the grey picture less its Gaussian blur, over forehead and cheeks, as a share of their
  brightness, in per cent: a proxy for age that needs no network;
- age: 0 (child), 1 (young), 2 (middle-aged), 3 (old), a linear reading of the recogniser's embedding (see the model
  card: learned on faces that do not exist, correlation 0.77).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mien.models.evaluation.measure import MIEN
from mien.models.evaluation.metrics import Features, Meter, Quality, View, kid
from mien.models.images import decode_image, encode_image
from mien.models.magnify import FaceMagnifier, rms, rms_limit, shrink
from mien.models.privacy import Deidentifier

Pixels = NDArray[np.uint8]

SIZE = 512
INPUTS = (32, 8)  # px: 16x and 64x
BICUBIC, LANCZOS = "bicubic", "Lanczos"
METHODS = (MIEN, BICUBIC, LANCZOS)
# Where skin is in an aligned face, as shares of its side: top, bottom, left, right of forehead and cheeks.
SKIN = ((0.25, 0.33, 0.38, 0.62), (0.56, 0.68, 0.28, 0.38), (0.56, 0.68, 0.62, 0.72))
# The classes of the angle that are usual in dermatology (Del Bino and Bernerd, 2013), joined two and two.
TONES = ((41.0, "very light and light"), (10.0, "intermediate and tan"), (-np.inf, "brown and dark"))
AGES = ((1.3, "looks young"), (1.7, "between"), (np.inf, "looks old"))
BLUR = 3.0  # px of a 512 px face: finer detail than that is counted as wrinkles


@dataclass(frozen=True)
class Skin:
    """What a face's pixels say of its skin, see above."""

    tone: float
    wrinkles: float
    age: float


@dataclass(frozen=True)
class MagnifiedRow:
    """One face, magnified in one way. original, made: their skin. ms: of magnifying alone; None but for mien."""

    face: str
    method: str
    input: int
    quality: Quality
    rms: float
    flagged: bool
    similarity: float
    ms: float | None
    original: Skin
    made: Skin
    path: Path
    spaces: dict[str, Features] = field(repr=False)


def shrunk(face: Pixels, size: int) -> Pixels:
    """A face (S, S, 3) uint8 to (size, size, 3) uint8, by area."""
    return np.rint(shrink(face, size)).astype(np.uint8)


class MagnifyBench:
    """Magnifies, writes, reads back and measures faces (512, 512, 3) uint8; pictures are written to the folder."""

    def __init__(self, magnifier: FaceMagnifier, meter: Meter, folder: Path, strength: float = 0.0) -> None:
        self._magnifier, self._meter, self._folder, self._strength = magnifier, meter, folder, strength
        self._traits = Deidentifier(magnifier.codec)
        self._count = 0

    def rows(self, face: str, original: View) -> list[MagnifiedRow]:
        """By all methods from all inputs."""
        return [
            self._row(face, original, shrunk(original.pixels, size), method) for size in INPUTS for method in METHODS
        ]

    def skin(self, view: View) -> Skin:
        """Of an aligned face."""
        tone, wrinkles = skin_figures(view.pixels)
        return Skin(tone, wrinkles, float(self._traits.apparent(view.identity.double().numpy())[1]))

    def _row(self, face: str, original: View, small: Pixels, method: str) -> MagnifiedRow:
        begin, ms, flagged = time.perf_counter(), None, False
        if method == MIEN:
            made = self._magnifier.magnify(small, strength=self._strength)
            ms = (time.perf_counter() - begin) * 1000
            picture, flagged = made.pictures[0], made.flagged[0]
        else:
            how = Image.Resampling.BICUBIC if method == BICUBIC else Image.Resampling.LANCZOS
            picture = np.asarray(Image.fromarray(small).resize((SIZE, SIZE), how))
        self._count += 1
        path = self._folder / f"{self._count}.png"
        path.write_bytes(encode_image(picture, "png"))
        view = self._meter.view(decode_image(path.read_bytes()))
        error = rms(view.pixels, small)
        flagged = flagged or (method != MIEN and error > rms_limit(len(small)))
        return MagnifiedRow(
            face, method, len(small), self._meter.compare(original, view), error, flagged,
            float(original.identity @ view.identity), ms, self.skin(original), self.skin(view), path, view.spaces,
        )  # fmt: skip


def skin_figures(face: Pixels) -> tuple[float, float]:
    """Tone, degrees, and wrinkles, per cent, of an aligned face (S, S, 3) uint8, see above."""
    colours = cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    grey = cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32)
    fine = grey - cv2.GaussianBlur(grey, (0, 0), BLUR * len(face) / SIZE)
    patches = [tuple(slice(*(round(v * len(face)) for v in part)) for part in (p[:2], p[2:])) for p in SKIN]
    light, _, yellow = np.median(np.concatenate([colours[p].reshape(-1, 3) for p in patches]), 0)
    tone = float(np.degrees(np.arctan2(light - 50, max(float(yellow), 1e-3))))
    wrinkles = float(np.mean([fine[p].std() / max(grey[p].mean(), 1.0) for p in patches])) * 100
    return tone, wrinkles


def lines(rows: Sequence[MagnifiedRow], originals: dict[str, dict[str, Features]]) -> list[dict[str, Any]]:
    """Means over the faces, a dict for each input and method; KID as in metrics.kid, None below four faces."""
    found = []
    for size in INPUTS:
        for method in METHODS:
            some = [row for row in rows if (row.input, row.method) == (size, method)]
            if not some:
                continue
            line: dict[str, Any] = {"input": size, "factor": SIZE // size, "method": method, "faces": len(some)}
            for name in ("lpips", "psnr", "ssim", "id", "dlib"):
                line[name] = _mean([getattr(row.quality, name) for row in some])
            pairs = [originals[row.face] for row in some], [row.spaces for row in some]
            for space in some[0].spaces:
                theirs, ours = ([known[space] for known in part] for part in pairs)
                distance = kid(np.stack(theirs), np.stack(ours))
                line[f"kid_{space}"], line[f"kid_{space}_std"] = distance or (None, None)
            line |= {
                "rms": _mean([row.rms for row in some]),
                "rms_max": max(row.rms for row in some),
                "limit": rms_limit(size),
                "flagged": sum(row.flagged for row in some) / len(some),
                "ms": float(np.median([row.ms for row in some])) if method == MIEN else None,
            }
            found.append(line)
    return found


def drift(rows: Sequence[MagnifiedRow]) -> list[dict[str, Any]]:
    """By groups of the originals' apparent tone and age: qualities, and the mean changes of tone, wrinkles and age."""
    found = []
    for size in INPUTS:
        some = [row for row in rows if (row.input, row.method) == (size, MIEN)]
        groups: list[tuple[str, Callable[[MagnifiedRow], str]]] = [
            ("tone", lambda row: next(name for least, name in TONES if row.original.tone > least)),
            ("age", lambda row: next(name for most, name in AGES if row.original.age < most)),
        ]
        for kind, group in groups:
            for _, name in TONES if kind == "tone" else AGES:
                part = [row for row in some if group(row) == name]
                if part:
                    found.append({"input": size, "factor": SIZE // size, "by": kind, "group": name, **_drifted(part)})
    return found


def _drifted(rows: Sequence[MagnifiedRow]) -> dict[str, Any]:
    figures: dict[str, Any] = {"faces": len(rows)}
    for name in ("lpips", "id", "dlib"):
        figures[name] = _mean([getattr(row.quality, name) for row in rows])
    for name in ("tone", "wrinkles", "age"):
        before, after = (
            [getattr(skin, name) for skin in part] for part in zip(*((r.original, r.made) for r in rows), strict=True)
        )
        figures[name] = float(np.mean(before))
        figures[f"{name}_change"] = float(np.mean(np.subtract(after, before)))
    return figures


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
