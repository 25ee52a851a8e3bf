"""Face verification: whether what the codec draws of a face still shows the same person, to two recognisers.

The first takes part in the codec's objective and so proves little alone; the second, dlib's, takes no part.
"""

import functools
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from mien.models.faces.dlib_recogniser import SAME_PERSON as DLIB_SAME_PERSON
from mien.models.faces.dlib_recogniser import dlib_recogniser
from mien.models.faces.recogniser import Recogniser, arcface_crop
from mien.models.faces.same_face import SAME_PERSON

# How far beyond its threshold a recogniser has no doubt: cosine, and dlib's distance.
MARGIN, DLIB_MARGIN = 0.2, 0.1
LEAST_VIEW = 48  # px of the aligned square: of fewer no recogniser knows anybody


@dataclass(frozen=True)
class Verification:
    """Compares pictures with one face, (1, 3, S, S) in -1..1, as large as it is in its photo.

    side: px of the aligned square in the photo; None: as many as there are.
    """

    recogniser: Recogniser
    face: Tensor
    side: float | None

    @functools.cached_property
    def _person(self) -> Tensor:
        person: Tensor = self.recogniser(arcface_crop(seen(self.face, self.side)))
        return person

    @functools.cached_property
    def _descriptor(self) -> Tensor:
        return dlib_recogniser().embedding(seen(self.face, self.side))

    def margin(self, drawn: Tensor) -> float:
        """Of a picture (1, 3, S, S) in -1..1: below 0 a recogniser takes it for somebody else's, from 1 on none has a
        doubt."""
        drawn = seen(drawn, self.side)
        cosine = float((self.recogniser(arcface_crop(drawn)) * self._person).sum())
        if (first := (cosine - SAME_PERSON) / MARGIN) < 0:
            return first
        distance = float((dlib_recogniser().embedding(drawn) - self._descriptor).norm())
        return min(first, (DLIB_SAME_PERSON - distance) / DLIB_MARGIN)


def seen(picture: Tensor, side: float | None) -> Tensor:
    """A picture (1, 3, S, S) as it is seen at side px; as it is where it has no more, or side is None."""
    if side is None or side >= picture.shape[-1]:
        return picture
    return F.interpolate(picture, size=max(LEAST_VIEW, round(side)), mode="area")
