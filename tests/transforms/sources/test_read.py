import os
import tarfile
import threading
import time
import warnings
from collections import Counter
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from mien.models.errors import ImageError, ImageTooLargeError, StoreAwayError
from mien.transforms.elements import Failure, ListedFile
from mien.transforms.formats.tar_members import list_members
from mien.transforms.sources.listing import EXCLUDED, IMAGE_SUFFIXES, folder_of, list_files, passed_over
from mien.transforms.sources.photo_reader import read_file
from mien.transforms.sources.read import ReadPhotos
from mien.transforms.stores.breaker import circuit_breaker
from mien.transforms.stores.names import common_root

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/x.jpg", "b/x.jpg", "a/deep/y.PNG", "a/notes.txt", "b/ü b\n%41.webp", "b/[1].jpg", "raw.dat"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def names(tree: Path, *inputs: str, exclude: str = "") -> list[str]:
    uris = [str(tree / name) for name in inputs]
    root = common_root(folder_of(uri, IMAGE_SUFFIXES) for uri in uris)
    found = [entry for uri in uris for entry in list_files(uri, root, IMAGE_SUFFIXES, exclude)]
    assert all(isinstance(entry, ListedFile) for entry in found)
    return sorted(entry.name for entry in found if isinstance(entry, ListedFile))


def test_a_folder_is_walked_and_only_photos_are_listed(tree: Path) -> None:
    assert names(tree, "") == ["a/deep/y.PNG", "a/x.jpg", "b/[1].jpg", "b/x.jpg", "b/ü b\n%41.webp"]
    assert names(tree, "a") == ["deep/y.PNG", "x.jpg"]
    assert names(tree, "a", "b") == names(tree, "")


def test_a_file_named_explicitly_is_always_taken(tree: Path) -> None:
    assert names(tree, "raw.dat") == ["raw.dat"]
    assert names(tree, "a/notes.txt", "b/x.jpg") == ["a/notes.txt", "b/x.jpg"]


def test_globs(tree: Path) -> None:
    assert names(tree, "*/x.jpg") == ["a/x.jpg", "b/x.jpg"]
    assert names(tree, "**.jpg") == ["a/x.jpg", "b/[1].jpg", "b/x.jpg"]
    assert names(tree, "a*") == ["a/deep/y.PNG", "a/x.jpg"]
    assert names(tree, "*.dat") == ["raw.dat"]
    assert names(tree, "a/*") == ["deep/y.PNG", "x.jpg"]
    assert names(tree, "b/[1].jpg") == ["[1].jpg"]  # there is a file of that very name


def test_a_folder_can_be_left_out(tree: Path) -> None:
    assert names(tree, "", exclude=str(tree / "a")) == ["b/[1].jpg", "b/x.jpg", "b/ü b\n%41.webp"]


@pytest.mark.parametrize("missing", ["nothing", "nothing/*.jpg", "*.heic", "raw.dat/x.jpg"])
def test_what_is_not_there_is_an_error(tree: Path, missing: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file|no file to work on"):
        names(tree, missing)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file to work on"):
        names(tmp_path, "")


def test_what_is_passed_over_is_counted(tree: Path) -> None:
    for name in ("b/1.dng", "b/2.dng", "b/3.JXL", "b/x.jpg_original", "b/none", "b/._x.jpg", "b/a.\x1b[31m"):
        (tree / name).write_bytes(b"")
    for name in ("b/@eaDir/x.jpg", ".Trash-0/files/x.jpg", "a/private/x.jpg", "keep/private/x.jpg"):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_bytes(b"")
    (tree / "b" / "link").symlink_to(tree / "a", target_is_directory=True)
    (tree / "b" / "gone").symlink_to(tree / "nowhere")
    counts: Counter[str] = Counter()
    globs = (*EXCLUDED, "a/private", "x.jpg_*")
    found = list(list_files(str(tree), str(tree), IMAGE_SUFFIXES, globs=globs, counts=counts))
    expected = ["a/deep/y.PNG", "a/x.jpg", "b/[1].jpg", "b/x.jpg", "b/ü b\n%41.webp", "keep/private/x.jpg"]
    assert sorted(entry.name for entry in found if isinstance(entry, ListedFile)) == expected
    assert len(found) == len(expected)
    told = (
        "5 excluded by name, 2 .dng, 1 .dat, 1 .jxl, 1 .txt, 1 links to folders, 1 links to nothing, 1 of other names, "
        "1 without suffix"
    )
    assert passed_over(counts) == told
    # what is named is taken
    assert names(tree, "b/._x.jpg", "b/@eaDir") == ["._x.jpg", "@eaDir/x.jpg"]


def test_photos_of_strange_suffixes_alone_say_what_was_passed_over(tmp_path: Path) -> None:
    (tmp_path / "1.dng").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"no file to work on was found there \(passed over: 1 .dng\)"):
        names(tmp_path, "")


