"""Fits how models/faces/understanding.py tells a face that can be coded from one that is covered, turned, or none.

    python -m mien.models.training.understanding FACES PHOTOS models/weights/understanding.safetensors --features F.npz

FACES has the folders train, wild_train and candid_train of aligned faces, PHOTOS photos of which pieces without a face
are cut at random. Each face is taken as it is, mirrored, as a small photo shows it, relit, and with sunglasses; and,
as what is to be refused, with a drawn surgical mask, scarf or hand, and turned by 90 and 180 degrees. F.npz keeps what
was read of them (features (N, 384) float32, refused (N,) bool): where it is there, nothing is drawn again. The reading
is a logistic regression with an L2 penalty; clear faces count twice. Needs MediaPipe.
"""

import argparse
import logging
import pathlib
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mien.models.codec import FaceCodec
from mien.models.faces import OVAL, Looks, Recogniser, bands, recogniser_id
from mien.models.images import decode_image
from mien.models.training.data import read_face

SIZE = 512
FOLDERS = ("train", "wild_train", "candid_train")
PENALTY, CLEAR_COUNTS, NEWTON_STEPS = 30.0, 2.0, 25
PIECES = 12  # of a photo
CLOTHS: tuple[tuple[int, int, int], ...] = (
    (150, 190, 215),
    (235, 235, 238),
    (30, 30, 32),
    (240, 180, 195),
    (120, 170, 130),
    (60, 80, 140),
)
CLOTHS += ((150, 40, 45), (200, 190, 170), (100, 100, 105), (245, 240, 225), (20, 60, 60), (190, 150, 110))
EYES = ((33, 133, 159, 145), (263, 362, 386, 374))  # MediaPipe's points: corners, upper and lower lid
log = logging.getLogger(__name__)

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating]
Random = np.random.Generator


