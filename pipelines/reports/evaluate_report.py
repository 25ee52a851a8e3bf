"""What `mien evaluate` writes: evaluate.json, evaluate.csv, evaluate.html, plots and sheets of pictures."""

import csv
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from PIL import Image, ImageDraw, ImageFont

from mien.models.codec import FaceCodec
from mien.models.evaluation import LOWER_IS_BETTER, MIEN, QUALITIES, Line, Peer, Row, enlarge
from mien.pipelines.reports.face_set import FaceSet
from mien.transforms.page import data_uri, render
from mien.transforms.stores import printable

TITLES = {
    "lpips": "LPIPS (squeeze, 256 px)",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "id": "cosine of mobilefacenet",
    "dlib": "distance of dlib's descriptors",
}
THUMB, GAP, LABEL = 160, 6, 16  # px of the sheets
FACES, SHEET = 24, 6  # at most so many faces of a set are shown, so many on a sheet
WORST = 8  # in a gallery
USUAL = 320  # the ceiling whose failures are shown, or the nearest to it


class Pictures:
    """The measured files, decoded again to be shown."""

    def __init__(self, codec: FaceCodec, peers: dict[str, Peer]) -> None:
        self._codec, self._peers = codec, peers

    def of(self, row: Row) -> Image.Image:
        """What the row's file shows."""
        data = row.path.read_bytes()
        pixels = self._codec.decode(data, 256) if row.codec == MIEN else enlarge(self._peers[row.codec].unpack(data))
        return Image.fromarray(pixels)


def write(
    output: Path, sets: Sequence[FaceSet], report: dict[str, Any], codec: FaceCodec, peers: dict[str, Peer], quiet: bool
) -> None:
    """All files. report: what is the same for all."""
    pictures = Pictures(codec, peers)
    plots = list(_plots(sets))
    _save_all(output / "plots", plots)
    shown: dict[str, list[tuple[str, str, Image.Image]]] = {}
    for found in sets:
        shown[found.name] = list(_galleries(found, report, pictures)) + list(_sheets(found, report, pictures))
        _save_all(output / "pictures", [(name, image) for name, _, image in shown[found.name]])
    report["sets"] = [_as_json(found) for found in sets]
    (output / "evaluate.json").write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    with (output / "evaluate.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ["set", *(one.name for one in dataclasses.fields(Line))])
        table.writeheader()
        table.writerows({"set": found.name} | dataclasses.asdict(line) for found in sets for line in found.lines)
    html = render(
        "evaluate.html",
        report=report,
        sets=sets,
        mien=MIEN,
        titles=TITLES,
        plots=[(name, _inline(output / "plots" / name)) for name, _ in plots],
        shown={
            name: [(title, _inline(output / "pictures" / file)) for file, title, _ in images]
            for name, images in shown.items()
        },
        min_score=FaceCodec.MIN_SCORE,
    )
    (output / "evaluate.html").write_text(html)
    if not quiet:
        for found in sets:
            print("\n".join(map(printable, _text(found, report["settings"]["bytes"]))))
        print("\n".join(map(printable, [*report["notes"], f"{output / 'evaluate.html'}"])))


def _as_json(found: FaceSet) -> dict[str, Any]:
    rows = []
    for row in found.rows:
        known = {one.name: getattr(row, one.name) for one in dataclasses.fields(row)}
        for name in ("path", "spaces", "quality"):
            del known[name]
        rows.append(known | dataclasses.asdict(row.quality))
    return {
        "name": found.name,
        "folder": found.folder,
        "faces": len(found.faces),
        "failures": [{"uri": f.uri, "stage": f.stage, "error": f.error, "message": f.message} for f in found.failures],
        "lines": [dataclasses.asdict(line) for line in found.lines],
        "needs": [dataclasses.asdict(need) for need in found.needs],
        "rows": rows,
    }


def _text(found: FaceSet, ceilings: Sequence[int]) -> Iterator[str]:
    """A short table for the terminal."""
    yield f"{found.name}, faces: {len(found.faces)}"
    yield f"  {'codec':<12}{'at most':>8}{'bytes':>8}" + "".join(f"{name:>8}" for name in QUALITIES)
    for line in found.lines:
        if line.ceiling in ceilings and line.bytes_mean is not None:
            values = [getattr(line, name) for name in QUALITIES]
            cells = "".join(f"{value:8.3f}" if value is not None else f"{'-':>8}" for value in values)
            yield f"  {' '.join([line.codec, line.effort]):<12}{line.ceiling:>8}{line.bytes_mean:>8.1f}{cells}"


def _plots(sets: Sequence[FaceSet]) -> Iterator[tuple[str, Any]]:
    """(name, figure) of each quality, a panel a set."""
    sets = [found for found in sets if found.lines]
    for name in QUALITIES if sets else ():
        if all(getattr(line, name) is None for found in sets for line in found.lines):
            continue
        figure = Figure(figsize=(5.2 * len(sets), 4), layout="constrained", dpi=110)
        panels = figure.subplots(1, len(sets), sharey=True, squeeze=False)[0]
        for panel, found in zip(panels, sets, strict=True):
            for (codec, effort), lines in _curves(found.lines, name).items():
                sizes, values = zip(*((line.bytes_mean, getattr(line, name)) for line in lines), strict=True)
                width = 2.4 if codec == MIEN else 1.2
                panel.plot(
                    sizes, values, "o-", markersize=2.5 * width, linewidth=width, label=f"{codec} {effort}".strip()
                )
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            panel.set(title=f"{found.name}, faces: {len(found.faces)}", xlabel="bytes, mean")
            panel.grid(alpha=0.3)
        better = "lower" if name in LOWER_IS_BETTER else "higher"
        panels[0].set_ylabel(f"{TITLES[name]} ({better} is better)")
        panels[-1].legend(fontsize=8)
        yield f"{name}.png", figure


def _curves(lines: Sequence[Line], name: str) -> dict[tuple[str, str], list[Line]]:
    found: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        if line.bytes_mean is not None and getattr(line, name) is not None:
            found.setdefault((line.codec, line.effort), []).append(line)
    return {who: sorted(some, key=lambda line: line.ceiling) for who, some in found.items()}


def _sheets(found: FaceSet, report: dict[str, Any], pictures: Pictures) -> Iterator[tuple[str, str, Image.Image]]:
    """(file, title, picture): faces by mien, and under them by the best conventional codec at the same ceiling."""
    names = sorted(found.faces)
    names = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, FACES).round().astype(int))] if names else []
    ceilings = report["settings"]["bytes"]
    rows = {(row.face, row.codec, row.effort, row.ceiling): row for row in found.rows}
    best = {ceiling: _best_codec(found.lines, ceiling) for ceiling in ceilings}
    for effort in report["settings"]["efforts"]:
        for begin in range(0, len(names), SHEET):
            cells: list[list[tuple[Image.Image | None, str]]] = []
            for name in names[begin : begin + SHEET]:
                ours = [rows[name, MIEN, effort, ceiling] for ceiling in ceilings]
                theirs = [rows.get((name, best[ceiling] or "", "", ceiling)) for ceiling in ceilings]
                original = (Image.fromarray(np.load(found.faces[name])), "original")
                cells.append([original, *((pictures.of(row), _caption(row)) for row in ours)])
                if any(best.values()):
                    other = ((pictures.of(row), _caption(row)) if row else (None, "none fits") for row in theirs)
                    cells.append([(None, ""), *other])
            title = f"{found.name}, effort {effort}: original, mien and the best conventional codec at each ceiling"
            yield f"{found.name}-{effort}-{begin // SHEET + 1:02d}.jpg", title, _grid(cells)


