from .figures import Gallery, face_rows, figures, findings, thresholds
from .metadata_leaks import Leak, file_leaks, trace_leaks, traces, unfinished
from .photo import Box, OriginalFace, OutputFace, PhotoAuditor
from .recognisers import FaceRecogniser, recognisers
from .reidentification import wilson

__all__ = [
    "Box",
    "FaceRecogniser",
    "Gallery",
    "Leak",
    "OriginalFace",
    "OutputFace",
    "PhotoAuditor",
    "face_rows",
    "figures",
    "file_leaks",
    "findings",
    "recognisers",
    "thresholds",
    "trace_leaks",
    "traces",
    "unfinished",
    "wilson",
]
