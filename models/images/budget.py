"""A picture as a file of at most so many bytes: which size and which quality, found by a few real codings.

At a few hundred bytes every codec shows more with fewer pixels, each coded well, than with all of them coded badly: the
picture is shrunk before it is coded, and enlarged again after it was decoded.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from mien.models.errors import BudgetError
from mien.models.images.files import MAX_SIDE, decode_image, encode_image
from mien.models.images.slim_avif import slim_avif

Codec = Literal["avif", "webp", "jpeg"]
Pixels = npt.NDArray[np.uint8]

# Bytes of a file that are not the picture's, and pixels that are best coded in each byte of it, by those bytes:
# measured with AVIF on portraits by LPIPS at 256 px; the other codecs hold fewer pixels a byte.
OVERHEAD = {"avif": 238, "webp": 30, "jpeg": 330}
DENSITY = {"avif": 1.0, "webp": 0.6, "jpeg": 0.4}
STREAM_BYTES, PIXELS_A_BYTE = (0, 800, 2_000, 4_000, 8_000, 16_000, 64_000), (50, 45, 40, 32, 25, 20, 16)
SPREAD = (0.5, 0.8, 1.3, 2.0)  # of the pixels a byte: what is tried where the picture is small
LOOKED_AT = 12_000  # bytes up to which several sizes are tried: beyond it they differ by little
LEAST_SIDE = 16  # px of the longer side at least
MOST_QUALITY = 90  # no picture is worth more: what is left of the budget stays unused
CLOSE = 0.98  # of the budget: near enough
TRIES = 5  # other sizes, where the steps of quality are too coarse to come that close


@dataclass(frozen=True)
class Fitted:
    """A picture coded within a budget. data: the file; pixels: what it shows, at the original's size, (H, W, 3) uint8;
    size: width and height in the file; quality: the codec's; full: whether nothing better was to be had."""

    data: bytes
    pixels: Pixels
    size: tuple[int, int]
    quality: int
    full: bool


def scaled(width: int, height: int, longer: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side is shrunk to `longer` px, the other in proportion, rounded."""
    most = max(width, height)
    return tuple(max(1, (2 * side * longer + most) // (2 * most)) for side in (width, height))  # type: ignore[return-value]


def is_scaled(size: tuple[int, int], width: int, height: int) -> bool:
    """Whether a picture of this size is one of width x height, shrunk as scaled() does or as it is."""
    return max(size) <= max(width, height) and scaled(width, height, max(size)) == size


def shrink(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) uint8 to a size (width, height), with Lanczos."""
    if size == pixels.shape[1::-1]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def enlarge(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) uint8 to a size (width, height), with bicubic: Lanczos rings around a codec's blocks."""
    if size == pixels.shape[1::-1]:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))


def encode_dense(pixels: Pixels, codec: Codec, quality: int) -> bytes:
    """As encode_image, in fewer bytes and more time where the picture is small. quality: 0 to 100."""
    count = pixels.shape[0] * pixels.shape[1]
    if codec == "jpeg":
        return encode_image(pixels, codec, max(1, quality))
    out = io.BytesIO()
    options: dict[str, Any] = {"quality": quality}
    if codec == "webp":
        Image.fromarray(pixels).save(out, "WEBP", method=6, **options)
        return out.getvalue()
    # by LPIPS libaom's tune for SSIM is better below some 60,000 pixels, libavif's own choice, that for stills, above
    if count < 60_000:
        options["advanced"] = {"tune": "ssim"}
    speed = 4 if count < 60_000 else 6 if count < 1_000_000 else 8
    options |= {"subsampling": "4:2:0", "speed": speed, "max_threads": 1, "autotiling": False}
    Image.fromarray(pixels).save(out, "AVIF", **options)
    return slim_avif(out.getvalue())


def fit_picture(
    pixels: Pixels, codec: Codec, max_bytes: int, distance: Callable[[Pixels], float] | None = None
) -> Fitted:
    """The picture as a file of at most max_bytes, within 2 % of them where its content allows.

    pixels: (H, W, 3) uint8 RGB. distance: of a picture of the same size from this one: it chooses among four sizes.
    BudgetError, with the least that the picture needs, where it cannot be made so small.
    """
    search = _Search(pixels, codec, max_bytes)
    best: Fitted | None = None
    least = float("inf")
    for longer in _sides(pixels.shape[1::-1], codec, max_bytes, several=distance is not None):
        found = search.at(longer)
        if found is None:
            continue
        if distance is None:
            best = found
            break
        if (value := distance(found.pixels)) < least:
            best, least = found, value
    return search.closer(best) if best else search.smallest()


