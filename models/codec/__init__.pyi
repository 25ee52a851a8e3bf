from .bitstream import LAYERS, PRECISION, SPREAD, decode_section, describe, read_header, write_base
from .decoder import BASE, COLOURS, GRIDS, STYLE, FaceDecoder, Symbols, read_tables
from .encoder import Encoder, trunk
from .face_codec import SIZE, Effort, FaceCodec, Objective, load_codec
from .generator import CHANNELS, LEVELS, SIZES, STYLES, Generator, haar_up
from .rate_control import BASE_BYTES
from .refinement import Descent, face_weight

__all__ = [
    "BASE",
    "BASE_BYTES",
    "CHANNELS",
    "COLOURS",
    "GRIDS",
    "LAYERS",
    "LEVELS",
    "PRECISION",
    "SIZE",
    "SIZES",
    "SPREAD",
    "STYLE",
    "STYLES",
    "Descent",
    "Effort",
    "Encoder",
    "FaceCodec",
    "FaceDecoder",
    "Generator",
    "Objective",
    "Symbols",
    "decode_section",
    "describe",
    "face_weight",
    "haar_up",
    "load_codec",
    "read_header",
    "read_tables",
    "trunk",
    "write_base",
]
