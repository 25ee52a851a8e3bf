import dataclasses

import numpy as np
from safetensors.numpy import save_file

from mien.models import FaceCodec
from mien.models.privacy.pool import load_pool, packed
from mien.models.weights.folder import POOL_FILE, WeightsFolder


def test_a_pool_is_read_back_as_it_was_written(tmp_path) -> None:
    """Also from arrays whose columns lie one behind the other: safetensors writes the memory as it lies."""
    basis = FaceCodec.load().basis
    pool = load_pool(basis, WeightsFolder())
    turned = {field.name: np.asfortranarray(getattr(pool, field.name)) for field in dataclasses.fields(pool)}
    save_file(packed(dataclasses.replace(pool, **turned)), tmp_path / POOL_FILE, metadata={"basis": basis})
    again = load_pool(basis, WeightsFolder(str(tmp_path)))
    for name, values in turned.items():
        assert np.allclose(getattr(again, name), values, atol=0.03), name


def test_the_pool_tells_glasses_of_those_who_wear_them() -> None:
    """Of the pool's own people, by the reading that was fitted to real faces."""
    pool = load_pool(FaceCodec.load().basis, WeightsFolder())
    read = np.array([pool.worn_by(place, first)[0] for place, first in zip(pool.places, pool.first, strict=True)])
    wearing, bare = read[pool.worn[:, 0] == 1], read[pool.worn[:, 0] == 0]
    assert (wearing[:, None] > bare[None]).mean() > 0.9
    assert len(wearing) > 20
