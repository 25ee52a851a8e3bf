from .deidentify import Deidentifier, person_tensors
from .gallery import Gallery, embed, gallery_digest, gallery_state, load_gallery
from .redaction import REDACTIONS, Hidden, MaskKind, masks_of, redact_faces

__all__ = [
    "REDACTIONS",
    "Deidentifier",
    "Gallery",
    "Hidden",
    "MaskKind",
    "embed",
    "gallery_digest",
    "gallery_state",
    "load_gallery",
    "masks_of",
    "person_tensors",
    "redact_faces",
]
