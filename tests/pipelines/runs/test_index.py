"""Rows of an index that somebody else may have written: what is believed of them, and what is deleted by them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from apache_beam.pvalue import TaggedOutput

from mien.pipelines.runs.index import MAX_LINE, failure_row_of, index_row_of, index_rows, rows_of
from mien.pipelines.runs.resume import OutputState, Wanted, is_done, latest, names_of
from mien.pipelines.runs.stale import _Claims, _Delete
from mien.transforms.elements import HandledFace, ListedFile, OutputFile, Written
from mien.transforms.formats.lease import hidden_runs
from mien.transforms.formats.manifest import Manifest
from mien.transforms.stores.files import delete, delete_inside
from mien.transforms.stores.names import is_safe_name

FACE = HandledFace((1.0, 2.0, 3.0, 4.0), "fill", "otherwise", "fill", score=0.5)
ROW: dict[str, Any] = {
    "uri": "/in/x.jpg", "size": 9, "modified": 1.5, "output": "x.jpg.jpg", "fingerprint": "f", "count": 1,
    "files": [{"name": "x.jpg.jpg", "size": 4, "modified": 2.5, "sha256": "00"}],
}  # fmt: skip
PART, COPY = "photos-1-0123456789ab.tar", "photos-1-0123456789ab.2.tar"


def written(name: str, *more: str, photos: int = 1, uri: str = "/in/x.jpg") -> Written:
    files = tuple(OutputFile(one, 4, 2.5, "00") for one in (name, *more))
    return Written(uri, name, ListedFile(uri, "x.jpg", 9, 1.5, photos), "00", (FACE,), files=files)


def row(run: str, *names: str, **values: Any) -> dict[str, Any]:
    files = [{"name": name, "size": 4, "modified": 2.5, "sha256": "00"} for name in names]
    made = ROW | {"output": names[0] if names else PART, "files": files, "count": len(files)} | values
    return index_row_of(json.dumps(made).encode()) | {"run": run}


def test_what_is_written_is_read() -> None:
    (line,) = index_rows([written("x.jpg.jpg")], ListedFile("/in/x.jpg", "x.jpg", 9, 1.5), "f", "b")
    found = index_row_of(line.encode())
    assert found["faces"][0]["box"] == [1.0, 2.0, 3.0, 4.0]
    assert (found["files"], found["base"], found["sha256"], found["count"]) == (ROW["files"], "b", "00", 1)
    # all that was restored from a table, in lines that are short enough
    table = ListedFile("/in/t.parquet", "t.parquet", 9, 1.5, 1000)
    many = [written(f"{'é' * 1000}{i}.png", photos=1000) for i in range(1000)]
    lines = index_rows(many, table, "f", "")
    assert max(map(len, lines)) < MAX_LINE
    merged = latest([index_row_of(line.encode()) | {"run": "1"} for line in lines])
    assert merged is not None
    assert names_of(merged) == [one.output for one in many]
    assert (merged["count"], merged["fingerprint"]) == (1000, "f")


@pytest.mark.parametrize(
    "name",
    ["../victim", "a/../../victim", "/etc/victim", "", ".", "a//b", "gs://b/o", "file:///x", "a\0b", "\ud800", 7, None,
     ".mien-lock", "a/.mien-1/x.jpg", "run.json", "_manifest.json", "index-20261127T123617.123456-abcd.jsonl"],
)  # fmt: skip
def test_no_name_leads_elsewhere(name: Any) -> None:
    for values in ({"output": name}, {"files": [ROW["files"][0] | {"name": name}]}):
        with pytest.raises(ValueError, match=r"no size, time or output|a file is none"):
            index_row_of(json.dumps(ROW | values).encode())
    assert is_safe_name("a/ü 1.jpg.jpg")
    assert index_row_of(json.dumps(ROW | {"output": "run1.jpg.jsonl"}).encode())


@pytest.mark.parametrize(
    "values",
    [{"uri": 7}, {"uri": ""}, {"uri": "\ud800"}, {"size": "9"}, {"size": -1}, {"size": True}, {"size": 1 << 63},
     {"modified": None}, {"modified": float("nan")}, {"fingerprint": 7}, {"base": []}, {"sha256": {}}, {"faces": {}},
     {"faces": [{"action": "fill"}]}, {"faces": [7]}, {"files": {}}, {"files": [7]}, {"files": [{"name": "x.jpg"}]},
     {"count": "1"}, {"more": 1}],
)  # fmt: skip
def test_a_row_with_a_field_that_is_none(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"none|no (row|size|count)|surrogates|no row"):
        index_row_of(json.dumps(ROW | values).encode())


def test_a_file_of_rows_is_read_to_its_end(tmp_path: Path) -> None:
    good = json.dumps(ROW).encode()
    lines = [b"{", b"[]", b"[" * 100_000, b'{"uri": 1}', b"9" * 5000, b"x" * (MAX_LINE + 1), b"\xff", good]
    (tmp_path / "index-1.jsonl").write_bytes(b"\n".join(lines))
    found = list(rows_of(str(tmp_path / "index-1.jsonl"), index_row_of))
    assert found[:-1] == [None] * 7
    assert found[-1] is not None
    (tmp_path / "failures-1.jsonl").write_bytes(b'{"uri": "u"}\n{"uri":"u","stage":"read","error":"E","message":"m"}')
    assert [bool(one) for one in rows_of(str(tmp_path / "failures-1.jsonl"), failure_row_of)] == [False, True]


def test_nothing_outside_is_deleted(tmp_path: Path) -> None:
    output, victim = tmp_path / "out", tmp_path / "victim"
    (output / "folder").mkdir(parents=True)
    victim.mkdir()
    (victim / "x.jpg").write_bytes(b"mine")
    (output / "link").symlink_to(victim)
    (output / ".mien-1").symlink_to(victim)
    for name in ("../victim/x.jpg", "link/x.jpg", str(victim / "x.jpg"), "folder", "nosuch", "folder/x/y"):
        assert not delete_inside(str(output), name)
    assert hidden_runs(str(output)) == []
    delete(f"{output}/.mien-1/")
    assert (victim / "x.jpg").read_bytes() == b"mine"
    assert (output / "folder").is_dir()
    (output / "folder" / "x.jpg").write_bytes(b"")
    assert delete_inside(str(output), "folder/x.jpg")
    assert not (output / "folder" / "x.jpg").exists()


def claims(**group: list[Any]) -> tuple[dict[str, str], list[str]]:
    """What is said of each file, and which counters the photo's leaving of parts adds to."""
    held = OutputState("/out", Manifest("2", (COPY,)), frozenset({COPY}))
    everything = {name: group.get(name, []) for name in ("rows", "written", "withheld", "orphans", "members")}
    found: dict[str, str] = {}
    gone = []
    for one in _Claims(held, group.get("tables", [False])[0], True).process(("key", everything)):
        if isinstance(one, TaggedOutput):
            gone.append(json.loads(one.value)[1])
        else:
            found[one[0]] = one[1][0]
    return found, gone


