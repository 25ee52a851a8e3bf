from .alignment import (
    SIZE,
    Transform,
    align_face,
    face_transform,
    pack_transform,
    snap_transform,
    square,
    unpack_transform,
)
from .appearance import NAMES, Looks, bareness, looks
from .centerface import load_centerface
from .detection import Box, FaceDetector
from .dlib_recogniser import BLOCKS, EMBEDDING, dlib_recogniser
from .expression import Look, LookReader, distortion
from .face import Face
from .find import located_faces
from .landmarks import FaceLandmarker
from .recogniser import CROP_SIDE, SAME_PERSON, Conv, Recogniser, arcface_crop
from .tiles import PART_AREA, SAME_PART, SAME_UNION

__all__ = [
    "BLOCKS",
    "CROP_SIDE",
    "EMBEDDING",
    "NAMES",
    "PART_AREA",
    "SAME_PART",
    "SAME_PERSON",
    "SAME_UNION",
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
    "align_face",
    "arcface_crop",
    "bareness",
    "distortion",
    "dlib_recogniser",
    "face_transform",
    "load_centerface",
    "located_faces",
    "looks",
    "pack_transform",
    "snap_transform",
    "square",
    "unpack_transform",
]
