"""A still AVIF with as few bytes beside the picture as readers allow: at 700 bytes a photo the usual 270 are too many.

Kept are the boxes without which libavif and other readers refuse a file (ISO 23008-12, ISO 23000-22: hdlr, pitm, iloc,
iinf, and the properties ispe, pixi and av1C). Left out are the item's name, the brands that no reader asks for, and the
colr box where the AV1 sequence header says the same.
"""

import struct

from mien.models.errors import ImageError
from mien.models.images.av1 import colours_of
from mien.models.images.heif_boxes import item_data, properties

SRGB = (1, 13)  # primaries and transfer function of ITU-T H.273
_NEEDED = (b"ispe", b"pixi", b"av1C")


def slim_avif(data: bytes) -> bytes:
    """The same picture, byte for byte of its AV1 stream, in the fewest boxes.

    data: a still AVIF of one item in one piece, whose colours are sRGB and which is neither turned nor cut, as
    encode_image writes it. ImageError for another.
    """
    try:
        found = properties(data)
        stream = item_data(data)
        colours = colours_of(stream)
    except (struct.error, IndexError):
        found, stream, colours = [], b"", None
    kept = [(kind, body) for kind, body in found if kind in _NEEDED]
    if {kind for kind, _ in found} != {*_NEEDED, b"colr"} or len(kept) != len(_NEEDED) or not stream:
        raise ImageError("AVIF: not a plain still picture")
    if colours != SRGB:
        raise ImageError("AVIF: the AV1 stream does not say that its colours are sRGB")
    essential = [0x80 * (kind == b"av1C") | number for number, (kind, _) in enumerate(kept, 1)]
    ftyp = _box(b"ftyp", b"avif" + bytes(4) + b"avifmif1miaf")
    place = 0
    for _ in range(2):  # the second time with the place that the first one has told
        iloc = struct.pack(">BBHHHHII", 0x44, 0, 1, 1, 0, 1, place, len(stream))
        meta = _full(
            b"meta",
            _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + _full(b"pitm", struct.pack(">H", 1))
            + _full(b"iloc", iloc)
            + _full(b"iinf", struct.pack(">H", 1) + _full(b"infe", struct.pack(">HH4s", 1, 0, b"av01") + b"\0", 2))
            + _box(
                b"iprp",
                _box(b"ipco", b"".join(_box(kind, body) for kind, body in kept))
                + _full(b"ipma", struct.pack(">IHB", 1, 1, len(kept)) + bytes(essential)),
            ),
        )
        place = len(ftyp) + len(meta) + 8
    return ftyp + meta + _box(b"mdat", stream)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, body: bytes, version: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", version << 24) + body)
