"""A recogniser retrained on the outputs: an attacker who has some originals and what became of them wants the rest.

After the parrot recognition of Newton, Sweeney and Malin (2005) and McPherson, Shokri and Shmatikov (2016): what a
fixed recogniser cannot see may be there to be learned. On frozen features of MobileFaceNet a ridge regression learns
the way from an output's features to its original's; the people it learns from are never those it is tried on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.models.audit.reidentification import Estimate, bootstrap_mean, rank_hits
from mien.models.faces import Recogniser

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

# What each attacker learns on. "identity" sees what the recogniser was trained for; "appearance" small pixels and the
# recogniser's middle, where pose, light and colour are, so that it finds the photo again, if not the person.
LEVELS = {"identity": ("embedding", "last"), "appearance": ("middle", "pixels")}
STRENGTHS = (0.1, 1.0, 10.0)  # of the ridge, in mean energies of a face
FOLDS, REPEATS, INNER_FOLDS = 4, 4, 3
MIN_PEOPLE = 12
_MIDDLE = 11  # the block after which the map is 14 x 14
_PIXELS = 16
_AT_ONCE = 16


@dataclass(frozen=True)
class Parrot:
    """What the attacker reached on people that were not learned from.

    rank1: share of outputs whose own original was the most alike among the held-out people's, with a 95 % interval by a
    bootstrap over people. chance: of a guess. gallery: held-out originals in a fold, on average. hits: (P,) 0 to 1.
    """

    level: str
    rank1: Estimate
    chance: float
    gallery: float
    hits: Array

    @property
    def times_chance(self) -> Estimate:
        """rank1 in units of chance."""
        return Estimate(*(value / self.chance for value in (self.rank1.value, self.rank1.low, self.rank1.high)))


@torch.inference_mode()
def features(network: Recogniser, crops: Tensor) -> dict[str, Array]:
    """(N, 3, 112, 112) crops in -1..1 to the features of each name in LEVELS, (N, D) each.

    Only the face itself is seen: around it the crop is grey, since hair and wall are of the photo and not of the face.
    """
    found: dict[str, list[Tensor]] = {name: [] for names in LEVELS.values() for name in names}
    for part in (crops * _oval()).split(_AT_ONCE):
        x = network.stem(part)
        for number, block in enumerate(network.blocks):
            x = block(x)
            if number == _MIDDLE:
                found["middle"].append(F.adaptive_avg_pool2d(x, 7).flatten(1))
        found["last"].append(F.adaptive_avg_pool2d(x, 4).flatten(1))
        found["embedding"].append(F.normalize(network.last(x).flatten(1)))
        found["pixels"].append(F.interpolate(part, size=_PIXELS, mode="area").flatten(1))
    return {name: torch.cat(parts).double().numpy() for name, parts in found.items()}


def _oval() -> Tensor:
    """(112, 112): 1 on the face, from the brows to the chin."""
    y, x = torch.meshgrid(torch.arange(112.0), torch.arange(112.0), indexing="ij")
    return ((((x - 55.5) / 42) ** 2 + ((y - 60) / 50) ** 2) < 1).float()


def retrain(
    originals: dict[str, Array],
    outputs: dict[str, Array],
    own: Sequence[int] | Numbers,
    people: Sequence[int] | Numbers,
    level: str,
    seed: int = 0,
) -> Parrot | None:
    """Learns on some people and tries on the others, in FOLDS folds, REPEATS times; None for too few people.

    originals, outputs: of features(), (G, D) and (P, D). own: (P,) the original's row of each output. people: (G,) whom
    an original shows. Which features and which strength is chosen by people that are learned from, too.
    """
    own, people = np.asarray(own), np.asarray(people)
    names = np.unique(people[own])
    if len(names) < MIN_PEOPLE:
        return None
    pairs = [_rotated(originals[name], outputs[name]) for name in LEVELS[level]]
    rng = np.random.default_rng(seed)
    hits, chances, galleries = np.zeros(len(own)), [], []
    for _ in range(REPEATS):
        fold = dict(zip(rng.permutation(names).tolist(), np.arange(len(names)) % FOLDS, strict=True))
        place = np.array([fold.get(person, -1) for person in people.tolist()])
        for number in range(FOLDS):
            learned, tried = np.flatnonzero((place >= 0) & (place != number)), np.flatnonzero(place == number)
            choice = _choose(pairs, own, people, learned, rng)
            hit, left_out = _try(*pairs[choice[0]], own, people, learned, tried, choice[1], 1)
            hits[np.isin(own, tried)] += hit / REPEATS
            chances.append(float((1 / (~left_out).sum(1)).mean()))
            galleries.append(len(tried))
    chance = float(np.mean(chances))
    return Parrot(level, bootstrap_mean(hits, people[own], seed), chance, float(np.mean(galleries)), hits)


def _choose(
    pairs: list[tuple[Array, Array]], own: Numbers, people: Numbers, learned: Numbers, rng: np.random.Generator
) -> tuple[int, float]:
    """(features, strength) that do best among the people that are learned from."""
    names = rng.permutation(np.unique(people[learned]))
    found: dict[tuple[int, float], float] = {}
    for number in range(INNER_FOLDS):
        tried = learned[np.isin(people[learned], names[number::INNER_FOLDS])]
        rest = np.setdiff1d(learned, tried)
        for i in range(len(pairs)):
            for strength in STRENGTHS:
                reached = [_try(*pairs[i], own, people, rest, tried, strength, rank)[0].sum() for rank in (1, 3)]
                found[i, strength] = found.get((i, strength), 0.0) + float(sum(reached))
    return max(found, key=lambda choice: found[choice])


def _try(
    gallery: Array,
    probes: Array,
    own: Numbers,
    people: Numbers,
    learned: Numbers,
    tried: Numbers,
    strength: float,
    rank: int,
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Hits within `rank` of the probes whose originals are in `tried`, and the pairs that were left out."""
    pair = np.flatnonzero(np.isin(own, learned))
    probe = np.flatnonzero(np.isin(own, tried))
    target, source = gallery[own[pair]], probes[pair]
    target_mean, source_mean = gallery[learned].mean(0), source.mean(0)
    target, source = target - target_mean, source - source_mean
    kernel = source @ source.T
    energy = max(float(np.trace(kernel)) / len(kernel), 1e-12)
    # the way starts from "as it is": with an endless strength this is the recogniser itself, less the mean of each side
    change = np.linalg.solve(kernel + strength * energy * np.eye(len(kernel)), target - source)
    there = probes[probe] - source_mean
    there = there + (there @ source.T) @ change
    scores = _unit(there) @ _unit(gallery[tried] - target_mean).T
    place = np.searchsorted(tried, own[probe])
    left_out = people[own[probe]][:, None] == people[tried][None, :]
    left_out[np.arange(len(probe)), place] = False
    return rank_hits(scores, place, left_out, rank), left_out


def _rotated(a: Array, b: Array) -> tuple[Array, Array]:
    """Both in fewer numbers, distances and angles kept to the last digit."""
    both = np.concatenate([a, b])
    if both.shape[1] <= len(both):
        return a, b
    turned = np.linalg.qr(both.T)[1].T
    return turned[: len(a)], turned[len(a) :]


def _unit(x: Array) -> Array:
    unit: Array = x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-12)
    return unit
