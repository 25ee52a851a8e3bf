"""Finds, codes, replaces and redacts the faces of photo archives. setup.py installs this file as the package mien.

mien.redact, mien.compress and mien.restore take one photo each (mien.transforms.one_call); what they need is loaded
when they are first named.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.transforms import compress_image as compress
    from mien.transforms import redact_image as redact
    from mien.transforms import restore_image as restore

__all__ = ["compress", "redact", "restore"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # takes longer to load than `mien --help` may

        return version("mien")
    if name in __all__:
        import mien.transforms

        return getattr(mien.transforms, f"{name}_image")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
