"""Photos whose faces are known because they were pasted: a truth that no detector proposed.

Aligned faces (FFHQ's frame) are pasted at drawn places into pictures without faces. One factor is varied at a time: the
face's side, its turn, light, blur, noise, compression, what hides it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float64]
Change = Callable[[Pixels, np.random.Generator], Pixels]

WIDTH, HEIGHT = 1280, 960
COLUMNS, ROWS = 4, 3
# The face in an aligned picture, as parts of its side: middle and half axes of an ellipse from brow to chin, of which
# detectors' boxes of upright faces are about the bounds.
_MIDDLE, _AXES = (0.5, 0.57), (0.25, 0.33)
_HEAD = 0.49  # half axis of what is pasted, hair with it


@dataclasses.dataclass(frozen=True)
class Factor:
    """What is special about a photo's faces.

    sides: px of a face, the root of its box's area, drawn between them. turns: degrees, one of them drawn. on_face: of
    each aligned picture before it is pasted. on_photo: of the photo with its faces. cut: the part of a face that the
    photo's border cuts off.
    """

    name: str
    sides: tuple[float, float] = (32.0, 96.0)
    turns: Sequence[float] = (0.0,)
    on_face: Change | None = None
    on_photo: Change | None = None
    cut: float = 0.0


@dataclasses.dataclass(frozen=True)
class MadePhoto:
    """pixels: (960, 1280, 3) uint8 RGB. boxes: (N, 4) float64, x, y, width, height, in the photo's pixels and within
    the photo, the bounds of each face."""

    pixels: Pixels
    boxes: Boxes


def _jpeg(quality: int) -> Change:
    def change(pixels: Pixels, _: np.random.Generator) -> Pixels:
        data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])

    return change


def _noise(sigma: float) -> Change:
    def change(pixels: Pixels, random: np.random.Generator) -> Pixels:
        noisy = pixels + random.normal(0, sigma, pixels.shape)
        return np.clip(noisy, 0, 255).astype(np.uint8)

    return change


def _halftone(pixels: Pixels, _: np.random.Generator) -> Pixels:
    """A black and white screen of round dots, 4 px apart at 45 degrees."""
    rows, columns = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    u, v = (columns + rows) * 2 * np.pi / (4 * 2**0.5), (columns - rows) * 2 * np.pi / (4 * 2**0.5)
    screen = (np.cos(u) + np.cos(v)) / 4 + 0.5
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) / 255.0
    return np.repeat(np.where(grey > screen, 255, 0).astype(np.uint8)[..., None], 3, -1)


def _tone(gamma: float = 1.0, low: float = 0.0, high: float = 255.0) -> Change:
    table = (low + (np.arange(256) / 255) ** gamma * (high - low)).round().astype(np.uint8)
    return lambda pixels, _: table[pixels]


def _hard_light(pixels: Pixels, random: np.random.Generator) -> Pixels:
    """One side of the face in deep shade, the other too bright."""
    ramp = 1 / (1 + np.exp(-(np.arange(pixels.shape[1]) / pixels.shape[1] - 0.5) * 30))
    ramp = ramp[::-1] if random.random() < 0.5 else ramp
    return np.clip(pixels * (0.15 + 1.45 * ramp)[None, :, None], 0, 255).astype(np.uint8)


def _blur(part: float) -> Change:
    return lambda pixels, _: np.asarray(cv2.GaussianBlur(pixels, (0, 0), part * pixels.shape[0]), np.uint8)


def _grey(pixels: Pixels, _: np.random.Generator) -> Pixels:
    return np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None], 3, -1)


def _covered(top: float, bottom: float) -> Change:
    """A part of an aligned picture's height under one drawn colour."""

    def change(pixels: Pixels, random: np.random.Generator) -> Pixels:
        covered = pixels.copy()
        side = len(pixels)
        covered[round(top * side) : round(bottom * side), round(0.2 * side) : round(0.8 * side)] = random.integers(
            0, 256, 3
        )
        return covered

    return change


FACTORS = (
    *(Factor(f"{low} to {2 * low} px", (low, 2.0 * low)) for low in (8, 16, 32, 64, 128)),
    *(Factor(f"turned {turn}", (24, 96), (turn,)) for turn in (45, 90, 135, 180, 225, 270, 315)),
    Factor("16 to 24 px, turned", (16, 24), (90, 180, 270)),
    Factor("dark", on_photo=_tone(gamma=1.6, high=90)),
    Factor("hard light", on_face=_hard_light),
    Factor("blurred", on_face=_blur(0.03)),
    Factor("grey", on_photo=_grey),
    Factor("low contrast", on_photo=_tone(low=100, high=150)),
    Factor("JPEG quality 5", on_photo=_jpeg(5)),
    Factor("noise, sigma 45", on_photo=_noise(45)),
    Factor("halftone", on_photo=_halftone),
    Factor("eyes covered", on_face=_covered(0.42, 0.54)),
    Factor("mouth covered", on_face=_covered(0.58, 0.95)),
    Factor("half cut", cut=0.5),
    Factor("two thirds cut", cut=0.67),
)


