"""Makes the README's picture, tests/data/readme.webp, and prints the bytes that are written in it.

python tests/data/readme_figures.py
"""

import io
import json
import pathlib
import tempfile

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.models.codec.face_codec import FaceCodec
from mien.models.images.container import extract
from mien.models.images.files import decode_image, encode_image
from mien.pipelines.cli import main as mien

DATA = pathlib.Path(__file__).parent
FACE, GAP, LINE = 300, 8, 30
WIDTH = 4 * FACE + 3 * GAP
CROP = (640, 425)  # pixels of the group photo, shown at 5/8
CORNER = (330, 440)
FONT = ImageFont.load_default(17)


def packed(picture: Image.Image, codec: str, quality: int) -> bytes:
    """The picture's file."""
    stream = io.BytesIO()
    picture.save(stream, codec, quality=quality, **({"method": 6} if codec == "webp" else {"speed": 0}))
    return stream.getvalue()


def best_webp(face: Image.Image, ceiling: int) -> tuple[int, bytes]:
    """The largest WebP within the ceiling, and of those the best: its side in pixels and its file."""
    for side in range(face.width, 0, -2):
        small = face.resize((side, side), Image.Resampling.LANCZOS)
        if len(packed(small, "webp", 0)) <= ceiling:
            files = (packed(small, "webp", quality) for quality in range(101))
            return side, max((file for file in files if len(file) <= ceiling), key=len)
    raise ValueError(f"no WebP has {ceiling} bytes")


def face_row(codec: FaceCodec, path: pathlib.Path) -> list[tuple[Image.Image, str]]:
    """A sample, what mien makes of it, and what WebP and AVIF make of it."""
    face = Image.open(path).convert("RGB")
    payload = codec.encode(np.asarray(face))
    side, webp = best_webp(face, len(payload))
    avif = packed(face, "avif", 0)
    return [
        (face, "512 x 512 pixels, 786,432 bytes"),
        (Image.fromarray(codec.decode(payload)), f"mien, {len(payload)} bytes"),
        (Image.open(io.BytesIO(webp)), f"WebP, {len(webp)} bytes: {side} x {side} pixels"),
        (Image.open(io.BytesIO(avif)), f"AVIF's lowest quality, {len(avif):,} bytes"),
    ]


def photo_row(photo: pathlib.Path, coded: pathlib.Path, restored: pathlib.Path) -> list[tuple[Image.Image, str]]:
    """A part of a group photo, of its coded file as every viewer shows it, and of the restored photo."""
    box = (*CORNER, CORNER[0] + CROP[0], CORNER[1] + CROP[1])
    texts = (
        f"photo, {photo.stat().st_size:,} bytes (a part of it)",
        f"what mien stores, {coded.stat().st_size:,} bytes, in any viewer",
        "restored by mien from those bytes",
    )
    return [
        (Image.open(path).convert("RGB").crop(box), text)
        for path, text in zip((photo, coded, restored), texts, strict=True)
    ]


def run(*words: object) -> None:
    """A command of mien; stops where it fails."""
    if mien([*map(str, words), "--quiet"]):
        raise SystemExit(f"mien {words[0]} failed")


def print_figures(name: str, out: pathlib.Path) -> None:
    """The figures of a folder of tests/data whose coded photos are in out."""
    record = json.loads((out / "run.json").read_text())
    files = sorted((DATA / name).glob("*.jpg"))
    plain = sum(len(encode_image(decode_image(path.read_bytes()), "avif", 60)) for path in files)
    coded = [path.read_bytes() for path in sorted(out.glob("*.avif"))]
    payloads = [face.payload for data in coded for face in extract(data).faces if face.payload]
    print(f"{name}: {sum(path.stat().st_size for path in files):,} bytes, plain AVIF {plain:,}")
    print(f"{name}: coded {sum(map(len, coded)):,}, of these {len(payloads)} faces {sum(map(len, payloads)):,}")
    print(f"{name}: {record['counts']['faces']} faces found, {record['actions']}, {record['seconds']:.0f} s")


def main() -> None:
    codec = FaceCodec.load()
    rows = [face_row(codec, path) for path in sorted((DATA / "samples").glob("*.jpg"))]
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)
        for name in ("photos", "samples"):
            run("compress", DATA / name, "--format", "blobs", "--effort", "fast", "--output", top / name)
            print_figures(name, top / name)
        coded = top / "photos" / "team.jpg.avif"
        run("restore", coded, "--output", top)
        rows.append(photo_row(DATA / "photos" / "team.jpg", coded, top / "team.jpg.png"))
    wide = [(WIDTH - GAP * (len(row) - 1)) // len(row) for row in rows]
    high = [round(width * row[0][0].height / row[0][0].width) for width, row in zip(wide, rows, strict=True)]
    sheet = Image.new("RGB", (WIDTH, sum(high) + LINE * len(rows)), "white")
    pen, y = ImageDraw.Draw(sheet), 0
    for row, width, height in zip(rows, wide, high, strict=True):
        for i, (picture, text) in enumerate(row):
            shown = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
            sheet.paste(shown, (i * (width + GAP), y))
            pen.text((i * (width + GAP) + 2, y + height + 4), text, "black", FONT)
            print(text)
        y += height + LINE
    sheet.save(DATA / "readme.webp", quality=82, method=6)
    print(f"{DATA / 'readme.webp'}: {(DATA / 'readme.webp').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
