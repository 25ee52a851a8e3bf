from pathlib import Path

import apache_beam as beam

from mien.transforms.elements import SafePhoto
from mien.transforms.preview import WritePreview

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def test_a_dry_run_without_a_photo_leaves_no_earlier_sheets(tmp_path: Path) -> None:
    shown = SafePhoto("/in/x.jpg", "x.jpg", b"", (), "p:1", "1", None)
    for photos, names in (([shown], ["dry-run-0001.html", "dry-run-photos.jsonl", "dry-run.jsonl"]), ([], [])):
        (tmp_path / "dry-run-0009.html").write_text("of an earlier run")
        with beam.Pipeline(runner=RUNNER) as pipeline:
            _ = pipeline | beam.Create(photos) | WritePreview(str(tmp_path))
        assert sorted(path.name for path in tmp_path.iterdir()) == names
