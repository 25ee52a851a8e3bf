"""The whole way from photos to coded photos, as one transform."""

from collections.abc import Sequence

from mien.transforms.elements import CodedPhoto
from mien.transforms.policy import Policy, load_policy
from mien.transforms.steps import (
    DETECTORS,
    FACE_BYTES,
    MAX_PIXELS,
    QUALITY,
    SECONDS,
    BackgroundCodec,
    CodeBackground,
    CodeFaces,
    DecideFaces,
    DecodePhotos,
    DetectFaces,
    Effort,
)
from mien.transforms.workers import IsolatedStages, Limits, stages_of


class CompressPhotos(IsolatedStages):
    """Photo -> CodedPhoto: faces found and coded as the policy says, the rest coded as an image.

    Takes a PCollection of Photo or what ReadPhotos gives, whose failures it hands on. The result has .photos
    (CodedPhoto) and .failures (Failure): each photo comes out of one of them.

    policy: a built-in policy's name, a file's path or URI, or a Policy; PolicyError for one that cannot be used.
    face_bytes: a face at most; effort, background, quality: as in the command line (effort auto: what is coded under
    `preserve` is the same person to two recognisers, or the face stays in the background); detectors: whose finds are
    joined; threads: of one worker process, so one on a runner that starts a process for each core; limits: of a photo
    (by default of time as the effort asks).
    """

    def __init__(
        self,
        policy: str | Policy = "compress",
        face_bytes: int = FACE_BYTES,
        effort: Effort = "auto",
        background: BackgroundCodec = "avif",
        quality: int = QUALITY,
        detectors: Sequence[str] = DETECTORS,
        max_pixels: int = MAX_PIXELS,
        threads: int = 1,
        limits: Limits | None = None,
    ) -> None:
        policy = (load_policy(policy) if isinstance(policy, str) else policy).pinned()
        parts = (
            DecodePhotos(max_pixels, coded=False),  # whose faces would be lost
            DetectFaces(detectors, threads),
            DecideFaces(policy),
            CodeFaces(policy, face_bytes, effort, threads),
            CodeBackground(policy.id, background, quality, policy.mask),
        )
        super().__init__(stages_of(parts), CodedPhoto, limits or Limits(SECONDS[effort]))