def test_every_file_that_any_row_names_goes() -> None:
    rows = [row("1", "a/x.jpg.jpg"), row("2", "x.jpg.webp"), row("3", "x.jpg.png", "x.jpg-2.png", "x.jpg.jsonl")]
    old = {"a/x.jpg.jpg": "replaced", "x.jpg.webp": "replaced"}
    gone = old | {"x.jpg-2.png": "replaced", "x.jpg.jsonl": "replaced"}
    assert claims(rows=rows, written=[written("x.jpg.png")])[0] == gone | {"x.jpg.png": "keep"}
    newest = {"x.jpg.png": "keep", "x.jpg-2.png": "keep", "x.jpg.jsonl": "keep"}
    assert claims(rows=rows)[0] == old | newest  # done before, or of another run's inputs
    for why, group in (("withheld", {"withheld": [True]}), ("orphan", {"orphans": [True]})):
        assert claims(rows=rows, **group)[0] == dict.fromkeys([*old, *newest], why)
    # of a table some photos could not be restored this time: their pictures stay
    assert claims(rows=[row("1", "x.png", "y.png")], written=[written("x.png", photos=2)])[0] == {
        "x.png": "keep", "y.png": "keep"
    }  # fmt: skip


def test_what_lies_in_parts_goes() -> None:
    inside, rows = [{"part": COPY, "sha256": ""}], [row("1")]
    assert claims(rows=rows, members=inside, written=[written("x.jpg.jpg")])[1] == ["replaced"]
    assert claims(rows=rows, members=[], written=[written("x.jpg.jpg")])[1] == []
    assert claims(rows=rows, members=inside, withheld=[True])[1] == ["withdrawn"]
    assert claims(rows=rows, members=inside, withheld=[True], tables=[True])[1] == []  # the parts' writer does it
    assert claims(rows=rows, members=inside, orphans=[True])[1] == ["pruned"]
    assert claims(rows=rows, members=inside)[1] == []
    in_part = Written("/in/x.jpg", "photos-3-0123456789ab.tar", None)
    assert claims(rows=[row("1", "x.jpg.jpg")], written=[in_part]) == ({"x.jpg.jpg": "replaced"}, [])


