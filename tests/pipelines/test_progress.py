import time

import pytest

from mien.pipelines.progress import DONE, FAILED, LISTED, SKIPPED, Progress, Tell
from mien.transforms.elements import CodedPhoto

PHOTO = CodedPhoto("u", 1, 2, 3, b"", "avif", ("face", "face"), "p", "v")  # type: ignore[arg-type]


def tell(progress: Progress | None, kind: bytes, count: int, element: object = "x") -> None:
    stage = Tell(progress.address if progress else None, kind)
    stage.setup()
    for _ in range(count):
        assert list(stage.process(element)) == [element]
    stage.teardown()


def test_what_workers_tell_adds_up() -> None:
    progress = Progress(quiet=False)
    tell(progress, LISTED, 10)
    tell(progress, SKIPPED, 3)
    tell(progress, DONE, 4, PHOTO)
    tell(progress, FAILED, 1)
    for _ in range(50):
        if progress.line().startswith("5 of 7 photos") and "8 faces, 1 failed" in progress.line():
            break
        time.sleep(0.1)
    else:
        pytest.fail(progress.line())
    progress.close()


def test_a_job_elsewhere_tells_nobody() -> None:
    tell(None, DONE, 1, PHOTO)
