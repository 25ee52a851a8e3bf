"""FFHQ's alignment: an oriented square around a face, its 512 x 512 picture, and the few bytes that store the square.

A transform is 6 floats, a 2 x 3 matrix row by row, from pixels of the aligned 512 x 512 face to pixels of the photo.
It is always a similarity (turn, uniform scale, shift, no mirror). Pixel centres are at integer coordinates: the aligned
face's corner pixels are at 0 and 511, its middle at 255.5, and it covers a square of side 512 x scale photo pixels.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.errors import ContainerError

SIZE = 512

Transform = tuple[float, float, float, float, float, float]
Pixels = npt.NDArray[np.uint8]

# MediaPipe's points that answer dlib's 36 to 41, 42 to 47, 48 and 54, from which FFHQ's square is defined; "right" is
# the person's right, at the left of the picture. Chosen by re-aligning 44 aligned faces by their own landmarks: these
# points move the anchors by 0.95 px on average, all 16 of an eye's contour by 1.48, its corners by 3.6, irises by 3.0.
RIGHT_EYE = (33, 160, 158, 133, 153, 144)
LEFT_EYE = (362, 385, 387, 263, 373, 380)
RIGHT_MOUTH = 61
LEFT_MOUTH = 291

_STEPS_PER_PIXEL = 16
_STEPS_PER_TURN = 65536
_MAX_PIXELS = 1 << 20  # of a centre coordinate or a side; no codec of ours reaches 1,048,576 px
_MAX_MIRRORING = 8  # a face square this much larger than the photo is no face: bounds the memory


def anchor_points(landmarks: Sequence[float] | npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The four points that FFHQ aligns by: (4, 2), the eye and the mouth corner at the left, then those at the right.

    landmarks: MediaPipe's 478 points in photo pixels, flat (x0, y0, x1, ...) or (478, 2). ValueError for another shape.
    """
    points = np.asarray(landmarks, np.float64)
    if points.size != 956:
        raise ValueError(f"478 landmarks wanted, {points.size / 2:g} given")
    points = points.reshape(478, 2)
    return np.stack(
        [
            points[list(RIGHT_EYE)].mean(0),
            points[RIGHT_MOUTH],
            points[list(LEFT_EYE)].mean(0),
            points[LEFT_MOUTH],
        ]
    )


def face_transform(landmarks: Sequence[float] | npt.NDArray[np.floating]) -> Transform:
    """FFHQ's square (recreate_aligned_images in ffhq-dataset's download_ffhq.py), as pack_transform stores it.

    landmarks: as in anchor_points. ValueError where they span no square that can be stored.
    """
    right_eye, right_mouth, left_eye, left_mouth = anchor_points(landmarks)
    eyes = (right_eye + left_eye) / 2
    across = left_eye - right_eye
    down = (right_mouth + left_mouth) / 2 - eyes
    x = across + np.array([down[1], -down[0]])  # the eye line and the turned eye-to-mouth line, added
    length = math.hypot(*x)
    half = max(math.hypot(*across) * 2.0, math.hypot(*down) * 1.8)
    if not math.isfinite(length) or length < 1e-6:
        raise ValueError("the landmarks define no square")
    cx, cy = eyes + down * 0.1
    return snap_transform(similarity(float(cx), float(cy), 2 * half, math.atan2(x[1], x[0])))


def similarity(cx: float, cy: float, side: float, angle: float) -> Transform:
    """The transform of a square: centre and side in photo pixels, angle in radians, clockwise to the eye."""
    scale = side / SIZE
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    middle = (SIZE - 1) / 2
    return (a, -b, cx - (a - b) * middle, b, a, cy - (b + a) * middle)


def square(transform: Sequence[float]) -> tuple[float, float, float, float]:
    """Centre x, centre y, side (photo pixels) and angle (radians) of a transform; ValueError for no similarity."""
    if len(transform) != 6 or not all(math.isfinite(value) for value in transform):
        raise ValueError("a transform is 6 finite numbers")
    a, nb, tx, b, d, ty = transform
    scale = math.hypot(a, b)
    if scale <= 0 or max(abs(a - d), abs(b + nb)) > 1e-4 * scale:
        raise ValueError("the transform is not a turn, a uniform scale and a shift")
    middle = (SIZE - 1) / 2
    return tx + (a - b) * middle, ty + (b + a) * middle, scale * SIZE, math.atan2(b, a)


def pack_transform(transform: Sequence[float]) -> bytes:
    """The square in 9 to 12 bytes: centre x and y (zigzag varints) and side (varint) in 1/16 px, angle in 1/65536 turn
    (2 bytes, little endian). ValueError for what is no similarity, smaller than a pixel or beyond 1,048,576 px."""
    *pixels, angle = square(transform)
    cx, cy, side = (round(value * _STEPS_PER_PIXEL) for value in pixels)
    if not _storable(cx, cy, side):
        raise ValueError("the square is smaller than a pixel or too far away to be stored")
    data = bytearray()
    for value in (cx, cy):
        _put_varint(data, 2 * value if value >= 0 else -2 * value - 1)
    _put_varint(data, side)
    data += (round(angle / (2 * math.pi) * _STEPS_PER_TURN) % _STEPS_PER_TURN).to_bytes(2, "little")
    return bytes(data)


