from .folder import (
    CODEC_FILES,
    MAGNIFIER_FILE,
    PACKAGED,
    PERSON_FILE,
    POOL_FILE,
    UNDERSTANDING_FILE,
    WeightsFolder,
    basis_of,
    codec_model,
    codec_name,
    codec_number,
    use_weights,
    weights_in_use,
)
from .packing import pack_weights, read_weights
from .vendored import FOLDER, third_party_file, weights_digests

__all__ = [
    "CODEC_FILES",
    "FOLDER",
    "MAGNIFIER_FILE",
    "PACKAGED",
    "PERSON_FILE",
    "POOL_FILE",
    "UNDERSTANDING_FILE",
    "WeightsFolder",
    "basis_of",
    "codec_model",
    "codec_name",
    "codec_number",
    "pack_weights",
    "read_weights",
    "third_party_file",
    "use_weights",
    "weights_digests",
    "weights_in_use",
]
