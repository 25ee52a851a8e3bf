"""Samples of shards: which stay whole, and which are refused, each in one line."""

import base64
import io
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from mien.models.errors import ImageError
from mien.transforms.elements import Failure, ListedFile
from mien.transforms.formats import MAX_OTHERS, MemberReader
from mien.transforms.formats.shard_samples import check_text, is_dropped, list_samples
from mien.transforms.sources.listing import IMAGE_SUFFIXES

DATA = Path(__file__).parents[2] / "data"


def shard(path: Path, *members: str | tuple[str, bytes]) -> ListedFile:
    """A tar of members, which hold their own names if nothing else is said."""
    with tarfile.open(path, "w") as tar:
        for member in members:
            name, data = member if isinstance(member, tuple) else (member, member.encode())
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return ListedFile(str(path), path.name, path.stat().st_size, path.stat().st_mtime)


def told(file: ListedFile, *dropped: str) -> tuple[dict[str, list[str]], dict[str, str]]:
    """The other members of each photo, and the failures' messages, by what is behind the shard's uri."""
    entries = list(list_samples(file, IMAGE_SUFFIXES, dropped))
    photos = {e.uri[len(file.uri) + 1 :]: [m.name for m in e.members] for e in entries if isinstance(e, ListedFile)}
    return photos, {e.uri[len(file.uri) + 1 :]: e.message for e in entries if isinstance(e, Failure)}


def test_a_sample_has_what_is_of_its_key(tmp_path: Path) -> None:
    names = ["a/0.jpg", "a/0.txt", "a/0.meta.json", "./b/1.seg.PNG", "./b/1.cls", "2.cls", "2.jpg", "2.mien.json"]
    file = shard(tmp_path / "s.tar", *names)
    photos, failures = told(file)
    assert photos == {"a/0.jpg": ["a/0.txt", "a/0.meta.json"], "b/1.seg.PNG": ["./b/1.cls"], "2.jpg": ["2.cls"]}
    assert failures == {}
    entries = [entry for entry in list_samples(file, IMAGE_SUFFIXES) if isinstance(entry, ListedFile)]
    assert [entry.key for entry in entries] == ["a/0", "./b/1", "2"]
    reader = MemberReader()
    assert reader.others(entries[0]) == [(name, name.encode()) for name in names[1:3]]
    assert reader.read(entries[1], 100) == b"./b/1.seg.PNG"
    reader.close()
    assert told(file, "meta.json", ".cls", "a/*.txt") == ({"a/0.jpg": [], "b/1.seg.PNG": [], "2.jpg": []}, {})


