from .blend import Array, Pixels, fitted, moved, needed_size, paste_face, softened, to_cells, warp
from .inpaint import (
    FACE,
    HEAD,
    Mask,
    Window,
    box_mask,
    face_mask,
    fill_faces,
    matrix,
    membrane,
    shrink_known,
    window_of,
)
from .replace import OVAL, covered, outline_mask
from .stamp import enlarged_transform, inlay_face

__all__ = [
    "FACE",
    "HEAD",
    "OVAL",
    "Array",
    "Mask",
    "Pixels",
    "Window",
    "box_mask",
    "covered",
    "enlarged_transform",
    "face_mask",
    "fill_faces",
    "fitted",
    "inlay_face",
    "matrix",
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
