"""The policy applied: what is done with each face of a photo, and by which rule."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.faces import Face
from mien.transforms.elements import Decision, Measured, PhotoInWork
from mien.transforms.policy import Policy, Rule
from mien.transforms.workers import IsolatedStages, Stage

if TYPE_CHECKING:
    from mien.transforms.steps.people import Embedding

OTHERWISE = "otherwise"
_SHARPNESS_SIZE = 128


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

    embedding: the recogniser's, where the policy has galleries. A measure that is not known meets no condition, nor
    does a face that the recogniser cannot tell, or doubts: it is neither in a gallery nor not in it.
    """
    for rule in policy.rules:
        if all(wanted.holds(measured[name]) for name, wanted in rule.when.ranges().items()) and _known(rule, embedding):
            return Decision(rule.do, rule.name)
    return Decision(policy.otherwise, OTHERWISE)


def _known(rule: Rule, embedding: "Embedding | None") -> bool:
    """Whether the rule's conditions on galleries hold."""
    inside, outside = rule.when.person_in or (), rule.when.person_not_in or ()
    if not inside and not outside:
        return True
    if embedding is None:
        return False
    from mien.transforms.steps.people import gallery  # brings torch, which most of a job's processes do without

    return (not inside or any(gallery(uri).match(embedding) == "in" for uri in inside)) and all(
        gallery(uri).match(embedding) == "out" for uri in outside
    )


def decide_photo(policy: Policy, photo: PhotoInWork) -> PhotoInWork:
    """The photo with measures and a decision for each face, and embeddings where later stages or rules need them."""
    measured = measure_faces(photo.faces, photo.pixels)
    embeddings: tuple[Embedding | None, ...] = (None,) * len(photo.faces)
    if policy.galleries or "deidentify" in policy.actions:
        from mien.transforms.steps.people import embeddings_of

        embeddings = embeddings_of(photo.pixels, photo.faces)
    decisions = tuple(decide(policy, *known) for known in zip(measured, embeddings, strict=True))
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

    def setup(self) -> None:
        if not self._policy.galleries:
            return
        from mien.transforms.steps.people import gallery

        for uri in self._policy.galleries:
            gallery(uri)

    def work(self, element: PhotoInWork) -> Iterable[PhotoInWork]:
        yield decide_photo(self._policy, element)


class DecideFaces(IsolatedStages):
    """PhotoInWork with faces -> with the measures of each and a decision."""

    def __init__(self, policy: Policy) -> None:
        super().__init__([_Decide(policy)], PhotoInWork)
