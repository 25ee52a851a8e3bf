import pytest

from mien.models.errors import one_line, why_unread


@pytest.mark.parametrize(
    ("error", "limit", "line"),
    [
        (ValueError("two\n  lines\tof text "), None, "two lines of text"),
        (ValueError("two\n  lines"), 5, "two l"),
        (RuntimeError("\n"), None, "RuntimeError"),
        ("a text\nof YAML's", None, "a text of YAML's"),
    ],
)
def test_an_exception_in_one_line(error: BaseException | str, limit: int | None, line: str) -> None:
    assert one_line(error, limit) == line


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied", "/secret/name"), "Permission denied"),
        (FileNotFoundError("bucket/name"), "no such file"),
        (ConnectionError("reset\nby peer"), "reset by peer"),
    ],
)
def test_why_a_file_could_not_be_read_leaves_its_name_out(error: BaseException, reason: str) -> None:
    assert why_unread(error) == reason
