"""How well a recogniser tells whose output face is whose: ranks, verification rates and their intervals.

Scores are similarities, the higher the more alike: (P, G) float, output faces (probes) by original faces (gallery).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

FALSE_ACCEPT_RATES = (1e-2, 1e-3)
RESAMPLES = 300  # of the bootstrap over people
_Z = 1.959964  # 95 % of a normal distribution
_BINS = 8192  # of all scores, for the rates


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; nan where it cannot be told."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Reidentification:
    """What one recogniser makes of output faces.

    rank1, rank5: share of probes whose own original is the most alike, or among the five most alike. chance1, chance5:
    the same for a recogniser that guesses. eer: equal error rate. tar: true accept rate at each of
    FALSE_ACCEPT_RATES, None where there are fewer impostor pairs than one false accept takes. hits: (P,) 0 to 1, each
    probe's share in rank1. genuine, impostor: the scores themselves.
    """

    probes: int
    gallery: int
    rank1: Estimate
    rank5: Estimate
    chance1: float
    chance5: float
    eer: Estimate
    tar: tuple[Estimate | None, ...]
    hits: Array
    genuine: Array
    impostor: Array

    @property
    def above_chance(self) -> bool:
        """Whether the interval of rank1 lies above chance."""
        return self.rank1.low > self.chance1


def wilson(hits: float, trials: int) -> Estimate:
    """A share with Wilson's 95 % score interval (Wilson, 1927); nan of no trials."""
    # not scipy.stats.binomtest: it takes whole hits, and a tie is a fraction of one
    if trials == 0:
        return Estimate(np.nan, np.nan, np.nan)
    share, z2 = hits / trials, _Z * _Z
    middle = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = _Z / (1 + z2 / trials) * np.sqrt(share * (1 - share) / trials + z2 / (4 * trials * trials))
    return Estimate(share, max(0.0, float(middle - half)), min(1.0, float(middle + half)))


def rank_hits(scores: Array, own: Sequence[int] | Numbers, left_out: Flags, rank: int) -> Array:
    """(P,) 0 to 1: whether a probe's own original is among the `rank` most alike; ties count by their expectation.

    own: (P,) the gallery's row of each probe. left_out: (P, G) bool, pairs that do not count (never the own one).
    """
    own = np.asarray(own)
    others = ~left_out
    others[np.arange(len(own)), own] = False
    mine = scores[np.arange(len(own)), own][:, None]
    greater = (others & (scores > mine)).sum(1)
    ties = (others & (scores == mine)).sum(1)
    hits: Array = np.clip((rank - greater) / (ties + 1), 0, 1)
    return hits


def reidentify(
    scores: Array, own: Sequence[int] | Numbers, people: Sequence[int] | Numbers, seed: int = 0
) -> Reidentification:
    """All of Reidentification.

    own: (P,) the gallery's row of each probe. people: (G,) whom each original shows; pairs of one person that are not a
    probe and its own original are left out, as they are neither genuine by place nor impostors. rank1 and rank5 have
    Wilson intervals, eer and tar those of a bootstrap over people. ValueError for fewer than one probe or two people.
    """
    own, people = np.asarray(own), np.asarray(people)
    if len(own) < 1 or len(set(people.tolist())) < 2:
        raise ValueError("re-identification needs a probe and the originals of two people")
    place = np.arange(len(own))
    left_out = people[own][:, None] == people[None, :]
    left_out[place, own] = False
    hits = [rank_hits(scores, own, left_out, rank) for rank in (1, 5)]
    candidates = (~left_out).sum(1)
    counts = ~left_out
    counts[place, own] = False
    rows, columns = np.nonzero(counts)
    genuine, impostor = scores[place, own], scores[rows, columns]
    drawn = _rates(genuine, impostor, people[own], people[own][rows], people[columns], seed)
    eers, *tars = drawn.T
    possible = [len(impostor) * rate >= 1 for rate in FALSE_ACCEPT_RATES]
    return Reidentification(
        len(own),
        len(people),
        wilson(float(hits[0].sum()), len(own)),
        wilson(float(hits[1].sum()), len(own)),
        float((1 / candidates).mean()),
        float(np.minimum(1, 5 / candidates).mean()),
        _estimate(eers),
        tuple(_estimate(tar) if there else None for tar, there in zip(tars, possible, strict=True)),
        hits[0],
        genuine,
        impostor,
    )


