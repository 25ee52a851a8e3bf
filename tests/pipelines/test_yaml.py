import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from mien.models.images.container import extract

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


def test_compress_in_beam_yaml(photos: Path, tmp_path: Path) -> None:
    output = run("compress.yaml", photos, tmp_path)
    photo = extract((output / "x.jpg.avif").read_bytes())
    assert photo.policy.startswith("background-people:")
    assert {face.action for face in photo.faces} <= {"preserve", "realistic", "fill", "keep"}


def test_redact_in_beam_yaml(photos: Path, tmp_path: Path) -> None:
    output = run("redact.yaml", photos, tmp_path)
    with Image.open(output / "x.jpg.jpg") as shown, Image.open(photos / "a" / "x.jpg") as original:
        assert shown.size == original.size
        assert np.abs(np.asarray(shown, float) - np.asarray(original, float)).max() > 60
