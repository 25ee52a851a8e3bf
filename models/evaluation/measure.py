"""Faces through mien and through conventional codecs, each measured from the bytes of a file that was read back."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mien.models.codec import Effort, FaceCodec, Objective
from mien.models.evaluation.metrics import Features, Meter, Quality, View
from mien.models.evaluation.peers import Candidate, Peer, Search, enlarge

Pixels = npt.NDArray[np.uint8]

MIEN = "mien"


@dataclass(frozen=True)
class Row:
    """One face by one codec within one ceiling. side: px of the coded picture; ms are of one face at a time."""

    face: str
    codec: str
    effort: str  # empty for a conventional codec
    ceiling: int
    bytes: int
    side: int
    quality: Quality
    encode_ms: float
    decode_ms: float
    score: float | None  # FaceCodec.scores, of mien only
    path: Path  # the file that was measured
    spaces: dict[str, Features] = field(repr=False)


@dataclass(frozen=True)
class Missing:
    """A conventional codec has no file of a face within a ceiling. smallest: bytes of its smallest."""

    codec: str
    ceiling: int
    smallest: int


class Bench:
    """Writes, reads back and measures faces (512, 512, 3) uint8 RGB; files are written to the folder."""

    def __init__(self, codec: FaceCodec, meter: Meter, folder: Path) -> None:
        self._codec, self._meter, self._folder = codec, meter, folder
        self._count = 0

    def mien(self, face: str, original: View, effort: Effort, ceiling: int, objective: Objective) -> Row:
        """By mien. PrivacyError or ValueError where encode() raises them."""
        begin = time.perf_counter()
        payload = self._codec.encode(original.pixels, max_bytes=ceiling, effort=effort, objective=objective)
        path, middle = self._write(payload, ".mien"), time.perf_counter()
        payload = path.read_bytes()
        picture = self._codec.decode(payload)
        end = time.perf_counter()
        return self._row(
            original,
            picture,
            face=face,
            codec=MIEN,
            effort=effort,
            ceiling=ceiling,
            bytes=len(payload),
            side=len(picture),
            encode_ms=(middle - begin) * 1000,
            decode_ms=(end - middle) * 1000,
            score=float(self._codec.scores(original.pixels[None], [payload])[0]),
            path=path,
        )

    def conventional(
        self, face: str, original: View, peers: Sequence[Peer], ceilings: Sequence[int], threads: int
    ) -> Iterator[Row | Missing]:
        """By each peer within each ceiling: the best of its sides, the one with the smallest LPIPS (without LPIPS's
        weights: the highest PSNR).
        """
        searches = [Search(peer, original.pixels) for peer in peers]

        def files(search: Search) -> list[tuple[int, list[Candidate], int]]:
            found = [(ceiling, search.candidates(ceiling)) for ceiling in ceilings]
            return [(ceiling, fit, 0 if fit else search.smallest()) for ceiling, fit in found]

        with ThreadPoolExecutor(threads) as pool:  # Pillow's and libjxl's coders let go of Python's lock
            packed = list(pool.map(files, searches))
        for peer, of_peer in zip(peers, packed, strict=True):
            for ceiling, fit, smallest in of_peer:
                if fit:
                    yield self._best(face, original, peer, ceiling, fit)
                else:
                    yield Missing(peer.name, ceiling, smallest)

    def _best(self, face: str, original: View, peer: Peer, ceiling: int, fit: list[Candidate]) -> Row:
        paths, pictures, times = [], [], []
        for candidate in fit:
            paths.append(self._write(candidate.data, peer.suffix))
            begin = time.perf_counter()
            pictures.append(enlarge(peer.unpack(paths[-1].read_bytes())))
            times.append((time.perf_counter() - begin) * 1000)
        best = int(np.argmin(self._meter.distances(original, pictures)))
        for i, path in enumerate(paths):
            if i != best:
                path.unlink()
        return self._row(
            original,
            pictures[best],
            face=face,
            codec=peer.name,
            effort="",
            ceiling=ceiling,
            bytes=paths[best].stat().st_size,
            side=fit[best].side,
            encode_ms=fit[best].ms,
            decode_ms=times[best],
            score=None,
            path=paths[best],
        )

    def _row(self, original: View, picture: Pixels, **known: object) -> Row:
        view = self._meter.view(picture)
        return Row(quality=self._meter.compare(original, view), spaces=view.spaces, **known)  # type: ignore[arg-type]

    def _write(self, data: bytes, suffix: str) -> Path:
        self._count += 1
        path = self._folder / f"{self._count}{suffix}"
        path.write_bytes(data)
        return path


_CODE = """
import sys
import numpy as np
from mien.models import FaceCodec
face, weights, ceiling, effort, objective = sys.argv[1:]
codec = FaceCodec.load(weights or None)
codec.decode(codec.encode(np.load(face), max_bytes=int(ceiling), effort=effort, objective=objective))
print(open("/proc/self/status").read())
"""


def peak_memory(face: Pixels, weights: str | None, ceiling: int, effort: Effort, objective: Objective) -> int | None:
    """Bytes at most of a process of its own that loads the codec, encodes the face and decodes it; None if unknown.

    Python and its libraries are in it. Read from Linux's /proc.
    """
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, face)
        file.flush()
        words = [file.name, weights or "", str(ceiling), effort, objective]
        done = subprocess.run([sys.executable, "-c", _CODE, *words], capture_output=True, text=True, check=False)
    found = re.search(r"^VmHWM:\s+(\d+) kB", done.stdout, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
