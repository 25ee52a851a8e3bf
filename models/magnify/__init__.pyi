from .consistency import rms, rms_limit, shrink
from .fitting import VIEW
from .magnifier import DOUBTFUL, MOST, FaceMagnifier, Magnified
from .predictor import LARGEST, SIZES, SMALLEST, Guess, cells, enlarged

__all__ = [
    "DOUBTFUL",
    "LARGEST",
    "MOST",
    "SIZES",
    "SMALLEST",
    "VIEW",
    "FaceMagnifier",
    "Guess",
    "Magnified",
    "cells",
    "enlarged",
    "rms",
    "rms_limit",
    "shrink",
]