def test_what_cannot_stay_whole_is_refused_by_name(tmp_path: Path) -> None:
    members = ["0.jpg", "0.right.png", "1.txt", "1.cls", "2.jpg", "2.txt", "3.jpg", "2.json", "4.jpg", "4.txt", "4.txt"]
    file = shard(tmp_path / "s.tar", *members, "../5.jpg", ("6.jpg", b""), "7.jpg")
    with tarfile.open(file.uri, "a") as tar:
        link = tarfile.TarInfo("7.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    photos, failures = told(file)
    assert photos == {"2.jpg": ["2.txt"], "3.jpg": [], "6.jpg": []}
    second = (
        "its sample has a second picture, '0.right.png': leave it out with --drop-members .right.png,"
        " or take --format files"
    )
    assert failures == {
        "0.jpg": second,
        "1": "a sample without a picture: '1.txt', '1.cls' is not written",
        "2": "the shard has a sample '2' before it",
        "4.jpg": "the shard has two members '4.txt'",
        "../5.jpg": "'../5.jpg' has no name that a sample can have",
        "7.jpg": "'7.txt' is a link or another special member, which is not followed",
    }
    photos, failures = told(file, "right.png", "1.*")
    assert photos["0.jpg"] == []
    assert "1" not in failures


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as tar:
        for name in ("0.jpg", "0.\xfc.txt", "1.jpg", "\xfc.jpg"):
            tar.addfile(tarfile.TarInfo(name))
    entries = list(list_samples(ListedFile(str(tmp_path / "s.tar"), "s.tar", 1, 1.0), IMAGE_SUFFIXES))
    assert [type(entry) for entry in entries] == [Failure, ListedFile, Failure]
    assert all("has no name that a sample can have" in entry.message for entry in entries if isinstance(entry, Failure))
    assert all(entry.message.isascii() for entry in entries if isinstance(entry, Failure))


def test_a_member_of_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    header = tarfile.TarInfo("0.mp4")
    header.size = 2 << 30
    with path.open("wb") as stream:  # sparse
        picture = tarfile.TarInfo("0.jpg")
        stream.write(picture.tobuf())
        stream.write(header.tobuf())
        stream.seek(header.size, 1)
        last = tarfile.TarInfo("1.jpg")
        stream.write(last.tobuf() + bytes(1024))
    file = ListedFile(str(path), "s.tar", 1, 1.0)
    photos, failures = told(file)
    assert photos == {"1.jpg": []}
    assert failures == {
        "0.jpg": f"{2 << 30} bytes beside its picture, over the limit of {MAX_OTHERS}: '0.mp4':"
        " leave it out with --drop-members"
    }
    assert told(file, "mp4") == ({"0.jpg": [], "1.jpg": []}, {})


def test_a_sample_within_which_the_shard_ends_is_not_whole(tmp_path: Path) -> None:
    file = shard(tmp_path / "s.tar", "0.jpg", "0.txt", "1.jpg", "1.txt")
    data = Path(file.uri).read_bytes()
    for end in (2048 + 512, 3072, 3072 + 512, 4096):  # within 1.jpg's block, behind it, in 1.txt, before the end mark
        Path(file.uri).write_bytes(data[:end])
        photos, failures = told(file)
        assert photos == {"0.jpg": ["0.txt"]} if end < 4096 else photos
        assert "" in failures or file.uri.endswith("s.tar")
        entries = list(list_samples(file, IMAGE_SUFFIXES))
        assert isinstance(entries[-1], Failure)
        assert entries[-1].uri == file.uri


def test_other_files_of_a_tar_are_passed_over(tmp_path: Path) -> None:
    counts: Counter[str] = Counter()
    file = shard(tmp_path / "s.tar", "README", ".DS_Store", "._0.jpg", "0.jpg")
    entries = list(list_samples(file, IMAGE_SUFFIXES, (), counts))
    assert [type(entry) for entry in entries] == [Failure, ListedFile]  # ._0.jpg may be a picture
    assert sum(counts.values()) == 2


def test_patterns_name_suffixes_and_names() -> None:
    assert is_dropped("a/0.meta.json", ["meta.json"])
    assert is_dropped("a/0.meta.json", [".META.json"])
    assert is_dropped("a/0.meta.json", ["*.json"])
    assert is_dropped("a/0.TXT", ["txt"])
    assert is_dropped("thumb", ["thumb"])
    assert not is_dropped("a/0.meta.json", ["json"])
    assert not is_dropped("a/0.txt", [])


def test_text_is_kept_and_nothing_that_may_hold_a_picture() -> None:
    face = (DATA / "face.jpg").read_bytes()
    for kept in (b"", b"a caption\n", "Zürich, 東京".encode(), b'{"a": [1, 2.5, null], "url": "https://x.org/a?b=c"}'):
        check_text("0.txt", kept)
    for refused in (face, b"\x89PNG\r\n", b"\x93NUMPY", b"a\0b", "ü".encode("latin-1")):
        with pytest.raises(ImageError, match="its member"):
            check_text("0.x", refused)
    for picture in (face, b"\x89PNG\r\n\x1a\n" + face, b"RIFF\1\2\3\4WEBP" + face, b"GIF89a" + face):
        for text in (base64.b64encode(picture), base64.encodebytes(picture), picture.hex().encode()):
            with pytest.raises(ImageError, match="written as text: leave it out with --drop-members"):
                check_text("0.json", b'{"image": "' + text + b'"}')
