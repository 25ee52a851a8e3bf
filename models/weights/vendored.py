"""The files of weights: those of others lie under models/weights/third_party, checked against its manifest's sha256."""

import functools
import hashlib
import json
from pathlib import Path

from mien.models.errors import WeightsError

FOLDER = Path(__file__).resolve().parent / "third_party"


def third_party_file(name: str) -> Path:
    """The path of a vendored file; its sha256 is computed once a process.

    WeightsError, which names the file, where it is missing, damaged or not in the manifest.
    """
    return _checked(FOLDER, name)


@functools.cache
def weights_digests() -> dict[str, str]:
    """The sha256 of every file of weights in the package, by its name below models/weights."""
    root = FOLDER.parent
    files = [path for path in sorted(root.rglob("*")) if path.suffix in (".safetensors", ".tflite", ".task", ".onnx")]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@functools.cache
def _checked(folder: Path, name: str) -> Path:
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder / 'manifest.json'} cannot be read: {error}") from error
    if name not in manifest:
        raise WeightsError(f"{name} is not in {folder / 'manifest.json'}")
    path = folder / name
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"model file {path} cannot be read: {error.strerror or error}") from error
    if digest != manifest[name]["sha256"]:
        raise WeightsError(f"model file {path} is damaged: its sha256 is {digest}, not {manifest[name]['sha256']}")
    return path
