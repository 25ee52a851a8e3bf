"""mien evaluate --photos: whole photos within budgets of bytes, beside conventional codecs. Without a Beam job."""

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image, ImageDraw, ImageFont

from mien.models.codec import FaceCodec
from mien.models.errors import BudgetError
from mien.models.evaluation import MIEN, Lpips, PhotoMeter, PhotoQuality, best_file, peers
from mien.models.faces import FaceDetector, FaceLandmarker
from mien.models.runtime import cores, tune_process
from mien.pipelines.reports.face_set import about, find_lpips, list_pictures, make_output, progress, record_failures
from mien.transforms.compress import prepared, store_photo
from mien.transforms.elements import CodedPhoto, Failure, Photo, PhotoInWork, Pixels
from mien.transforms.formats import blob_of
from mien.transforms.page import data_uri, render
from mien.transforms.policy import load_policy
from mien.transforms.restore import restore_photo
from mien.transforms.settings import CompressSettings
from mien.transforms.sources import photo_of_blob, read_file
from mien.transforms.stores import normal_uri, printable
from mien.transforms.workers import failure_of

BYTES = (500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000)
CODECS = ("AVIF", "WebP", "JPEG XL", "JPEG")
SHOWN = 6  # photos on the sheets
HIGH, GAP, LABEL = 240, 6, 16  # px of the sheets
TITLES = {
    "face": "faces: {}, lower is better",
    "whole": "whole photo: {}, lower is better",
    "cosine": "cosine of mobilefacenet, higher is better",
    "dlib": "distance of dlib's descriptors, lower is better",
}


@dataclass(frozen=True)
class PhotoRow:
    """One photo by one codec within one budget. size: of the picture in the file, px; neural: how many of its faces are
    coded by mien; ms: that coding took."""

    photo: str
    codec: str
    ceiling: int
    bytes: int
    size: tuple[int, int]
    faces: int
    neural: int
    ms: float
    quality: PhotoQuality


@dataclass(frozen=True)
class _Bench:
    codec: FaceCodec
    lpips: Lpips | None
    conventional: Sequence[peers.Peer]
    ceilings: Sequence[int]
    effort: Any


def run(args: argparse.Namespace) -> int:
    """Measures and writes; 0, or 3 where a photo could not be measured. MienError for what keeps it from starting."""
    output = make_output(args)
    notes: list[str] = []
    there = peers.installed()
    conventional = [there[name] for name in CODECS if name in there and name in args.codecs]
    notes += [f"No {name} on this machine." for name in CODECS if name not in there and name in args.codecs]
    tune_process(cores())
    effort = args.effort[0] if args.effort else "auto"
    bench = _Bench(FaceCodec.load(args.weights), find_lpips(args, notes), conventional, args.bytes or BYTES, effort)
    rows: list[PhotoRow] = []
    sheets: list[tuple[str, Image.Image]] = []
    failures: list[Failure] = []
    entries = [entry for folder in args.folders for entry in list_pictures(normal_uri(folder), str(output.absolute()))]
    with contextlib.closing(FaceDetector()) as detector, contextlib.closing(FaceLandmarker()) as landmarker:
        for entry in progress(entries, "photos", args.quiet):
            try:
                photo = prepared(Photo(entry.uri, read_file(entry), entry.name, entry), detector, landmarker)
                found, pictures = _measure(photo, bench)
            except Exception as error:
                failures.append(failure_of(entry.uri, "measure", error))
                continue
            rows += found
            if len(sheets) < SHOWN:
                sheets.append((entry.name, _sheet(photo.pixels, pictures, bench.ceilings)))
    report = {
        **about(notes),
        "model": bench.codec.model,
        "criterion": "LPIPS (squeeze, 256 px)" if bench.lpips else "distance of the encoder's trunk, 256 px",
        "ceilings": list(bench.ceilings),
        "photos": len({row.photo for row in rows}),
        "lines": [asdict(line) for line in lines_of(rows, bench.ceilings)],
        "rows": [_flat(row) for row in rows],
    }
    _write(output, report, sheets)
    if not args.quiet:
        print("\n".join(map(printable, [*_text(report), *notes, str(output / "evaluate.html")])))
    record_failures(output, failures)
    return 3 if failures else 0


def _measure(photo: PhotoInWork, bench: _Bench) -> tuple[list[PhotoRow], dict[tuple[str, int], Pixels]]:
    """Every codec within every ceiling, from written files read back; and what they show."""
    transforms = [face.transform for face in photo.faces if face.transform]
    meter = PhotoMeter(bench.codec.encoder, bench.lpips, photo.pixels, transforms)
    rows, pictures = [], {}
    policy = load_policy("compress")
    for ceiling in bench.ceilings:
        begin = time.perf_counter()
        with contextlib.suppress(BudgetError):
            settings = CompressSettings(policy=policy, photo_bytes=ceiling, effort=bench.effort)
            stored = store_photo(photo, bench.codec, settings)
            ms = 1000 * (time.perf_counter() - begin)
            blob = blob_of(stored)
            shown = restore_photo(_read_back(blob, stored), bench.codec)
            neural = sum(bool(face.payload) for face in stored.faces)
            with Image.open(io.BytesIO(blob)) as image:
                size = image.size
            about_row = photo.name, MIEN, ceiling, len(blob), size, len(transforms), neural, ms
            rows.append(PhotoRow(*about_row, meter.quality(shown)))
            pictures[MIEN, ceiling] = shown
        for peer in bench.conventional:
            begin = time.perf_counter()
            found = best_file(photo.pixels, peer, ceiling, meter)
            ms = 1000 * (time.perf_counter() - begin)
            if found:
                about_row = photo.name, peer.name, ceiling, len(found.data), found.size, len(transforms), 0, ms
                rows.append(PhotoRow(*about_row, meter.quality(found.pixels)))
                pictures[peer.name, ceiling] = found.pixels
    return rows, pictures


