"""Photos in and out: every format to upright sRGB pixels, and pixels to files that carry nothing else.

One decoder for each format, by Pillow, pillow-heif and, for JPEG, simplejpeg, which tells of damage that Pillow passes
over. The content decides, never a name. Nothing is guessed: a file that is cut, damaged, over the limit or of another
kind is an ImageError with one line that says why.
"""

import dataclasses
import io
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pillow_heif
import simplejpeg
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from mien.models.errors import ImageError, ImageTooLargeError, one_line
from mien.models.images.colours import PROFILE_SPACES, Colours, to_srgb
from mien.models.images.headers import Header, orientation, read_header
from mien.models.images.heif_boxes import crop_of

Codec = Literal["avif", "webp", "jpeg", "png"]
Pixels = npt.NDArray[np.uint8]

# The largest width or height that can be written and read again: AV1 stores 65536, but libavif opens no more than
# AVIF_DEFAULT_IMAGE_DIMENSION_LIMIT; libjpeg's JPEG_MAX_DIMENSION; WebP's 14 bits; PNG's 31 bits
MAX_SIDE: dict[str, int] = {"avif": 32768, "webp": 16383, "jpeg": 65500, "png": 2**31 - 1}
_MAX_AVIF_PIXELS = 16384 * 16384  # AVIF_DEFAULT_IMAGE_SIZE_LIMIT

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PADDED = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")
_JPEG_MODES = {1: ("GRAY", "L"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK")}


class _TiffFile(TiffImageFile):
    """Without what Pillow does beside decoding: counting pixels, reading every tag of every directory, turning."""

    def load_prepare(self) -> None:
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size).im
        ImageFile.ImageFile.load_prepare(self)

    def load_end(self) -> None:
        self._size = self._tile_size


# The plugins themselves instead of Image.open: no other format is ever tried, and Pillow's limit of pixels, one for the
# whole process, is not asked.
_OPENERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "AVIF": AvifImageFile,
    "TIFF": _TiffFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
}


def decode_image(data: bytes, max_pixels: int = 100_000_000) -> Pixels:
    """A photo's pixels: (H, W, 3) uint8 RGB, C-contiguous, upright, sRGB; all metadata is forgotten.

    JPEG, PNG, WebP, AVIF, HEIF, TIFF, GIF and BMP, the first picture where there are several. AVIF's and HEIF's
    crop and the orientation are applied (EXIF's, or AVIF's and HEIF's own), the colours converted to sRGB as
    mien.models.images.colours says, transparency laid on white, grey, CMYK and palettes made RGB, 16 bits and floats
    made 8.

    ImageTooLargeError for more than max_pixels, before anything is decoded; ImageError for what is no whole photo.
    """
    header = read_header(data)
    try:
        if header.size:
            _check_size(header.format, *header.size, max_pixels)
        image = _open(header, max_pixels)
        exif = header.exif or image.info.get("exif") or b""
        image = _to_srgb(image, _colours(header, image))
        # HEIF's decoder has turned the photo already, and its EXIF repeats what it did
        turn = None if header.format == "HEIF" else UPRIGHT.get(orientation(exif))
        return np.array(image if turn is None else image.transpose(turn))
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{header.format}: not enough memory to decode it") from None
    except Exception as error:  # on a damaged file Pillow raises nearly every kind, SyntaxError included
        raise ImageError(f"{header.format}: {one_line(error, 160)}") from error


