from pathlib import Path

import pytest

from mien.transforms.stores.files import whole_file, write_whole


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / ("x" * 251 + ".txt")  # as long as a name can be
    write_whole(str(path), b"one")
    with whole_file(str(path)) as stream:
        stream.write(b"two")
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"

    def fail() -> None:
        with whole_file(str(path)) as stream:
            stream.write(b"three")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # our own
        fail()
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_where_none_can_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for name in ("file/x", "folder"):
        with pytest.raises(OSError, match=r"File exists|Not a directory|Is a directory"):
            write_whole(str(tmp_path / name), b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
