"""The whole way from photos to coded photos, as one transform."""

from typing import Any

from mien.models.codec import FaceCodec
from mien.models.faces import FaceDetector, FaceLandmarker
from mien.transforms.elements import CodedPhoto, Photo, PhotoInWork
from mien.transforms.policy import Policy
from mien.transforms.settings import CompressSettings, chosen, opened
from mien.transforms.steps import (
    ChooseFaces,
    CodeBackground,
    CodeFaces,
    DecideFaces,
    DecodePhotos,
    DetectFaces,
    align_faces,
    choose_faces,
    code_background,
    code_photo,
    decide_photo,
    decode_photo,
    find_faces,
)
from mien.transforms.workers import IsolatedStages, stages_of


def prepared(photo: Photo, detector: FaceDetector, landmarker: FaceLandmarker) -> PhotoInWork:
    """A photo decoded, with its faces, for store_photo. ImageError."""
    return find_faces(decode_photo(photo), detector, landmarker)


def store_photo(photo: PhotoInWork, codec: FaceCodec, settings: CompressSettings) -> CodedPhoto:
    """What CompressPhotos makes of a prepared photo, without Beam; under a policy that asks for no galleries and gives
    nobody another face. BudgetError."""
    chosen_faces = choose_faces(decide_photo(settings.policy, photo), settings)
    return code_background(code_photo(align_faces(chosen_faces), codec, settings), settings)


class CompressPhotos(IsolatedStages):
    """Photo -> CodedPhoto: faces found and coded as the policy says, the rest coded as an image.

    Takes a PCollection of Photo or what ReadPhotos gives, whose failures it hands on. The result has .photos
    (CodedPhoto) and .failures (Failure): each photo comes out of one of them.

    policy: a built-in policy's name, a file's path or URI, or a Policy; PolicyError for one that cannot be used. Or the
    CompressSettings, whole. options: the other fields of CompressSettings; SettingsError for a value that cannot be.
    """

    def __init__(self, policy: str | Policy | CompressSettings = "compress", **options: Any) -> None:
        first = policy if isinstance(policy, CompressSettings) else opened(policy)
        settings = chosen(CompressSettings, options, policy=first)
        parts = (
            DecodePhotos(settings.max_pixels, coded=False),  # whose faces would be lost
            DetectFaces(settings),
            DecideFaces(settings.policy),
            ChooseFaces(settings),
            CodeFaces(settings),
            CodeBackground(settings),
        )
        super().__init__(stages_of(parts), CodedPhoto, settings.photo_limits)
