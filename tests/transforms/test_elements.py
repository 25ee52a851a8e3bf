import pickle
import subprocess
import sys

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.typehints.schemas import named_fields_from_element_type

from mien.transforms.elements import CodedFace, CodedPhoto, Failure, ListedFile, Photo, PhotosAndFailures, Written

FILE = ListedFile("gs://b/a ü\n.jpg", "a ü\n.jpg", 10, 1.25, 3, True)
FACE = CodedFace((1.0, 2.0, 3.5, 4.0), (1.0, 0.0, 5.0, 0.0, 1.0, 6.0), "preserve", "otherwise", "m1", b"\0\xff", 0.5)
ELEMENTS = [
    FILE,
    Photo("a", b"\0data", "n", FILE),
    Photo("a", b""),
    FACE,
    CodedPhoto("u", 9, 4, 3, b"image", "avif", (FACE, FACE), "compress:1", "0.1.0", "n", FILE),
    CodedPhoto("u", 9, 4, 3, b"image", "avif", (), "compress:1", "0.1.0"),
    Failure("u", "decode", "ImageError", "empty"),
    Written("u", "x.avif", FILE),
]


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda element: type(element).__name__)
def test_elements_cross_workers_unchanged(element: object) -> None:
    coder = coders.registry.get_coder(type(element))
    assert isinstance(coder, coders.RowCoder)
    again = coder.decode(coder.encode(element))
    assert again == element
    assert type(again) is type(element)
    assert pickle.loads(pickle.dumps(element)) == element


@pytest.mark.slow
def test_a_worker_that_meets_the_coder_first_decodes_our_classes() -> None:
    # else it makes up named tuples, and a job in several processes stops at the first photo that fails
    coder = coders.registry.get_coder(Failure)
    travelling = coder.to_runner_api(PipelineContext()).SerializeToString()
    encoded = coder.encode(Failure("u", "decode", "ImageError", "empty"))
    code = (
        "import sys; from apache_beam.coders import Coder; from apache_beam.runners.pipeline_context import *; "
        "proto, element = (bytes.fromhex(word) for word in sys.argv[1:]); "
        "assert not any(name.startswith('mien.transforms.') for name in sys.modules); "
        "spec = beam_runner_api_pb2.Coder.FromString(proto); "
        "print(type(Coder.from_runner_api(spec, PipelineContext()).decode(element)))"
    )
    words = [sys.executable, "-c", code, travelling.hex(), encoded.hex()]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.stdout.strip() == str(Failure), result.stderr


def test_elements_are_rows_to_beam() -> None:
    # as Beam YAML and data frames need them
    assert [name for name, _ in named_fields_from_element_type(Failure)] == ["uri", "stage", "error", "message"]


def test_the_two_outputs_go_into_the_next_transform_together() -> None:
    class Swap(beam.PTransform):
        def default_type_hints(self) -> None:
            return None

        def expand(self, both: dict[str, beam.PCollection]) -> PhotosAndFailures:
            return PhotosAndFailures(photos=both["failures"], failures=both["photos"])

    with beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
        photos = pipeline | "Photos" >> beam.Create([1])
        failures = pipeline | "Failures" >> beam.Create([2])
        result = PhotosAndFailures(photos=photos, failures=failures) | Swap()
        assert isinstance(result, PhotosAndFailures)
        assert (result.photos, result.failures) == (failures, photos)


def test_transforms_are_found_by_name_and_the_import_is_light() -> None:
    code = (
        "import sys, mien.transforms as t; assert 'apache_beam' not in sys.modules; "
        "assert t.ReadPhotos.__name__ == 'ReadPhotos'; assert set(t.__all__) <= set(dir(t)); "
        "assert not hasattr(t, 'RedactEverything')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
