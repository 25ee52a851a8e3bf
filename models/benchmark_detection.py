"""Recall, false positives and speed of mien's detectors beside deface's, on a folder of photos.

python -m mien.models.benchmark_detection PHOTOS --truth tests/data/faces.json
python -m mien.models.benchmark_detection PHOTOS --truth tests/data/faces.json --made ALIGNED_FACES...

deface (pip) is compared where it can be imported. Without --truth only counts and times are printed. With --made,
recall by factor on photos in which aligned faces are pasted (mien.models.evaluation.made_photos), a truth that no
detector proposed, beside CenterFace as deface sets it.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from mien.models.errors import ImageError
from mien.models.evaluation import FACTORS, face_free, made_photo
from mien.models.faces import Face, FaceDetector, FaceLandmarker, centerface_boxes, open_centerface
from mien.models.images import decode_image
from mien.models.runtime import cores, tune_process

Pixels = npt.NDArray[np.uint8]
Boxes = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]

SAME_FACE = 0.2  # of the union, between a found box and one of the truth: detectors do not agree on chin and forehead
DEFACE_THRESHOLD = 0.2  # deface 1.5.0's default


class Matched(NamedTuple):
    """missed: indices of true faces; false, double: how many boxes are on no face, on one that is already found."""

    missed: list[int]
    false: int
    double: int


def match(found: Boxes, faces: Boxes, unclear: Boxes) -> Matched:
    """Pairs found boxes with true faces, for the largest sum of overlaps; what lies on an unclear place does not count.

    found: (N, 4), faces: (M, 4), unclear: (K, 4), each x, y, width, height in the same pixels.
    """
    union, _ = overlaps(faces, found)
    overlap = np.where(union >= SAME_FACE, union, 0)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    paired = overlap[rows, columns] > 0
    missed = sorted(set(range(len(faces))) - set(rows[paired].tolist()))
    rest = np.delete(found, columns[paired], 0)
    on_unclear = (overlaps(unclear, rest)[0] >= SAME_FACE).any(0)
    on_face = (overlaps(faces, rest)[1] > 0.5).any(0)
    return Matched(missed, int((~on_face & ~on_unclear).sum()), int(on_face.sum()))


def overlaps(a: Boxes, b: Boxes) -> tuple[Boxes, Boxes]:
    """(M, 4) and (N, 4) boxes to (M, N): what each pair shares of its union, and of its smaller box."""
    a, b = a[:, None], b[None]
    low, high = np.maximum(a[..., :2], b[..., :2]), np.minimum((a[..., :2] + a[..., 2:]), (b[..., :2] + b[..., 2:]))
    shared = np.clip(high - low, 0, None).prod(-1)
    area_a, area_b = a[..., 2:].prod(-1), b[..., 2:].prod(-1)
    return shared / (area_a + area_b - shared), shared / np.minimum(area_a, area_b)


def true_boxes(truth: dict[str, Any], name: str, width: int) -> tuple[Boxes, Boxes]:
    """Faces and unclear places of a photo of this width, by its name without the ending, as copies change that."""
    entries = {Path(key).stem: value for key, value in truth.items()}
    entry = entries[Path(name).stem]
    scale = width / entry["width"]
    faces, unclear = (np.array(entry[key], np.float64).reshape(-1, 4) * scale for key in ("faces", "unclear"))
    return faces, unclear


def deface_detector() -> tuple[str, Callable[[Pixels], list[Box]]]:
    """A name and deface's own detector at full resolution. ImportError where deface is not installed."""
    from deface.centerface import CenterFace

    centerface = CenterFace()

    def detect(pixels: Pixels) -> list[Box]:
        corners, _ = centerface(pixels, threshold=DEFACE_THRESHOLD)
        return [(float(x0), float(y0), float(x1 - x0), float(y1 - y0)) for x0, y0, x1, y1, _ in corners]

    return f"deface ({centerface.backend})", detect


