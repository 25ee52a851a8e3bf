"""Face verification: whether what the codec draws of a face still shows the same person, by every recogniser it has."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from mien.models.faces.recogniser import SAME_PERSON, Recogniser, arcface_crop

MARGIN = 0.15  # cosine beyond SAME_PERSON at which there is no doubt
LEAST_VIEW = 48  # px of the aligned square: of fewer no recogniser knows anybody


@dataclass(frozen=True)
class Verification:
    """Compares pictures with one face, as large as it is in its photo."""

    recogniser: Recogniser
    person: Tensor  # the recogniser's embedding (1, D) of the face
    side: float | None  # px of the aligned square in the photo; None: as many as there are

    def margin(self, drawn: Tensor) -> float:
        """Of a picture (1, 3, S, S) in -1..1: below 0 a recogniser takes it for somebody else's, from 1 on none has a
        doubt."""
        cosine = float((self.recogniser(arcface_crop(seen(drawn, self.side))) * self.person).sum())
        return (cosine - SAME_PERSON) / MARGIN


def verification(recogniser: Recogniser, face: Tensor, side: float | None) -> Verification:
    """Of a face (1, 3, S, S) in -1..1."""
    return Verification(recogniser, recogniser(arcface_crop(seen(face, side))), side)


def seen(picture: Tensor, side: float | None) -> Tensor:
    """A picture (1, 3, S, S) as it is seen at side px; as it is where it has no more, or side is None."""
    if side is None or side >= picture.shape[-1]:
        return picture
    return F.interpolate(picture, size=max(LEAST_VIEW, round(side)), mode="area")
