from pathlib import Path

import pytest

from mien.transforms.sinks.write_files import write_new


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
