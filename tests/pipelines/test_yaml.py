import json
import shutil
from pathlib import Path

import pytest

from mien.models.container import extract

EXAMPLE = Path(__file__).parent.parent.parent / "pipelines" / "compress.yaml"
LOCAL = "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def test_the_example_runs_in_beam_yaml(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason='Beam YAML wants "apache-beam[yaml]"')
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    shutil.copy(photos / "a" / "x.jpg", source)
    (source / "empty.jpg").write_bytes(b"")
    variables = json.dumps({"input": str(source), "output": str(output)})
    from apache_beam.yaml import main

    main.run([f"--yaml_pipeline_file={EXAMPLE}", LOCAL, f"--jinja_variables={variables}"])
    photo = extract((output / "x.jpg.avif").read_bytes())
    assert photo.policy.startswith("background-people:")
    assert {face.action for face in photo.faces} <= {"preserve", "realistic", "fill", "keep"}
    (failed,) = output.glob("failures.jsonl*")
    assert json.loads(failed.read_text())["stage"] == "decode"
