from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mien.models.audit.parrot import LEVELS, MIN_PEOPLE, features, retrain
from mien.models.audit.recognisers import MobileFaceNet
from mien.models.audit.reidentification import rank_hits
from mien.models.codec.face_codec import FaceCodec
from mien.models.images.files import decode_image

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
RNG = np.random.default_rng(3)
FACES = RNG.normal(size=(80, 24))


def learned(rows: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
    return dict.fromkeys(LEVELS["identity"], rows)


def plain(outputs: npt.NDArray[np.float64]) -> float:
    """rank-1 among 20, as in a fold."""
    scores = outputs[:20] @ FACES[:20].T
    return float(rank_hits(scores, np.arange(20), np.zeros((20, 20), bool), 1).mean())


def test_what_a_recogniser_does_not_see_is_learned() -> None:
    turn = np.linalg.qr(RNG.normal(size=(24, 24)))[0]
    outputs = FACES @ turn + 3 + RNG.normal(0, 0.2, FACES.shape)
    found = retrain(learned(FACES), learned(outputs), np.arange(80), np.arange(80), "identity")
    assert found is not None
    assert (round(found.chance, 6), found.gallery) == (0.05, 20)
    assert plain(outputs) < 0.2 < 0.8 < found.rank1.low
    assert found.times_chance.low > 16


def test_there_is_nothing_to_learn_from_chance() -> None:
    outputs = RNG.normal(size=FACES.shape)
    found = retrain(learned(FACES), learned(outputs), np.arange(80), np.arange(80), "identity")
    assert found is not None
    assert found.rank1.low <= found.chance <= found.rank1.high


def test_nobody_is_learned_from_and_tried_on() -> None:
    """People of two photos, of which the second is the first again: had one been learned from, the other were known."""
    people = np.repeat(np.arange(40), 2)
    marks = np.repeat(RNG.normal(size=(40, 24)), 2, axis=0)
    outputs = np.repeat(RNG.normal(size=(40, 24)), 2, axis=0)
    found = retrain(learned(marks), learned(outputs), np.arange(80), people, "identity")
    assert found is not None
    assert found.rank1.value < 4 * found.chance


def test_a_handful_of_people_is_too_few() -> None:
    few = learned(FACES[: MIN_PEOPLE - 1])
    assert retrain(few, few, np.arange(MIN_PEOPLE - 1), np.arange(MIN_PEOPLE - 1), "identity") is None


def test_features_are_of_the_face_and_not_of_what_is_around_it() -> None:
    faces = np.stack([decode_image(path.read_bytes()) for path in sorted(SAMPLES.glob("*.jpg"))])
    around = faces.copy()
    around[:, :, :60] = around[:, :, -60:] = 0
    recogniser = MobileFaceNet()
    network = FaceCodec.load().recogniser
    found, other = (features(network, recogniser.crops(part)) for part in (faces, around))
    assert {name: rows.shape[1] for name, rows in found.items()} == {
        "embedding": 192,
        "last": 128 * 16,
        "middle": 128 * 49,
        "pixels": 3 * 256,
    }
    for name, rows in found.items():
        assert np.allclose(rows, other[name], atol=1e-5), name
        assert not np.allclose(rows[0], rows[1], atol=1e-2)
    assert not torch.equal(recogniser.crops(faces), recogniser.crops(around))
