from .background import QUALITY, VERSION, BackgroundCodec, CodeBackground
from .code_faces import FACE_BYTES, FALLBACK, GENERATED, MAX_YAW, SECONDS, CodeFaces, Effort, hidden_of, refusal
from .correct import (
    ADDED,
    CHANGED,
    REMOVED,
    SAME_BOX,
    CheckCorrections,
    CorrectFaces,
    GiveCorrections,
    corrections_of,
)
from .decide import DecideFaces, same_decisions
from .decode import MAX_PIXELS, DecodePhotos
from .detect import DETECTORS, DetectFaces
from .people import FaceRows, GiveSeeds, with_galleries
from .verify import SURE, Leaks, leaks, painted_places

__all__ = [
    "ADDED",
    "CHANGED",
    "DETECTORS",
    "FACE_BYTES",
    "FALLBACK",
    "GENERATED",
    "MAX_PIXELS",
    "MAX_YAW",
    "QUALITY",
    "REMOVED",
    "SAME_BOX",
    "SECONDS",
    "SURE",
    "VERSION",
    "BackgroundCodec",
    "CheckCorrections",
    "CodeBackground",
    "CodeFaces",
    "CorrectFaces",
    "DecideFaces",
    "DecodePhotos",
    "DetectFaces",
    "Effort",
    "FaceRows",
    "GiveCorrections",
    "GiveSeeds",
    "Leaks",
    "corrections_of",
    "hidden_of",
    "leaks",
    "painted_places",
    "refusal",
    "same_decisions",
    "with_galleries",
]
