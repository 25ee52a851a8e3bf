from .bitstream import LAYERS, PRECISION, SPREAD, describe
from .decoder import BASE, COLOURS, GRIDS, STYLE, FaceDecoder, Latents, colour_symbols, colour_values, read_tables, tint
from .encoder import INPUT, Encoder, trunk
from .face_codec import PLANS, SIZE, Coded, Effort, FaceCodec, Images, Objective, load_codec
from .generator import CHANNELS, LEVELS, SIZES, STYLES, Generator, haar_up
from .looks import FaceLikeness, Likeness, Original, is_seen
from .rate_control import BASE_BYTES, allocate, rate
from .refinement import COLOUR_RATE, FALL, LAGRANGE, RATES, STEP_AT_100, Descent, Plan, distance, face_weight

__all__ = [
    "BASE",
    "BASE_BYTES",
    "CHANNELS",
    "COLOURS",
    "COLOUR_RATE",
    "FALL",
    "GRIDS",
    "INPUT",
    "LAGRANGE",
    "LAYERS",
    "LEVELS",
    "PLANS",
    "PRECISION",
    "RATES",
    "SIZE",
    "SIZES",
    "SPREAD",
    "STEP_AT_100",
    "STYLE",
    "STYLES",
    "Coded",
    "Descent",
    "Effort",
    "Encoder",
    "FaceCodec",
    "FaceDecoder",
    "FaceLikeness",
    "Generator",
    "Images",
    "Latents",
    "Likeness",
    "Objective",
    "Original",
    "Plan",
    "allocate",
    "colour_symbols",
    "colour_values",
    "describe",
    "distance",
    "face_weight",
    "haar_up",
    "is_seen",
    "load_codec",
    "rate",
    "read_tables",
    "tint",
    "trunk",
]
