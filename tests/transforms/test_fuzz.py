"""A small seeded part of a fuzz campaign: golden files with damage of every kind give a result or a typed error."""

import io
import random
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mien.models.audit.metadata_leaks import file_leaks, trace_leaks, traces
from mien.models.codec.face_codec import FaceCodec
from mien.models.errors import ContainerError, ImageError, PayloadError, PolicyError
from mien.models.images.chunk import pack_photo, unpack_photo
from mien.models.images.container import describe, embed, extract, strip
from mien.models.images.headers import orientation, read_header
from mien.pipelines.runs.index import failure_row_of, index_row_of, index_rows
from mien.pipelines.runs.resume import latest, names_of
from mien.transforms.elements import Failure, ListedFile, OutputFile, Written
from mien.transforms.formats.manifest import Manifest
from mien.transforms.formats.parquet import OPTIONS, SCHEMA, members_of_table, row_of, without_rows
from mien.transforms.formats.tar_members import list_members
from mien.transforms.formats.webdataset import samples
from mien.transforms.policy.rules import BUILT_IN, parse_policy
from mien.transforms.sources.read_coded import photo_of_blob, photos_of_table
from mien.transforms.stores.names import is_safe_name

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
CONTAINERS = [path.read_bytes() for path in sorted(GOLDEN.glob("container*"))]
PHOTOS = [extract(data) for data in CONTAINERS]
EDGES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1", b"\1\0\0\0")


def damaged(random_: random.Random, data: bytes) -> bytes:
    """One to four changes: a bit, a byte, a number of four bytes, a piece that is cut out, doubled, moved or lost."""
    for _ in range(random_.randint(1, 4)):
        at, end = sorted(random_.randrange(len(data) + 1) for _ in range(2))
        piece = data[at : min(end, at + random_.choice((1, 4, 64, 4096)))]
        after = data[at + len(piece) :]
        data = data[:at] + random_.choice(
            (
                bytes(byte ^ 1 << random_.randrange(8) for byte in piece[:1]) + piece[1:] + after,
                random_.randbytes(len(piece[:2])) + piece[2:] + after,
                random_.choice(EDGES) + data[at + 4 :],
                after,
                piece + piece + after,
                after + piece,
                b"",
            )
        )
        if not data:
            break
    return data


def pictures() -> Iterator[bytes]:
    """Small ones of every format, with EXIF where it has any."""
    image = Image.linear_gradient("L").resize((20, 12)).convert("RGB")
    exif = Image.Exif()
    exif[274], exif[270], exif[0x8825] = 6, "a description", {1: "N", 2: (47.0, 30.0, 12.0)}
    for kind in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF"):
        out = io.BytesIO()
        image.save(out, kind, **({} if kind in ("GIF", "TIFF") else {"exif": exif}))
        yield out.getvalue()


def shards() -> Iterator[bytes]:
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = io.BytesIO()
        long = f"{'1' * 60}{'' if kind == tarfile.USTAR_FORMAT else 'é' * 30}.jpg"  # has headers of its own in two
        with tarfile.open(fileobj=out, mode="w", format=kind) as tar:
            for name, data in (("0.jpg", b"data"), ("0.json", b"{}"), (long, b"")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        yield out.getvalue().rstrip(b"\0") + bytes(1536)


def with_checksums(data: bytes) -> bytes:
    """A tar whose headers' checksums are right, so that more than these is read."""
    made = bytearray(data)
    for at in range(0, len(made) - 511, 512):
        if made[at + 257 : at + 262] == b"ustar":
            made[at + 148 : at + 156] = b" " * 8
            made[at + 148 : at + 156] = f"{sum(made[at : at + 512]):06o}\0 ".encode()
    return bytes(made)


def read_payload(data: bytes, folder: Path) -> None:
    header, latents = FaceCodec.load().decoder.read(data)
    assert header.total == len(data)
    assert all(part is None or part.isfinite().all() for part in (*latents.layers, latents.colours))


def read_chunk(data: bytes, folder: Path) -> None:
    """With the checksum put right: its fields are what is tried."""
    photo = unpack_photo(data[:1] + zlib.crc32(data[5:], zlib.crc32(data[:1])).to_bytes(4, "little") + data[5:])
    assert unpack_photo(pack_photo(photo)) == photo


def read_container(data: bytes, folder: Path) -> None:
    with pytest.raises(ContainerError):
        extract(strip(data))
    assert extract(embed(data, PHOTOS[0])) == PHOTOS[0]
    describe(data)
    assert extract(data) in PHOTOS


def read_picture(data: bytes, folder: Path) -> None:
    assert 1 <= orientation(data) <= 8
    file_leaks(data)
    trace_leaks(traces(data), data)
    assert 1 <= orientation(read_header(data).exif) <= 8


def read_shard(data: bytes, folder: Path) -> None:
    path = folder / "s.tar"
    path.write_bytes(with_checksums(data))
    for entry in list_members(ListedFile(str(path), "s.tar", len(data), 1.0), {".jpg"}):
        if isinstance(entry, Failure):
            assert entry.error in ("ReadError", "ImageError"), entry
        else:
            assert 0 < entry.start <= entry.start + entry.size < 1 << 63
    for sample in samples(str(path), {".jpg"}, 1000):
        assert isinstance(sample, ImageError) or len(sample.data) <= 1000


def read_manifest(data: bytes, folder: Path) -> None:
    assert not any("/" in name for name in Manifest.from_json(data).parts)


def read_index(data: bytes, folder: Path) -> None:
    """Every name that comes out of a row stays below the output."""
    row = index_row_of(data)
    assert all(is_safe_name(name) and not name.startswith(".mien-") for name in names_of(row))
    assert latest([{**row, "run": "1"}])


def read_failure(data: bytes, folder: Path) -> None:
    assert failure_row_of(data)["uri"]


def read_table(data: bytes, folder: Path) -> None:
    path = folder / "t.parquet"
    path.write_bytes(data)
    for photo in photos_of_table(ListedFile(str(path), "t.parquet", len(data), 1.0)):
        assert isinstance(photo, Exception) or len(photo.faces) <= len(data)


def table() -> bytes:
    file = ListedFile("/in/a.jpg.jpg", "a.jpg.jpg", 9, 1.0)
    rows = [row_of(photo_of_blob(data, file)) for data in CONTAINERS]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), out, **OPTIONS)
    return out.getvalue()


