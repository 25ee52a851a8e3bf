"""The little that a safe photo's file says beside its pixels: fields the user asked for, and that faces were generated.

Nothing is copied: a field is read as one value, checked and cut to length, and written anew into a fresh EXIF block.
"""

import contextlib
import datetime
import io
import math
import unicodedata
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.TiffImagePlugin import IFDRational

from mien.models.errors import ImageError
from mien.models.images.files import Pixels, exif_of

KEPT = ("date", "copyright", "artist", "camera", "gps", "heading", "orientation")
MAX_TEXT = 200  # characters of a kept text

# EXIF 2.32: Artist, Copyright, Make, Model, Orientation in the first directory; DateTimeOriginal, OffsetTimeOriginal,
# LensMake and LensModel in the one it points to; no serial number, no owner, no maker's note
_EXIF, _GPS = 34665, 34853
_ORIENTATION, _DATE, _OFFSET = 274, 36867, 36881
_TEXTS = {"artist": (315,), "copyright": (33432,), "camera": (271, 272)}
_INNER_TEXTS = {"camera": (42035, 42036)}
# of the directory of places (EXIF 2.32, 4.6.6): the reference and the value of latitude, longitude, height, direction
_LATITUDE, _LONGITUDE, _HEIGHT, _DIRECTION = (1, 2), (3, 4), (5, 6), (16, 17)
_FINE = 1_000_000  # denominator of a place's numbers at most; a second's millionth is a hair's width
_DATE_FORMAT = "%Y:%m:%d %H:%M:%S"
_MAX_EXIF = 1 << 20  # bytes; a JPEG's block has 64 KiB

# IPTC's NewsCodes, "Digital Source Type"; the property is Iptc4xmpExt:DigitalSourceType of the IPTC Extension schema
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
_XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
    ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    "<xmp:CreatorTool>{tool}</xmp:CreatorTool>"
    "<Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>"
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
VISIBLE_MARK = "synthetic faces"


def kept_exif(data: bytes, fields: Sequence[str], turned: bool = False) -> bytes:
    """A new EXIF block with the named fields of an image file, as encode_image takes it; empty where it has none.

    fields: of KEPT. camera: maker and model of camera and lens; gps: latitude, longitude, height; heading: the
    direction. A value that is not what the field is for, or that cannot be read, is left out. turned: the pixels go
    with this file's orientation, and are not upright as decode_image gives them.
    """
    if not fields:
        return b""
    source = _read_exif(data)
    inner, places = source.get_ifd(_EXIF), source.get_ifd(_GPS)
    first = _texts(source, fields, _TEXTS)
    kept = {_EXIF: _texts(inner, fields, _INNER_TEXTS), _GPS: {}}
    if "date" in fields and (date := _date(inner.get(_DATE))):
        kept[_EXIF][_DATE] = date
        if offset := _offset(inner.get(_OFFSET)):
            kept[_EXIF][_OFFSET] = offset
    if "gps" in fields:
        kept[_GPS] |= _place(places)
    if "heading" in fields:
        kept[_GPS] |= _heading(places)
    if "orientation" in fields and turn_of(source):
        first[_ORIENTATION] = turn_of(source) if turned else 1  # 1: the pixels are upright
    target = Image.Exif()
    for tag, value in first.items():
        target[tag] = value
    for directory, values in kept.items():
        if values:  # Pillow writes a directory that was asked for, however empty
            target.get_ifd(directory).update(values)
    return target.tobytes() if first or any(kept.values()) else b""


def _texts(known: Mapping[int, object], fields: Sequence[str], tags: Mapping[str, Sequence[int]]) -> dict[int, Any]:
    """The texts of the named fields, by their tags in a directory."""
    found = {tag: _clean(known.get(tag)) for name in fields for tag in tags.get(name, ())}
    return {tag: text.encode() for tag, text in found.items() if text}


