"""The policy applied: what is done with each face of a photo, and by which rule; or that the photo is withheld."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from apache_beam.metrics import Metrics

from mien.models.errors import WithheldByRuleError
from mien.models.faces import FACE_KIND, Face
from mien.transforms.elements import Decision, Measured, PhotoInWork
from mien.transforms.policy import SHOWS, WITHHOLD, Conditions, Policy, matches_path
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage

if TYPE_CHECKING:
    from mien.transforms.steps.people import Embedding

OTHERWISE = "otherwise"
_SHARPNESS_SIZE = 128
_REFERENCE_SECONDS = 3.0  # a reference photo is read in half a second of a free processor
_MOST_UNKNOWN = 6  # galleries that a face may be in or not, of which all combinations are gone through


def measures(face: Face, rank: int, pixels: npt.NDArray[np.uint8], count: int | None = None) -> Measured:
    """What a rule can ask of a face; None where it is not known.

    area: of the box within the frame, as a share of the frame. rank: as given, 1 is the largest of its kind. center:
    distance of the box's middle from the frame's, 1 in a corner. yaw, pitch: degrees away from the camera, to either
    side. score: the detector's, 0 to 1. sharpness: see sharpness(). count: as given, of the faces in the photo.
    """
    height, width = pixels.shape[:2]
    x, y, w, h = face.box
    yaw, pitch = (abs(face.pose[0]), abs(face.pose[1])) if face.pose else (None, None)
    return {
        "area": box_area(face, width, height) / (width * height),
        "rank": rank,
        "center": float(np.hypot((x + w / 2) / width - 0.5, (y + h / 2) / height - 0.5) / np.hypot(0.5, 0.5)),
        "yaw": yaw,
        "pitch": pitch,
        "score": face.score,
        "sharpness": sharpness(face, pixels),
        "count": count,
    }


def box_area(face: Face, width: int, height: int) -> float:
    """Pixels of the face's box that lie within the frame."""
    x, y, w, h = face.box
    return max(0.0, min(x + w, width) - max(x, 0.0)) * max(0.0, min(y + h, height) - max(y, 0.0))


def sharpness(face: Face, pixels: npt.NDArray[np.uint8]) -> float | None:
    """Grey levels by which neighbouring pixels of the face's box differ (deviation of the Laplacian), at 128 x 128.

    None for a box outside the frame.
    """
    height, width = pixels.shape[:2]
    x, y, w, h = face.box
    crop = pixels[max(0, round(y)) : min(height, round(y + h)), max(0, round(x)) : min(width, round(x + w))]
    if crop.size == 0:
        return None
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    area = cv2.INTER_AREA if min(grey.shape) > _SHARPNESS_SIZE else cv2.INTER_LINEAR
    return float(cv2.Laplacian(cv2.resize(grey, (_SHARPNESS_SIZE,) * 2, interpolation=area), cv2.CV_32F).std())


def measure_faces(faces: Sequence[Face], pixels: npt.NDArray[np.uint8]) -> tuple[Measured, ...]:
    """The measures of each face of a photo."""
    height, width = pixels.shape[:2]
    by_area = sorted(range(len(faces)), key=lambda i: -box_area(faces[i], width, height))
    counts: Counter[str] = Counter()
    ranks = {}
    for i in by_area:
        counts[faces[i].kind] += 1
        ranks[i] = counts[faces[i].kind]
    return tuple(measures(face, ranks[i], pixels, counts[FACE_KIND]) for i, face in enumerate(faces))


@dataclass(frozen=True)
class Known:
    """What is known of a face beside its measures.

    embedding: the recogniser's, where the policy asks who it is or how old it looks; None where it cannot be told.
    kind: as in Face. paths: of its photo, see mien.transforms.policy.matches_path.
    """

    embedding: "Embedding | None" = field(default=None, repr=False)
    kind: str = FACE_KIND
    paths: tuple[str, ...] = ()


_NOTHING = Known()


def decide(policy: Policy, measured: Mapping[str, float | None], known: Known = _NOTHING) -> Decision:
    """The decision for a face: the first rule whose conditions all hold, else the policy's otherwise.

    What is not known (a measure, whether a face that the recogniser doubts or cannot tell is in a gallery) may be so or
    not: of all decisions that would follow the one that shows least is taken (mien.transforms.policy.SHOWS). Whose age
    is in doubt counts as young.
    """
    people = _people(policy, known.embedding)
    facts = _Facts(measured, people, known.kind, known.paths, policy.asks_for_age and _grown_up(known.embedding))
    unknown = [uri for uri, inside in people.items() if inside is None]
    if len(unknown) <= _MOST_UNKNOWN:
        answers = itertools.product((True, False), repeat=len(unknown))
        settled = [people | dict(zip(unknown, answer, strict=True)) for answer in answers]
        found = [tuple(_decisions(policy, dataclasses.replace(facts, people=one))) for one in settled]
    else:  # each rule by itself may match or not, which is never less careful
        found = [tuple(_decisions(policy, facts))]
    possible = list(dict.fromkeys(decision for decisions in found for decision in decisions))
    least = min(possible, key=lambda decision: SHOWS[decision.action])
    doubted = len(set(found)) > 1 or (len(unknown) > _MOST_UNKNOWN and len(possible) > 1)
    return dataclasses.replace(least, doubted=doubted)


@dataclass(frozen=True)
class _Facts:
    """What rules are held against. people: for each gallery whether the face is one of its, None where not known.
    grown: whether it clearly looks grown up. The others: as in Known."""

    measured: Mapping[str, float | None]
    people: Mapping[str, bool | None]
    kind: str
    paths: tuple[str, ...]
    grown: bool


