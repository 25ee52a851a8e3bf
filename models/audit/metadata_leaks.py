"""What an output file tells beside its picture: metadata that should be gone, and traces of the original's metadata.

A finding names the kind of thing and its length, never its content, so that an audit does not repeat what leaked. What
one file may take is bounded, in bytes, tries and time; one that is not searched to its end is a finding.
"""

import base64
import io
import re
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms

from mien.models.audit.metadata_segments import Segment, check_tags, inflate, segments
from mien.models.errors import SearchError

MIN_TRACE = 8  # bytes of a text of the original that counts as found again
_WINDOW = 32  # bytes of a second picture or trailer that are searched for, as many as _WINDOWS times
_WINDOWS = 16
_SEARCH_SECONDS = 60.0  # of one file, for each of the three things that are searched for
_SEARCH_TRIES = 20_000  # places where a picture or a packed stream may begin; chance gives one in 16 KB
_SEARCH_BYTES = 256 << 20  # that are read again or unpacked
_READ = 1000  # bytes that a reading counts for beside its own: Pillow asks for a byte at a time where it finds none
_KEY = 8  # first bytes of what is searched for, by which it is looked up; at most MIN_TRACE
_BLOCK = 1 << 20  # places of the output that are looked up at once
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"ftypavif", b"ftypheic")
_EXIF_IFD, _GPS_IFD, _MAKER_NOTE, _THUMBNAIL = 0x8769, 0x8825, 0x927C, 0x0201
# Tags that say nothing of a person or a place; and what a user may let pass by name (--keep date,copyright).
_PLAIN_TAGS = {"Orientation", "ColorSpace", "ExifVersion", "XResolution", "YResolution", "ResolutionUnit"} | {
    "YCbCrPositioning", "ExifOffset", "ComponentsConfiguration", "FlashPixVersion", "ExifImageWidth", "ExifImageHeight"
}  # fmt: skip
_KEPT_TAGS = {"DateTime", "DateTimeOriginal", "DateTimeDigitized", "OffsetTime", "OffsetTimeOriginal", "Copyright"}
# XMP that mien writes itself: the mark of synthesis and what says that it is XMP.
_PLAIN_XMP = re.compile(
    rb"http://(ns\.adobe\.com|www\.w3\.org|purl\.org|iptc\.org|cv\.iptc\.org|ns\.useplus\.org)[^\s\"'<>]*"
    rb"|adobe:ns:meta/|W5M0MpCehiHzreSzNTczkc9d|compositeWithTrainedAlgorithmicMedia|trainedAlgorithmicMedia"
    rb"|\bmien [0-9][0-9.a-z+]*"
)
_GENERIC = re.compile(
    rb"^(https?://\S*|ICC_PROFILE|Photoshop 3\.0|8BIM.*|Adobe_?\w*|JFIF|[A-Za-z]+:[A-Za-z]+|xpacket.*|[0\s.,:/-]+"
    rb"|ASCII|UNICODE|acspMSFT.*|mntr\w* ?\w*|.*sRGB.*|IEC 61966.*|IEC http.*|Reference Viewing Condition.*"
    rb"|Copyright \(c\) 1998 Hewlett-Packard Company|CRT curv|text|desc|.*lcms.*|.*Little ?CMS.*|No copyright.*)$"
)
_TEXT = re.compile(rb"[\x20-\x7e\x80-\xf4]{%d,}" % MIN_TRACE)
_WIDE_TEXT = re.compile(rb"(?:[\x20-\x7e]\x00){%d,}" % MIN_TRACE)
_XML_MARKUP = re.compile(  # nothing in it reads a byte twice
    rb"</?[A-Za-z][\w:.-]*|/?>|<\?[^<>]*\?>|(?<![\w:.-])[\w:.-]+=(?=[\"'])|[\"'\r\n\t]+| {2,}"
)


