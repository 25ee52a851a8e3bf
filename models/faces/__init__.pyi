from .alignment import (
    SIZE,
    Transform,
    align_face,
    face_transform,
    matrix,
    pack_transform,
    snap_transform,
    square,
    unpack_transform,
)
from .appearance import NAMES, Looks, bareness, looks
from .centerface import centerface_boxes, open_centerface
from .detection import Box, FaceDetector, load_detectors
from .dlib_recogniser import DLIB_BLOCKS, dlib_recogniser
from .expression import Look, LookReader, distortion
from .face import FACE_KIND, KIND_PATTERN, Face
from .find import aligned_faces, join_faces, located_faces
from .landmarks import FaceLandmarker
from .mesh import OVAL, covered
from .own_detectors import (
    OwnDetector,
    RegionDetector,
    bad_box,
    detector_digest,
    detector_kind,
    installed_detectors,
)
from .recogniser import CROP_SIDE, EMBEDDING, Conv, Recogniser, arcface_crop
from .same_face import SAME_PERSON, mostly_within, same_face, same_places, same_square, shared_of_union
from .understanding import bands, check_reading, doubt, is_clear, recogniser_id
from .verification import Verification, seen

__all__ = [
    "CROP_SIDE",
    "DLIB_BLOCKS",
    "EMBEDDING",
    "FACE_KIND",
    "KIND_PATTERN",
    "NAMES",
    "OVAL",
    "SAME_PERSON",
    "SIZE",
    "Box",
    "Conv",
    "Face",
    "FaceDetector",
    "FaceLandmarker",
    "Look",
    "LookReader",
    "Looks",
    "OwnDetector",
    "Recogniser",
    "RegionDetector",
    "Transform",
    "Verification",
    "align_face",
    "aligned_faces",
    "arcface_crop",
    "bad_box",
    "bands",
    "bareness",
    "centerface_boxes",
    "check_reading",
    "covered",
    "detector_digest",
    "detector_kind",
    "distortion",
    "dlib_recogniser",
    "doubt",
    "face_transform",
    "installed_detectors",
    "is_clear",
    "join_faces",
    "load_detectors",
    "located_faces",
    "looks",
    "matrix",
    "mostly_within",
    "open_centerface",
    "pack_transform",
    "recogniser_id",
    "same_face",
    "same_places",
    "same_square",
    "seen",
    "shared_of_union",
    "snap_transform",
    "square",
    "unpack_transform",
]
