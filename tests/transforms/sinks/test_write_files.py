import json
from pathlib import Path

import numpy as np
import pytest

from mien.models.images.files import encode_image
from mien.pipelines.runs.index import index_row_of, index_rows
from mien.pipelines.runs.resume import OutputState, Wanted, is_done
from mien.transforms.elements import CodedPhoto, ListedFile, MagnifiedFace, MagnifiedPhoto, SafePhoto, Written
from mien.transforms.formats.manifest import Manifest
from mien.transforms.sinks.write_files import _WriteBlob, _WritePhoto, write_new
from mien.transforms.sinks.write_magnified import _WriteMagnified
from mien.transforms.sources.read_coded import photo_of_blob
from mien.transforms.stores.files import delete_inside
from mien.transforms.stores.names import output_name

LONG = "a/" + "é" * 124 + ".jpeg"  # 253 bytes beside the folder


def test_a_file_that_a_killed_run_wrote_and_did_not_note_is_taken_for_done(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    digest = write_new(str(path), b"safe", lambda: False)
    written = path.stat().st_mtime_ns
    assert write_new(str(path), b"safe", lambda: False) == digest
    assert path.stat().st_mtime_ns == written
    with pytest.raises(FileExistsError, match="not of this job"):
        write_new(str(path), b"another", lambda: False)
    assert path.read_bytes() == b"safe"
    write_new(str(path), b"another", lambda: True)
    assert path.read_bytes() == b"another"


def test_a_name_as_long_as_the_file_system_allows_has_outputs_of_every_kind(tmp_path: Path) -> None:
    """And they are found again: by the next run, which takes them for done, by restoring, and where they are to go."""
    picture = encode_image(np.full((20, 30, 3), 120, np.uint8), "webp")
    origin = ListedFile(f"/in/{LONG}", LONG, 9, 1.5)
    coded = CodedPhoto(origin.uri, 9, 30, 20, picture, "webp", (), "p", "v", LONG, origin)
    safe = SafePhoto(origin.uri, f"{output_name(LONG)}.jpg", picture, (), "p", "v", origin)
    face = MagnifiedFace(1, 1, (0.0, 0.0, 9.0, 9.0), 9, 2.0, True, False, (), payload=b"coded")
    magnified = MagnifiedPhoto(origin.uri, LONG, "png", (picture, picture), (face,), "v", origin)
    written: list[Written] = [
        *_WriteBlob(str(tmp_path), False).work(coded),
        *_WritePhoto(str(tmp_path), False).work(safe),
        *_WriteMagnified(str(tmp_path), False).work(magnified),
    ]
    names = [file.name for one in written for file in one.files]
    assert len(set(names)) == len(names) == 6
    assert all((tmp_path / name).is_file() and name.startswith(output_name(LONG)) for name in names)
    blob = tmp_path / written[0].output
    stat = blob.stat()
    again = photo_of_blob(blob.read_bytes(), ListedFile(str(blob), written[0].output, stat.st_size, stat.st_mtime))
    assert output_name(again.name) == output_name(LONG)  # what is restored is named as what is redacted
    for one in written:
        (line,) = index_rows([one], origin, "settings", "")
        row = {**index_row_of(line.encode()), "run": "1"}
        assert json.loads(line)["output"] == one.output
        assert is_done(origin, row, None, [], Wanted("settings"), OutputState(str(tmp_path), Manifest("", ())))
        assert all(delete_inside(str(tmp_path), file.name) for file in one.files)
    assert not list((tmp_path / "a").iterdir())
