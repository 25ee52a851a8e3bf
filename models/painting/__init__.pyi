from .blend import Array, fitted, moved, needed_size, paste_face, softened, to_cells, warp
from .inpaint import (
    FACE_EGG,
    HEAD_EGG,
    Mask,
    Pixels,
    Window,
    box_mask,
    edge_distance,
    face_mask,
    fill_faces,
    membrane,
    shrink_known,
    window_of,
)
from .replace import outline_mask
from .stamp import enlarged_transform, inlay_face

__all__ = [
    "FACE_EGG",
    "HEAD_EGG",
    "Array",
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
    "moved",
    "needed_size",
    "outline_mask",
    "paste_face",
    "shrink_known",
    "softened",
    "to_cells",
    "warp",
    "window_of",
]
