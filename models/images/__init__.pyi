from .container import AVIF_UUID, JPEG_NAME, WEBP_FOURCC, StoredFace, StoredPhoto, embed, extract
from .files import decode_image, encode_image
from .metadata import draw_mark, kept_exif, synthesis_xmp

__all__ = [
    "AVIF_UUID",
    "JPEG_NAME",
    "WEBP_FOURCC",
    "StoredFace",
    "StoredPhoto",
    "decode_image",
    "draw_mark",
    "embed",
    "encode_image",
    "extract",
    "kept_exif",
    "synthesis_xmp",
]
