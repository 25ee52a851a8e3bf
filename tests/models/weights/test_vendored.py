import hashlib
import json
import shutil

import pytest

from mien.models.errors import WeightsError
from mien.models.weights import vendored as third_party
from mien.models.weights.vendored import FOLDER, third_party_file

MANIFEST = json.loads((FOLDER / "manifest.json").read_text())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the smallest model with its manifest, where damage does no harm."""
    for name in ("manifest.json", "mp_full_range.tflite"):
        shutil.copy(FOLDER / name, tmp_path)
    monkeypatch.setattr(third_party, "FOLDER", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", MANIFEST)
def test_every_file_is_there_with_its_licence(name):
    entry = MANIFEST[name]
    path = third_party_file(name)
    assert path.stat().st_size == entry["bytes"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    assert entry["licence"] in ("Apache-2.0", "MIT", "MIT AND CC0-1.0")
    assert entry["source"]
    for licence in entry["licence_files"]:
        assert len((FOLDER / licence).read_text()) > 500


def test_nothing_lies_there_without_an_entry():
    models = {path.name for path in FOLDER.iterdir() if path.suffix not in (".txt", ".md", ".json")}
    assert models == set(MANIFEST)


def test_a_damaged_file_is_refused_and_named(folder):
    assert third_party_file("mp_full_range.tflite") == folder / "mp_full_range.tflite"
    third_party._checked.cache_clear()
    data = bytearray((folder / "mp_full_range.tflite").read_bytes())
    data[1000] ^= 1
    (folder / "mp_full_range.tflite").write_bytes(data)
    with pytest.raises(WeightsError, match=r"mp_full_range\.tflite is damaged"):
        third_party_file("mp_full_range.tflite")


def test_a_missing_file_is_named(folder):
    with pytest.raises(WeightsError, match=r"centerface\.onnx cannot be read: No such file"):
        third_party_file("centerface.onnx")
    with pytest.raises(WeightsError, match=r"other\.onnx is not in"):
        third_party_file("other.onnx")
    (folder / "manifest.json").write_text("{")
    third_party._checked.cache_clear()
    with pytest.raises(WeightsError, match=r"manifest\.json cannot be read"):
        third_party_file("mp_full_range.tflite")