@dataclass(frozen=True)
class Leak:
    """kind: exif GPS, XMP, comment, trailer, second picture, embedded picture, trace of the original, ... detail: which
    tag or part, and how many bytes. leak: False for what is only worth a look, as a date that --keep lets pass."""

    kind: str
    detail: str
    leak: bool = True


class _Budget:
    """What one search of a file may still take."""

    def __init__(self) -> None:
        self.bytes, self._tries = _SEARCH_BYTES, _SEARCH_TRIES
        self._until = time.monotonic() + _SEARCH_SECONDS

    def take(self, size: int, tries: int = 0) -> None:
        """SearchError where there is no more."""
        self.bytes -= size
        self._tries -= tries
        if self.bytes < 0 or self._tries < 0 or time.monotonic() > self._until:
            what = "bytes" if self.bytes < 0 else "places to search" if self._tries < 0 else "time"
            raise SearchError(f"it takes too much {what}" if what == "time" else f"it has too many {what}")


class _From:
    """A file from one of its bytes on, for Pillow to read without a copy of it."""

    def __init__(self, data: bytes, start: int, budget: _Budget) -> None:
        self._data, self._start, self._at, self._budget = data, start, start, budget

    def read(self, size: int = -1) -> bytes:
        end = len(self._data) if size < 0 else min(self._at + size, len(self._data))
        piece = self._data[self._at : end]
        self._budget.take(len(piece) + _READ)
        self._at += len(piece)
        return piece

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: self._start, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        self._at = max(self._start, base + offset)
        return self._at - self._start

    def tell(self) -> int:
        return self._at - self._start


def unfinished(error: SearchError) -> Leak:
    """The finding that a file was not searched to its end."""
    return Leak("not searched", f"not searched to the end: {error}")


def file_leaks(data: bytes) -> list[Leak]:
    """What lies in an image file beside its picture and mien's chunk, whatever the original had."""
    found: list[Leak] = []
    for segment in segments(data):
        found += _segment_leaks(segment)
    try:
        for offset, kind, width, height in _embedded(data):
            found.append(Leak("embedded picture", f"{kind} of {width} x {height} at byte {offset}"))
    except SearchError as error:
        found.append(unfinished(error))
    return found


def _segment_leaks(segment: Segment) -> Iterator[Leak]:
    size = f"{len(segment.data)} bytes"
    if segment.kind == "exif":
        yield from _exif_leaks(segment.data)
    elif segment.kind == "xmp":
        rest = b" ".join(_xmp_texts(_PLAIN_XMP.sub(b"", segment.data)))
        words = [word for word in re.findall(rb"[\w.+/-]{3,}", rest) if not re.fullmatch(rb"[\d./-]+", word)]
        yield Leak("XMP", f"{size}, {len(words)} words beside the mark of synthesis", bool(words))
    elif segment.kind == "icc":
        yield Leak("colour profile", size, not _is_plain_profile(segment.data))
    elif segment.kind == "mpf":
        yield Leak("MPF", f"{size}: an index of second pictures")
    elif segment.kind == "unreadable":
        yield Leak("unreadable", f"the file cannot be walked from byte {segment.offset} on")
    else:
        yield Leak(segment.kind, size, bool(segment.data.strip(b"\0 ")))


def _exif_leaks(data: bytes) -> Iterator[Leak]:
    try:
        tags = exif_tags(data)
    except Exception:  # Pillow raises nearly every kind on a damaged block
        yield Leak("EXIF", f"{len(data)} bytes that cannot be read")
        return
    for name, value in tags:
        if name in _PLAIN_TAGS:
            continue
        kind = name if name in ("GPS", "thumbnail", "maker note") else "tag"
        yield Leak(f"EXIF {kind}", f"{name}, {len(value)} bytes", name not in _KEPT_TAGS)


