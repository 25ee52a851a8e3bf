from .bitstream import PRECISION, SPREAD
from .decoder import (
    BASE,
    COLOURS,
    GRIDS,
    LAYERS,
    STYLE,
    FaceDecoder,
    Latents,
    colour_symbols,
    colour_values,
    read_tables,
    tint,
)
from .encoder import INPUT, Encoder, trunk
from .face_codec import SIZE, Effort, FaceCodec, Objective, load_codec
from .generator import CHANNELS, LEVELS, SIZES, STYLES, Generator, haar_up
from .rate_control import BASE_BYTES, allocate
from .refinement import Descent, face_weight

__all__ = [
    "BASE",
    "BASE_BYTES",
    "CHANNELS",
    "COLOURS",
    "GRIDS",
    "INPUT",
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
    "Latents",
    "Objective",
    "allocate",
    "colour_symbols",
    "colour_values",
    "face_weight",
    "haar_up",
    "load_codec",
    "read_tables",
    "tint",
    "trunk",
]
