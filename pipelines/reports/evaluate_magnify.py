"""mien evaluate --magnify: magnified faces beside bicubic and Lanczos, at 16x and 64x. Without a Beam job."""

import argparse
import csv
import dataclasses
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mien.models.evaluation import (
    BICUBIC,
    INPUTS,
    MIEN,
    SIZE,
    MagnifiedRow,
    MagnifyBench,
    Meter,
    drift,
    lines,
    shrunk,
)
from mien.models.magnify import FaceMagnifier
from mien.pipelines.reports.face_set import FaceSet, about, meter_of, progress, read_sets, status_of
from mien.transforms.page import data_uri, render
from mien.transforms.stores import printable
from mien.transforms.workers import failure_of

SHEET, GAP = 8, 4  # faces on a sheet; px between its pictures
# What others report of their own methods, on their own pictures: not comparable number by number.
PUBLISHED = (
    {
        "method": "GLEAN (Chan et al., 2021)",
        "what": "16x, FFHQ, 64 to 1024 px, PSNR over RGB",
        "figure": "26.91 dB",
        "source": "model zoo of open-mmlab/mmagic, configs/glean",
    },
)
NOT_FOUND = "Published figures of PULSE and GCFSR, and GLEAN's LPIPS, are not known to the authors of mien."


def run(args: argparse.Namespace) -> int:
    """Measures and writes; 0, or 3 where a picture could not be measured. MienError for what keeps it from starting."""
    notes: list[str] = []
    with read_sets(args) as (output, sets):
        magnifier = FaceMagnifier.load(args.weights)
        meter = meter_of(magnifier.codec.recogniser, args, notes)
        made = []
        for found in sets:
            bench = MagnifyBench(magnifier, meter, found.work, args.strength)
            made.append((found, _measure(found, bench, meter, args.quiet)))
        report = {
            **about(notes),
            "model": magnifier.model,
            "codec": magnifier.codec.model,
            "settings": {"inputs": list(INPUTS), "size": SIZE, "strength": args.strength},
            "published": [*PUBLISHED],
            "not_found": NOT_FOUND,
        }
        _write(output, made, report)
        if not args.quiet:
            _print(report, output)
        return status_of(output, sets)


def _measure(found: FaceSet, bench: MagnifyBench, meter: Meter, quiet: bool) -> list[MagnifiedRow]:
    rows: list[MagnifiedRow] = []
    for name, path in progress(found.faces.items(), found.name, quiet):
        try:
            original = meter.view(np.load(path))
            rows += bench.rows(name, original)
        except Exception as error:
            found.failures.append(failure_of(f"{found.folder}/{name}", "measure", error))
            del found.faces[name]
            continue
        found.originals[name] = original.spaces
    return rows


def _write(output: Path, sets: Sequence[tuple[FaceSet, list[MagnifiedRow]]], report: dict[str, Any]) -> None:
    report["sets"] = []
    shown: dict[str, dict[str, str]] = {}  # by set and file, as a page has them
    (output / "pictures").mkdir(exist_ok=True)
    for found, rows in sets:
        shown[found.name] = {}
        for name, sheet in _sheets(found, rows):
            sheet.save(output / "pictures" / name)
            small = io.BytesIO()  # the files are lossless and too large for one page
            sheet.save(small, "JPEG", quality=88)
            shown[found.name][name] = data_uri(small.getvalue(), "jpeg")
        report["sets"].append(
            {
                "name": found.name,
                "folder": found.folder,
                "faces": len(found.faces),
                "failures": [failure.uri for failure in found.failures],
                "lines": lines(rows, found.originals),
                "drift": drift(rows),
                "rows": [_as_json(row) for row in rows],
                "pictures": list(shown[found.name]),
            }
        )
    (output / "evaluate.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    table = [{"set": found["name"], **line} for found in report["sets"] for line in found["lines"]]
    with (output / "evaluate.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(dict.fromkeys(name for line in table for name in line)))
        writer.writeheader()
        writer.writerows(table)
    (output / "evaluate.html").write_text(render("evaluate_magnify.html", report=report, mien=MIEN, shown=shown))


def _as_json(row: MagnifiedRow) -> dict[str, Any]:
    known = {one.name: getattr(row, one.name) for one in dataclasses.fields(row)}
    for name in ("path", "spaces", "quality", "original", "made"):
        del known[name]
    skins = {"original": dataclasses.asdict(row.original), "made": dataclasses.asdict(row.made)}
    return known | dataclasses.asdict(row.quality) | skins


def _sheets(found: FaceSet, rows: Sequence[MagnifiedRow]) -> Iterator[tuple[str, Image.Image]]:
    """As the study's: a column a face, with input, bicubic, result and original under each other, for both factors."""
    paths = {(row.face, row.input, row.method): row.path for row in rows}
    names, side = sorted(found.faces), SIZE // 2
    for size in INPUTS:
        for begin in range(0, len(names), SHEET):
            some = names[begin : begin + SHEET]
            sheet = Image.new("RGB", ((side + GAP) * len(some) - GAP, (side + GAP) * 4 - GAP), "white")
            for x, name in enumerate(some):
                original = np.load(found.faces[name])
                column = [
                    Image.fromarray(shrunk(original, size)).resize((side, side), Image.Resampling.NEAREST),
                    Image.open(paths[name, size, BICUBIC]).resize((side, side), Image.Resampling.BOX),
                    Image.open(paths[name, size, MIEN]).resize((side, side), Image.Resampling.BOX),
                    Image.fromarray(original).resize((side, side), Image.Resampling.BOX),
                ]
                for y, picture in enumerate(column):
                    sheet.paste(picture, (x * (side + GAP), y * (side + GAP)))
            yield f"{found.name}-{SIZE // size}x-{begin // SHEET + 1:02d}.png", sheet


def _print(report: dict[str, Any], output: Path) -> None:
    """A short table for the terminal."""
    figures = ("lpips", "psnr", "id", "dlib", "kid_recogniser", "kid_squeezenet", "rms", "rms_max")
    for found in report["sets"]:
        print(printable(f"{found['name']}, faces: {found['faces']}"))
        print(
            f"  {'':<14}"
            + "".join(f"{name.replace('recogniser', 'rec').replace('squeezenet', 'sq'):>9}" for name in figures)
        )
        for line in found["lines"]:
            cells = (line.get(name) for name in figures)
            shown = "".join(f"{value:9.3f}" if value is not None else f"{'-':>9}" for value in cells)
            print(f"  {line['factor']}x {line['method']:<10}{shown}")
    print("\n".join(map(printable, [*report["notes"], f"{output / 'evaluate.html'}"])))