def exif_tags(data: bytes) -> list[tuple[str, bytes]]:
    """Name and value of all tags of an EXIF block; "GPS", "maker note" and "thumbnail" for those. Pillow's errors."""
    if data[2:4] in (b"+\0", b"\0+"):
        raise ValueError("a BigTIFF directory, which EXIF has none of")
    check_tags(data)
    exif = Image.Exif()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exif.load(b"Exif\0\0" + data)
        found = [(ExifTags.TAGS.get(tag, f"tag {tag}"), _bytes(value)) for tag, value in exif.items()]
        for tag, value in exif.get_ifd(_EXIF_IFD).items():
            name = "maker note" if tag == _MAKER_NOTE else ExifTags.TAGS.get(tag, f"tag {tag}")
            found.append((name, _bytes(value)))
        found += [("GPS", _bytes(value)) for value in exif.get_ifd(_GPS_IFD).values()]
        first = exif.get_ifd(ExifTags.IFD.IFD1)
        if _THUMBNAIL in first or first:
            found.append(("thumbnail", data[int(first.get(_THUMBNAIL, 0)) :] if _THUMBNAIL in first else b""))
    return [(name, value) for name, value in found if name not in ("GPSInfo", "ExifOffset", "MakerNote")]


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    return str(value).strip("\0 ").encode()


