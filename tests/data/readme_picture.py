"""Makes the README's picture, tests/data/readme.webp, and prints the bytes that are written in it.

python tests/data/readme_picture.py
"""

import io
import pathlib
import tempfile

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mien.models.codec import FaceCodec
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


def photo_row(photo: pathlib.Path) -> list[tuple[Image.Image, str]]:
    """A part of a group photo, of its coded file as every viewer shows it, and of the restored photo."""
    with tempfile.TemporaryDirectory() as folder:
        out, back = f"{folder}/out", f"{folder}/back"
        jobs = ["compress", str(photo), "--format", "blobs", "--output", out], ["restore", out, "--output", back]
        for words in jobs:
            if mien([*words, "--quiet"]):
                raise SystemExit(f"mien {words[0]} failed")
        coded = pathlib.Path(out, f"{photo.name}.avif")
        pictures = [Image.open(path).convert("RGB") for path in (photo, coded, f"{back}/{photo.name}.png")]
        size = photo.stat().st_size, coded.stat().st_size
    box = (*CORNER, CORNER[0] + CROP[0], CORNER[1] + CROP[1])
    texts = (
        f"photo, {size[0]:,} bytes (a part of it)",
        f"what mien stores, {size[1]:,} bytes, in any viewer",
        "restored by mien from those bytes",
    )
    return [(picture.crop(box), text) for picture, text in zip(pictures, texts, strict=True)]


def main() -> None:
    codec = FaceCodec.load()
    rows = [face_row(codec, path) for path in sorted((DATA / "samples").glob("*.jpg"))]
    rows.append(photo_row(DATA / "photos" / "team.jpg"))
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
