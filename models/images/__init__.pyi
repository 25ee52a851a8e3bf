from .budget import Fitted, encode_dense, enlarge, fit_picture, is_scaled, scaled, shrink
from .chunk import StoredFace, StoredPhoto
from .container import describe, embed, extract, has_chunk, is_own, strip
from .files import decode_image, encode_image, image_size
from .headers import read_header
from .jpeg_blocks import with_new_pixels
from .metadata import draw_mark, kept_exif, synthesis_xmp
from .segments import (
    AFTER,
    COMMENT,
    CUT,
    EOI,
    GAP,
    PNG_SIGNATURE,
    SOS,
    iso_boxes,
    jpeg_segments,
    png_chunks,
    riff_chunks,
)

__all__ = [
    "AFTER",
    "COMMENT",
    "CUT",
    "EOI",
    "GAP",
    "PNG_SIGNATURE",
    "SOS",
    "Fitted",
    "StoredFace",
    "StoredPhoto",
    "decode_image",
    "describe",
    "draw_mark",
    "embed",
    "encode_dense",
    "encode_image",
    "enlarge",
    "extract",
    "fit_picture",
    "has_chunk",
    "image_size",
    "is_own",
    "is_scaled",
    "iso_boxes",
    "jpeg_segments",
    "kept_exif",
    "png_chunks",
    "read_header",
    "riff_chunks",
    "scaled",
    "shrink",
    "strip",
    "synthesis_xmp",
    "with_new_pixels",
]
