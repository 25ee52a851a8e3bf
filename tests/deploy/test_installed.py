"""What the image installs, installed by its own command into a clean root, and used there.

Minutes and gigabytes, so only where MIEN_SMOKE says so: `venv`, a bare environment here; or the path of a bare Debian:

    debootstrap --variant=minbase \\
        --include=python3,python3-venv,ca-certificates,libegl1,libgl1,libgles2,libglib2.0-0 bookworm PATH
    mount -t proc proc PATH/proc && mount --bind /sys PATH/sys    # MediaPipe asks there how many cores there are

MIEN_TORCH_INDEX is another place for torch than the Dockerfile's, such as a folder of this machine.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import dockerfile

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMOKE = os.environ.get("MIEN_SMOKE", "")


@pytest.mark.skipif(not SMOKE, reason="MIEN_SMOKE names no place to install to: venv, or a debootstrapped Debian")
def test_the_installed_set_codes_a_photo(tmp_path: Path) -> None:
    chroot = SMOKE != "venv"
    place = Path(SMOKE) / "smoke" if chroot else tmp_path
    shutil.rmtree(place, ignore_errors=True) if chroot else None
    place.mkdir(exist_ok=True)
    inside = Path("/smoke") if chroot else place
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        place,
        ROOT,
    ]
    subprocess.run(list(map(str, wheel)), check=True)
    shutil.copy(ROOT / "constraints.txt", place)
    (place / "photos").mkdir()
    shutil.copy(ROOT / "tests/data/photos/usds.jpg", place / "photos")

    def run(*words: object) -> str:
        command = [*(["chroot", SMOKE] if chroot else []), *map(str, words)]
        # pip's settings are this machine's; PYTHONPATH and the like stay out
        kept = {name: os.environ[name] for name in os.environ if name.startswith("PIP_") or name in ("PATH", "HOME")}
        result = subprocess.run(command, env=kept, cwd=place, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
        return result.stdout

    run("python3" if chroot else sys.executable, "-m", "venv", inside / "venv")
    python = inside / "venv/bin/python"
    (name,) = [path.name for path in place.glob("mien-*.whl")]
    index = os.environ.get("MIEN_TORCH_INDEX")
    for words in dockerfile.pip_installs(str(inside / "constraints.txt"), str(inside / name), index):
        run(python, "-m", *words)
    run(python, "-m", "pip", "check")
    command = [inside / "venv/bin/mien", "compress", inside / "photos", "--output", inside / "out", "--workers", "1"]
    run(*command, "--format", "blobs", "--policy", "redact")
    record = json.loads((place / "out/run.json").read_text())
    assert (record["counts"]["out"], record["counts"]["in"]) == (1, 1)
    assert record["counts"]["faces"] > 10
    shutil.copy(ROOT / "deploy/dataflow/launch.py", place)
    code = "import runpy, sys; sys.argv[1:] = ['--command=face']; runpy.run_path(sys.argv[0], run_name='__main__')"
    code = code.replace("sys.argv[0]", repr(str(inside / "launch.py")))
    run(python, "-c", f"try:\n {code}\nexcept SystemExit as stop:\n assert stop.code == 2")