def _decisions(policy: Policy, facts: _Facts) -> Iterator[Decision]:
    """What the policy may decide."""
    for rule in policy.rules:
        holds = _holds(rule.when, facts)
        if holds is not False:
            yield Decision(rule.do, rule.name)
        if holds:
            return
    yield Decision(policy.otherwise, OTHERWISE)


def _holds(when: Conditions, facts: _Facts) -> bool | None:
    """Whether all conditions hold; None where that hangs on what is not known."""
    told: list[bool | None] = [facts.kind in when.kinds]
    told += [wanted.holds(facts.measured.get(name)) for name, wanted in when.ranges().items()]
    if when.age is not None:
        told.append(facts.grown == (when.age.min is not None))
    if when.path is not None:
        told.append(matches_path(when.path, facts.paths))
    if when.person_in:
        inside = [facts.people[uri] for uri in when.person_in]
        told.append(True if any(inside) else None if None in inside else False)
    told += [None if facts.people[uri] is None else not facts.people[uri] for uri in when.person_not_in or ()]
    return False if False in told else None if None in told else True


def _grown_up(embedding: "Embedding | None") -> bool:
    """Whether a face clearly looks grown up: not where the recogniser cannot tell it."""
    if embedding is None:
        return False
    from mien.transforms.steps.people import grown_up  # brings torch, which most of a job's processes do without

    return grown_up(embedding)


def _people(policy: Policy, embedding: "Embedding | None") -> dict[str, bool | None]:
    """For each of the policy's galleries whether the face is one of its people; None where that is in doubt."""
    if embedding is None or not policy.galleries:
        return dict.fromkeys(policy.galleries)
    from mien.transforms.steps.people import gallery  # brings torch, which most of a job's processes do without

    galleries = {uri: gallery(uri, policy.digests.get(uri, "")) for uri in policy.galleries}
    references = sum(len(one) for one in galleries.values())
    answers = {"in": True, "out": False, "doubtful": None}
    return {uri: answers[one.match(embedding, references)] for uri, one in galleries.items()}


def decide_photo(policy: Policy, photo: PhotoInWork) -> PhotoInWork:
    """The photo with measures and a decision for each face, and embeddings where later stages or rules need them.

    None is withheld here, see check_withheld().
    """
    measured = measure_faces(photo.faces, photo.pixels)
    embeddings: tuple[Embedding | None, ...] = (None,) * len(photo.faces)
    if policy.galleries or policy.asks_for_age or "deidentify" in policy.actions:
        from mien.transforms.steps.people import embeddings_of

        embeddings = embeddings_of(photo.pixels, photo.faces)
    paths = (photo.name, photo.uri)
    decisions = tuple(
        decide(policy, known, Known(embedding, face.kind, paths))
        for face, known, embedding in zip(photo.faces, measured, embeddings, strict=True)
    )
    Metrics.counter(NAMESPACE, "in_doubt").inc(sum(decision.doubted for decision in decisions))
    return dataclasses.replace(photo, measured=measured, embeddings=embeddings, decisions=decisions)


def check_withheld(photo: PhotoInWork) -> None:
    """WithheldByRuleError for a photo with a face that a rule withholds it for, which names the first and its rule."""
    found = [i for i, decision in enumerate(photo.decisions) if decision.action == WITHHOLD]
    if not found:
        return
    Metrics.counter(NAMESPACE, f"action_{WITHHOLD}").inc(len(found))
    face, rule = photo.faces[found[0]], photo.decisions[found[0]].rule
    x, y, width, height = face.box
    by = "the policy's otherwise" if rule == OTHERWISE else f"the rule {rule!r}"
    more = f", and for {len(found) - 1} more" if len(found) > 1 else ""
    place = f"{face.kind} {found[0] + 1} ({width:.0f} x {height:.0f} at {x:.0f}, {y:.0f})"
    raise WithheldByRuleError(f"withheld by {by} for {place}{more}")


def same_decisions(policy: Policy, faces: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the policy decides on the faces of a safe photo, as its HandledFace recorded them, as was decided then.

    From their measures alone: False under a policy with galleries or that asks for an age, because nothing of an
    embedding is ever recorded, or for a path; and where it asks for a pose that is not known, as that of a small face
    may not have been looked for.
    """
    decided = [face for face in faces if face["decided"]]
    if policy.galleries or policy.asks_for_age or policy.asks_for_path:
        return False
    counted = any(rule.when.count is not None for rule in policy.rules)
    if counted and any(face.get("count") is None for face in decided):  # a row of an earlier version
        return False
    if policy.asks_for_pose and any(face["yaw"] is None for face in decided):
        return False
    return all(
        decide(policy, face, Known(kind=face.get("kind", FACE_KIND))).action == face["decided"] for face in decided
    )


class _Decide(Stage):
    stage = "decide"

    def __init__(self, policy: Policy, withholds: bool) -> None:
        self._policy = policy
        self._withholds = withholds
        self.start_seconds = _REFERENCE_SECONDS * policy.references

    def setup(self) -> None:
        if not self._policy.galleries:
            return
        from mien.transforms.steps.people import gallery

        for uri, digest in self._policy.digests.items():
            gallery(uri, digest)

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        photo = decide_photo(self._policy, element)
        if self._withholds:
            check_withheld(photo)
        yield photo


class DecideFaces(IsolatedStages):
    """PhotoInWork with faces -> with the measures of each and a decision.

    The policy's galleries must hold what they hold now when workers read them. GalleryError. withholds: photos that a
    rule withholds go to the failures; else they go on, to be looked at and not to be shown.
    """

    def __init__(self, policy: Policy, *, withholds: bool = True) -> None:
        super().__init__([_Decide(policy.pinned(), withholds)], PhotoInWork)
