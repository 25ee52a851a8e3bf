from .align import FALLBACK, MAX_YAW, hidden_of, refusal
from .background import VERSION, CodeBackground
from .code_faces import CodeFaces
from .decide import DecideFaces, same_decisions
from .decode import MAX_PIXELS, DecodePhotos
from .detect import DetectFaces, FaceSearch
from .new_faces import DrawNewFaces
from .people import FaceRows, GiveSeeds, with_galleries
from .verify import SURE, Leaks, leaks, painted_places

__all__ = [
    "FALLBACK",
    "MAX_PIXELS",
    "MAX_YAW",
    "SURE",
    "VERSION",
    "CodeBackground",
    "CodeFaces",
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