def turn_of(exif: Image.Exif) -> int:
    """How the pixels of a file are to be turned, 1 to 8; 0 where it does not say."""
    value = exif.get(_ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else 0


def _place(places: Mapping[int, object]) -> dict[int, Any]:
    """Latitude and longitude, both or none, and the height above the sea."""
    found: dict[int, Any] = {}
    for (ref, tag), words, limit in ((_LATITUDE, "NS", 90), (_LONGITUDE, "EW", 180)):
        angle, side = _numbers(places.get(tag), 3), _letter(places.get(ref), words)
        if not angle or not side or angle[0] + angle[1] / 60 + angle[2] / 3600 > limit or max(angle[1:]) > 60:
            return {}
        found |= {ref: side, tag: angle}
    if height := _numbers(places.get(_HEIGHT[1]), 1):
        below = places.get(_HEIGHT[0]) in (1, b"\1")
        found |= {_HEIGHT[0]: b"\1" if below else b"\0", _HEIGHT[1]: height[0]}
    return found


def _heading(places: Mapping[int, object]) -> dict[int, Any]:
    """Where the camera looked, in degrees from true or magnetic north."""
    angle = _numbers(places.get(_DIRECTION[1]), 1)
    if not angle or angle[0] > 360:
        return {}
    return {_DIRECTION[0]: _letter(places.get(_DIRECTION[0]), "TM") or "T", _DIRECTION[1]: angle[0]}


def _letter(value: object, known: str) -> str:
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    text = text.strip("\0 ") if isinstance(text, str) else ""
    return text if len(text) == 1 and text in known else ""


def _numbers(value: object, count: int) -> tuple[IFDRational, ...]:
    """So many finite numbers of at least 0, as fractions of their own; none where it is anything else."""
    parts = value if isinstance(value, tuple) else (value,)
    try:
        floats = [float(part) for part in parts]
    except (TypeError, ValueError, ZeroDivisionError):
        return ()
    if len(floats) != count or not all(math.isfinite(one) and 0 <= one < 100_000 for one in floats):
        return ()
    fractions = [Fraction(one).limit_denominator(min(_FINE, int(2**32 / (one + 1)) - 1)) for one in floats]
    return tuple(IFDRational(one.numerator, one.denominator) for one in fractions)


def _read_exif(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    try:
        block = exif_of(data)
        # a TIFF is its own block, and its directories may lie behind the pixels
        if block and (len(block) <= _MAX_EXIF or len(block) == len(data)):
            exif.load(block)
            exif.get_ifd(_EXIF)
            exif.get_ifd(_GPS)
    except Exception:  # on damaged metadata Pillow raises nearly every kind; it is then as good as none
        return Image.Exif()
    return exif


def _clean(value: object) -> str:
    """A text without anything that does not print, on one line, of at most MAX_TEXT characters."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    with contextlib.suppress(UnicodeEncodeError, UnicodeDecodeError):
        value = value.encode("latin-1").decode("utf-8")  # Pillow reads EXIF's texts as Latin-1; many are UTF-8
    printed = "".join(c if unicodedata.category(c)[0] not in "CZ" else " " for c in value)
    return " ".join(printed.split())[:MAX_TEXT]


def _date(value: object) -> str:
    try:
        return datetime.datetime.strptime(str(value).strip("\0 "), _DATE_FORMAT).strftime(_DATE_FORMAT)
    except ValueError:
        return ""


def _offset(value: object) -> str:
    try:
        text = str(value).strip("\0 ")
        datetime.datetime.strptime(text, "%z")
    except ValueError:
        return ""
    return text if len(text) == 6 else ""


def synthesis_xmp(version: str) -> bytes:
    """An XMP packet that says that a trained model made parts of the picture, and which mien did."""
    return _XMP.format(tool=escape(f"mien {version}"), source=COMPOSITE).encode()


def draw_mark(pixels: Pixels) -> None:
    """Writes VISIBLE_MARK into the lower right corner, in place; as high as 1/40 of the photo's shorter side.

    pixels: (H, W, 3) uint8 RGB; a photo in which it would take more than half of a side gets a smaller one.
    """
    height, width = pixels.shape[:2]
    size = max(9, min(height, width) // 40)
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(VISIBLE_MARK)
    pad = size // 3
    w, h = int(right - left) + 2 * pad, int(bottom - top) + 2 * pad
    label = Image.new("RGB", (w, h), (32, 32, 32))
    ImageDraw.Draw(label).text((pad - left, pad - top), VISIBLE_MARK, (240, 240, 240), font)
    label.thumbnail((max(1, width // 2), max(1, height // 2)))
    w, h = label.size
    pixels[height - h :, width - w :] = np.asarray(label)


def has_mark(data: bytes) -> bool:
    """Whether an image file's XMP says that its picture was made with a trained model. ImageError for what is none."""
    try:
        with Image.open(io.BytesIO(data)) as image:  # reads the header, and no pixel
            xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    except Exception as error:  # Pillow's plugins raise anything
        raise ImageError(f"no image file that can be read: {error}") from error
    return COMPOSITE.encode() in (xmp.encode() if isinstance(xmp, str) else xmp)