def cloth(random: Random) -> Floats:
    """A cloth (512, 512, 3) of one colour, with pleats, stripes, a weave or folds, or plain."""
    y, x = np.mgrid[:SIZE, :SIZE]
    colour = np.asarray(CLOTHS[random.integers(len(CLOTHS))], np.float64)
    plain = np.broadcast_to(colour, (SIZE, SIZE, 3))
    kind, period = random.integers(5), random.uniform(15, 45)
    if kind == 0:
        pleats: Floats = (
            plain * (1 + 0.12 * np.sin(2 * np.pi * (y + random.uniform(-0.2, 0.2) * x) / period))[..., None]
        )
        return pleats
    if kind == 1:
        angle, other = random.uniform(0, np.pi), CLOTHS[random.integers(len(CLOTHS))]
        striped = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period) > 0
        return np.where(striped[..., None], np.asarray(other, np.float64), plain)
    if kind == 2:
        return plain + random.normal(0, 10, (SIZE, SIZE, 1))
    if kind == 3:
        folds = cv2.resize(random.normal(0, 1, (6, 6)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        return plain * (1 + 0.15 * folds)[..., None]
    return plain


def cover(face: Floats, mask: Pixels, what: Floats) -> Floats:
    """The face with `what` where the mask is 255, soft at its edge."""
    alpha = cv2.GaussianBlur(mask.astype(np.float64) / 255, (0, 0), 1.2)[..., None]
    return face * (1 - alpha) + what * alpha


def polygon(points: Floats) -> Pixels:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.fillPoly(mask, [np.rint(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return mask


def light(face: Pixels) -> Floats:
    """The face's own broad light, (512, 512, 1), 1 on average in its middle: what is drawn is lit by it too."""
    blurred = cv2.GaussianBlur(face.mean(2), (0, 0), 40)
    return np.clip(blurred / blurred[200:420, 150:360].mean(), 0.6, 1.4)[..., None]


def surgical(face: Pixels, points: Floats, random: Random) -> Floats:
    oval, half = points[list(OVAL)], int(random.integers(8, 10))  # the chin is the oval's 18th point
    middle = oval.mean(0)
    jaw = middle + (oval[19 - half : 18 + half] - middle) * random.uniform(1.0, 1.08)
    cheeks = ((points[117] + jaw[-1]) / 2, points[random.choice([6, 197, 195, 5])], (points[346] + jaw[0]) / 2)
    covered = cover(
        face.astype(np.float64), polygon(np.concatenate([jaw, np.stack(cheeks)])), cloth(random) * light(face)
    )
    colour = [float(value) for value in CLOTHS[random.integers(len(CLOTHS))]]
    for end, ear in ((jaw[0], points[454]), (jaw[-1], points[234])):
        cv2.line(covered, [int(v) for v in end], [int(v) for v in ear], colour, 3, cv2.LINE_AA)
    return covered


def scarf(face: Pixels, points: Floats, random: Random) -> Floats:
    nose = points[random.choice([5, 4, 1, 2])]
    across = np.linspace(points[234, 0] - 40, points[454, 0] + 40, 24)
    sides = nose[1] + random.uniform(-15, 15, 2) + 25
    edge = np.interp(across, [across[0], nose[0], across[-1]], [sides[0], nose[1] + 5, sides[1]])
    below = [[across[-1] + random.uniform(0, 60), 530], [across[0] - random.uniform(0, 60), 530]]
    shape = np.concatenate([np.stack([across, edge + random.normal(0, 2, 24)], 1), below])
    return cover(face.astype(np.float64), polygon(shape), cloth(random) * light(face))


def hand(face: Pixels, points: Floats, random: Random) -> Floats:
    """Four fingers of the cheeks' colour over the mouth, from one side."""
    cheeks = [face[y - 8 : y + 8, x - 8 : x + 8].reshape(-1, 3) for x, y in points[[50, 280]].astype(int)]
    skin = np.median(np.concatenate(cheeks), 0) * random.uniform(0.85, 1.12) + random.normal(0, 6, 3)
    width = float(np.hypot(*(points[61] - points[291])))
    thick, angle = width * random.uniform(0.32, 0.42), random.uniform(-0.5, 0.5) + random.choice([0, np.pi])
    along = np.array([np.cos(angle), np.sin(angle)])
    down = np.array([-along[1], along[0]]) * (1 if along[0] > 0 else -1)
    start = points[[13, 14]].mean(0) - down * thick * random.uniform(1.2, 1.9)
    covered: Floats = face.astype(np.float64)
    for finger in range(4):
        tip = start + down * thick * finger - along * width * random.uniform(0.9, 1.3)
        root = start + down * thick * finger + along * width * random.uniform(3.8, 4.3)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        ends = [[int(v) for v in np.rint(end * 4)] for end in (tip, root)]
        cv2.line(mask, ends[0], ends[1], 255, int(thick * 1.1), cv2.LINE_AA, 2)
        inside = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5)
        round_ = 0.78 + 0.22 * np.clip(inside / (thick * 0.35), 0, 1)[..., None]
        covered = cover(covered, mask, np.clip(skin, 15, 250) * round_ + random.normal(0, 3, (SIZE, SIZE, 1)))
    return covered


def sunglasses(face: Pixels, points: Floats, random: Random) -> Floats:
    shown: Floats = face.astype(np.float64)
    dark = np.broadcast_to(random.choice([10.0, 25.0, 45.0]) + random.normal(0, 4, 3), shown.shape)
    turn, power = np.linspace(0, 2 * np.pi, 40), 2 / random.uniform(2, 4)
    for eye in EYES:
        middle, side = points[list(eye)].mean(0), float(np.hypot(*(points[eye[0]] - points[eye[1]])))
        ring = np.stack([np.sign(f) * np.abs(f) ** power for f in (np.cos(turn), np.sin(turn))], 1)
        shape = ring * side * [random.uniform(0.8, 0.95), random.uniform(0.55, 0.75)] + middle + [0, side * 0.1]
        shown = cover(shown, polygon(shape), dark)
    left, right = ([int(v) for v in points[i]] for i in (133, 362))
    cv2.line(shown, left, right, [float(v) for v in dark[0, 0]], 5, cv2.LINE_AA)
    return shown


def small(face: Pixels, random: Random) -> Pixels:
    """As a photo shows it in which it is 48 to 128 px wide."""
    side = int(random.choice([48, 64, 96, 128]))
    reduced = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
    return cv2.resize(reduced, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def relit(face: Pixels, random: Random) -> Floats:
    """Lighter or darker, lit from one side, some of them grey."""
    changed = (face / 255) ** random.uniform(0.5, 1.9) * random.uniform(0.5, 1.1)
    if random.random() < 0.3:
        changed[:] = changed.mean(2, keepdims=True)
    return 255 * changed * (1 + np.linspace(-1, 1, SIZE)[None, :, None] * random.uniform(-0.35, 0.35))


def variants(face: Pixels, looks: Looks, random: Random) -> Iterator[tuple[Floats | Pixels, bool]]:
    """Pictures made of an aligned face, and whether they are to be refused."""
    for shown in (face, face[:, ::-1], small(face, random), relit(face, random)):
        yield shown, False
    for turns in (2, int(random.choice([1, 3]))):
        yield np.rot90(face, turns), True
    landmarks = looks.located(face).landmarks
    if not landmarks:
        return
    points = np.asarray(landmarks, np.float64).reshape(478, 2)
    yield sunglasses(face, points, random), False
    for draw in (surgical, scarf, hand):
        covered = np.clip(draw(face, points, random), 0, 255).astype(np.uint8)
        yield small(covered, random) if random.random() < 0.3 else covered, True


def pieces(photo: Pixels, random: Random) -> Iterator[Pixels]:
    """Squares of a photo, mostly without a face, as if they were aligned ones."""
    for _ in range(PIECES):
        side = int(random.integers(60, max(61, min(photo.shape[:2]) // 3)))
        top, left = (int(random.integers(0, length - side)) for length in photo.shape[:2])
        yield cv2.resize(photo[top : top + side, left : left + side], (SIZE, SIZE)).astype(np.uint8)


def read(picture: Floats | Pixels, recogniser: Recogniser) -> NDArray[np.float32]:
    """What the reading reads of an aligned picture (512, 512, 3) in 0..255, (384,)."""
    return np.asarray(bands(np.clip(picture, 0, 255).astype(np.uint8), recogniser))


def collect(
    faces: pathlib.Path, photos: pathlib.Path, count: int, recogniser: Recogniser
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Features (N, 384) and whether each is to be refused, (N,), of as many faces of each folder."""
    looks, found = Looks(), list[tuple[NDArray[np.float32], bool]]()
    for name in FOLDERS:
        for path in sorted((faces / name).glob("*.jpg"))[:count]:
            random = np.random.default_rng(zlib.crc32(f"{name}/{path.name}".encode()))
            shown = variants(read_face(path, SIZE), looks, random)
            found += [(read(picture, recogniser), refused) for picture, refused in shown]
        log.info("%s: %d pictures", name, len(found))
    for path in sorted(photos.glob("*.jpg")):
        random = np.random.default_rng(zlib.crc32(path.name.encode()))
        found += [(read(piece, recogniser), True) for piece in pieces(decode_image(path.read_bytes()), random)]
    return np.stack([features for features, _ in found]), np.array([refused for _, refused in found])


def fit(features: Floats, refused: NDArray[np.bool_]) -> tuple[Floats, float]:
    """Weight (384,) and bias of the log odds that features (N, 384) are of what is to be refused, by Newton's steps."""
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    inputs = np.c_[(features - mean) / deviation, np.ones(len(features))]
    counts = np.where(refused, 1.0, CLEAR_COUNTS)
    penalty = np.full(inputs.shape[1], PENALTY)
    penalty[-1] = 0.0
    found = np.zeros(inputs.shape[1])
    for _ in range(NEWTON_STEPS):
        odds = 1 / (1 + np.exp(-np.clip(inputs @ found, -30, 30)))
        slope = inputs.T @ (counts * (odds - refused)) + penalty * found
        curve = (inputs * (counts * odds * (1 - odds))[:, None]).T @ inputs + np.diag(np.maximum(penalty, 1e-6))
        found -= np.linalg.solve(curve, slope)
    weight = found[:-1] / deviation
    return weight, float(found[-1] - weight @ mean)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faces", type=pathlib.Path)
    parser.add_argument("photos", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument(
        "--features", type=pathlib.Path, required=True, help="a .npz; read if it is there, else written"
    )
    parser.add_argument("--count", type=int, default=38, help="faces of each folder (38)")
    parser.add_argument("--codec", help="a folder of the package's weights; default: those in the package")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recogniser = FaceCodec.load(args.codec).recogniser
    if not args.features.exists():
        features, refused = collect(args.faces, args.photos, args.count, recogniser)
        np.savez(args.features, features=features, refused=refused)
    known = np.load(args.features)
    features, refused = known["features"], known["refused"]
    weight, bias = fit(features, refused)
    doubts = features @ weight + bias
    log.info("clear: %d, at most %.2f", (~refused).sum(), doubts[~refused].max())
    log.info("to be refused: %d, at least %.2f", refused.sum(), doubts[refused].min())
    tensors = {"weight": weight.astype(np.float32), "bias": np.array(bias, np.float32)}
    save_file(tensors, args.output, metadata={"basis": recogniser_id(recogniser)})


if __name__ == "__main__":
    main()