def test_a_folder_that_cannot_be_looked_at_is_a_failure(tree: Path) -> None:
    folder = os.getcwd()
    os.chdir(tree)
    try:  # deeper than a path may be long: made step by step, as who unpacks an archive may make it
        for _ in range(20):
            os.mkdir("x" * 250)
            os.chdir("x" * 250)
        Path("deep.jpg").write_bytes(b"")
    finally:
        os.chdir(folder)
    (tree / "loop").symlink_to("loop")
    found = list(list_files(str(tree), str(tree), IMAGE_SUFFIXES))
    failed = [entry for entry in found if isinstance(entry, Failure)]
    assert len(found) == len(failed) + 5
    assert [(entry.stage, "File name too long" in entry.message) for entry in failed] == [("list", True)]
    with pytest.raises(OSError, match="symbolic links"):
        names(tree, "loop")
    with pytest.raises(OSError, match="File name too long"):
        names(tree, "y" * 300)


def test_a_folder_with_brackets_is_the_one_that_was_named(tree: Path) -> None:
    for name in ("[2019]/x.jpg", "2/y.jpg", "[a/z.jpg"):
        (tree / name).parent.mkdir()
        (tree / name).write_bytes(b"")
    with warnings.catch_warnings(action="error"):
        assert names(tree, "[2019]/*.jpg") == ["x.jpg"]
        assert names(tree, "[2-3]/*.jpg") == ["2/y.jpg"]
        assert names(tree, "[[]a*/*.jpg") == ["[a/z.jpg"]
    with pytest.raises(FileNotFoundError, match=r"a \[ begins a wildcard"):
        names(tree, "[2020]/x.jpg")


@pytest.mark.parametrize("uri", ["http://a.org/x.jpg", "HTTPS://a.org/x.jpg", "ftp://a/b.jpg", "file://other/x.jpg"])
def test_what_is_not_read_is_said_plainly(uri: str) -> None:
    with pytest.raises(ValueError, match=r"is not read or written: fetch|of another machine"):
        list(list_files(uri, "", IMAGE_SUFFIXES))


