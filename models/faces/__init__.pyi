from .alignment import SIZE, align_face, face_transform, pack_transform, snap_transform, square, unpack_transform
from .appearance import NAMES, Looks, bareness
from .centerface import load_centerface
from .detection import Box, FaceDetector
from .expression import Look, LookReader, distortion
from .face import Face
from .find import located_faces
from .landmarks import FaceLandmarker
from .recogniser import CROP_SIDE, EMBEDDING, SAME_PERSON, Conv, Recogniser, arcface_crop
from .tiles import PART_AREA, SAME_PART, SAME_UNION

__all__ = [
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
    "align_face",
    "arcface_crop",
    "bareness",
    "distortion",
    "face_transform",
    "load_centerface",
    "located_faces",
    "pack_transform",
    "snap_transform",
    "square",
    "unpack_transform",
]
