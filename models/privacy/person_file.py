"""person.safetensors: what new people are drawn with, and the reading of apparent sex and age."""

import functools

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from mien.models.errors import WeightsError
from mien.models.weights import PACKAGED, PERSON_FILE, WeightsFolder, basis_of


@functools.cache
def person_tensors(basis: str, folder: WeightsFolder) -> dict[str, NDArray[np.float64]]:
    """What the prior, the looks and the traits are in the latents of that basis. WeightsError where it does not fit."""
    where, data = f"{folder.uri or PACKAGED}/{PERSON_FILE}", folder.read(PERSON_FILE)
    try:
        made_for = basis_of(data)
        tensors = {name: tensor.astype(np.float64) for name, tensor in load(data).items()}
    except (ValueError, SafetensorError) as error:
        raise WeightsError(f"cannot read {where}: {error}") from error
    if made_for != basis:
        raise WeightsError(f"{where} was made for another codec than the one that is loaded")
    return tensors
