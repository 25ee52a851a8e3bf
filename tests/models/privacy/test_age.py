import numpy as np
import pytest

from mien.models.codec.face_codec import FaceCodec
from mien.models.errors import WeightsError
from mien.models.privacy.age import GROWN_UP, apparent, looks_grown_up
from mien.models.privacy.pool import Pool, load_pool
from mien.models.weights import weights_in_use


@pytest.fixture(scope="module")
def pool() -> Pool:
    return load_pool(FaceCodec.load().basis, weights_in_use())


def test_the_pool_was_read_in_the_same_way(pool: Pool) -> None:
    basis = FaceCodec.load().basis
    read = np.array([apparent(embedding, basis) for embedding in pool.first])
    difference = np.abs(read - pool.traits)  # both are stored in fewer bits
    assert difference.mean() < 0.02
    assert difference.max() < 0.2
    old, young = pool.first[read[:, 1].argmax()], pool.first[read[:, 1].argmin()]
    assert (looks_grown_up(old, basis), looks_grown_up(young, basis)) == (True, False)
    grown = [looks_grown_up(embedding, basis) for embedding in pool.first]
    assert grown == [bool(age >= GROWN_UP) for age in read[:, 1]]


def test_what_no_recogniser_gives_is_young() -> None:
    assert not looks_grown_up(np.full(192, np.nan), FaceCodec.load().basis)


def test_another_codec_is_refused() -> None:
    with pytest.raises(WeightsError, match="was made for another codec"):
        apparent(np.zeros(192), "another")