def unpack_transform(data: bytes, offset: int = 0) -> tuple[Transform, int]:
    """Reads what pack_transform wrote: the transform and the offset of the byte after it. ContainerError for bytes that
    are cut or that pack_transform never writes."""
    steps = []
    for _ in range(3):
        value, offset = _get_varint(data, offset)
        steps.append(value)
    cx, cy = ((value >> 1) ^ -(value & 1) for value in steps[:2])
    side = steps[2]
    if offset + 2 > len(data):
        raise ContainerError("a face's transform is cut off")
    turn = int.from_bytes(data[offset : offset + 2], "little")
    if not _storable(cx, cy, side):
        raise ContainerError("a face's transform is out of range")
    angle = 2 * math.pi * turn / _STEPS_PER_TURN
    unit = 1 / _STEPS_PER_PIXEL
    return similarity(cx * unit, cy * unit, side * unit, angle), offset + 2


def snap_transform(transform: Sequence[float]) -> Transform:
    """The nearest transform that can be stored; the same for blobs and tables. ValueError as pack_transform."""
    return unpack_transform(pack_transform(transform))[0]


def align_face(pixels: Pixels, transform: Sequence[float], size: int = SIZE) -> Pixels:
    """The aligned face as (size, size, 3) uint8, resampled over each pixel's area: a face that shrinks does not alias,
    one that grows is interpolated by cubics. Beyond the photo's border the photo is mirrored.

    pixels: (H, W, 3) uint8. ValueError for a transform that is no similarity or whose square dwarfs the photo.
    """
    height, width = pixels.shape[:2]
    cx, cy, side, angle = square(transform)
    if side > _MAX_MIRRORING * max(height, width) or not (-side < cx < width + side and -side < cy < height + side):
        raise ValueError("the face's square lies beyond the photo")
    scale = side / size
    shrink = math.ceil(scale / 4)  # large faces are first averaged over whole pixels, so that the rest stays small
    fine = max(1, math.ceil(scale / shrink))  # then sampled at least once a photo pixel and averaged

    reach = side / 2 * (abs(math.cos(angle)) + abs(math.sin(angle))) + 3 * shrink
    left, top = math.floor(cx - reach), math.floor(cy - reach)
    blocks = math.ceil(2 * reach / shrink) + 1
    columns = _mirrored(np.arange(left, left + blocks * shrink), width)
    rows = _mirrored(np.arange(top, top + blocks * shrink), height)
    window = pixels[rows[0] : rows[-1] + 1] if _straight(rows) else pixels[rows]
    window = window[:, columns[0] : columns[-1] + 1] if _straight(columns) else window[:, columns]
    if shrink > 1:
        window = np.asarray(cv2.resize(window, (blocks, blocks), interpolation=cv2.INTER_AREA), np.uint8)

    # from samples (size x fine a side, centres at integers) to window pixels, both with half-pixel corners
    step = scale / fine / shrink
    a, b = step * math.cos(angle), step * math.sin(angle)
    middle = (size * fine - 1) / 2
    wx = (cx - left - (shrink - 1) / 2) / shrink
    wy = (cy - top - (shrink - 1) / 2) / shrink
    matrix = np.array([[a, -b, wx - (a - b) * middle], [b, a, wy - (b + a) * middle]])
    aligned = cv2.warpAffine(
        np.ascontiguousarray(window),
        matrix,
        (size * fine, size * fine),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if fine > 1:
        aligned = cv2.resize(aligned, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(aligned, np.uint8)


def _mirrored(index: npt.NDArray[np.int64], length: int) -> npt.NDArray[np.int64]:
    """Indices beyond 0 .. length - 1 mirrored at the edge pixels, which are not repeated."""
    if length == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * length - 2)
    return np.where(index < length, index, 2 * length - 2 - index)


def _straight(index: npt.NDArray[np.int64]) -> bool:
    return bool((np.diff(index) == 1).all())


def _storable(cx: int, cy: int, side: int) -> bool:
    limit = _MAX_PIXELS * _STEPS_PER_PIXEL
    return max(abs(cx), abs(cy), side) <= limit and side >= _STEPS_PER_PIXEL


def _put_varint(data: bytearray, value: int) -> None:
    """LEB128: seven bits a byte, the lowest first."""
    while value >= 128:
        data.append(value & 127 | 128)
        value >>= 7
    data.append(value)


def _get_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Reads at most 4 bytes, in their shortest form only, so that one transform has one spelling."""
    value = 0
    for shift in range(0, 28, 7):
        if offset >= len(data):
            raise ContainerError("a face's transform is cut off")
        byte = data[offset]
        offset += 1
        value |= (byte & 127) << shift
        if byte < 128:
            if byte == 0 and shift:
                raise ContainerError("a face's transform is out of range")
            return value, offset
    raise ContainerError("a face's transform is out of range")


def matrix(transform: Sequence[float]) -> npt.NDArray[np.float64]:
    """The transform as a (2, 3) float64 matrix; ValueError if it is not six finite numbers or cannot be inverted."""
    values = np.asarray(transform, np.float64)
    if values.shape != (6,) or not np.isfinite(values).all() or values[0] * values[4] == values[1] * values[3]:
        raise ValueError(f"not a transform of an aligned face: {tuple(transform)}")
    return values.reshape(2, 3)
