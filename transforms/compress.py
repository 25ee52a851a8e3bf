"""The whole way from photos to coded photos, as one transform."""

from collections.abc import Sequence

import apache_beam as beam

from mien.transforms.background import QUALITY, BackgroundCodec, CodeBackground
from mien.transforms.code_faces import FACE_BYTES, CodeFaces, Effort
from mien.transforms.decide import DecideFaces
from mien.transforms.decode import MAX_PIXELS, DecodePhotos
from mien.transforms.detect import DETECTORS, DetectFaces
from mien.transforms.elements import PhotosAndFailures
from mien.transforms.policy import Policy, load_policy
from mien.transforms.stage import Input, StageTransform, as_outputs, one_after_another


class CompressPhotos(StageTransform):
    """Photo -> CodedPhoto: faces found and coded as the policy says, the rest coded as an image.

    Takes a PCollection of Photo or what ReadPhotos gives, whose failures it hands on. The result has .photos
    (CodedPhoto) and .failures (Failure): each photo comes out of one of them.

    policy: a built-in policy's name, a file's path or URI, or a Policy; PolicyError for one that cannot be used.
    face_bytes: a face at most; effort, background, quality: as in the command line; detectors: whose finds are joined;
    threads: of one worker process, so one on a runner that
    starts a process for each core.
    """

    def __init__(
        self,
        policy: str | Policy = "compress",
        face_bytes: int = FACE_BYTES,
        effort: Effort = "fast",
        background: BackgroundCodec = "avif",
        quality: int = QUALITY,
        detectors: Sequence[str] = DETECTORS,
        max_pixels: int = MAX_PIXELS,
        threads: int = 1,
    ) -> None:
        super().__init__()
        policy = load_policy(policy) if isinstance(policy, str) else policy
        self._stages = [
            DecodePhotos(max_pixels),
            DetectFaces(detectors, threads),
            DecideFaces(policy),
            CodeFaces(policy, face_bytes, effort, threads),
            CodeBackground(policy.id, background, quality, policy.mask),
        ]

    def expand(self, photos: Input) -> PhotosAndFailures:
        done, failures = as_outputs(photos)
        done, lost = one_after_another(done, self._stages)
        return PhotosAndFailures(photos=done, failures=(*failures, *lost) | beam.Flatten())