def made_photo(factor: Factor, faces: Sequence[Pixels], scene: Pixels | None, seed: int) -> MadePhoto:
    """A photo with up to 12 faces, the same for the same arguments.

    faces: aligned pictures, (S, S, 3) uint8 RGB, from which are drawn. scene: a picture without faces that is scaled to
    the photo's size; None: one is drawn.
    """
    random = np.random.default_rng(seed)
    if scene is None:
        pixels = drawn_scene(random)
    else:
        pixels = np.asarray(cv2.resize(scene, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
    boxes = []
    for x, y in _places(factor, random):
        face = faces[int(random.integers(len(faces)))]
        if factor.on_face:
            face = factor.on_face(face, random)
        low, high = factor.sides
        side = low * (high / low) ** random.random()
        boxes.append(_paste(pixels, face, side, float(random.choice(factor.turns)), (x, y), factor.cut))
    if factor.on_photo:
        pixels = factor.on_photo(pixels, random)
    return MadePhoto(pixels, np.array(boxes, np.float64).reshape(-1, 4))


def _places(factor: Factor, random: np.random.Generator) -> Iterator[tuple[float, float]]:
    """Middles of faces; those that are cut off lie at the left and right borders."""
    large = factor.sides[1] > 128
    columns, rows = (2, 1) if large else (COLUMNS, ROWS)
    for column in range(columns):
        for row in range(rows):
            if factor.cut and column not in (0, columns - 1):
                continue
            x, y = (column + 0.5) * WIDTH / columns, (row + 0.5) * HEIGHT / rows
            yield x + random.uniform(-30, 30), y + random.uniform(-30, 30)


def _paste(
    pixels: Pixels, face: Pixels, side: float, turn: float, place: tuple[float, float], cut: float
) -> tuple[float, float, float, float]:
    """Pastes an aligned face into the photo, in place, and gives its box within it."""
    frame = side / (2 * np.sqrt(_AXES[0] * _AXES[1]))  # px of the aligned picture's side in the photo
    small = cv2.resize(face, (max(4, round(frame)),) * 2, interpolation=cv2.INTER_AREA)
    angle = np.deg2rad(turn)
    half_width = frame * float(np.hypot(_AXES[0] * np.cos(angle), _AXES[1] * np.sin(angle)))
    half_height = frame * float(np.hypot(_AXES[0] * np.sin(angle), _AXES[1] * np.cos(angle)))
    x, y = place
    if cut:
        x = half_width * (1 - 2 * cut) if x < WIDTH / 2 else WIDTH - half_width * (1 - 2 * cut)
    x0, y0 = max(0, int(x - frame)), max(0, int(y - frame))
    part = pixels[y0 : int(y + frame) + 1, x0 : int(x + frame) + 1]
    middle = (_MIDDLE[0] * len(small) - 0.5, _MIDDLE[1] * len(small) - 0.5)
    matrix = cv2.getRotationMatrix2D(middle, -turn, frame / len(small))
    matrix[:, 2] = matrix[:, 2] + [x - x0 - 0.5 - middle[0], y - y0 - 0.5 - middle[1]]
    size = (part.shape[1], part.shape[0])
    alpha = cv2.warpAffine(_head_mask(len(small)), matrix, size)[..., None]
    warped = cv2.warpAffine(small, matrix, size, borderMode=cv2.BORDER_REPLICATE)
    part[:] = np.clip(alpha * warped + (1 - alpha) * part, 0, 255).astype(np.uint8)
    left, top = max(0.0, x - half_width), max(0.0, y - half_height)
    right, bottom = min(float(WIDTH), x + half_width), min(float(HEIGHT), y + half_height)
    return left, top, right - left, bottom - top


@functools.lru_cache(maxsize=512)
def _head_mask(side: int) -> npt.NDArray[np.float32]:
    rows, columns = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    distance = np.hypot(rows, columns) / _HEAD
    return np.clip((1 - distance) / 0.12, 0, 1).astype(np.float32)


def drawn_scene(random: np.random.Generator) -> Pixels:
    """A picture of coloured shapes with soft texture, (960, 1280, 3) uint8: no face in it."""
    coarse = random.integers(40, 220, (4, 5, 3)).astype(np.uint8)
    scene = np.ascontiguousarray(cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC))
    for _ in range(25):
        colour = tuple(int(c) for c in random.integers(0, 256, 3))
        x, y, w, h = (int(v) for v in random.integers([0, 0, 20, 20], [WIDTH, HEIGHT, 300, 300]))
        if random.random() < 0.5:
            cv2.rectangle(scene, (x, y), (x + w, y + h), colour, -1)
        else:
            cv2.line(scene, (x, y), (x + w - 150, y + h - 150), colour, int(random.integers(2, 30)))
    texture = np.asarray(cv2.GaussianBlur(random.normal(0, 15, (HEIGHT, WIDTH)), (0, 0), 1.5))
    return np.clip(scene + texture[..., None], 0, 255).astype(np.uint8)


def face_free(pixels: Pixels, boxes: Boxes, seed: int) -> Pixels | None:
    """A part of a photo, at least a fifth of its sides, that no box (N, 4) meets; None where none was drawn."""
    random = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    for attempt in range(400):
        part = max(0.2, 0.6 - attempt / 1000)
        w, h = round(part * width), round(part * height)
        x, y = int(random.integers(width - w + 1)), int(random.integers(height - h + 1))
        apart = (
            (boxes[:, 0] > x + w) | (boxes[:, 0] + boxes[:, 2] < x) | (boxes[:, 1] > y + h)
            | (boxes[:, 1] + boxes[:, 3] < y)
        )  # fmt: skip
        if apart.all():
            return pixels[y : y + h, x : x + w]
    return None
