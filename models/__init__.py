"""What mien knows about faces: numpy and torch in, numpy and bytes out. Never imports Beam."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mien.models.codec import FaceCodec
    from mien.models.magnify import FaceMagnifier

__all__ = ["FaceCodec", "FaceMagnifier"]


def __getattr__(name: str) -> Any:
    """Imported when first asked for (PEP 562): torch takes seconds to load."""
    if name == "FaceCodec":
        from mien.models.codec import FaceCodec

        return FaceCodec
    if name == "FaceMagnifier":
        from mien.models.magnify import FaceMagnifier

        return FaceMagnifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
