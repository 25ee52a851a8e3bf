from .face_codec import FaceCodec
from .magnify.magnifier import FaceMagnifier

__all__ = [
    "FaceCodec",
    "FaceMagnifier",
]