def measure(
    name: str, detect: Callable[[Pixels], list[Box]], photos: dict[str, Pixels], truth: dict[str, Any] | None
) -> dict[str, Any]:
    """One row of the table: faces found, missed, false, double, and milliseconds (of all cores' work: cpu) a photo."""
    detect(np.zeros((64, 64, 3), np.uint8))
    row: dict[str, Any] = {"detector": name, "boxes": 0, "ms_photo": 0.0, "cpu_ms_photo": 0.0}
    if truth is not None:
        row |= {"faces": 0, "found": 0, "false": 0, "double": 0, "missed_in": {}}
    for key, pixels in tqdm(photos.items(), desc=name, unit="photo", leave=False, disable=None):
        start, cpu = time.perf_counter(), time.process_time()
        boxes = np.array(detect(pixels), np.float64).reshape(-1, 4)
        row["cpu_ms_photo"] += (time.process_time() - cpu) * 1000 / len(photos)
        row["ms_photo"] += (time.perf_counter() - start) * 1000 / len(photos)
        row["boxes"] += len(boxes)
        if truth is not None:
            faces, unclear = true_boxes(truth, key, pixels.shape[1])
            matched = match(boxes, faces, unclear)
            row["faces"] += len(faces)
            row["found"] += len(faces) - len(matched.missed)
            row["false"] += matched.false
            row["double"] += matched.double
            if matched.missed:
                row["missed_in"][key] = len(matched.missed)
    row["ms_face"] = row["ms_photo"] * len(photos) / max(1, row["boxes"])
    return row


def as_deface() -> Callable[[Pixels], list[Box]]:
    """CenterFace on the whole photo at its size with deface's threshold, as mien runs the network."""
    maps = open_centerface()
    return lambda pixels: [tuple(box) for box in centerface_boxes(maps, pixels, DEFACE_THRESHOLD)[0].tolist()]


def covered(faces: Boxes, found: Boxes) -> npt.NDArray[np.bool_]:
    """Which of the faces (M, 4) a found box (N, 4) covers by half without being more than five times as large."""
    shared = overlaps(faces, found)[0]
    areas, others = faces[:, 2:].prod(-1)[:, None], found[:, 2:].prod(-1)[None]
    hit: npt.NDArray[np.bool_] = ((shared * (areas + others) / (1 + shared) >= areas / 2) & (others < 5 * areas)).any(1)
    return hit


def measure_made(
    detectors: dict[str, Callable[[Pixels], list[Box]]], faces: Sequence[Pixels], scenes: Sequence[Pixels], count: int
) -> list[dict[str, Any]]:
    """A row a factor: faces, and for each detector its recall, false boxes and processor seconds a photo.

    scenes: pictures without faces, for every other one of the `count` photos; without them all are drawn.
    """
    rows = []
    for number, factor in enumerate(tqdm(FACTORS, desc="made photos", leave=False, disable=None)):
        grounds = [scenes[(number + i) % len(scenes)] if scenes and i % 2 else None for i in range(count)]
        made = [made_photo(factor, faces, ground, 1000 * number + i) for i, ground in enumerate(grounds)]
        row: dict[str, Any] = {"factor": factor.name, "faces": sum(len(photo.boxes) for photo in made)}
        for name, detect in detectors.items():
            start, hits, false = time.process_time(), 0, 0
            for photo in made:
                boxes = np.array(detect(photo.pixels), np.float64).reshape(-1, 4)
                hits += int(covered(photo.boxes, boxes).sum())
                false += int((~(overlaps(photo.boxes, boxes)[1] > 0.1).any(0)).sum())
            row |= {
                f"{name} recall": hits / row["faces"],
                f"{name} false": false / count,
                f"{name} s": (time.process_time() - start) / count,
            }
        rows.append(row)
    return rows


def measure_landmarks(photos: dict[str, Pixels], found: dict[str, list[Face]]) -> dict[str, Any]:
    """How many of the found faces get landmarks, and milliseconds a face."""
    aligned = count = 0
    seconds = 0.0
    with FaceLandmarker() as landmarker:
        for key, pixels in photos.items():
            for face in found[key]:
                start = time.perf_counter()
                aligned += bool(landmarker.locate(pixels, face).landmarks)
                seconds += time.perf_counter() - start
                count += 1
    return {"faces": count, "aligned": aligned, "ms_face": seconds * 1000 / max(1, count)}


