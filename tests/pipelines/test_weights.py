"""Jobs with other weights than the package's: here its own, in another place."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from mien.models.errors import WeightsError
from mien.models.weights.folder import CODEC_FILES, PACKAGED, WeightsFolder, use_weights
from mien.transforms.compress import CompressPhotos
from mien.transforms.elements import Photo
from mien.transforms.workers.isolate import Child, Limits, packed
from tests.pipelines.conftest import mien, record

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in CODEC_FILES:
        shutil.copy(PACKAGED / name, folder)
    return folder


def test_a_job_records_and_hands_on_the_weights_it_began_with(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (64, 48), (9, 99, 9)).save(tmp_path / "x.png")
    words = ("compress", tmp_path / "x.png", "--output", tmp_path / "out", "--detector", "mediapipe")
    assert mien(*words, "--weights", folder) == 0
    found = record(tmp_path / "out")
    digests = dict(WeightsFolder(str(folder)).pinned(*CODEC_FILES).digests)
    assert found["settings"]["weights"] == digests
    assert found["sha256"]["weights"].items() >= digests.items()

    # the policy needs a file that is not there; and files that hold no weights
    assert mien(*words, "--weights", folder, "--policy", "deidentify") == 2
    assert "person.safetensors: No such file" in capsys.readouterr().err
    (folder / CODEC_FILES[2]).write_bytes(b"no weights")
    assert mien(*words, "--weights", folder) == 2
    error = capsys.readouterr().err
    assert "does not hold the weights of this version's codec" in error
    assert error.count("\n") == 1


def test_a_worker_takes_no_other_weights(folder: Path) -> None:
    pinned = WeightsFolder(str(folder)).pinned(*CODEC_FILES)
    use_weights(pinned)
    stages = packed(CompressPhotos(detectors=["mediapipe"]).stages)
    use_weights(WeightsFolder())
    with (folder / CODEC_FILES[0]).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\0")
    child = Child()
    try:
        with pytest.raises(WeightsError, match="not those that the job began with"):
            child.work(stages, Photo("x.png", b""), Limits())
    finally:
        child.close()