def encode_image(pixels: Pixels, codec: Codec, quality: int = 60, exif: bytes = b"", xmp: bytes = b"") -> bytes:
    """A file that holds these pixels and nothing else but the EXIF and XMP blocks that are given: no ICC, no comment.
    Readers take it for sRGB; AVIF says so.

    pixels: (H, W, 3) uint8 RGB, sRGB. exif, xmp: see mien.models.images.metadata. quality: 1 to 100, not used by PNG,
    which is lossless; the others store colour at half the resolution (4:2:0). The same pixels give the same bytes,
    whatever the threads.

    ImageTooLargeError for a side that the format cannot store; ValueError for a wrong shape, dtype, codec or quality.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"(H, W, 3) uint8 pixels wanted, {pixels.shape} {pixels.dtype} given")
    if codec not in MAX_SIDE:
        raise ValueError(f"unknown codec {codec!r}: {', '.join(MAX_SIDE)}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality {quality} is not in 1..100")
    height, width = pixels.shape[:2]
    if max(height, width) > MAX_SIDE[codec]:
        limit = MAX_SIDE[codec]
        raise ImageTooLargeError(f"{width} x {height} pixels: {codec.upper()} takes no side over {limit} pixels")
    if codec == "avif" and height * width > _MAX_AVIF_PIXELS:
        raise ImageTooLargeError(f"{width} x {height} pixels: AVIF takes no more than {_MAX_AVIF_PIXELS:,}")
    image = Image.fromarray(np.ascontiguousarray(pixels))
    out = io.BytesIO()
    said: dict[str, Any] = {name: block for name, block in (("exif", exif), ("xmp", xmp)) if block}
    if codec == "avif":
        # Speed 8 takes a third of the time of 6 for about 5% more bytes at equal PSNR; 4 takes 14 to 28 times as long.
        # Bytes depend on the number of threads and on the tiles that follow from it, so both are fixed.
        image.save(out, "AVIF", quality=quality, subsampling="4:2:0", speed=8, max_threads=1, autotiling=False, **said)
    elif codec == "webp":
        image.save(out, "WEBP", quality=quality, method=4, **said)
    elif codec == "jpeg":
        image.save(out, "JPEG", quality=quality, subsampling="4:2:0", optimize=True, **said)
    else:
        texts = PngInfo()
        if xmp:
            texts.add_itxt("XML:com.adobe.xmp", xmp.decode())  # XMP specification, part 3, section 1.1.5
        image.save(out, "PNG", pnginfo=texts, exif=exif)
    return out.getvalue()


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width <= 0 or height <= 0:
        raise ImageError(f"{name}: the photo has no pixels ({width} x {height})")
    if width * height > max_pixels:
        raise ImageTooLargeError(f"{name}: {width} x {height} pixels, over the limit of {max_pixels:,}")


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height of an image file that encode_image wrote, however many pixels it has; none is decoded.

    ImageError for what is no photo; whatever the file's decoder raises on a damaged one.
    """
    header = read_header(data)
    if header.size:
        return header.size
    width, height = _OPENERS[header.format](io.BytesIO(header.data)).size
    return width, height


def exif_of(data: bytes) -> bytes:
    """The EXIF block of an image file, empty where it has none.

    ImageError for what is no photo; whatever the file's decoder raises on a damaged one.
    """
    header = read_header(data)
    if header.exif:
        return header.exif
    if header.format == "HEIF":
        return pillow_heif.open_heif(header.data).info.get("exif") or b""
    whole = data if header.format == "AVIF" else header.data  # the header's has no EXIF that a decoder would see
    return _OPENERS[header.format](io.BytesIO(whole)).info.get("exif") or b""


def _open(header: Header, max_pixels: int) -> Image.Image:
    """The decoded image in the mode of its file. Whatever its decoder raises."""
    if header.format == "HEIF":
        heif = pillow_heif.open_heif(header.data)
        width, height = heif.size
        _check_size("HEIF", width, height, max_pixels)
        return heif.to_pillow()
    if header.format == "JPEG":
        return _jpeg(header)
    image = _OPENERS[header.format](io.BytesIO(header.data))
    _check_size(header.format, *image.size, max_pixels)
    tags = getattr(image, "tag_v2", {})
    if tags.get(284) == 2 and image.tile[0].codec_name == "raw" and set(tags.get(258, ())) != {8}:
        # Pillow would read such planes as 8 bits each and give noise
        raise ImageError("TIFF: uncompressed planes of other than 8 bits are not supported")
    image.load()
    if header.format == "AVIF":
        crop = crop_of(header.properties, *image.size)  # before it is turned (ISO 23000-22, 7.3.6.7)
        return image if crop == (0, 0, *image.size) else image.crop(crop)
    if header.format == "TIFF" and image.mode.startswith(("I", "F")):
        return _tiff_grey(image, tags)
    return image