def load(folder: Path, truth: dict[str, Any] | None) -> dict[str, Pixels]:
    """The photos of a folder that can be decoded and, with a truth, are in it."""
    photos = {}
    known = None if truth is None else {Path(key).stem for key in truth}
    for path in sorted(folder.iterdir()):
        if path.is_file() and (known is None or path.stem in known):
            try:
                photos[path.name] = decode_image(path.read_bytes())
            except ImageError as error:
                print(f"{path.name}: {error}", file=sys.stderr)
    return photos


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as aligned text; figures that need a truth are left out without one."""
    columns = ("detector", "faces", "found", "false", "double", "boxes", "ms_photo", "cpu_ms_photo", "ms_face")
    keys = [key for key in columns if key in rows[0]]
    cells = [keys] + [[f"{row[k]:.1f}" if isinstance(row[k], float) else str(row[k]) for k in keys] for row in rows]
    return "\n".join(aligned(cells))


def aligned(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of text, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *rest in cells:
        yield "  ".join([first.ljust(widths[0]), *map(str.rjust, rest, widths[1:])]).rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mien.models.benchmark_detection", description=__doc__.split("\n")[0]
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--truth", type=Path, help="boxes of the faces, as tests/data/faces.json")
    parser.add_argument(
        "--made", type=Path, nargs="+", metavar="FOLDER", help="aligned faces, to be pasted into photos"
    )
    parser.add_argument("--made-photos", type=int, default=4, metavar="N", help="of each factor")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options = parser.parse_args(arguments)
    truth = json.loads(options.truth.read_text(encoding="utf-8")) if options.truth else None
    photos = load(options.folder, truth)
    if not photos:
        parser.error(f"no photo in {options.folder}" + (" that is in the truth" if truth else ""))

    tune_process(cores())
    if options.made:
        return _print_made(options, photos, truth)
    rows = []
    found: dict[str, list[Face]] = {}
    for names in (("centerface",), ("mediapipe", "centerface"), ("mediapipe",)):
        with FaceDetector(names) as detector:
            faces: list[list[Face]] = []

            def detect(pixels: Pixels, detector: FaceDetector = detector, faces: list[list[Face]] = faces) -> list[Box]:
                faces.append(detector.detect(pixels))
                return [face.box for face in faces[-1]]

            rows.append(measure("mien: " + " + ".join(names), detect, photos, truth))
            found = found or dict(zip(photos, faces[1:], strict=True))  # the first is measure's warm-up
    try:
        rows.append(measure(*deface_detector(), photos, truth))
    except ImportError as error:
        print(f"deface's detector is left out: {error}", file=sys.stderr)
    landmarks = measure_landmarks(photos, found)

    megapixels = sum(pixels.shape[0] * pixels.shape[1] for pixels in photos.values()) / 1e6
    if options.json:
        print(json.dumps({"photos": len(photos), "megapixels": megapixels, "detectors": rows, "landmarks": landmarks}))
    else:
        print(f"{len(photos)} photos, {megapixels:.1f} megapixels")
        print(table(rows))
        print(f"landmarks: {landmarks['aligned']} of {landmarks['faces']} boxes, {landmarks['ms_face']:.1f} ms a face")
    return 0


def _print_made(options: argparse.Namespace, photos: dict[str, Pixels], truth: dict[str, Any] | None) -> int:
    faces = [face for folder in options.made for face in load(folder, None).values()]
    if not faces:
        raise SystemExit("benchmark_detection: no aligned face in the folders of --made")
    scenes = []
    for number, (name, pixels) in enumerate(photos.items() if truth else ()):
        boxes = np.concatenate(true_boxes(truth or {}, name, pixels.shape[1]))
        scenes += [scene for scene in (face_free(pixels, boxes, number),) if scene is not None]
    with FaceDetector() as detector:
        detectors = {
            "mien": lambda pixels: [face.box for face in detector.detect(pixels)],
            "as deface": as_deface(),
        }
        rows = measure_made(detectors, faces, scenes, options.made_photos)
    if options.json:
        print(json.dumps({"made": rows}))
    else:
        cells = [list(rows[0])] + [
            [f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
        ]
        print("\n".join(aligned(cells)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