def _is_plain_profile(data: bytes) -> bool:
    """Whether a profile is one of sRGB, which says nothing but that."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data.partition(b"\0")[2] if data[36:40] != b"acsp" else data))
        return "sRGB" in ImageCms.getProfileDescription(profile)
    except (ImageCms.PyCMSError, OSError):
        return False


def embedded_pictures(data: bytes) -> list[tuple[int, str, int, int]]:
    """(offset, format, width, height) of every picture that starts inside the file, behind its own start. SearchError
    where too much looks like one."""
    return list(_embedded(data))


def _embedded(data: bytes) -> Iterator[tuple[int, str, int, int]]:
    budget = _Budget()
    for signature in _SIGNATURES:
        back = 4 if signature.startswith(b"ftyp") else 0
        pos = data.find(signature, back + 1)
        while pos >= 0:
            start = pos - back
            budget.take(0, 1)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image = Image.open(_From(data, start, budget))  # type: ignore[arg-type]  # what Pillow needs of it
                if start > 0 and min(image.size) > 1:
                    yield start, str(image.format), *image.size
            except SearchError:
                raise
            except Exception:  # no picture: the bytes only look like the start of one
                pass
            pos = data.find(signature, pos + 1)


def _xmp_texts(data: bytes) -> list[bytes]:
    """The values in XMP, without its markup."""
    return [text.strip() for text in _XML_MARKUP.split(data) if text.strip()]


def traces(original: bytes) -> dict[bytes, str]:
    """What is worth searching for in an output: texts and values of the original's metadata of at least MIN_TRACE
    bytes, and pieces of its thumbnails, second pictures and trailers, each with where it is from. SearchError where too
    much of it looks like second pictures."""
    found: dict[bytes, str] = {}
    for segment in segments(original):
        if segment.kind == "exif":
            try:
                tags = exif_tags(segment.data)
            except Exception:  # damaged: its texts are searched all the same
                tags = []
            for name, value in tags:
                for text in _texts(value):
                    found.setdefault(text, f"EXIF {name}")
                if name in ("thumbnail", "maker note"):
                    found.update(dict.fromkeys(_windows(value), f"EXIF {name}"))
        if segment.kind == "xmp":
            texts = [text for value in _xmp_texts(segment.data) for text in _texts(value)]
        else:
            texts = list(_texts(segment.data))
        for text in texts:
            found.setdefault(text, segment.kind)
        if segment.kind in ("trailer", "mpf") or segment.kind.startswith("other"):
            found.update(dict.fromkeys(_windows(segment.data), segment.kind))
    for offset, kind, _, _ in embedded_pictures(original):
        found.update(dict.fromkeys(_windows(original[offset : offset + 65536]), f"embedded {kind}"))
    return found


def trace_leaks(needles: dict[bytes, str], output: bytes) -> list[Leak]:
    """Which of the original's traces are in the output's bytes, as they are, unpacked, or in base64."""
    needle_of = {needle.decode("latin-1").encode("utf-16-le"): needle for needle in needles} | {n: n for n in needles}
    search = _Search(needle_of)
    leaks: list[Leak] = []
    try:
        for place in _places(output):
            search.look(place)
    except SearchError as error:
        leaks.append(unfinished(error))
    found: dict[str, list[int]] = {}
    for needle in {needle_of[text] for text in search.found}:
        found.setdefault(needles[needle], []).append(len(needle))
    kept = {f"EXIF {tag}" for tag in _KEPT_TAGS}
    return leaks + [
        Leak("trace of the original", f"{len(sizes)} of {source}, up to {max(sizes)} bytes", source not in kept)
        for source, sizes in sorted(found.items())
    ]


def _places(output: bytes) -> Iterator[bytes]:
    """What a file holds, one after the other: itself, its parts, what is in base64, what is packed. SearchError."""
    budget = _Budget()
    yield output
    for segment in segments(output):
        budget.take(len(segment.data))
        yield segment.data
    for match in re.finditer(rb"[A-Za-z0-9+/]{64,}", output):
        for start in range(match.start(), match.start() + 4):  # a letter before it is none of its own
            text = output[start : match.end()]
            budget.take(len(text))
            yield base64.b64decode(text[: len(text) // 4 * 4])
    for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", output):
        budget.take(0, 1)
        unpacked = inflate(output, match.start(), budget.bytes)
        budget.take(len(unpacked))
        yield unpacked


class _Search:
    """Looks for many texts of at least MIN_TRACE bytes at once, in a time that hardly grows with their number."""

    def __init__(self, texts: Iterable[bytes]) -> None:
        self.found: set[bytes] = set()
        self._by_key: dict[bytes, dict[int, set[bytes]]] = {}
        for text in texts:
            self._by_key.setdefault(text[:_KEY], {}).setdefault(len(text), set()).add(text)
        self._keys = np.unique(np.frombuffer(b"".join(self._by_key), f"<u{_KEY}"))
        self._begins: npt.NDArray[np.bool_] = np.zeros(
            1 << 16, np.bool_
        )  # whether one begins with these two bytes: few places are left
        self._begins[self._keys & 0xFFFF] = True
        self._until = time.monotonic() + _SEARCH_SECONDS

    def look(self, place: bytes) -> None:
        """Adds to found what is there. SearchError where it takes too long."""
        if not len(self._keys):
            return
        for begin in range(0, len(place) - _KEY + 1, _BLOCK):
            if time.monotonic() > self._until:
                raise SearchError("it takes too much time")
            block = np.frombuffer(place, np.uint8, min(_BLOCK + _KEY - 1, len(place) - begin), begin)
            pairs = block[: 1 - _KEY].astype(np.uint16) | block[1 : len(block) - _KEY + 2].astype(np.uint16) << 8
            starts = np.flatnonzero(self._begins[pairs])
            words = np.lib.stride_tricks.sliding_window_view(block, _KEY)[starts].view(f"<u{_KEY}")[:, 0]
            nearest = self._keys[np.searchsorted(self._keys, words).clip(max=len(self._keys) - 1)]
            for at in (starts[nearest == words] + begin).tolist():
                for length, texts in self._by_key[place[at : at + _KEY]].items():
                    if (text := place[at : at + length]) in texts:
                        self.found.add(text)


def _texts(data: bytes) -> Iterator[bytes]:
    runs = _TEXT.findall(data) + [run[::2] for run in _WIDE_TEXT.findall(data)]
    for run in runs:
        text = run.strip()
        if len(text) >= MIN_TRACE and len(set(text)) >= 5 and not _GENERIC.match(text[:256]):
            yield text[:256]


def _windows(data: bytes) -> Iterator[bytes]:
    """Pieces from all over the data that are not the same in every file of a kind."""
    step = max(_WINDOW, len(data) // _WINDOWS)
    for start in range(len(data) // 8, len(data) - _WINDOW, step):
        piece = data[start : start + _WINDOW]
        if len(set(piece)) >= 20:
            yield piece
