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
from .face import Face
from .find import located_faces
from .landmarks import FaceLandmarker
from .mesh import OVAL, covered
from .recogniser import CROP_SIDE, EMBEDDING, Conv, Recogniser, arcface_crop
from .same_face import SAME_PERSON, mostly_within, same_face, same_places, same_square, shared_of_union
from .understanding import bands, check_reading, doubt, is_clear, recogniser_id
from .verification import Verification, seen

__all__ = [
    "CROP_SIDE",
    "DLIB_BLOCKS",
    "EMBEDDING",
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
    "Recogniser",
    "Transform",
    "Verification",
    "align_face",
    "arcface_crop",
    "bands",
    "bareness",
    "centerface_boxes",
    "check_reading",
    "covered",
    "distortion",
    "dlib_recogniser",
    "doubt",
    "face_transform",
    "is_clear",
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
