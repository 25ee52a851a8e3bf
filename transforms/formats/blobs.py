"""A coded photo as an ordinary image file that carries its faces in an ancillary chunk."""

from mien.models.errors import ContainerError
from mien.models.images import StoredFace, StoredPhoto, embed, extract
from mien.transforms.elements import CodedFace, CodedPhoto
from mien.transforms.stores import SUFFIXES, name_under, output_name, read_bytes

IN_PIXELS = " (pixels)"  # behind the name of a rule


def blob_of(photo: CodedPhoto) -> bytes:
    """The background's image file with the faces in its ancillary chunk. Raises ContainerError."""
    listed = [face for face in photo.faces if not in_pixels(face)]
    faces = tuple(
        StoredFace(face.box, face.transform, face.action, face.rule, face.model, face.payload, face.score)
        for face in listed
    )
    unlisted = len(photo.faces) - len(listed)
    stored = StoredPhoto(photo.width, photo.height, faces, photo.policy, photo.version, unlisted)
    return embed(photo.background, stored, compact=True)


def in_pixels(face: CodedFace) -> bool:
    """Whether a face that its policy preserves was left in its own pixels because it looks better so: an image file
    counts those alone, as their boxes would cost what makes them look better."""
    return face.action == "keep" and face.rule.endswith(IN_PIXELS)


def blob_name(photo: CodedPhoto) -> str:
    """Where it goes below the output folder: a/x.jpg -> a/x.jpg.avif, so that a/x.png has another place."""
    return output_name(photo.name or name_under("", photo.uri)) + SUFFIXES[photo.background_codec]


def is_blob(path: str) -> bool:
    """Whether the file is an image that carries mien's chunk."""
    try:
        extract(read_bytes(path))
    except ContainerError:
        return False
    return True