def roc(genuine: Array, impostor: Array, points: int = 200) -> Array:
    """(points, 2): false accept rate, evenly spaced in its logarithm, and true accept rate."""
    # not sklearn.metrics.roc_curve: its points are the scores, which had to be interpolated to these rates
    rates = np.logspace(np.log10(max(1e-4, 1 / len(impostor))), 0, points)
    thresholds = np.quantile(impostor, 1 - rates)
    ordered = np.sort(genuine)
    accepted = 1 - np.searchsorted(ordered, thresholds, "left") / len(ordered)
    return np.stack([rates, accepted], 1)


def same_people(similarities: Array, threshold: float) -> Numbers:
    """(N,) a number for each face, the same where a chain of similarities of at least the threshold joins them."""
    people: Numbers = connected_components(csr_array(similarities >= threshold), directed=False)[1].astype(np.int64)
    return people


def bootstrap_mean(values: Array, people: Numbers, seed: int = 0) -> Estimate:
    """The mean of (N,) values with a 95 % interval by a bootstrap over people, (N,) numbers."""
    _, who = np.unique(people, return_inverse=True)
    rng = np.random.default_rng(seed)
    means = [float(values.mean())]
    for _ in range(RESAMPLES):
        weight = np.bincount(rng.integers(0, who.max() + 1, who.max() + 1), minlength=who.max() + 1)[who]
        means.append(float((values * weight).sum() / max(1, weight.sum())))
    return _estimate(np.array(means))


def _estimate(drawn: Array) -> Estimate:
    """The first value, with the interval of the others."""
    low, high = np.nanquantile(drawn[1:], [0.025, 0.975]) if np.isfinite(drawn[1:]).any() else (np.nan, np.nan)
    return Estimate(float(drawn[0]), float(low), float(high))


def _rates(genuine: Array, impostor: Array, who: Numbers, left: Numbers, right: Numbers, seed: int) -> Array:
    """(1 + RESAMPLES, 1 + rates): equal error rate and true accept rates, of all and of people drawn with repetition.

    who, left, right: the person of each genuine score, and the two of each impostor one.
    """
    # bins, for sklearn.metrics.roc_curve would sort all pairs anew for each of the resamples
    low, high = (float(f([f(genuine), f(impostor)])) for f in (np.min, np.max))
    scale = (_BINS - 1) / max(high - low, 1e-12)
    place, others = (((part - low) * scale).astype(np.int64) for part in (genuine, impostor))
    number, every = np.unique(np.concatenate([who, left, right]), return_inverse=True)
    who, left, right = np.split(every, [len(who), len(who) + len(left)])
    rng = np.random.default_rng(seed)
    rows = []
    for resample in range(RESAMPLES + 1):
        weight = np.ones(len(number))
        if resample:
            weight = np.bincount(rng.integers(0, len(number), len(number)), minlength=len(number)).astype(float)
        accepted, false = (
            np.cumsum(np.bincount(bins, weights, _BINS)[::-1])  # from the highest score down
            for bins, weights in ((place, weight[who]), (others, weight[left] * weight[right]))
        )
        if not accepted[-1] or not false[-1]:
            rows.append([np.nan] * (1 + len(FALSE_ACCEPT_RATES)))
            continue
        accepted, false = np.append(0, accepted / accepted[-1]), np.append(0, false / false[-1])
        crossing = int(np.argmin(np.abs(1 - accepted - false)))
        tars = [accepted[np.searchsorted(false, rate, "right") - 1] for rate in FALSE_ACCEPT_RATES]
        rows.append([(1 - accepted[crossing] + false[crossing]) / 2, *tars])
    return np.array(rows)