def test_a_file_that_another_photo_has_stays_and_so_does_anothers(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    for say, stays in (
        (["replaced", "keep"], True),
        (["orphan", "keep"], True),
        (["orphan"], True),
        (["replaced"], False),
    ):
        path.write_bytes(b"another's")
        list(_Delete(str(tmp_path), prune=True).process(("x.jpg", [(why, ROW["files"][0]) for why in say])))
        assert path.exists() == stays, say


def test_what_counts_as_done(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "x.jpg.jpg"
    path.write_bytes(b"safe")
    now = path.stat().st_mtime
    file = {"name": "x.jpg.jpg", "size": 4, "modified": now, "sha256": hashlib.sha256(b"safe").hexdigest()}
    source = ListedFile("/in/x.jpg", "x.jpg", 9, 1.5)

    def done(check: bool = False, failed: str = "", **values: Any) -> bool:
        one = row("2", files=[file], output="x.jpg.jpg", count=1) | values
        failure = {"run": failed} if failed else None
        return is_done(source, one, failure, [], Wanted("f"), OutputState(str(tmp_path), Manifest("", ()), check=check))

    assert done()
    assert done(failed="1")
    assert not done(failed="3")  # withheld since
    assert not done(count=2)  # a row that goes on with it is missing
    assert not done(size=8)
    assert not done(fingerprint="g")
    path.write_bytes(b"SAFE")
    os.utime(path, (now, now))
    assert done()
    assert not done(check=True)
    os.utime(path, (9, 9))  # overwritten
    assert not done()
    path.write_bytes(b"safe")
    os.utime(path, (9, 9))  # copied from elsewhere, and the same
    assert done()
    path.write_bytes(b"saf")
    os.utime(path, (now, now))
    assert not done()
    path.unlink()
    assert not done()


def test_a_photo_in_a_part_is_looked_up_where_the_part_has_lost_some() -> None:
    source = ListedFile("/in/x.jpg", "x.jpg", 9, 1.5)
    whole, copy = Manifest("1", (PART,)), Manifest("1", (COPY,))
    hashed = OutputState("/out", whole, frozenset({PART}), frozenset({PART}))
    for held, members, done in (
        (OutputState("/out", whole), [], True),
        (OutputState("/out", Manifest("1", ())), [], False),
        (OutputState("/out", copy, frozenset({COPY})), [], False),
        (OutputState("/out", copy, frozenset({COPY})), [{"part": COPY, "sha256": ""}], True),
        (hashed, [{"part": PART, "sha256": "aa"}], True),
        (hashed, [{"part": PART, "sha256": "ab"}], False),
    ):
        assert is_done(source, row("1", sha256="aa"), None, members, Wanted("f"), held) == done
