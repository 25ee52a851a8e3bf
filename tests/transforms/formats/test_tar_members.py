import io
import os
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from mien.models.errors import ImageError, ImageTooLargeError
from mien.transforms.elements import Failure, ListedFile
from mien.transforms.formats.tar_members import list_members
from mien.transforms.formats.webdataset import samples
from mien.transforms.sources.listing import IMAGE_SUFFIXES
from mien.transforms.sources.photo_reader import read_file
from mien.transforms.sources.read import ReadPhotos

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def shard(path: Path, *names: str, size: int = 700) -> ListedFile:
    """A tar of members that hold their own names again and again."""
    with tarfile.open(path, "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO((name.encode() * size)[:size]))
    return listed(path)


def listed(path: Path) -> ListedFile:
    return ListedFile(str(path), path.name, path.stat().st_size, path.stat().st_mtime)


def found(file: ListedFile) -> tuple[list[ListedFile], list[Failure]]:
    entries = list(list_members(file, IMAGE_SUFFIXES))
    files = [entry for entry in entries if isinstance(entry, ListedFile)]
    return files, [entry for entry in entries if isinstance(entry, Failure)]


def test_photos_are_found_and_read_where_they_lie(tmp_path: Path) -> None:
    long = f"{'deep/' * 60}ü.jpg"  # has headers of its own
    names = ["0.jpg", "0.json", "0.txt", "nested.tar", "./a/1.JPG", long, "/etc/2.png", "../../3.webp"]
    file = shard(tmp_path / "s.tar", *names)
    photos, failures = found(file)
    assert not failures
    inside = ["0.jpg", "a/1.JPG", long, "/etc/2.png", "../../3.webp"]
    assert [photo.uri for photo in photos] == [f"{file.uri}/{name}" for name in inside]
    assert [photo.name for photo in photos[3:]] == ["s.tar/%/etc/2.png", "s.tar/%2E%2E/%2E%2E/3.webp"]
    for photo, name in zip(photos, [name for name in names if name[-3:].lower() in ("jpg", "png", "ebp")], strict=True):
        assert read_file(photo) == (name.encode() * 700)[:700]
    with pytest.raises(ImageTooLargeError, match="700 bytes, over the limit of 699"):
        read_file(photos[0], 699)


def test_what_is_no_plain_member_or_there_twice_is_told(tmp_path: Path) -> None:
    file = shard(tmp_path / "s.tar", "0.jpg", "./0.jpg")
    with tarfile.open(file.uri, "a") as tar:
        for kind, name in (
            (tarfile.SYMTYPE, "1.jpg"),
            (tarfile.LNKTYPE, "2.jpg"),
            (tarfile.FIFOTYPE, "3.jpg"),
            (tarfile.CHRTYPE, "4.jpg"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        folder = tarfile.TarInfo("5.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    photos, failures = found(listed(tmp_path / "s.tar"))
    assert [photo.name for photo in photos] == ["s.tar/0.jpg"]
    assert [failure.uri[-5:] for failure in failures] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert ["name before it" in failure.message for failure in failures] == [True, False, False, False, False]
    assert all("not followed" in failure.message for failure in failures[1:])


def cut(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at]


def with_size(field: bytes, kind: bytes = b"0") -> Callable[[bytes], bytes]:
    """The second member's size field, 12 bytes, and its type."""

    def change(data: bytes) -> bytes:
        header = bytearray(data[1536:2048])
        header[124:136], header[156:157], header[148:156] = field, kind, b" " * 8
        header[148:156] = f"{sum(header):06o}\0 ".encode()
        return data[:1536] + bytes(header) + data[2048:]

    return change


def binary(size: int) -> bytes:
    """As GNU writes numbers that octal digits have no room for."""
    return (b"\xff" if size < 0 else b"\x80") + (size % 256**11).to_bytes(11, "big")


def pax(body: bytes, kind: bytes = b"x") -> Callable[[bytes], bytes]:
    """Such a header before the second member."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, len(body)
    block = info.tobuf(tarfile.USTAR_FORMAT) + body + bytes(-len(body) % 512)
    return lambda data: data[:1536] + block + data[1536:]


def sparse(data: bytes) -> bytes:
    """The second member is sparse, says that its map goes on in another block, and is the end of the file."""
    return with_size(b"00000000024\0", tarfile.GNUTYPE_SPARSE)(data[:1922] + b"1" * 97 + data[2019:])[:2048]


def long_name(data: bytes) -> bytes:
    """A header that says that a name of a gigabyte follows, before the second member."""
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1_000_000_000
    return data[:1536] + info.tobuf(tarfile.GNU_FORMAT) + data[1536:]


@pytest.mark.parametrize(
    ("change", "whole", "message"),
    [
        (cut(4000), 2, "unexpected end of data"),  # in the third's bytes
        (cut(4500), 3, "unexpected end of data"),  # in what fills its last block up
        (cut(4608), 3, "no end mark at byte 4608"),
        (cut(3072), 2, "no end mark at byte 3072"),  # between two members
        (cut(3100), 2, "no member and no end mark at byte 3072"),
        (cut(0), 0, "empty file"),
        (lambda data: b"\x1f\x8b" + data, 0, "it is compressed (gzip)"),
        (lambda data: data[:1536] + b"?" * 512 + data[2048:], 1, "no member and no end mark at byte 1536"),
        (with_size(binary(-1024)), 1, "no size that can be"),
        (with_size(binary(-1)), 1, "no size that can be"),
        (with_size(binary(2**63)), 1, "no size that can be"),
        (with_size(binary(2**80)), 1, "no size that can be"),
        (with_size(binary(-1024), tarfile.GNUTYPE_LONGNAME), 1, "damaged: a header of -1024 bytes"),
        (with_size(binary(-1024), tarfile.XHDTYPE), 1, "damaged: a header of -1024 bytes"),
        (with_size(binary(-1), tarfile.SYMTYPE), 1, "no size that can be"),
        (pax(b"11 size=-1\n"), 1, "no size that can be"),
        (pax(b"11 size=-1\n", b"g"), 1, "no size that can be"),
        (pax(b"28 size=9223372036854775808\n"), 1, "no size that can be"),
        (pax(b"14 size=99999\n", b"g"), 1, "no size that can be"),  # the data of members behind it
        (pax(b"30 GNU.sparse.realsize=999999\n"), 1, "no size that can be"),
        (pax(b"29 GNU.sparse.realsize=whole\n"), 1, "a header that cannot be read"),
        (pax(b"30 hdrcharset=\xff\xff\xff\xff\xff\xff\xff\xff\xff\n"), 1, "a header that cannot be read"),
        (sparse, 1, "a header that cannot be read"),
        (pax(b"9" * 900_000), 1, "more than 256 digits"),
        (pax(b"".join(b"%d k%05d=\n" % (11, i) for i in range(200)), b"g"), 1, "more than 100 global headers"),
        (lambda data: data[:1536] + pax(b"")(data)[1536:2048] * 990 + data[1536:], 1, "a header that cannot be read"),
        (long_name, 1, "a header of more than"),
    ],
)
def test_the_photos_before_a_cut_and_a_failure(
    tmp_path: Path, change: Callable[[bytes], bytes], whole: int, message: str
) -> None:
    path = tmp_path / "s.tar"
    shard(path, "0.jpg", "1.jpg", "2.jpg")
    path.write_bytes(change(path.read_bytes()))
    photos, (failure,) = found(listed(path))
    assert [failure.uri, failure.stage] == [str(path), "list"]
    assert any(text in failure.message for text in message.split("|")), failure.message
    assert [read_file(photo)[:1] for photo in photos[:whole]] == [b"0", b"1", b"2"][:whole]
    for photo in photos[whole:]:
        with pytest.raises(ImageError, match="the shard ends within it"):
            read_file(photo)


def test_a_shard_that_was_replaced_after_it_was_listed(tmp_path: Path) -> None:
    photos, _ = found(shard(tmp_path / "s.tar", "0.jpg"))
    shard(tmp_path / "s.tar", "other.jpg")
    os.utime(tmp_path / "s.tar", (1, 1))
    with pytest.raises(ImageError, match="changed after it was listed"):
        read_file(photos[0])


def test_a_first_header_that_tarfile_cannot_read_is_damage(tmp_path: Path) -> None:
    """A sparse member of version 1.0 whose map begins with a number that is none."""
    info = tarfile.TarInfo("s.jpg")
    info.size = 512
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s.jpg"}
    header, path = info.tobuf(tarfile.PAX_FORMAT), tmp_path / "s.tar"
    path.write_bytes(header + b"\0\0\0\x001\n0\n10\n".ljust(512, b"\0") + bytes(1024))
    photos, failures = found(listed(path))
    assert not photos
    assert [(failure.error, failure.message) for failure in failures] == [
        ("ReadError", "damaged: a header that cannot be read at byte 0")
    ]
    with pytest.raises(tarfile.ReadError, match="damaged"):
        list(samples(str(path), IMAGE_SUFFIXES, 1000))


def test_a_shard_is_not_held_in_memory(tmp_path: Path) -> None:
    with open(tmp_path / "s.tar", "wb") as stream, tarfile.open(fileobj=stream, mode="w"):
        for i in range(40):
            info = tarfile.TarInfo(f"{i}.jpg")
            info.size = 5_000_000
            stream.write(info.tobuf())
            stream.seek(-(-info.size // 512) * 512, 1)  # a hole: takes no room
    tracemalloc.start()
    (photos, failures), data = found(listed(tmp_path / "s.tar")), b""
    for photo in photos:
        data = read_file(photo)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (len(photos), len(data), failures) == (40, 5_000_000, [])
    assert peak < 15_000_000


def test_read_photos_takes_shards_and_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    shard(tmp_path / "a" / "s.tar", "0.jpg", "0.json", "1.jpg")
    (tmp_path / "x.jpg").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.tar")
    with beam.Pipeline(runner=RUNNER) as pipeline:
        read = pipeline | ReadPhotos([str(tmp_path), str(tmp_path / "a" / "*.tar")])
        names = read.photos | beam.Map(lambda photo: (photo.name, photo.data[:1]))
        assert_that(names, equal_to([("a/s.tar/0.jpg", b"0"), ("a/s.tar/1.jpg", b"1"), ("x.jpg", b"x")]), "photos")
        failures = read.failures | beam.Map(lambda failure: (Path(failure.uri).name, failure.message))
        assert_that(failures, equal_to([("pipe.tar", "not a regular file")]), "failures")