def _tiff_grey(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    """What Pillow leaves undone for grey of more than 8 bits: white as zero, and 12 bits as 16."""
    negative = tags.get(262) == 0
    if not image.mode.startswith("I;16"):
        if negative:
            raise ImageError("TIFF: white as zero is not supported for floats and 32 bits")
        return image
    values = np.asarray(image).astype(np.uint32)
    if tags[258][0] == 12:
        values = (values * 65535 + 2047) // 4095
    result = Image.fromarray((65535 - values if negative else values).astype(np.uint16))
    result.info = image.info
    return result


def _jpeg(header: Header) -> Image.Image:
    """ImageError for whatever libjpeg warns of, that is for every fault that leads its decoder astray. A damaged byte
    that happens to decode to as many coefficients as the right one is known to nobody."""
    data = header.data
    if header.components not in _JPEG_MODES:
        raise ImageError(f"JPEG: {header.components} colours are not supported")
    space, mode = _JPEG_MODES[header.components]
    try:
        try:
            pixels = simplejpeg.decode_jpeg(data, space, strict=True)
        except ValueError as error:
            if not _PADDED.fullmatch(str(error)):
                raise
            # zeros behind the picture are padding, unless the picture is not whole without them
            pixels = simplejpeg.decode_jpeg(data[:-2].rstrip(b"\0") + data[-2:], space, strict=True)
    except ValueError as error:
        if "subsampling" in str(error):
            raise ImageError("JPEG: colours of these sizes are not supported") from error
        raise ImageError(f"JPEG: {error}") from error
    if mode == "CMYK":
        return Image.fromarray(255 - pixels, "CMYK")  # stored as Adobe does, from full to none
    return Image.fromarray(pixels[..., 0] if mode == "L" else pixels)


def _colours(header: Header, image: Image.Image) -> Colours:
    """What the header says, else the decoder."""
    found = header.colours
    if header.format == "HEIF" and (said := image.info.get("nclx_profile")):
        found = dataclasses.replace(found, cicp=(said["color_primaries"], said["transfer_characteristics"]))
    if header.format not in ("PNG", "JPEG"):  # of which the header knows all
        found = dataclasses.replace(found, icc=found.icc or image.info.get("icc_profile") or b"")
    return found


def _to_srgb(image: Image.Image, colours: Colours) -> Image.Image:
    """The image as RGB in sRGB, transparency laid on white."""
    if image.mode.startswith(("I", "F")):
        image = _to_eight_bits(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode in ("1", "L", "RGB") and "transparency" in image.info:  # one colour is declared transparent
        image = image.convert("RGBA")
    elif image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.replace("a", "A"))
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = image.convert("L" if image.mode == "LA" else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode not in PROFILE_SPACES:
        image = image.convert("RGB")
    image = to_srgb(image, colours)
    if alpha is None:
        return image
    paper = Image.new("RGB", image.size, "white")
    paper.paste(image, mask=alpha)
    return paper


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats as 8 bits. For 16 bits black to white is the whole range; floats and 32 bits know
    no white: it is 1, 255 or 65535, the least that holds all values, else least to most is black to white."""
    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        grey = (values.astype(np.uint32) + 128) // 257
        clear = image.info.get("transparency")  # PNG: one grey is declared transparent
    else:
        values = values.astype(np.float64)
        known = values[np.isfinite(values)]
        if not known.size:
            raise ImageError("no pixel has a finite value")
        low, high = known.min(), known.max()
        whites = [white for white in (1, 255, 65535) if high <= white and (white > 1 or image.mode == "F")]
        if low < 0 or not whites:
            low, scale = low, 255 / (high - low if high > low else 1)
        else:
            low, scale = 0, 255 / whites[0]
        grey = np.rint((np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * scale)
        clear = None
    result = Image.fromarray(grey.astype(np.uint8))
    if isinstance(clear, int):
        result.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return result
