import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien.models.images.container import extract, strip
from mien.transforms.formats.parquet import SCHEMA
from tests.pipelines.conftest import mien, record

pytestmark = pytest.mark.slow

Compressed = Callable[[str], Path]
NAMES = ("a/x.jpg", "b/x.jpg")


def test_blobs_are_pictures_without_their_coded_faces(photos: Path, compressed: Compressed) -> None:
    output = compressed("blobs")
    assert sorted(str(p.relative_to(output)) for p in output.rglob("*.avif")) == [f"{name}.avif" for name in NAMES]
    coded = 0
    for name in NAMES:
        blob = (output / f"{name}.avif").read_bytes()
        photo = extract(blob)
        with Image.open(output / f"{name}.avif") as image, Image.open(photos / name) as original:
            assert image.size == original.size == (photo.width, photo.height)
            shown, source = (np.asarray(i.convert("RGB"), np.float32) for i in (image, original))
        assert (photo.policy.split(":")[0], photo.version) == ("compress", "0.1.0")
        for face in photo.faces:
            assert face.rule.startswith("otherwise")
            assert face.action == ("preserve" if face.payload else "keep")
            assert len(face.payload) <= 320
            if face.payload:
                coded += 1
                x, y, w, h = (int(side) for side in face.box)
                middle = np.s_[y + h // 3 : y + 2 * h // 3, x + w // 4 : x + 3 * w // 4]
                # a smooth filling: nothing of the eyes' and nose's detail is left
                detail = [np.abs(np.diff(pixels[middle], axis=0)).mean() for pixels in (shown, source)]
                assert detail[0] < detail[1] / 2
    counts = record(output)["counts"]
    assert (counts["in"], counts["out"], counts["skipped"]) == (2, 2, 0)
    assert counts["faces"] == sum(record(output)["actions"].values()) >= 4
    assert counts["not_the_same_person"] == 0  # effort fast does not ask
    assert coded >= 2


def test_tables_hold_what_the_blobs_hold(compressed: Compressed) -> None:
    (part,) = compressed("parquet").glob("*.parquet")
    table = pq.ParquetFile(part)
    rows = {row["uri"]: row for row in table.read().to_pylist()}
    assert table.schema_arrow.remove_metadata().equals(SCHEMA)
    column = table.metadata.row_group(0).column(table.schema_arrow.names.index("background"))
    assert (column.compression, column.is_stats_set) == ("ZSTD", False)
    for name in NAMES:
        (row,) = (row for uri, row in rows.items() if uri.endswith(f"/{name}"))
        blob = (compressed("blobs") / f"{name}.avif").read_bytes()
        assert row["background"] == strip(blob)
        assert row["background_codec"] == "avif"
        stored = extract(blob)
        assert [face["payload"] for face in row["faces"]] == [face.payload for face in stored.faces]
        for face, other in zip(row["faces"], stored.faces, strict=True):
            assert np.allclose([face[side] for side in "xywh"], other.box, atol=0.02 * max(other.box[2:]))
            assert (face["action"], face["rule"], face["model"]) == (other.action, other.rule, other.model)


def test_photos_come_back_alike_from_blobs_and_tables(photos: Path, compressed: Compressed, tmp_path: Path) -> None:
    for kind in ("blobs", "parquet"):
        assert mien("restore", compressed(kind), "--output", tmp_path / kind) == 0
        assert record(tmp_path / kind)["counts"]["out"] == 2
    for name in NAMES:
        paths = [tmp_path / kind / f"{name}.png" for kind in ("blobs", "parquet")]
        assert paths[0].read_bytes() == paths[1].read_bytes()
        with Image.open(paths[0]) as image, Image.open(photos / name) as original:
            assert (image.format, image.size) == ("PNG", original.size)
            restored, source = (np.asarray(i.convert("RGB"), np.float32) for i in (image, original))
        with Image.open(compressed("blobs") / f"{name}.avif") as blob:
            filled = np.asarray(blob.convert("RGB"), np.float32)
        # with its faces the picture is nearer to the original than with its holes
        assert np.abs(restored - source).mean() < np.abs(filled - source).mean()


def test_a_restored_picture_of_any_format(compressed: Compressed, tmp_path: Path) -> None:
    blob = compressed("blobs") / "a" / "x.jpg.avif"
    assert mien("restore", blob, "--output", tmp_path, "--image-format", "jpeg") == 0
    with Image.open(tmp_path / "x.jpg.jpg") as image:
        assert image.format == "JPEG"
        assert not image.getexif()


@pytest.mark.parametrize("kind", ["blobs", "parquet"])
def test_a_second_run_has_nothing_to_do(photos: Path, compressed: Compressed, kind: str, tmp_path: Path) -> None:
    output = Path(shutil.copytree(compressed(kind), tmp_path / "out"))
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.suffix in (".avif", ".parquet")}
    first = record(output)
    assert mien("compress", photos, "--output", output, "--format", kind, "--effort", "fast", "--faces", "neural") == 0
    assert record(output)["counts"]["skipped"] == 2
    assert sum(record(output)["counts"].values()) == 2
    assert record(output)["fingerprint"] == first["fingerprint"]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert not list(output.rglob(".mien*"))
