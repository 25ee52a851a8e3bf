"""Conventional codecs at a few hundred bytes, under the rule of WaveOne's 2018 study.

A codec that cannot get so small codes a smaller picture, which is enlarged with bicubic after decoding. A file counts
with all its header. Each codec is given its densest container: JPEG with optimised Huffman tables, bare codestreams of
JPEG 2000 and JPEG XL, WebP by method 6.
"""

import importlib.util
import io
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

# px of the pictures that are tried: those a codec can fit, from the largest down, six of them
SIDES = (16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512)
TRIED = 6
PIXELS_A_BYTE = 200  # at most; no codec shows a face with less
FULL = SIDES[-1]
JPEG_XL = "JPEG XL"

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Peer:
    """A codec with a ladder of `steps` qualities, 0 the coarsest. pack: pixels and step to a file; unpack: back."""

    name: str
    suffix: str
    steps: int
    pack: Callable[[Pixels, int], bytes]
    unpack: Callable[[bytes], Pixels]


@dataclass(frozen=True)
class Candidate:
    """The finest file of one side in px that fits a ceiling."""

    side: int
    step: int
    data: bytes
    ms: float  # that packing took, shrinking included


def installed() -> dict[str, Peer]:
    """The codecs that there are, by name; JPEG XL needs imagecodecs (Pillow's plugin fails below quality 10)."""
    found = [
        Peer("JPEG", ".jpg", 95, lambda p, q: _save(p, "JPEG", quality=q + 1, optimize=True), _open),
        Peer("JPEG 2000", ".j2k", 128, _pack_jpeg2000, _open),
        Peer("WebP", ".webp", 128, _pack_webp, _open),
        Peer("AVIF", ".avif", 101, lambda p, q: _save(p, "AVIF", quality=q, speed=6, max_threads=1), _open),
    ]
    if importlib.util.find_spec("imagecodecs"):
        found.append(Peer(JPEG_XL, ".jxl", 101, _pack_jpeg_xl, _open_jpeg_xl))
    return {peer.name: peer for peer in found}


class Search:
    """The files of one face, (512, 512, 3) uint8 RGB, by one codec; what was packed once is not packed again."""

    def __init__(self, peer: Peer, face: Pixels) -> None:
        self._peer, self._face = peer, face
        self._files: dict[int, dict[int, Candidate]] = {side: {} for side in SIDES}

    def candidates(self, ceiling: int) -> list[Candidate]:
        """The finest file within ceiling bytes of the largest sides that have one, smallest side first; maybe none.

        Left out are sides that lose for sure: those below one that fits at the highest quality.
        """
        fit: list[int] = []
        for side in SIDES:
            if side * side > PIXELS_A_BYTE * ceiling or self._size(side, 0) > ceiling:
                break  # nor will a larger picture fit
            fit.append(side)
        found: list[Candidate] = []
        for side in fit[-TRIED:]:
            step = self._finest(side, ceiling)
            if step == self._peer.steps - 1:
                found.clear()
            found.append(self._files[side][step])
        return found

    def smallest(self) -> int:
        """Bytes of the codec's smallest file of this face."""
        return min(self._size(side, 0) for side in SIDES[:3])

    def _size(self, side: int, step: int) -> int:
        files = self._files[side]
        if step not in files:
            begin = time.perf_counter()
            data = self._peer.pack(shrink(self._face, side), step)
            files[step] = Candidate(side, step, data, (time.perf_counter() - begin) * 1000)
        return len(files[step].data)

    def _finest(self, side: int, ceiling: int) -> int:
        """The highest step that fits, if step 0 does; files are taken to grow with the step."""
        files, last = self._files[side], self._peer.steps - 1
        low = max(step for step, file in files.items() if len(file.data) <= ceiling)
        high = min((step for step in files if step > low), default=None)
        stride = 8
        while high is None and low < last:  # the finest files take long: no further than need be
            probe = min(low + stride, last)
            if self._size(side, probe) > ceiling:
                high = probe
            else:
                low, stride = probe, 2 * stride
        halve = False
        while high is not None and high - low > 1:
            a, b = (np.log(self._size(side, step)) for step in (low, high))
            share = 0.5 if halve or b <= a else (np.log(ceiling) - a) / (b - a)
            middle = int(np.clip(low + share * (high - low), low + 1, high - 1))
            halve = not halve  # interpolation alone creeps from one side
            if self._size(side, middle) > ceiling:
                high = middle
            else:
                low = middle
        return low


def shrink(face: Pixels, side: int) -> Pixels:
    """(S, S, 3) uint8 to (side, side, 3), with Lanczos."""
    return _resized(face, side, Image.Resampling.LANCZOS)


def enlarge(picture: Pixels) -> Pixels:
    """(S, S, 3) uint8 to (512, 512, 3), with bicubic: the study's rule."""
    return _resized(picture, FULL, Image.Resampling.BICUBIC)


def _resized(picture: Pixels, side: int, filter_: Image.Resampling) -> Pixels:
    if side == len(picture):
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), filter_))


def _save(pixels: Pixels, name: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, name, **options)
    return stream.getvalue()


def _open(data: bytes) -> Pixels:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def _pack_jpeg2000(pixels: Pixels, step: int) -> bytes:
    ratio = 4000 * (2 / 4000) ** (step / 127)
    return _save(pixels, "JPEG2000", no_jp2=True, irreversible=True, quality_mode="rates", quality_layers=[ratio])


def _pack_webp(pixels: Pixels, step: int) -> bytes:
    """At libwebp's quality for its quantiser 127 - step, by QualityToCompression in its src/enc/quant_enc.c: whole
    qualities pass over most of the coarse ones."""
    linear = (step / 127) ** 3
    quality = 100 * (linear * 1.5 if linear < 0.5 else (linear + 1) / 2)
    return _save(pixels, "WEBP", quality=quality, method=6)


def _pack_jpeg_xl(pixels: Pixels, step: int) -> bytes:
    import imagecodecs

    distance = 25 * (0.1 / 25) ** (step / 100)  # 25 is libjxl's coarsest
    return bytes(imagecodecs.jpegxl_encode(pixels, distance=distance, effort=7, usecontainer=False, numthreads=1))


def _open_jpeg_xl(data: bytes) -> Pixels:
    import imagecodecs

    return np.asarray(imagecodecs.jpegxl_decode(data))
