"""A coded photo shown again: its background at the photo's own size, and each coded face in its place."""

from collections.abc import Sequence

from mien.models.codec import FaceCodec
from mien.models.painting import needed_size, paste_face
from mien.transforms.elements import CodedFace, Pixels


def paste_coded(pixels: Pixels, faces: Sequence[CodedFace], codec: FaceCodec) -> None:
    """Every face that has a payload decoded, at the size that its place needs, and painted into the photo, in place.

    pixels: (H, W, 3) uint8, the faces' places filled. Raises PayloadError.
    """
    coded = [face for face in faces if face.payload and face.transform]
    for face in sorted(coded, key=_scale):  # a large face stands in front of a small one
        paste_face(pixels, codec.decode(face.payload, needed_size(face.transform)), face.transform)


def _scale(face: CodedFace) -> float:
    a, b = face.transform[:2]
    return a * a + b * b