def _sides(size: tuple[int, ...], codec: Codec, max_bytes: int, several: bool) -> list[int]:
    """Longer sides to try, in px: those of the table, and smaller and larger ones."""
    stream = max(max_bytes - OVERHEAD[codec], 30)
    density = float(np.interp(stream, STREAM_BYTES, PIXELS_A_BYTE)) * DENSITY[codec]
    full, area = min(max(size), MAX_SIDE[codec]), size[0] * size[1]
    factors = SPREAD if several and stream <= LOOKED_AT else (1.0,)
    sides = (round(max(size) * (factor * density * stream / area) ** 0.5) for factor in factors)
    return list(dict.fromkeys(min(full, max(side, min(full, LEAST_SIDE))) for side in sides))


class _Search:
    """Codings of one picture; none is made twice."""

    def __init__(self, pixels: Pixels, codec: Codec, max_bytes: int) -> None:
        self._pixels, self._codec, self._max = pixels, codec, max_bytes
        self._size = pixels.shape[1], pixels.shape[0]
        self._most = min(max(self._size), MAX_SIDE[codec])
        self._files: dict[int, dict[int, bytes]] = {}

    def _file(self, longer: int, quality: int) -> bytes:
        files = self._files.setdefault(longer, {})
        if quality not in files:
            files[quality] = encode_dense(shrink(self._pixels, scaled(*self._size, longer)), self._codec, quality)
        return files[quality]

    def at(self, longer: int, start: int = 30) -> Fitted | None:
        """The finest file of this side that fits; None where none does."""
        low, high = -1, MOST_QUALITY + 1  # qualities that fit and that do not
        probe = start
        while high - low > 1:
            size = len(self._file(longer, probe))
            if size <= self._max:
                low = probe
                if size >= CLOSE * self._max:
                    break
            else:
                high = probe
            probe = self._next(longer, low, high)
        return self._fitted(longer, low) if low >= 0 else None

    def _next(self, longer: int, low: int, high: int) -> int:
        """A quality between: where the logarithms of the two nearest sizes, or the usual growth, let expect the fit."""
        files = self._files[longer]
        over = OVERHEAD[self._codec] - 60
        known = {q: np.log(max(len(data) - over, 8)) for q, data in files.items()}
        wanted = np.log(max(self._max * (1 + CLOSE) / 2 - over, 8))
        if low >= 0 and high in known:
            span = known[high] - known[low]
            guess = low + (high - low) * (wanted - known[low]) / span if span > 0 else (low + high) / 2
        else:  # bytes double with some 22 steps of quality
            at = low if low >= 0 else high
            guess = at + (wanted - known[at]) * 22 / np.log(2)
        return int(np.clip(round(guess), low + 1, high - 1))

    def _fitted(self, longer: int, quality: int) -> Fitted:
        data = self._files[longer][quality]
        size = scaled(*self._size, longer)
        shown = enlarge(decode_image(data, max_pixels=size[0] * size[1]), self._size)
        return Fitted(data, shown, size, quality, longer == self._most and quality == MOST_QUALITY)

    def closer(self, found: Fitted) -> Fitted:
        """The same at a size that fills the budget, where a step of quality is too coarse to."""
        over = OVERHEAD[self._codec] - 60
        best, quality = found, found.quality
        low, high = max(found.size), self._most + 1
        for _ in range(TRIES):
            if len(best.data) >= CLOSE * self._max or low >= self._most:
                break
            grown = low * ((self._max * (1 + CLOSE) / 2 - over) / (len(best.data) - over)) ** 0.55
            longer = int(np.clip(round(grown), low + 1, high - 1)) if high - low > 1 else low
            if longer == low:
                break
            if len(self._file(longer, quality)) <= self._max:
                low, best = longer, self._fitted(longer, quality)
            else:
                high = longer
        return best

    def smallest(self) -> Fitted:
        """Where no size of the table fits: the largest that does; BudgetError where none does."""
        longer, floor = min(self._files, default=self._most), min(self._most, LEAST_SIDE)
        while longer > floor:
            longer = max(floor, int(longer * 0.7))
            if len(self._file(longer, 0)) <= self._max and (found := self.at(longer, 0)):
                return self.closer(found)
        least = len(self._file(floor, 0))
        if least <= self._max and (found := self.at(floor, 0)):
            return found
        raise BudgetError(least)
