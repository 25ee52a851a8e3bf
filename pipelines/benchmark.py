"""How fast mien is on a folder of photos, on 1 and 2 workers, beside deface and beside plain AVIF on the same photos.

python -m mien.pipelines.benchmark PHOTOS --truth tests/data/faces.json --output benchmark.json

Each row is a process of its own, measured from its start to its end: what is to be loaded first is in it, too. deface
(pip) is run where its program is found, in an environment of its own (its OpenCV is another than mien's):
`python -m venv ENV && ENV/bin/pip install deface onnx onnxruntime`, then `--deface ENV/bin/deface`.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mien.models.benchmark_detection import DEFACE_THRESHOLD, aligned, match, true_boxes
from mien.models.images import decode_image
from mien.models.runtime import cores
from mien.pipelines.measured_process import Measured, measured
from mien.transforms.sources import IMAGE_SUFFIXES, list_files

Json = dict[str, Any]

WORKERS = (1, 2)
COMMANDS = {"redact": ["--policy", "redact"], "compress": ["--format", "blobs"]}
QUALITY = 60  # of plain AVIF, as of mien's backgrounds
_AVIF = """
import sys
from pathlib import Path
from mien.models.errors import MienError
from mien.models.images.files import decode_image, encode_image
for number, path in enumerate(sys.argv[3:]):
    try:
        data = encode_image(decode_image(Path(path).read_bytes()), "avif", int(sys.argv[2]))
    except MienError:
        continue
    Path(sys.argv[1], f"{number:05d}.avif").write_bytes(data)
"""
_DEFACE_BOXES = """
import json, sys
import imageio.v2 as iio
from deface.centerface import CenterFace
detect = CenterFace()
boxes = []
for path in sys.argv[2:]:
    found, _ = detect(iio.imread(path), threshold=float(sys.argv[1]))
    boxes.append([[float(x0), float(y0), float(x1 - x0), float(y1 - y0)] for x0, y0, x1, y1, _ in found])
print(json.dumps({"backend": detect.backend, "boxes": boxes}))
"""


def mien_row(command: str, workers: int, photos: Sequence[Path], folder: Path, truth: Json | None) -> Json:
    """One row: a job of mien's on the folder of the photos."""
    with tempfile.TemporaryDirectory() as output:
        words = [sys.executable, "-m", "mien.pipelines", command, str(folder), "--output", output]
        words += [*COMMANDS[command], "--workers", str(workers), "--quiet"]
        process = measured(words, Path(output), _is_photo)
        if process.status not in (0, 3):
            raise RuntimeError(f"mien {command} ended with status {process.status}: {process.said}")
        record = json.loads(Path(output, "run.json").read_text())
        row = _row(f"mien {command}", workers, process, record["counts"]["out"], record["counts"]["faces"])
        row |= {"withheld": record["counts"]["withheld"], "failed": record["counts"]["failed"]}
        row["bytes_out"] = record["bytes"]["out"]
        row["stages_ms"] = {stage: of["sum"] for stage, of in record["milliseconds"].items()}
        if truth is not None and command == "redact":
            (index,) = Path(output).glob("index-*.jsonl")
            rows = [json.loads(line) for line in index.read_text().splitlines()]
            boxes = {one["uri"]: [face["box"] for face in one["faces"]] for one in rows}
            row["recall"] = recall(truth, {str(path): boxes.get(str(path)) for path in photos})
    return row


def avif_row(photos: Sequence[Path]) -> Json:
    """One row: decoding, and encoding as AVIF with all in it."""
    with tempfile.TemporaryDirectory() as output:
        words = [sys.executable, "-c", _AVIF, output, str(QUALITY), *map(str, photos)]
        process = measured(words, Path(output), _is_photo)
        if process.status:
            raise RuntimeError(f"plain AVIF: {process.said}")
        made = list(Path(output).glob("*.avif"))
        row = _row("plain AVIF", 1, process, len(made), 0)
        row["bytes_out"] = sum(path.stat().st_size for path in made)
    return row


def deface_row(program: str, photos: Sequence[Path], truth: Json | None) -> Json:
    """One row: deface with its defaults. Its faces are counted by its own detector, in another run.

    RuntimeError for what it says when it fails.
    """
    with tempfile.TemporaryDirectory() as output:
        links = [Path(output, f"{number:05d}{path.suffix.lower()}") for number, path in enumerate(photos)]
        for link, path in zip(links, photos, strict=True):
            link.symlink_to(path.resolve())  # it writes beside what it reads
        process = measured([program, *map(str, links)], Path(output), lambda path: "_anonymized" in path.name)
        if process.status:
            raise RuntimeError(f"deface ended with status {process.status}: {process.said}")
        made = [path for path in Path(output).iterdir() if "_anonymized" in path.name]
        python = Path(program).resolve().parent / "python"
        words = [str(python), "-c", _DEFACE_BOXES, str(DEFACE_THRESHOLD), *map(str, links)]
        result = subprocess.run(words, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"deface's detector: {result.stderr.strip().splitlines()[-1]}")
        found = json.loads(result.stdout.splitlines()[-1])
        row = _row(f"deface ({found['backend']})", cores(), process, len(made), sum(map(len, found["boxes"])))
        row["bytes_out"] = sum(path.stat().st_size for path in made)
        if truth is not None:
            boxes = {str(path): some for path, some in zip(photos, found["boxes"], strict=True)}
            row["recall"] = recall(truth, boxes)
    return row


