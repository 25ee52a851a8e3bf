from .descriptors import NETWORK, DlibDescriptor, packaged_models
from .lpips import Lpips, packaged_heads
from .made_photos import FACTORS, Factor, MadePhoto, face_free, made_photo
from .magnified import BICUBIC, INPUTS, SIZE, MagnifiedRow, MagnifyBench, drift, lines, shrunk
from .measure import MIEN, Bench, Missing, Row, peak_memory
from .metrics import Features, Meter, kid
from .peers import Peer, enlarge
from .photos import PhotoFile, PhotoMeter, PhotoQuality, best_file
from .summary import LOWER_IS_BETTER, QUALITIES, Line, Need, line_of, needs, reached

__all__ = [
    "BICUBIC",
    "FACTORS",
    "INPUTS",
    "LOWER_IS_BETTER",
    "MIEN",
    "NETWORK",
    "QUALITIES",
    "SIZE",
    "Bench",
    "DlibDescriptor",
    "Factor",
    "Features",
    "Line",
    "Lpips",
    "MadePhoto",
    "MagnifiedRow",
    "MagnifyBench",
    "Meter",
    "Missing",
    "Need",
    "Peer",
    "PhotoFile",
    "PhotoMeter",
    "PhotoQuality",
    "Row",
    "best_file",
    "drift",
    "enlarge",
    "face_free",
    "kid",
    "line_of",
    "lines",
    "made_photo",
    "needs",
    "packaged_heads",
    "packaged_models",
    "peak_memory",
    "reached",
    "shrunk",
]