def row() -> bytes:
    file = OutputFile("a.jpg.avif", 3, 2.5, "ab")
    written = Written("/in/a.jpg", "a.jpg.avif", ListedFile("/in/a.jpg", "a.jpg", 9, 1.0), "ab", files=(file,))
    return index_rows([written], ListedFile("/in/a.jpg", "a.jpg", 9, 1.0), "0123", "b")[0].encode()


def read_policy(data: bytes, folder: Path) -> None:
    assert parse_policy(data.decode("utf-8", "replace"), "p").otherwise


@pytest.mark.parametrize(
    ("count", "read", "errors", "golden"),
    [
        (1500, read_payload, PayloadError, [path.read_bytes() for path in sorted(GOLDEN.glob("*.mien"))]),
        (4000, read_chunk, ContainerError, [pack_photo(photo) for photo in PHOTOS]),
        (3000, read_container, ContainerError, CONTAINERS),
        (500, read_picture, ImageError, list(pictures())),
        (600, read_shard, tarfile.TarError, list(shards())),
        (3000, read_manifest, ValueError, [Manifest("1", ("photos-1-0123456789ab.tar",)).to_json()]),
        (1500, read_index, ValueError, [row()]),
        (1500, read_failure, ValueError, [b'{"uri": "/in/a.jpg", "stage": "read", "error": "E", "message": "m"}']),
        (300, read_table, (OSError, ValueError), [table()]),
        (200, read_policy, PolicyError, [text.encode() for text in BUILT_IN.values()]),
    ],
    ids=["payload", "chunk", "container", "picture", "shard", "manifest", "index", "failures", "table", "policy"],
)
def test_damage_is_a_typed_error(
    count: int,
    read: Callable[[bytes, Path], None],
    errors: type[Exception] | tuple[type[Exception], ...],
    golden: list[bytes],
    tmp_path: Path,
) -> None:
    random_ = random.Random(read.__name__)
    refused = 0
    for data in golden:
        read(data, tmp_path)
    for number in range(count):
        try:
            read(damaged(random_, golden[number % len(golden)]), tmp_path)
        except errors:
            refused += 1
    assert 0 < refused <= count


def test_what_pyarrow_does_not_know_is_damage(tmp_path: Path) -> None:
    """A table that the fuzzing found: its footer names integers of fewer than 8 bits. And tables of another's."""
    path = str(GOLDEN.parent / "damaged.parquet")
    reads: list[Callable[[str], object]] = [
        lambda path: list(photos_of_table(ListedFile(path, "t.parquet", 9, 1.0))),
        lambda path: list(members_of_table(path, True)),
        lambda path: list(members_of_table(path, False)),
        lambda path: without_rows(path, ["x"], str(tmp_path / "copy")),
    ]
    for read in reads:
        with pytest.raises(ValueError, match="a damaged table: Integers"):
            read(path)
    theirs = str(tmp_path / "t.parquet")
    for rows in ({"name": ["x"]}, {"uri": [None]}, {"uri": [5]}):
        pq.write_table(pa.table(rows), theirs)
        with pytest.raises(ValueError, match="a row"):
            list(members_of_table(theirs, False))


@pytest.mark.parametrize("column", ["faces", "background", "width", "uri"])
def test_a_column_of_another_type_is_an_error_of_each_row(tmp_path: Path, column: str) -> None:
    path = str(tmp_path / "t.parquet")
    whole = pq.read_table(io.BytesIO(table()))
    for other in ([["x"]] * len(whole), [None] * len(whole)):
        pq.write_table(whole.set_column(whole.schema.get_field_index(column), column, pa.array(other)), path)
        found = list(photos_of_table(ListedFile(path, "t.parquet", 9, 1.0)))
        assert len(found) == len(whole)
        assert all(isinstance(one, ValueError) for one in found)
