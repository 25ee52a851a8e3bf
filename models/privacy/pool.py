"""The pool: people who do not exist, drawn and looked at beforehand, from whom new faces take their person."""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from mien.models.errors import WeightsError
from mien.models.weights import PACKAGED, POOL_FILE, WeightsFolder, basis_of

Floats = NDArray[np.float64]
# One over the largest number of a whole number's unit in the file.
UNWORN, WORN = 0.25, 0.45  # readings that are taken for nothing, and for certain
SCALE = 14.0  # about the length of an embedding whose numbers have deviation 1
PLACE_STEP, FIRST_STEP, SECOND_STEP = 2.5 / 127, 0.4 / 127, 0.5 / 127


@dataclass(frozen=True)
class Pool:
    """places: (N, 64) deviations of the base layer's first latents. first, second: (N, 192) of length 1 and (N, 128),
    what the two recognisers see. looks: (N, 13), models.appearance. traits: (N, 2), apparent sex and age.
    worn: (N, 2), glasses and beard, 1 where there are any, 0 where not. wearing: (2, 257), what reads the same of real
    faces."""

    places: Floats
    first: Floats
    second: Floats
    looks: Floats
    traits: Floats
    worn: Floats
    wearing: Floats

    def worn_by(self, place: Floats, first: Floats) -> Floats:
        """(2,) what somebody wears, by the (64,) place that the encoder gives and the (192,) embedding."""
        found: Floats = self.wearing[:, :-1] @ np.concatenate([place, SCALE * first]) + self.wearing[:, -1]
        return np.clip((found - UNWORN) / (WORN - UNWORN), 0, 1)

    def __len__(self) -> int:
        return len(self.places)


def packed(pool: Pool) -> dict[str, NDArray[np.int8] | NDArray[np.floating]]:
    """The tensors of a pool's file."""

    def whole(values: Floats, step: float) -> NDArray[np.int8]:
        return np.clip(np.rint(values / step), -127, 127).astype(np.int8)

    found: dict[str, NDArray[np.int8] | NDArray[np.floating]] = {
        "places": whole(pool.places, PLACE_STEP),
        "first": whole(pool.first, FIRST_STEP),
        "second": whole(pool.second, SECOND_STEP),
        "looks": pool.looks.astype(np.float16),
        "traits": pool.traits.astype(np.float16),
        "worn": pool.worn.astype(np.int8),
        "wearing": pool.wearing.astype(np.float32),
    }
    # safetensors writes an array's memory as it lies, whatever its strides
    return {name: np.ascontiguousarray(tensor) for name, tensor in found.items()}


@functools.cache
def load_pool(basis: str, folder: WeightsFolder) -> Pool:
    """The pool of a folder, for the codec of that basis. WeightsError where it cannot be read or does not fit."""
    where, data = f"{folder.uri or PACKAGED}/{POOL_FILE}", folder.read(POOL_FILE)
    try:
        made_for = basis_of(data)
        tensors = {name: tensor.astype(np.float64) for name, tensor in load(data).items()}
        first = tensors["first"] * FIRST_STEP
        found = Pool(
            tensors["places"] * PLACE_STEP,
            first / np.linalg.norm(first, axis=1, keepdims=True),
            tensors["second"] * SECOND_STEP,
            tensors["looks"],
            tensors["traits"],
            tensors["worn"],
            tensors["wearing"],
        )
        shapes = [
            part.shape for part in (found.places, found.first, found.second, found.looks, found.traits, found.worn)
        ]
        widths = [(len(found), width) for width in (64, 192, 128, 13, 2, 2)]
        if shapes != widths or found.wearing.shape != (2, 257) or not len(found):
            raise ValueError(f"its tensors are {shapes}")
    except (ValueError, KeyError, SafetensorError) as error:
        raise WeightsError(f"cannot read {where}: {error}") from error
    if made_for != basis:
        raise WeightsError(f"{where} was made for another codec than the one that is loaded")
    return found
