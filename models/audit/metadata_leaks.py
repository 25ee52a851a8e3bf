"""What an output file tells beside its picture: metadata that should be gone, and traces of the original's metadata.

A finding names the kind of thing and its length, never its content, so that an audit does not repeat what leaked.
"""

import base64
import io
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageCms

from mien.models.audit.metadata_segments import Segment, inflate, segments

MIN_TRACE = 8  # bytes of a text of the original that counts as found again
_WINDOW = 32  # bytes of a second picture or trailer that are searched for, as many as _WINDOWS times
_WINDOWS = 16
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
_XML_MARKUP = re.compile(rb"</?[A-Za-z][\w:.-]*|/?>|<\?[^>]*\?>|[\w:.-]+=(?=[\"'])|[\"'\r\n\t]+| {2,}")


@dataclass(frozen=True)
class Leak:
    """kind: exif GPS, XMP, comment, trailer, second picture, embedded picture, trace of the original, ... detail: which
    tag or part, and how many bytes. leak: False for what is only worth a look, as a date that --keep lets pass."""

    kind: str
    detail: str
    leak: bool = True


def file_leaks(data: bytes) -> list[Leak]:
    """What lies in an image file beside its picture and mien's chunk, whatever the original had."""
    found: list[Leak] = []
    for segment in segments(data):
        found += _segment_leaks(segment)
    found += [
        Leak("embedded picture", f"{kind} of {width} x {height} at byte {offset}")
        for offset, kind, width, height in embedded_pictures(data)
    ]
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
    """(offset, format, width, height) of every picture that starts inside the file, behind its own start."""
    found = []
    for signature in _SIGNATURES:
        back = 4 if signature.startswith(b"ftyp") else 0
        pos = data.find(signature, back + 1)
        while pos >= 0:
            start = pos - back
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    image = Image.open(io.BytesIO(data[start:]))
                if start > 0 and min(image.size) > 1:
                    found.append((start, str(image.format), *image.size))
            except Exception:  # no picture: the bytes only look like the start of one
                pass
            pos = data.find(signature, pos + 1)
    return found


def _xmp_texts(data: bytes) -> list[bytes]:
    """The values in XMP, without its markup."""
    return [text.strip() for text in _XML_MARKUP.split(data) if text.strip()]


def traces(original: bytes) -> dict[bytes, str]:
    """What is worth searching for in an output: texts and values of the original's metadata of at least MIN_TRACE
    bytes, and pieces of its thumbnails, second pictures and trailers, each with where it is from."""
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
    places = [output, *(segment.data for segment in segments(output))]
    places += [base64.b64decode(text + b"=" * (-len(text) % 4)) for text in re.findall(rb"[A-Za-z0-9+/]{64,}", output)]
    places += [inflate(output[match.start() :]) for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", output)][:256]
    found: dict[str, list[int]] = {}
    for needle, source in needles.items():
        wide = needle.decode("latin-1").encode("utf-16-le")
        if any(needle in place or wide in place for place in places):
            found.setdefault(source, []).append(len(needle))
    kept = {f"EXIF {tag}" for tag in _KEPT_TAGS}
    return [
        Leak("trace of the original", f"{len(sizes)} of {source}, up to {max(sizes)} bytes", source not in kept)
        for source, sizes in found.items()
    ]


def _texts(data: bytes) -> Iterator[bytes]:
    runs = _TEXT.findall(data) + [run[::2] for run in _WIDE_TEXT.findall(data)]
    for run in runs:
        text = run.strip()
        if len(text) >= MIN_TRACE and len(set(text)) >= 5 and not _GENERIC.match(text):
            yield text[:256]


def _windows(data: bytes) -> Iterator[bytes]:
    """Pieces from all over the data that are not the same in every file of a kind."""
    step = max(_WINDOW, len(data) // _WINDOWS)
    for start in range(len(data) // 8, len(data) - _WINDOW, step):
        piece = data[start : start + _WINDOW]
        if len(set(piece)) >= 20:
            yield piece
