"""Apparent sex and age, read from a face's embedding; and who of all clearly looks grown up.

The reading is a linear one (models/training/person.py), fitted to 194 generated people whose age one person judged by
eye in four steps. It tells steps, not years, and is no proof of anybody's age.
"""

import numpy as np
from numpy.typing import NDArray

from mien.models.privacy.person_file import person_tensors
from mien.models.weights import weights_in_use

# Steps of apparent age. Of the generated people none of the 29 that were judged children reaches it (the one that looks
# oldest has 1.04), nor do 87 of the 89 young ones; but nor do 21 of the 44 adults in shared/faces/dev, 21 of the 24 in
# candid_dev and 15 of the 17 in wild_dev, who so count as young. Hardly another share at 160 or 80 pixels a face.
GROWN_UP = 1.75


def apparent(embedding: NDArray[np.floating], basis: str) -> NDArray[np.float64]:
    """Apparent sex and age, (2,) float64: -1 female to 1 male, and 0 child, 1 young, 2 middle-aged, 3 old.

    embedding: (192,) of the first recogniser, of length 1. basis: of the codec that is loaded (FaceCodec.basis), for
    which the reading was made; WeightsError where it was made for another.
    """
    tensors = person_tensors(basis, weights_in_use())
    found: NDArray[np.float64] = tensors["traits.read"] @ embedding + tensors["traits.read_offset"]
    return found


def looks_grown_up(embedding: NDArray[np.floating], basis: str) -> bool:
    """Whether a face clearly looks over 17: at GROWN_UP or more. Parameters and errors as for apparent()."""
    return bool(apparent(embedding, basis)[1] >= GROWN_UP)
