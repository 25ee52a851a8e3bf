"""The face codec with all its objectives: that of mien.models.codec, and new people from mien.models.privacy."""

import functools
from collections.abc import Sequence

from mien.models.codec import BASE_BYTES, Coded, Effort, Images, Objective
from mien.models.codec import FaceCodec as BaseCodec
from mien.models.privacy import Deidentifier


class FaceCodec(BaseCodec):
    """Encoder and decoder with their weights; FaceCodec.load() makes it. All that mien.models.codec.FaceCodec has, and
    the objective "private": a person who does not exist, in the same pose and light, drawn anew at each call, in at
    most 64 bytes. Its score is 1, as the new face was checked; PrivacyError where no draw was unlike the original.
    """

    objectives = ("identity", "realistic", "private")

    def code_batch(
        self,
        faces: Images,
        max_bytes: int = 320,
        objective: Objective = "identity",
        effort: Effort = "fast",
        sides: Sequence[float] | None = None,
    ) -> list[Coded]:
        """As that of mien.models.codec.FaceCodec, with objective "private"."""
        if objective != "private":
            return super().code_batch(faces, max_bytes, objective, effort, sides)
        self.check(faces, max_bytes, objective, effort)
        new_face = self._deidentifier.new_face
        return [Coded(new_face(face, max_bytes=min(max_bytes, BASE_BYTES)), 1.0) for face in faces]

    @functools.cached_property
    def _deidentifier(self) -> Deidentifier:
        return Deidentifier(self)
