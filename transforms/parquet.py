"""The table of coded photos: its schema, and a row's way there and back."""

from typing import Any

import pyarrow as pa

from mien.models.alignment import snap_transform
from mien.transforms.elements import CodedFace, CodedPhoto, ListedFile
from mien.transforms.names import name_under

_FACE = pa.struct(
    [
        ("x", pa.float32()),
        ("y", pa.float32()),
        ("w", pa.float32()),
        ("h", pa.float32()),
        ("transform", pa.list_(pa.float32())),
        ("action", pa.string()),
        ("rule", pa.string()),
        ("model", pa.string()),
        ("payload", pa.binary()),
        ("score", pa.float32()),
    ]
)
SCHEMA = pa.schema(
    [
        ("uri", pa.string()),
        ("source_bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("background", pa.binary()),
        ("background_codec", pa.string()),
        ("faces", pa.list_(_FACE)),
        ("policy", pa.string()),
        ("version", pa.string()),
    ]
)
# Beside the columns: the folder that the uris have in common, below which `mien restore` rebuilds the tree.
ROOT_KEY = b"mien.root"
OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    "write_statistics": ["uri", "source_bytes", "width", "height"],
    "use_dictionary": ["background_codec", "policy", "version"],
}


def row_of(photo: CodedPhoto) -> dict[str, Any]:
    """A photo as a row of SCHEMA."""
    return {
        **{name: getattr(photo, name) for name in SCHEMA.names if name != "faces"},
        "faces": [
            {
                **dict(zip("xywh", face.box, strict=True)),
                **{name: getattr(face, name) for name in ("action", "rule", "model", "payload", "score")},
                "transform": list(face.transform),
            }
            for face in photo.faces
        ],
    }


def photo_of(row: dict[str, Any], root: str, origin: ListedFile) -> CodedPhoto:
    """A row as a photo. Raises ValueError for one that no photo can be made of; its uri may say anything."""
    if any(row.get(name) is None for name in SCHEMA.names):
        raise ValueError("a column of the row is missing or null")
    fields = {name: row[name] for name in SCHEMA.names if name != "faces"}
    return CodedPhoto(
        **fields, faces=tuple(_face_of(face) for face in row["faces"]), name=name_under(root, row["uri"]), origin=origin
    )


def _face_of(face: dict[str, Any]) -> CodedFace:
    if face is None or any(face.get(field.name) is None for field in _FACE):
        raise ValueError("a field of a face is missing or null")
    # float32 is finer than a transform's steps, so this is the very transform that a blob holds
    transform = tuple(snap_transform(face["transform"])) if face["transform"] else ()
    x, y, w, h = (float(face[side]) for side in "xywh")
    return CodedFace(
        (x, y, w, h), transform, face["action"], face["rule"], face["model"], face["payload"], face["score"]
    )
