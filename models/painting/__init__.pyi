from .blend import fitted, needed_size, paste_face
from .inpaint import (
    FACE,
    HEAD,
    Mask,
    Pixels,
    Window,
    box_mask,
    edge_distance,
    face_mask,
    fill_faces,
    membrane,
    shrink_known,
)
from .replace import outline_mask, paste_within
from .stamp import enlarged_transform, inlay_face

__all__ = [
    "FACE",
    "HEAD",
    "Mask",
    "Pixels",
    "Window",
    "box_mask",
    "edge_distance",
    "enlarged_transform",
    "face_mask",
    "fill_faces",
    "fitted",
    "inlay_face",
    "membrane",
    "needed_size",
    "outline_mask",
    "paste_face",
    "paste_within",
    "shrink_known",
]