def _read_back(blob: bytes, stored: CodedPhoto) -> CodedPhoto:
    if stored.origin is None:
        raise ValueError("a photo of no file")
    return photo_of_blob(blob, stored.origin)


@dataclass(frozen=True)
class PhotoLine:
    """The means of one codec within one ceiling, over the photos that it fits. neural: share of the faces."""

    codec: str
    ceiling: int
    photos: int
    bytes: float | None
    whole: float | None
    face: float | None
    cosine: float | None
    dlib: float | None
    neural: float | None


def lines_of(rows: Sequence[PhotoRow], ceilings: Sequence[int]) -> list[PhotoLine]:
    """A line a codec and ceiling."""

    def mean(values: Iterator[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    found = []
    for ceiling in ceilings:
        for codec in dict.fromkeys(row.codec for row in rows):
            some = [row for row in rows if (row.codec, row.ceiling) == (codec, ceiling)]
            names = ("whole", "face", "cosine", "dlib")
            found.append(
                PhotoLine(
                    codec,
                    ceiling,
                    len(some),
                    mean(row.bytes for row in some),
                    neural=mean(row.neural / row.faces if row.faces else None for row in some),
                    **{name: mean(getattr(row.quality, name) for row in some) for name in names},
                )
            )
    return found


def _flat(row: PhotoRow) -> dict[str, Any]:
    known = {each.name: getattr(row, each.name) for each in dataclasses.fields(row) if each.name != "quality"}
    return known | asdict(row.quality)


def _write(output: Path, report: dict[str, Any], sheets: Sequence[tuple[str, Image.Image]]) -> None:
    (output / "evaluate.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    with (output / "evaluate.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, [each.name for each in dataclasses.fields(PhotoLine)])
        table.writeheader()
        table.writerows(report["lines"])
    (output / "plots").mkdir(exist_ok=True)
    plots = {}
    for name, title in TITLES.items():
        figure = _plot(report, name, title.format(report["criterion"]))
        figure.savefig(output / "plots" / f"{name}.png")
        plots[title.format(report["criterion"])] = data_uri((output / "plots" / f"{name}.png").read_bytes(), "png")
    shown = []
    for name, sheet in sheets:
        small = io.BytesIO()
        sheet.save(small, "JPEG", quality=88)
        shown.append((name, data_uri(small.getvalue(), "jpeg")))
    page = render("evaluate_photos.html", report=report, mien=MIEN, plots=plots, shown=shown)
    (output / "evaluate.html").write_text(page)


def _plot(report: dict[str, Any], name: str, title: str) -> Figure:
    figure = Figure(figsize=(7, 4.2), layout="constrained", dpi=110)
    panel = figure.subplots()
    for codec in dict.fromkeys(line["codec"] for line in report["lines"]):
        points = [
            (line["bytes"], line[name])
            for line in report["lines"]
            if line["codec"] == codec and line[name] is not None and line["photos"] == report["photos"]
        ]
        if points:
            width = 2.4 if codec == MIEN else 1.2
            panel.plot(*zip(*points, strict=True), "o-", markersize=2.5 * width, linewidth=width, label=codec)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.set(title=title, xlabel="bytes a photo, mean")
    panel.grid(alpha=0.3)
    if panel.lines:
        panel.legend(fontsize=8)
    return figure


def _sheet(original: Pixels, pictures: dict[tuple[str, int], Pixels], ceilings: Sequence[int]) -> Image.Image:
    """A row a codec, a column a ceiling, and the original at the left."""
    codecs = list(dict.fromkeys(codec for codec, _ in pictures))
    wide = round(HIGH * original.shape[1] / original.shape[0])
    across, down = wide + GAP, HIGH + LABEL + GAP
    sheet = Image.new("RGB", (across * (len(ceilings) + 1), down * max(1, len(codecs))), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    cells = [(0, 0, original, "original")]
    for y, codec in enumerate(codecs):
        for x, ceiling in enumerate(ceilings, 1):
            if (codec, ceiling) in pictures:
                cells.append((x, y, pictures[codec, ceiling], f"{codec}, {ceiling:,} bytes"))
            else:
                pen.text((x * across, y * down), f"{codec}: not in {ceiling:,} bytes", "black", font)
    for x, y, picture, text in cells:
        small = Image.fromarray(picture).resize((wide, HIGH), Image.Resampling.LANCZOS)
        sheet.paste(small, (x * across, y * down))
        pen.text((x * across, y * down + HIGH + 1), text, "black", font)
    return sheet


def _text(report: dict[str, Any]) -> Iterator[str]:
    """A short table for the terminal."""
    yield f"photos: {report['photos']}; {report['criterion']}"
    yield f"  {'codec':<10}{'at most':>8}{'photos':>8}{'bytes':>9}{'whole':>8}{'face':>8}{'cosine':>8}{'dlib':>8}"
    for line in report["lines"]:
        if line["photos"]:
            values = [line[name] for name in ("whole", "face", "cosine", "dlib")]
            cells = "".join(f"{value:8.3f}" if value is not None else f"{'-':>8}" for value in values)
            yield f"  {line['codec']:<10}{line['ceiling']:>8}{line['photos']:>8}{line['bytes']:>9.1f}{cells}"