def test_a_compressed_shard_says_so(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.add(__file__, "x.jpg")
    (failure,) = list_members(ListedFile(str(tmp_path / "x.tar"), "x.tar", 0, 0.0), IMAGE_SUFFIXES)
    assert isinstance(failure, Failure)
    assert failure.message.startswith("it is compressed (gzip)")


def test_other_members_of_a_shard_are_counted(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("1.jpg", "1.json", "2.dng", "3"):
            tar.addfile(tarfile.TarInfo(name))
    counts: Counter[str] = Counter()
    (photo,) = list_members(ListedFile(str(tmp_path / "x.tar"), "x.tar", 0, 0.0), IMAGE_SUFFIXES, counts)
    assert photo.uri.endswith("x.tar/1.jpg")
    assert counts == {".dng": 1, "without suffix": 1}


def test_a_dangling_link_fails_when_it_is_read(tree: Path) -> None:
    (tree / "a" / "gone.jpg").symlink_to(tree / "nowhere.jpg")
    assert names(tree, "a") == ["deep/y.PNG", "gone.jpg", "x.jpg"]
    with pytest.raises(FileNotFoundError):
        read_file(ListedFile(str(tree / "a" / "gone.jpg"), "gone.jpg", 0, 0.0))


def test_limits_are_checked_before_a_byte_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(b"123456")
    assert read_file(ListedFile(str(path), "x.jpg", 6, 0.0), 6) == b"123456"
    with pytest.raises(ImageTooLargeError, match="6 bytes, over the limit of 5"):
        read_file(ListedFile(str(path), "x.jpg", 6, 0.0), 5)
    with pytest.raises(ImageTooLargeError, match="grew"):
        read_file(ListedFile(str(path), "x.jpg", 4, 0.0), 5)


def test_a_file_that_is_written_while_it_is_read_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(bytes(64_000_000))
    begun, failed = threading.Event(), []

    def append() -> None:
        with path.open("ab", buffering=0) as stream:
            while not failed and stream.tell() < 70_000_000:
                stream.write(b"more")
                begun.set()
                time.sleep(0.001)

    writer = threading.Thread(target=append)
    writer.start()
    begun.wait()
    with pytest.raises(ImageError, match="changed while it was read"):
        read_file(ListedFile(str(path), "x.jpg", 0, 0.0))
    failed.append(True)
    writer.join()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        read_file(ListedFile(str(tmp_path / "x.jpg"), "x.jpg", 0, 0.0))


def test_read_photos_takes_each_file_once_and_reports_the_rest(tree: Path) -> None:
    (tree / "a" / "gone.jpg").symlink_to(tree / "nowhere.jpg")
    bad_name = os.fsencode(tree / "a") + b"/\xff.jpg"
    with open(bad_name, "wb"):
        pass
    inputs = [str(tree / "a"), str(tree / "*/x.jpg"), str(tree / "nothing.jpg"), "nosuch://b/x"]
    with beam.Pipeline(runner=RUNNER) as pipeline:
        read = pipeline | ReadPhotos(inputs)
        photos = read.photos | beam.Map(lambda photo: (os.path.relpath(photo.uri, str(tree)), photo.data))
        failures = read.failures | beam.Map(lambda failure: (failure.uri.rpartition("/")[2], failure.stage))
        assert_that(
            photos,
            equal_to([("a/x.jpg", b"a/x.jpg"), ("a/deep/y.PNG", b"a/deep/y.PNG"), ("b/x.jpg", b"b/x.jpg")]),
            "photos",
        )
        stages = [("gone.jpg", "read"), ("\\udcff.jpg", "list"), ("nothing.jpg", "list"), ("x", "list")]
        assert_that(failures, equal_to(stages), "failures")


def test_a_store_that_does_not_answer_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = 100.0, 0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def ask(store: str, seconds: float, answers: bool = False) -> None:
        nonlocal now, asked
        with circuit_breaker(f"{store}/x.jpg"):
            asked, now = asked + 1, now + seconds
            if not answers:
                raise ConnectionError

    for seconds in (120.0, 120.0, 0.1, 120.0, 120.0, 120.0):  # a refusal between them is an answer
        with pytest.raises(ConnectionError):
            ask("gs://away", seconds)
    with pytest.raises(StoreAwayError, match="gs://away did not answer 3 times in a row"):
        ask("gs://away", 0.0)
    assert asked == 6
    ask("gs://other", 0.0, answers=True)
    now += 61.0
    with pytest.raises(ConnectionError):
        ask("gs://away", 120.0)
    with pytest.raises(StoreAwayError):
        ask("gs://away", 0.0)
    now += 61.0
    ask("gs://away", 120.0, answers=True)
    with pytest.raises(ConnectionError):
        ask("gs://away", 120.0)
    with pytest.raises(ConnectionError):
        ask("gs://away", 120.0)
