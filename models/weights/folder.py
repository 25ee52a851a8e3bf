"""The folder that mien's own weights come from: the package's, or another one that a job was told of.

A job reads the files once at its start and hands their sha256 on to its workers: what any of them loads is what the job
began with, or it is not loaded.
"""

import hashlib
import json
import pathlib
from dataclasses import dataclass

import fsspec

from mien.models.errors import WeightsError

PACKAGED = pathlib.Path(__file__).parent
CODEC_FILES = ("decoder.safetensors", "layers.safetensors", "encoder.safetensors")
PERSON_FILE, POOL_FILE, MAGNIFIER_FILE = "person.safetensors", "pool.safetensors", "magnifier.safetensors"
UNDERSTANDING_FILE = "understanding.safetensors"  # always the package's: it reads the recogniser, which is not trained


@dataclass(frozen=True)
class WeightsFolder:
    """uri: a path or any fsspec URI; empty: the package's, wherever that lies in the process that reads it.

    digests: names and sha256 of the files as they must be; a name that is not among them is not checked.
    """

    uri: str = ""
    digests: tuple[tuple[str, str], ...] = ()

    def read(self, name: str) -> bytes:
        """The bytes of one file. WeightsError where it cannot be read, or is another than it must be."""
        path = f"{self.uri.rstrip('/') or PACKAGED}/{name}"
        try:
            with fsspec.open(path, "rb") as file:
                data: bytes = file.read()
        except Exception as error:  # every store has errors of its own
            # s3fs and gcsfs give a FileNotFoundError the path alone
            plain = "no such file" if isinstance(error, FileNotFoundError) else error
            reason = error.strerror if isinstance(error, OSError) and error.strerror else plain
            raise WeightsError(f"cannot read the weights {path}: {reason}") from error
        wanted = dict(self.digests).get(name)
        if wanted is not None and (digest := hashlib.sha256(data).hexdigest()) != wanted:
            raise WeightsError(f"the weights {path} are not those that the job began with: their sha256 is {digest}")
        return data

    def pinned(self, *names: str) -> "WeightsFolder":
        """The same, with the sha256 of these files as they are now. WeightsError where one cannot be read."""
        return WeightsFolder(self.uri, tuple((name, hashlib.sha256(self.read(name)).hexdigest()) for name in names))


def codec_number(decoder: bytes, layers: bytes) -> int:
    """The 16-bit id of the codec of the files decoder.safetensors and layers.safetensors, as payloads carry it."""
    return int.from_bytes(hashlib.sha256(decoder + layers).digest()[:2], "big")


def codec_name(number: int) -> str:
    """What records and coded photos call the codec of that id."""
    return f"layers1-{number:04x}"


def codec_model() -> str:
    """The name of the codec whose weights are in use, without loading it. WeightsError where they cannot be read."""
    return codec_name(codec_number(*(_in_use.read(name) for name in CODEC_FILES[:2])))


_in_use = WeightsFolder()


def use_weights(folder: WeightsFolder) -> None:
    """From now on FaceCodec, FaceMagnifier and Deidentifier take this folder's weights where none are named."""
    global _in_use
    _in_use = folder


def weights_in_use() -> WeightsFolder:
    """What use_weights() was told last; the package's where it was not called."""
    return _in_use


def basis_of(data: bytes) -> str:
    """Which coordinates a safetensors file was made for, from its metadata (a JSON header)."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return str(header.get("__metadata__", {}).get("basis", ""))
