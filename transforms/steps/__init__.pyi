from .align import FALLBACK, MAX_YAW, align_faces, hidden_of, refusal
from .background import VERSION, CodeBackground, code_background
from .choose import ChooseFaces, choose_faces
from .code_faces import CodeFaces, code_photo
from .correct import ADDED, CHANGED, REMOVED, SAME_BOX, CorrectFaces
from .decide import DecideFaces, decide_photo, same_decisions
from .decode import MAX_PIXELS, DecodePhotos, decode_photo
from .detect import DetectFaces, FaceSearch, find_faces
from .new_faces import DrawNewFaces
from .paste import paste_coded
from .people import FaceRows, GiveSeeds, with_galleries
from .verify import SURE, Leaks, leaks, painted_places

__all__ = [
    "ADDED",
    "CHANGED",
    "FALLBACK",
    "MAX_PIXELS",
    "MAX_YAW",
    "REMOVED",
    "SAME_BOX",
    "SURE",
    "VERSION",
    "ChooseFaces",
    "CodeBackground",
    "CodeFaces",
    "CorrectFaces",
    "DecideFaces",
    "DecodePhotos",
    "DetectFaces",
    "DrawNewFaces",
    "FaceRows",
    "FaceSearch",
    "GiveSeeds",
    "Leaks",
    "align_faces",
    "choose_faces",
    "code_background",
    "code_photo",
    "decide_photo",
    "decode_photo",
    "find_faces",
    "hidden_of",
    "leaks",
    "painted_places",
    "paste_coded",
    "refusal",
    "same_decisions",
    "with_galleries",
]
