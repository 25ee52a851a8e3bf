import os
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mien.transforms.stores.names import (
    LONGEST,
    common_root,
    is_local,
    name_under,
    normal_uri,
    output_name,
    printable,
    safe_name,
)


@given(st.text(st.characters(codec="utf-8"), max_size=40) | st.text("./a\0%", max_size=12))
def test_a_safe_name_stays_below_any_folder(name: str) -> None:
    safe = safe_name(name)
    joined = posixpath.normpath(posixpath.join("/out", safe))
    assert joined.startswith("/out/")
    assert joined == f"/out/{safe}"
    assert "\0" not in safe


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a/x.jpg", "a/x.jpg"),
        ("/etc/passwd", "etc/passwd"),
        ("../../x", "%2E%2E/%2E%2E/x"),
        ("a/./x", "a/%2E/x"),
        ("a b/ü\n%20.jpg", "a b/ü\n%20.jpg"),
        ("x\0y", "x%00y"),
        ("...", "..."),
        ("a//b", "a/%/b"),
        ("a/", "a/%"),
        ("", "%"),
    ],
)
def test_safe_names(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=300), min_size=1, max_size=3).map("/".join))
def test_an_output_s_name_leaves_room_for_a_suffix(name: str) -> None:
    made = output_name(name)
    assert safe_name(made) == made == output_name(made)
    assert made.count("/") == safe_name(name).count("/")
    assert all(len(part.encode()) <= LONGEST for part in f"{made}-12-face34.mien".split("/"))


def test_names_that_are_too_long_are_cut_and_told_apart() -> None:
    assert output_name("a/x.jpg") == "a/x.jpg"
    assert output_name("a/" + "x" * 227 + ".jpg") == "a/" + "x" * 227 + ".jpg"  # 231 bytes
    one, other = (output_name("a/" + "é" * 120 + f"{number}.jpeg") for number in (1, 2))
    assert one.startswith("a/" + "é" * 100)
    assert one != other
    assert one.endswith(".jpeg")
    assert output_name("d" * 300 + "/x.jpg").endswith("/x.jpg")
    assert output_name("d" * 255 + "/x.jpg") == "d" * 255 + "/x.jpg"  # a folder that disks can have


@pytest.mark.parametrize(
    ("root", "uri", "name"),
    [
        ("/in", "/in/a/x.jpg", "a/x.jpg"),
        ("/in", "/inside/x.jpg", "inside/x.jpg"),
        ("", "/in/x.jpg", "in/x.jpg"),
        ("gs://b/in", "gs://b/in/x.jpg", "x.jpg"),
        ("", "gs://b/in/x.jpg", "b/in/x.jpg"),
        ("/in", "/in/../../etc/x", "%2E%2E/%2E%2E/etc/x"),
        ("", "gs:///../x", "%2E%2E/x"),
    ],
)
def test_names_below_a_root(root: str, uri: str, name: str) -> None:
    assert name_under(root, uri) == name


@pytest.mark.parametrize(
    ("folders", "root"),
    [
        (["/a/b", "/a/c"], "/a"),
        (["/a/b"], "/a/b"),
        (["/a/b", "/a/bc"], "/a"),
        (["gs://x/a", "gs://x/a/b"], "gs://x/a"),
        (["gs://x/a", "/a"], ""),
        ([], ""),
    ],
)
def test_common_roots(folders: list[str], root: str) -> None:
    assert common_root(folders) == root


def test_buckets_have_no_common_root_but_names_of_their_own() -> None:
    root = common_root(["gs://x/a", "gs://y/a"])
    assert [name_under(root, uri) for uri in ("gs://x/a/p.jpg", "gs://y/a/p.jpg")] == ["x/a/p.jpg", "y/a/p.jpg"]


def test_local_paths_and_uris() -> None:
    assert is_local("a:b.jpg")
    assert is_local("/a/b")
    assert not is_local("gs://b/x")
    assert normal_uri("x/../y") == os.path.abspath("y")
    assert normal_uri("file:///a/b") == "/a/b"
    assert normal_uri("file:///a/b%20c%5B1%5D") == "/a/b c[1]"
    assert normal_uri("file://localhost/a/b") == normal_uri("file:/a/b") == "/a/b"
    assert normal_uri("file://other/a") == "file://other/a"
    assert normal_uri("/a/b%20c") == "/a/b%20c"
    assert normal_uri("gs://b/x/") == "gs://b/x"


def test_what_a_terminal_gets_has_no_control_characters() -> None:
    name = "a\x1b[2J\x9b1m\u202egpj.\r\nok é \udcff\x07\x00"
    assert printable(name) == r"a\x1b[2J\x9b1m\u202egpj.\r\nok é \udcff\x07\x00"
    assert printable("naïve 写真.jpg: 3 bytes") == "naïve 写真.jpg: 3 bytes"
