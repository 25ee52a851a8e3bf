"""The boxes of a safe photo for other programs: COCO JSON, YOLO's text, or a picture of the masks."""

import io
import json
from collections.abc import Sequence

import numpy as np
from PIL import Image

from mien.models.faces import FACE_KIND
from mien.models.painting import painted_over
from mien.models.privacy import Hidden, masks_of
from mien.transforms.elements import HandledFace

_SUFFIX = {"coco": ".coco.json", "yolo": ".txt", "masks": ".mask.png"}


def boxes_of(
    how: str, name: str, faces: Sequence[HandledFace], hidden: Sequence[Hidden], size: tuple[int, int]
) -> tuple[str, bytes]:
    """What is behind the photo's name in that of the file, and its bytes.

    how: coco, yolo or masks. name: of the photo's file. faces: all that was found, whatever was done with it. hidden:
    how much goes of those that may not be seen: what masks show, white, in 8 bits a pixel. size: width, height.
    """
    made = {"coco": _coco, "yolo": _yolo}
    if how == "masks":
        return _SUFFIX[how], _masks(hidden, size)
    return _SUFFIX[how], made[how](name, faces, size)


def _kinds(faces: Sequence[HandledFace]) -> list[str]:
    """Faces first, so that their number is the same in every file."""
    return [FACE_KIND, *sorted({face.kind for face in faces} - {FACE_KIND})]


def _coco(name: str, faces: Sequence[HandledFace], size: tuple[int, int]) -> bytes:
    kinds = _kinds(faces)
    image = {"id": 1, "file_name": name.rpartition("/")[2], "width": size[0], "height": size[1]}
    annotations = [
        {
            "id": number,
            "image_id": 1,
            "category_id": 1 + kinds.index(face.kind),
            "bbox": [round(value, 2) for value in face.box],
            "area": round(face.box[2] * face.box[3], 2),
            "iscrowd": 0,
            "score": face.score,
            "action": face.action,
        }
        for number, face in enumerate(faces, 1)
    ]
    categories = [{"id": i, "name": kind} for i, kind in enumerate(kinds, 1)]
    return json.dumps({"images": [image], "annotations": annotations, "categories": categories}).encode()


def _yolo(name: str, faces: Sequence[HandledFace], size: tuple[int, int]) -> bytes:
    """Faces alone have the same number in every file (0), so nothing else is written."""
    width, height = size
    lines = []
    for face in faces:
        if face.kind == FACE_KIND:
            x, y, w, h = face.box
            left, top, right, bottom = max(0.0, x), max(0.0, y), min(x + w, width), min(y + h, height)
            middle = (left + right) / 2 / width, (top + bottom) / 2 / height
            numbers = (*middle, (right - left) / width, (bottom - top) / height)
            lines.append(f"0 {' '.join(f'{number:.6f}' for number in numbers)}\n")
    return "".join(lines).encode()


def _masks(hidden: Sequence[Hidden], size: tuple[int, int]) -> bytes:
    shape = size[1], size[0]
    painted = painted_over([mask for face in hidden for mask in masks_of(face, shape)], shape)
    shown = painted.astype(np.uint8) * 255
    stream = io.BytesIO()
    Image.fromarray(shown).save(stream, "PNG", optimize=True)
    return stream.getvalue()
