"""Every face's figures to one line a codec and ceiling, and the bytes that a codec needs for mien's quality."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from mien.models.codec import FaceCodec
from mien.models.evaluation.measure import MIEN, Missing, Row
from mien.models.evaluation.metrics import Features, kid

QUALITIES = ("lpips", "psnr", "ssim", "id", "dlib")
LOWER_IS_BETTER = frozenset({"lpips", "dlib"})
NEEDED = ("lpips", "id")  # the qualities for which the bytes needed are told


@dataclass(frozen=True)
class Line:
    """One codec within one ceiling on one set. Qualities are means, ms medians; None where there is nothing to tell.

    faces: how many of the set have a file within the ceiling. Where not all have one, only the bytes are told: the
    mean of the others' qualities would flatter the codec.
    """

    codec: str
    effort: str
    ceiling: int
    faces: int
    smallest: int | None  # bytes of the smallest file of a face that has none within the ceiling, at least
    bytes_mean: float | None = None
    bytes_max: int | None = None
    side: float | None = None  # median, px
    lpips: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    id: float | None = None
    dlib: float | None = None
    kid_recogniser: float | None = None
    kid_recogniser_std: float | None = None
    kid_squeezenet: float | None = None
    kid_squeezenet_std: float | None = None
    fell_back: float | None = None  # share with a score below FaceCodec.MIN_SCORE, of mien only
    encode_ms: float | None = None
    decode_ms: float | None = None


@dataclass(frozen=True)
class Need:
    """What a codec needs for mien's mean `quality` at an effort and ceiling: bytes, and times mien's own mean.

    bound: "" for a figure between two measured points; "at most" where the codec's smallest files are better already;
    "more than" where its largest are not so good.
    """

    effort: str
    ceiling: int
    quality: str
    target: float
    codec: str
    bytes: float
    ratio: float
    bound: str


def line_of(
    codec: str,
    effort: str,
    ceiling: int,
    rows: Sequence[Row],
    originals: dict[str, dict[str, Features]],
    missing: Sequence[Missing] = (),
) -> Line:
    """Of the faces' rows, and of those without a file. originals: features by face and space."""
    smallest = min((none.smallest for none in missing), default=None)
    if not rows:
        return Line(codec, effort, ceiling, 0, smallest)
    sizes = [row.bytes for row in rows]
    found = Line(codec, effort, ceiling, len(rows), smallest, float(np.mean(sizes)), max(sizes))
    if missing:
        return found
    figures: dict[str, float | None] = {"side": float(np.median([row.side for row in rows]))}
    for name in QUALITIES:
        values = [value for row in rows if (value := getattr(row.quality, name)) is not None]
        figures[name] = float(np.mean(values)) if values else None
    for space in rows[0].spaces:
        ours = np.stack([row.spaces[space] for row in rows])
        distance = kid(np.stack([originals[row.face][space] for row in rows]), ours)
        figures[f"kid_{space}"], figures[f"kid_{space}_std"] = distance or (None, None)
    scores = [row.score for row in rows if row.score is not None]
    if scores:
        figures["fell_back"] = float(np.mean(np.array(scores) < FaceCodec.MIN_SCORE))
    for name in ("encode_ms", "decode_ms"):
        figures[name] = float(np.median([getattr(row, name) for row in rows]))
    return Line(**{**asdict(found), **figures})


def reached(lines: Sequence[Line], codec: str) -> bool:
    """Whether the codec is somewhere as good as mien is at its best, in every quality of NEEDED."""
    for name in NEEDED:
        ours, theirs = (
            max((_good(line, name) for line in lines if line.codec == who), default=-math.inf) for who in (MIEN, codec)
        )
        if theirs < ours:
            return False
    return True


def needs(lines: Sequence[Line]) -> list[Need]:
    """Bytes that each conventional codec needs for the mean quality of each of mien's lines: linear in the logarithm of
    the mean bytes between measured points, of which only those count that are better than all with fewer bytes."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for line in sorted(lines, key=lambda line: line.bytes_mean or 0):
        for name in NEEDED:
            good = _good(line, name)
            curve = curves.setdefault((line.codec, name), [])
            if line.codec != MIEN and line.bytes_mean and good > -math.inf and (not curve or good > curve[-1][1]):
                curve.append((line.bytes_mean, good))
    found = []
    for line in lines:
        if line.codec != MIEN or not line.bytes_mean:
            continue
        for (codec, name), curve in curves.items():
            target = getattr(line, name)
            if curve and target is not None:
                size, bound = _bytes_for(curve, _good(line, name))
                ratio = size / line.bytes_mean
                found.append(Need(line.effort, line.ceiling, name, target, codec, size, ratio, bound))
    return found


def _good(line: Line, name: str) -> float:
    value = getattr(line, name)
    if value is None:
        return -math.inf
    return -value if name in LOWER_IS_BETTER else value


def _bytes_for(curve: Sequence[tuple[float, float]], good: float) -> tuple[float, str]:
    if good <= curve[0][1]:
        return curve[0][0], "" if good == curve[0][1] else "at most"
    if good > curve[-1][1]:
        return curve[-1][0], "more than"
    sizes, values = zip(*curve, strict=True)
    return float(2 ** np.interp(good, values, np.log2(sizes))), ""