def recall(truth: Json, boxes: dict[str, list[list[float]] | None]) -> Json:
    """Faces of the truth that were found, in the photos that are in it.

    boxes: x, y, width, height by path; None for a photo that was withheld, whose faces nobody sees. false: boxes that
    are on no face.
    """
    known = {Path(key).stem for key in truth}
    found = {"faces": 0, "found": 0, "withheld": 0, "false": 0}
    for path, some in boxes.items():
        if Path(path).stem not in known:
            continue
        width = decode_image(Path(path).read_bytes()).shape[1]
        faces, unclear = true_boxes(truth, Path(path).name, width)
        found["faces"] += len(faces)
        if some is None:
            found["withheld"] += len(faces)
            continue
        matched = match(np.array(some, np.float64).reshape(-1, 4), faces, unclear)
        found["found"] += len(faces) - len(matched.missed)
        found["false"] += matched.false
    return found


def _row(name: str, workers: int, process: Measured, photos: int, faces: int) -> Json:
    return {
        "what": name,
        "workers": workers,
        "photos": photos,
        "faces": faces,
        "seconds": round(process.seconds, 2),
        "first_photo_s": None if process.first is None else round(process.first, 2),
        "photos_s": round(photos / process.seconds, 3),
        "faces_s": round(faces / process.seconds, 2),
        "cpu_s_photo": round(process.cpu / max(1, photos), 2),
        "peak_mb": None if process.peak is None else round(process.peak / 1e6),
    }


def _is_photo(path: Path) -> bool:
    return path.suffix in IMAGE_SUFFIXES and not path.name.startswith(".")


def table(rows: Sequence[Json]) -> str:
    """The rows as aligned text, then the stages of mien's jobs in seconds a photo, of all workers."""
    names = ("what", "workers", "photos", "faces", "seconds", "first_photo_s", "photos_s", "faces_s", "cpu_s_photo",
             "peak_mb", "bytes_out", "recall")  # fmt: skip
    cells = [list(names)]
    for row in rows:
        known = {**row, "recall": _share(row["recall"]) if "recall" in row else "-"}
        cells.append(["-" if known[name] is None else str(known[name]) for name in names])
    staged = [row for row in rows if "stages_ms" in row]
    stages = list(dict.fromkeys(stage for row in staged for stage in row["stages_ms"]))
    times = [["stage, s a photo", *(f"{row['what'].split()[-1]}, {row['workers']}" for row in staged)]]
    for stage in stages:
        values = [row["stages_ms"].get(stage) for row in staged]
        photos = [max(1, row["photos"]) for row in staged]
        line = ["-" if ms is None else f"{ms / 1000 / of:.3f}" for ms, of in zip(values, photos, strict=True)]
        times.append([stage, *line])
    return "\n".join([*aligned(cells), "", *aligned(times)])


def _share(found: Json) -> str:
    withheld = f" + {found['withheld']} withheld" if found["withheld"] else ""
    return f"{found['found']}{withheld} of {found['faces']}, {found['false']} false"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mien.pipelines.benchmark", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    parser.add_argument("--truth", type=Path, help="boxes of the faces, as tests/data/faces.json")
    parser.add_argument("--deface", default=_deface(), metavar="PROGRAM", help="of the package deface (on the path)")
    options = parser.parse_args(arguments)
    truth = json.loads(options.truth.read_text(encoding="utf-8")) if options.truth else None
    folder = options.folder.resolve()
    try:
        listed = list(list_files(str(folder), str(folder), IMAGE_SUFFIXES))
    except FileNotFoundError as error:
        parser.error(str(error))
    photos = sorted(Path(file.uri) for file in listed if hasattr(file, "size"))

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    rows = [
        mien_row(command, workers, photos, folder, truth)
        for command in COMMANDS
        for workers in WORKERS
        if workers <= cores()
    ]
    notes = []
    if options.deface:
        try:
            rows.append(deface_row(options.deface, photos, truth))
        except (RuntimeError, OSError) as error:
            notes.append(f"deface is left out: {error}")
    else:
        notes.append("deface is left out: its program was not found (--deface)")
    rows.append(avif_row(photos))
    if load is not None and load > 0.3:
        notes.append(f"the machine was busy: a load of {load:.1f} on {cores()} cores before the first row")
    speedups = {
        command: round(two["photos_s"] / one["photos_s"], 2)
        for command in COMMANDS
        for one in rows
        for two in rows
        if one["what"] == two["what"] == f"mien {command}" and (one["workers"], two["workers"]) == WORKERS
    }
    notes += [f"{command}: {WORKERS[1]} workers are {value} times as fast as 1" for command, value in speedups.items()]
    report = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "photos": len(photos),
        "bytes": sum(file.size for file in listed if hasattr(file, "size")),
        "environment": {
            "cores": cores(),
            "machine": platform.machine(),
            "python": platform.python_version(),
            "load_before": load,
            **{name: importlib.metadata.version(name) for name in ("mien", "apache-beam", "torch", "mediapipe")},
        },
        "rows": rows,
        "speedup": speedups,
        "notes": notes,
    }
    print("\n".join([f"{len(photos)} photos, {report['bytes']:,} bytes", table(rows), *notes]))
    if options.output:
        options.output.write_text(f"{json.dumps(report, indent=1)}\n")
    return 0


def _deface() -> str | None:
    """The program beside this Python, or on the path."""
    beside = Path(sys.executable).with_name("deface")
    return str(beside) if beside.exists() else shutil.which("deface")


if __name__ == "__main__":
    sys.exit(main())
