from .align import FALLBACK, MAX_YAW, hidden_of, refusal
from .background import VERSION, CodeBackground
from .code_faces import CodeFaces
from .correct import ADDED, CHANGED, REMOVED, SAME_BOX, CorrectFaces
from .decide import DecideFaces, same_decisions
from .decode import MAX_PIXELS, DecodePhotos
from .detect import DetectFaces, FaceSearch
from .new_faces import DrawNewFaces
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
    "hidden_of",
    "leaks",
    "painted_places",
    "refusal",
    "same_decisions",
    "with_galleries",
]
