"""Beam transforms, one stage of the photo's way per file.

The public ones can be imported from here; each is loaded when it is first named, so that this import stays light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.transforms.compress import CompressPhotos
    from mien.transforms.magnify import MagnifyFaces
    from mien.transforms.read import ReadPhotos
    from mien.transforms.read_coded import ReadCoded
    from mien.transforms.redact import RedactPhotos
    from mien.transforms.restore import RestorePhotos
    from mien.transforms.write_blobs import WriteBlobs, WritePhotos
    from mien.transforms.write_magnified import WriteMagnified
    from mien.transforms.write_parquet import WriteParquet
    from mien.transforms.write_webdataset import WriteWebDataset

__all__ = [
    "CompressPhotos",
    "MagnifyFaces",
    "ReadCoded",
    "ReadPhotos",
    "RedactPhotos",
    "RestorePhotos",
    "WriteBlobs",
    "WriteMagnified",
    "WriteParquet",
    "WritePhotos",
    "WriteWebDataset",
]

_MODULES = {
    "CompressPhotos": "compress",
    "MagnifyFaces": "magnify",
    "ReadCoded": "read_coded",
    "ReadPhotos": "read",
    "RedactPhotos": "redact",
    "RestorePhotos": "restore",
    "WriteBlobs": "write_blobs",
    "WriteMagnified": "write_magnified",
    "WriteParquet": "write_parquet",
    "WritePhotos": "write_blobs",
    "WriteWebDataset": "write_webdataset",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"mien.transforms.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
