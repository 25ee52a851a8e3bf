import json
import shutil
from pathlib import Path

import pytest
import yaml

from mien.models.faces.detection import FaceDetector
from mien.models.images.container import extract
from mien.models.images.files import decode_image
from tests.pipelines.likeness import likeness, places

EXAMPLES = Path(__file__).parent.parent.parent / "pipelines"
LOCAL = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def run(example: str, photos: Path, folder: Path) -> Path:
    """The output of an example, of a photo and of an empty file, with its one failure."""
    pytest.importorskip("pandas", reason='Beam YAML wants "apache-beam[yaml]"')
    source, output = folder / "in #private", folder / "out: 1"
    source.mkdir()
    shutil.copy(photos / "a" / "x.jpg", source)
    (source / "empty.jpg").write_bytes(b"")
    variables = json.dumps({"input": str(source), "output": str(output)})
    from apache_beam.yaml import main

    main.run([f"--yaml_pipeline_file={EXAMPLES / example}", LOCAL, f"--jinja_variables={variables}"])
    (failed,) = output.glob("failures.jsonl*")
    assert json.loads(failed.read_text())["stage"] == "decode"
    return output


@pytest.mark.parametrize("example", ["compress.yaml", "redact.yaml"])
@pytest.mark.parametrize("name", ["in/one #private", "a: b", "{a}", "'a\"", "<ü & é>", "yes"])
def test_a_folder_is_the_one_that_was_named(example: str, name: str) -> None:
    jinja2 = pytest.importorskip("jinja2", reason='Beam YAML wants "apache-beam[yaml]"')
    filled = jinja2.Template((EXAMPLES / example).read_text()).render(input=name, output=name)
    read, _, write, failures = yaml.safe_load(filled)["pipeline"]["transforms"]
    assert (read["config"]["inputs"], write["config"]["output"]) == (name, name)
    assert failures["config"]["path"] == f"{name}/failures.jsonl"


@pytest.mark.slow
def test_compress_in_beam_yaml(photos: Path, tmp_path: Path) -> None:
    output = run("compress.yaml", photos, tmp_path)
    photo = extract((output / "x.jpg.avif").read_bytes())
    assert photo.policy.startswith("background-people:")
    assert {face.action for face in photo.faces} <= {"preserve", "realistic", "fill", "keep"}


@pytest.mark.slow
def test_redact_in_beam_yaml(photos: Path, tmp_path: Path) -> None:
    output = run("redact.yaml", photos, tmp_path)
    original = decode_image((photos / "a" / "x.jpg").read_bytes())
    shown = decode_image((output / "x.jpg.jpg").read_bytes())
    assert shown.shape == original.shape
    with FaceDetector() as detector:
        inside, far = places([face.box for face in detector.detect(original)], original.shape)
    assert likeness(original, shown, far) > 0.8
    assert inside
    assert max(abs(likeness(original, shown, place)) for place in inside) < 0.3
