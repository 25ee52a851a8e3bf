"""Whether an aligned picture shows a face that can be coded: upright, from the front, nothing over mouth and nose.

The codec's score does not tell: a surgical mask is drawn as a mouth, and an upside-down head as an upright one. The
recogniser's last map does, by a linear reading (understanding.safetensors; the model card has what was measured).
"""

import functools
import hashlib

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mien.models.errors import WeightsError
from mien.models.faces.recogniser import Recogniser, arcface_crop
from mien.models.runtime import one_thread
from mien.models.weights import UNDERSTANDING_FILE, WeightsFolder, basis_of, read_weights

Pixels = NDArray[np.uint8]

BANDS = ((0, 3), (3, 5), (5, 7))  # rows of the recogniser's 7 x 7 map: eyes, nose, mouth
LIMIT = 0.5  # of doubt(); of the training faces the clear ones are below -2.3, those covered, turned or none above 1.0
SEEN = 256  # pixels of the face's side before the recogniser's crop, as in the codec


def is_clear(face: Pixels, recogniser: Recogniser) -> bool:
    """Whether a face (512, 512, 3) uint8 RGB, aligned, is one that can be coded: its doubt is at most LIMIT."""
    return doubt(face, recogniser) <= LIMIT


@torch.inference_mode()
def doubt(face: Pixels, recogniser: Recogniser) -> float:
    """The logarithm of the odds that an aligned face (S, S, 3) uint8 RGB is covered, turned, or none.

    About -6 for a plain face, sunglasses, glasses and beards among them, and 7 for what is not one. ValueError for
    another shape; WeightsError where the reading's file cannot be read.
    """
    weight, bias = _reading(recogniser)
    return float(bands(face, recogniser) @ weight + bias)


@torch.inference_mode()
def bands(face: Pixels, recogniser: Recogniser) -> Tensor:
    """What is read of an aligned face (S, S, 3) uint8 RGB: (384,), the recogniser's map averaged within each band.
    ValueError for another shape."""
    if face.ndim != 3 or face.shape != (len(face), len(face), 3):
        raise ValueError(f"an aligned face is (S, S, 3), not {face.shape}")
    with one_thread():  # the same on any machine, as a face is coded or not by it
        picture = torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1)[None].float() / 127.5 - 1
        found = recogniser.features(arcface_crop(F.interpolate(picture, size=SEEN, mode="area")))[0]
    return torch.cat([found[:, top:bottom].mean((1, 2)) for top, bottom in BANDS])


def recogniser_id(recogniser: Recogniser) -> str:
    """Names a recogniser by its weights: a reading that was fitted to another one tells nothing of its map."""
    parts = sorted(recogniser.state_dict().items())
    return hashlib.sha256(b"".join(part.float().contiguous().numpy().tobytes() for _, part in parts)).hexdigest()[:16]


def check_reading(recogniser: Recogniser) -> None:
    """WeightsError where the reading cannot be read, or was fitted to another recogniser than this."""
    _reading(recogniser)


@functools.lru_cache(maxsize=2)
def _reading(recogniser: Recogniser) -> tuple[Tensor, float]:
    data = WeightsFolder().read(UNDERSTANDING_FILE)
    try:
        made_for, tensors = basis_of(data), read_weights(data)
        weight, bias = tensors["weight"].float(), float(tensors["bias"])
    except Exception as error:
        raise WeightsError(f"cannot read mien's {UNDERSTANDING_FILE}: {error}") from error
    if made_for != recogniser_id(recogniser):
        raise WeightsError(
            f"mien's {UNDERSTANDING_FILE}, which tells faces from what is none, was fitted to another recogniser than "
            "that of encoder.safetensors"
        )
    return weight, bias
