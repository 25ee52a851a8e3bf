"""New pixels in a JPEG whose other blocks stay as they are: their coefficients are written again, bit for bit.

The blocks that a change touches are coded anew with the file's own tables and sampling (ITU-T T.81, A.3; JFIF 1.02 for
the colours), all others are copied as the numbers that the file holds. The new file has no other segment of the old
one. jpeglib, which reads and writes the coefficients by libjpeg, is an extra of the package: mien[blocks].
"""

import os
import tempfile
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft
from PIL import Image

from mien.models.errors import ImageError
from mien.models.images.files import UPRIGHT, Pixels, decode_image
from mien.models.images.headers import orientation, read_header

_BLOCK = 8
_ROUNDED = 2  # grey levels by which a profile of sRGB's own may change a colour
# JFIF 1.02: Y, Cb, Cr of R, G, B
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
_BACK = {6: 8, 8: 6}  # the orientation that undoes another; any other one undoes itself
_IN_MEMORY = "/dev/shm"  # where a photo's bytes may lie for a moment without being on a disk

Mask = npt.NDArray[np.bool_]


def with_new_pixels(data: bytes, pixels: Pixels, changed: Mask, exif: bytes = b"", xmp: bytes = b"") -> bytes:
    """The JPEG file with other pixels where they changed; every block that lies outside keeps its coefficients.

    data: the file. pixels: (H, W, 3) uint8, upright as decode_image gives them. changed: (H, W) bool, where they may
    differ from the file's. A block is 8 x 8 samples, of colours mostly 16 x 16 pixels. exif, xmp: as encode_image takes
    them; the file needs the orientation that it had (kept_exif with turned).

    ImageError for what is no JPEG in grey or YCbCr of sRGB, such as one with a wide-gamut profile, whose blocks would
    not be what a reader takes them for. ImportError without jpeglib.
    """
    import jpeglib

    header = read_header(data)
    if header.format != "JPEG":
        raise ImageError(f"{header.format}: only a JPEG's blocks can be kept (--keep-blocks)")
    if header.components not in (1, 3):
        raise ImageError(f"JPEG: the blocks of {header.components} colours cannot be kept (--keep-blocks)")
    turn = orientation(header.exif)
    with tempfile.TemporaryDirectory(dir=_IN_MEMORY if os.path.isdir(_IN_MEMORY) else None) as folder:
        source, target = os.path.join(folder, "in.jpg"), os.path.join(folder, "out.jpg")
        _write(source, header.data)
        before, tempfile.tempdir = tempfile.tempdir, folder  # jpeglib writes files of its own
        try:
            image = jpeglib.read_dct(source)
            space = str(image.jpeg_color_space)
            if not space.endswith(("YCbCr", "GRAYSCALE")):
                raise ImageError(f"JPEG: the blocks of colours in {space} cannot be kept (--keep-blocks)")
            _replace(image, _turned(pixels, _BACK.get(turn, turn)), _turned(changed, _BACK.get(turn, turn)))
            image.markers = []
            image.write_dct(target)
        finally:
            tempfile.tempdir = before
        with open(target, "rb") as stream:
            written = stream.read()
    made = _with_segments(written, exif, xmp)
    size = pixels.shape[0] * pixels.shape[1]
    differs = cv2.absdiff(decode_image(made, size), decode_image(data, size)).max(2) > _ROUNDED
    if (differs & ~_around(changed, 2 * _BLOCK * int(np.array(image.samp_factor).max()))).any():
        raise ImageError("JPEG: its colours are not sRGB, so that its blocks cannot be kept (--keep-blocks)")
    return made


def _write(path: str, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)


def _turned(array: npt.NDArray[Any], turn: int) -> npt.NDArray[Any]:
    how = UPRIGHT.get(turn)
    if how is None:
        return array
    if array.dtype == np.bool_:
        return np.asarray(Image.fromarray(array.astype(np.uint8)).transpose(how)) > 0
    return np.asarray(Image.fromarray(array).transpose(how))


def _replace(image: Any, pixels: Pixels, changed: Mask) -> None:
    """Other blocks in place of those that a change touches, in the image's arrays of coefficients."""
    names = ("Y", "Cb", "Cr")[: image.num_components]
    factors = np.array(image.samp_factor)  # (components, 2), down and across
    most = factors.max(0)
    if (most % factors).any():
        raise ImageError("JPEG: the blocks of colours of these sizes cannot be kept (--keep-blocks)")
    for component, name in enumerate(names):
        blocks = getattr(image, name).copy()
        down, across = most // factors[component]
        height, width = _BLOCK * down, _BLOCK * across  # of a block, in pixels
        shape = blocks.shape[0] * height, blocks.shape[1] * width
        touched = _padded(changed, shape).reshape(blocks.shape[0], height, blocks.shape[1], width).any((1, 3))
        rows, columns = np.nonzero(touched)
        if not len(rows):
            continue
        tiles = _padded(pixels, shape).reshape(blocks.shape[0], height, blocks.shape[1], width, 3)[rows, :, columns]
        samples = tiles.astype(np.float32) @ _TO_YCC[component] - (128.0 if component == 0 else 0.0)
        samples = samples.reshape(len(rows), _BLOCK, down, _BLOCK, across).mean((2, 4))
        table = image.get_component_qt(component).astype(np.float32)
        coefficients = np.rint(scipy.fft.dctn(samples, axes=(1, 2), norm="ortho") / table)
        blocks[rows, columns] = coefficients.astype(blocks.dtype)
        setattr(image, name, blocks)


def _padded(array: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """To whole blocks, by the last row and column; what is beyond them is cut."""
    array = array[: shape[0], : shape[1]]
    rest = [(0, shape[0] - array.shape[0]), (0, shape[1] - array.shape[1])]
    return np.pad(array, [*rest, *[(0, 0)] * (array.ndim - 2)], mode="edge")


def _with_segments(data: bytes, exif: bytes, xmp: bytes) -> bytes:
    """EXIF and XMP behind the file's first segment, JFIF's (EXIF 2.32, 4.5.4; XMP, part 3, 1.1.3)."""
    blocks = [exif and b"Exif\0\0" + exif.removeprefix(b"Exif\0\0"), xmp and b"http://ns.adobe.com/xap/1.0/\0" + xmp]
    added = b"".join(b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block for block in blocks if block)
    at = 2
    if data[2:4] == b"\xff\xe0":
        at = 4 + int.from_bytes(data[4:6], "big")
    return data[:at] + added + data[at:]


def _around(changed: Mask, reach: int) -> Mask:
    """What lies within so many pixels of a change: colours are smoothed over the edges of blocks, no farther."""
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return cv2.dilate(changed.astype(np.uint8), kernel) > 0
