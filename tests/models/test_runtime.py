import os

import pytest

from mien.models.runtime import cores


@pytest.mark.parametrize(("setting", "allowed"), [("1", 1), ("1,2", 1), ("0", 1), ("100000", None), ("many", None)])
def test_a_process_takes_no_more_cores_than_it_is_allowed(
    setting: str, allowed: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert cores() == (allowed or len(os.sched_getaffinity(0)))
