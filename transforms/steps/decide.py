"""The policy applied: what is done with each face of a photo, and by which rule."""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from apache_beam.metrics import Metrics

from mien.models.faces import Face
from mien.transforms.elements import Decision, Measured, PhotoInWork
from mien.transforms.policy import SHOWS, Conditions, Policy
from mien.transforms.workers import NAMESPACE, IsolatedStages, Stage

if TYPE_CHECKING:
    from mien.transforms.steps.people import Embedding

OTHERWISE = "otherwise"
_SHARPNESS_SIZE = 128
_REFERENCE_SECONDS = 3.0  # a reference photo is read in half a second of a free processor
_MOST_UNKNOWN = 6  # galleries that a face may be in or not, of which all combinations are gone through


def measures(face: Face, rank: int, pixels: npt.NDArray[np.uint8]) -> Measured:
    """What a rule can ask of a face; None where it is not known.

    area: of the box within the frame, as a share of the frame. rank: as given, 1 is the largest. center: distance of
    the box's middle from the frame's, 1 in a corner. yaw, pitch: degrees away from the camera, to either side. score:
    the detector's, 0 to 1. sharpness: see sharpness().
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
    ranks = {i: rank for rank, i in enumerate(by_area, 1)}
    return tuple(measures(face, ranks[i], pixels) for i, face in enumerate(faces))


def decide(policy: Policy, measured: Mapping[str, float | None], embedding: "Embedding | None" = None) -> Decision:
    """The decision for a face: the first rule whose conditions all hold, else the policy's otherwise.

    embedding: the recogniser's, where the policy has galleries. What is not known (a measure, whether a face that the
    recogniser doubts or cannot tell is in a gallery) may be so or not: of all decisions that would follow the one that
    shows least is taken (mien.transforms.policy.SHOWS).
    """
    people = _people(policy, embedding)
    unknown = [uri for uri, known in people.items() if known is None]
    if len(unknown) <= _MOST_UNKNOWN:
        answers = itertools.product((True, False), repeat=len(unknown))
        settled = [people | dict(zip(unknown, answer, strict=True)) for answer in answers]
        found = [tuple(_decisions(policy, measured, known)) for known in settled]
    else:  # each rule by itself may match or not, which is never less careful
        found = [tuple(_decisions(policy, measured, people))]
    possible = list(dict.fromkeys(decision for decisions in found for decision in decisions))
    least = min(possible, key=lambda decision: SHOWS[decision.action])
    doubted = len(set(found)) > 1 or (len(unknown) > _MOST_UNKNOWN and len(possible) > 1)
    return dataclasses.replace(least, doubted=doubted)


def _decisions(
    policy: Policy, measured: Mapping[str, float | None], people: Mapping[str, bool | None]
) -> Iterator[Decision]:
    """What the policy may decide; people: for each gallery whether the face is one of its, None where not known."""
    for rule in policy.rules:
        holds = _holds(rule.when, measured, people)
        if holds is not False:
            yield Decision(rule.do, rule.name)
        if holds:
            return
    yield Decision(policy.otherwise, OTHERWISE)


def _holds(when: Conditions, measured: Mapping[str, float | None], people: Mapping[str, bool | None]) -> bool | None:
    """Whether all conditions hold; None where that hangs on what is not known."""
    told = [wanted.holds(measured[name]) for name, wanted in when.ranges().items()]
    if when.person_in:
        inside = [people[uri] for uri in when.person_in]
        told.append(True if any(inside) else None if None in inside else False)
    told += [None if people[uri] is None else not people[uri] for uri in when.person_not_in or ()]
    return False if False in told else None if None in told else True


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
    """The photo with measures and a decision for each face, and embeddings where later stages or rules need them."""
    measured = measure_faces(photo.faces, photo.pixels)
    embeddings: tuple[Embedding | None, ...] = (None,) * len(photo.faces)
    if policy.galleries or "deidentify" in policy.actions:
        from mien.transforms.steps.people import embeddings_of

        embeddings = embeddings_of(photo.pixels, photo.faces)
    decisions = tuple(decide(policy, *known) for known in zip(measured, embeddings, strict=True))
    Metrics.counter(NAMESPACE, "in_doubt").inc(sum(decision.doubted for decision in decisions))
    return dataclasses.replace(photo, measured=measured, embeddings=embeddings, decisions=decisions)


def same_decisions(policy: Policy, faces: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the policy decides on the faces of a safe photo, as its HandledFace recorded them, as was decided then.

    From their measures alone: False under a policy with galleries, because no embedding is ever recorded, and where it
    asks for a pose that is not known, as that of a small face may not have been looked for.
    """
    decided = [face for face in faces if face["decided"]]
    if policy.galleries or (policy.asks_for_pose and any(face["yaw"] is None for face in decided)):
        return False
    return all(decide(policy, face).action == face["decided"] for face in decided)


class _Decide(Stage):
    stage = "decide"

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.start_seconds = _REFERENCE_SECONDS * policy.references

    def setup(self) -> None:
        if not self._policy.galleries:
            return
        from mien.transforms.steps.people import gallery

        for uri, digest in self._policy.digests.items():
            gallery(uri, digest)

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        yield decide_photo(self._policy, element)


class DecideFaces(IsolatedStages):
    """PhotoInWork with faces -> with the measures of each and a decision.

    The policy's galleries must hold what they hold now when workers read them. GalleryError.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__([_Decide(policy.pinned())], PhotoInWork)
