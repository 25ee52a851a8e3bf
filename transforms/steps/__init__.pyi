from .background import QUALITY, VERSION, BackgroundCodec, CodeBackground
from .code_faces import FACE_BYTES, FALLBACK, GENERATED, MAX_YAW, SECONDS, CodeFaces, Effort, hidden_of, refusal
from .decide import DecideFaces, same_decisions
from .decode import MAX_PIXELS, DecodePhotos
from .detect import DETECTORS, DetectFaces
from .people import FaceRows, GiveSeeds, with_galleries
from .verify import SURE, Leaks, leaks, painted_places

__all__ = [
    "DETECTORS",
    "FACE_BYTES",
    "FALLBACK",
    "GENERATED",
    "MAX_PIXELS",
    "MAX_YAW",
    "QUALITY",
    "SECONDS",
    "SURE",
    "VERSION",
    "BackgroundCodec",
    "CodeBackground",
    "CodeFaces",
    "DecideFaces",
    "DecodePhotos",
    "DetectFaces",
    "Effort",
    "FaceRows",
    "GiveSeeds",
    "Leaks",
    "hidden_of",
    "leaks",
    "painted_places",
    "refusal",
    "same_decisions",
    "with_galleries",
]