def _best_codec(lines: Sequence[Line], ceiling: int) -> str | None:
    """The conventional codec with the smallest mean LPIPS, without LPIPS the highest PSNR; None if none has files."""
    there = [line for line in lines if line.codec != MIEN and line.ceiling == ceiling and line.psnr is not None]
    if not there:
        return None
    return min(there, key=lambda line: -(line.psnr or 0.0) if line.lpips is None else line.lpips).codec


def _galleries(found: FaceSet, report: dict[str, Any], pictures: Pictures) -> Iterator[tuple[str, str, Image.Image]]:
    """(file, title, picture): the faces that mien does worst, above them their originals."""
    ceiling = min(report["settings"]["bytes"], key=lambda ceiling: abs(ceiling - USUAL))
    for effort in report["settings"]["efforts"]:
        rows = [row for row in found.rows if (row.codec, row.effort, row.ceiling) == (MIEN, effort, ceiling)]
        orders = {"score": sorted(rows, key=lambda row: row.score or 0.0)}
        if rows and rows[0].quality.lpips is not None:
            orders["LPIPS"] = sorted(rows, key=lambda row: -(row.quality.lpips or 0.0))
        for name, order in orders.items():
            if worst := order[:WORST]:
                originals = [(Image.fromarray(np.load(found.faces[row.face])), row.face) for row in worst]
                made = [(pictures.of(row), f"{_caption(row)}, score {row.score:.2f}") for row in worst]
                title = f"{found.name}, effort {effort}, {ceiling} bytes: the worst faces by {name}"
                yield f"{found.name}-{effort}-worst-{name.lower()}.jpg", title, _grid([originals, made])


def _caption(row: Row) -> str:
    figure = f"PSNR {row.quality.psnr:.1f}" if row.quality.lpips is None else f"LPIPS {row.quality.lpips:.2f}"
    return f"{f'≤ {row.ceiling}:' if row.codec == MIEN else row.codec} {row.bytes} B, {figure}"


def _grid(cells: Sequence[Sequence[tuple[Image.Image | None, str]]]) -> Image.Image:
    """Rows of pictures, each with a line of text under it."""
    wide, high = THUMB + GAP, THUMB + LABEL + GAP
    sheet = Image.new("RGB", (wide * max(map(len, cells)) - GAP, high * len(cells)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(10)
    for y, line in enumerate(cells):
        for x, (picture, text) in enumerate(line):
            if picture:
                sheet.paste(picture.resize((THUMB, THUMB), Image.Resampling.LANCZOS), (x * wide, y * high))
            while text and pen.textlength(text, font) > THUMB:
                text = text[:-1]
            pen.text((x * wide, y * high + THUMB + 2), text, "black", font)
    return sheet


def _save_all(folder: Path, images: Sequence[tuple[str, Any]]) -> None:
    """Pillow's pictures and matplotlib's figures."""
    for name, image in images:
        folder.mkdir(exist_ok=True)
        if isinstance(image, Image.Image):
            image.save(folder / name, quality=88)
        else:
            image.savefig(folder / name)


def _inline(path: Path) -> str:
    kind = "png" if path.suffix == ".png" else "jpeg"
    return data_uri(path.read_bytes(), kind)
