"""The little that a safe photo's file says beside its pixels: fields the user asked for, and that faces were generated.

Nothing is copied: a field is read as one value, checked and cut to length, and written anew into a fresh EXIF block.
"""

import contextlib
import datetime
import io
import unicodedata
from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.models.errors import ImageError
from mien.models.images.files import Pixels, exif_of

KEPT = ("date", "copyright", "artist")
MAX_TEXT = 200  # characters of a kept text

# EXIF 2.32: Artist, Copyright in the first directory; DateTimeOriginal and OffsetTimeOriginal in the one it points to
_ARTIST, _COPYRIGHT, _DATE, _OFFSET, _EXIF = 315, 33432, 36867, 36881, 34665
_TEXTS = {"artist": _ARTIST, "copyright": _COPYRIGHT}
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


def kept_exif(data: bytes, fields: Sequence[str]) -> bytes:
    """A new EXIF block with the named fields of an image file, as encode_image takes it; empty where it has none.

    fields: of KEPT. A value that is not what the field is for, or that cannot be read, is left out.
    """
    if not fields:
        return b""
    source = _read_exif(data)
    target = Image.Exif()
    for name in fields:
        if name in _TEXTS and (text := _clean(source.get(_TEXTS[name]))):
            target[_TEXTS[name]] = text.encode()
    if "date" in fields:
        inner = source.get_ifd(_EXIF)
        if date := _date(inner.get(_DATE)):
            target.get_ifd(_EXIF)[_DATE] = date
            if offset := _offset(inner.get(_OFFSET)):
                target.get_ifd(_EXIF)[_OFFSET] = offset
    return target.tobytes() if target or target.get_ifd(_EXIF) else b""


def _read_exif(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    try:
        block = exif_of(data)
        # a TIFF is its own block, and its directories may lie behind the pixels
        if block and (len(block) <= _MAX_EXIF or len(block) == len(data)):
            exif.load(block)
            exif.get_ifd(_EXIF)
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
