from .age import apparent, looks_grown_up
from .deidentify import ALIKE, NEAR, Deidentifier, check_files
from .gallery import Gallery, embed, gallery_digest, gallery_state, load_gallery
from .join import join, join_outline
from .new_person import EXCHANGED, join_part
from .person_file import person_tensors
from .pool import SCALE, Pool, packed
from .redaction import REDACTIONS, Hidden, MaskKind, masks_of, redact_faces

__all__ = [
    "ALIKE",
    "EXCHANGED",
    "NEAR",
    "REDACTIONS",
    "SCALE",
    "Deidentifier",
    "Gallery",
    "Hidden",
    "MaskKind",
    "Pool",
    "apparent",
    "check_files",
    "embed",
    "gallery_digest",
    "gallery_state",
    "join",
    "join_outline",
    "join_part",
    "load_gallery",
    "looks_grown_up",
    "masks_of",
    "packed",
    "person_tensors",
    "redact_faces",
]
