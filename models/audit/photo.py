"""One photo of an audit: the original's faces, and what is to be seen at their places in an output.

Nothing of a face leaves this module but numbers: features for the figures, which stay in memory, and measures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt

from mien.models.audit.parrot import features
from mien.models.audit.pixel_leaks import Kept, kept_pixels
from mien.models.audit.recognisers import FaceRecogniser, MobileFaceNet
from mien.models.faces import (
    Face,
    FaceDetector,
    FaceLandmarker,
    Look,
    LookReader,
    align_face,
    same_face,
    shared_of_union,
)

Pixels = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]
Box = tuple[float, float, float, float]

DETECTORS: tuple[str, ...] = ("mediapipe", "centerface")
CELL = 0.5  # of a cell's detail that must be there for it to count as the original's
ALIGNED_BOX: Box = (112.0, 140.0, 288.0, 330.0)  # of the face in an FFHQ-aligned 512 px picture
ALLOWED = ("keep", "preserve")  # actions by which a rule lets a person stay recognisable
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_SMALL, _THUMBNAIL = 128, 96


@dataclass(frozen=True)
class FaceMeasures:
    """What recognisers see in an aligned face; nothing of one that could not be aligned. embeddings: by recogniser,
    (D,) each. learned: of parrot.features, (D,) each."""

    embeddings: dict[str, Array] = field(default_factory=dict, repr=False)
    learned: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict, repr=False)
    look: Look | None = None


@dataclass(frozen=True)
class OriginalFace:
    """A face of an original. found_by: of DETECTORS. transform: empty where it could not be aligned."""

    box: Box
    found_by: tuple[str, ...]
    transform: tuple[float, ...]
    seen: FaceMeasures

    @property
    def side(self) -> float:
        """Pixels: the geometric mean of the box's sides."""
        return float(np.sqrt(self.box[2] * self.box[3]))


@dataclass(frozen=True)
class OutputFace:
    """What is at the place of an original's face. action: as recorded in the output, empty without a record or where it
    has no face. seen_by: the detectors that find a face there. picture: (96, 96, 3) uint8 of the output."""

    original: OriginalFace
    action: str
    kept: Kept
    seen_by: tuple[str, ...]
    seen: FaceMeasures
    picture: Pixels = field(repr=False)


@dataclass(frozen=True)
class Compared:
    """One output of a photo. undecided: faces that both detectors see in the output where its record has none, though
    the original has one; invented: those where the original has none."""

    faces: tuple[OutputFace, ...]
    undecided: int
    invented: int


class PhotoAuditor:
    """Looks at photos. aligned: each picture is one FFHQ-aligned 512 x 512 face. For one thread; holds native graphs
    until close() or the end of a `with`."""

    def __init__(self, recognisers: Sequence[FaceRecogniser], aligned: bool = False) -> None:
        self._recognisers = recognisers
        self._network = next(one for one in recognisers if isinstance(one, MobileFaceNet))
        self._aligned = aligned
        self._detectors = {name: FaceDetector((name,)) for name in DETECTORS}
        self._landmarker, self._reader = FaceLandmarker(), LookReader()

    def originals(self, pixels: Pixels) -> list[OriginalFace]:
        """The faces of an original, (H, W, 3) uint8 RGB, that either detector finds; the largest first."""
        if self._aligned:
            found = [(ALIGNED_BOX, DETECTORS)]  # that it is a face is said
            transforms: list[tuple[float, ...]] = [_IDENTITY]
        else:
            found = joined(self._found(pixels))
            transforms = [self._landmarker.locate(pixels, Face(box, 1.0)).transform for box, _ in found]
        crops = [self._crop(pixels, transform) for transform in transforms]
        measured = self._measure([crop for crop in crops if crop is not None])
        faces = []
        for (box, names), transform, crop in zip(found, transforms, crops, strict=True):
            seen = next(measured) if crop is not None else FaceMeasures()
            faces.append(OriginalFace(box, names, transform if crop is not None else (), seen))
        return faces

    def compare(
        self,
        original: Pixels,
        faces: Sequence[OriginalFace],
        output: Pixels,
        record: Sequence[tuple[Box, str]] | None = None,
    ) -> Compared:
        """What is at the places of the original's faces in an output of the same size, both (H, W, 3) uint8 RGB.

        record: box and action of each face that the output says it has; None: it says nothing. ValueError for another
        size.
        """
        if original.shape != output.shape:
            raise ValueError(f"the output is {output.shape[1::-1]}, the original {original.shape[1::-1]}")
        seen = self._found(output)
        crops = [self._crop(output, face.transform) for face in faces]
        measured = self._measure([crop for crop in crops if crop is not None])
        places = []
        for face, crop in zip(faces, crops, strict=True):
            there = next(measured) if crop is not None else FaceMeasures()
            names = tuple(name for name, boxes in seen.items() if any(same_face(face.box, box) for box in boxes))
            action = _recorded(face.box, record or ())
            picture = crop if crop is not None else _square(output, face.box)
            small = np.asarray(cv2.resize(picture, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA), np.uint8)
            kept = kept_pixels(original, output, face.box, CELL)
            places.append(OutputFace(face, action, kept, names, there, small))
        undecided = invented = 0
        if not self._aligned:
            for box, names in joined(seen):
                if len(names) < len(DETECTORS):
                    continue
                if not any(same_face(box, face.box) for face in faces):
                    invented += 1
                elif record is not None and not any(same_face(box, place) for place, _ in record):
                    undecided += 1
        return Compared(tuple(places), undecided, invented)

    def _found(self, pixels: Pixels) -> dict[str, list[Box]]:
        if self._aligned:  # one large face: small is enough
            small = np.asarray(cv2.resize(pixels, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA), np.uint8)
            return {name: [ALIGNED_BOX] if one.detect(small) else [] for name, one in self._detectors.items()}
        return {name: [face.box for face in one.detect(pixels)] for name, one in self._detectors.items()}

    def _crop(self, pixels: Pixels, transform: Sequence[float]) -> Pixels | None:
        if not transform:
            return None
        if self._aligned:
            return pixels
        try:
            return align_face(pixels, transform)
        except ValueError:  # its square lies beyond the photo
            return None

    def _measure(self, crops: list[Pixels]) -> Iterator[FaceMeasures]:
        if not crops:
            return
        faces = np.stack(crops)
        embedded = {one.name: one.embed(faces) for one in self._recognisers}
        learned = features(self._network.network, self._network.crops(faces))
        for i, crop in enumerate(crops):
            yield FaceMeasures(
                {name: rows[i] for name, rows in embedded.items()},
                {name: rows[i].astype(np.float32) for name, rows in learned.items()},
                self._reader.read(crop),
            )

    def close(self) -> None:
        """Frees the models; a second time does nothing."""
        for detector in self._detectors.values():
            detector.close()
        self._landmarker.close()
        self._reader.close()

    def __enter__(self) -> "PhotoAuditor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _recorded(box: Box, record: Sequence[tuple[Box, str]]) -> str:
    """The action of the recorded face at this place, that of the box that fits best; empty where there is none."""
    fits = [(float(shared_of_union(box, np.array([at]))[0]), action) for at, action in record if same_face(box, at)]
    return max(fits, key=lambda fit: fit[0], default=(0.0, ""))[1]


def joined(found: dict[str, list[Box]]) -> list[tuple[Box, tuple[str, ...]]]:
    """Each face once, with the detectors that found it; the box is the first one's. The largest first."""
    faces: list[tuple[Box, list[str]]] = []
    for name, boxes in found.items():
        for box in boxes:
            for other, names in faces:
                if name not in names and same_face(box, other):
                    names.append(name)
                    break
            else:
                if not any(same_face(box, other) for other, _ in faces):
                    faces.append((box, [name]))
    return sorted(((box, tuple(names)) for box, names in faces), key=lambda face: (-face[0][2] * face[0][3], face[0]))


def _square(pixels: Pixels, box: Box) -> Pixels:
    """The box's surroundings, for a face that could not be aligned."""
    x, y, width, height = box
    left, top = max(0, round(x - width / 4)), max(0, round(y - height / 4))
    part = pixels[top : max(top + 1, round(y + 1.25 * height)), left : max(left + 1, round(x + 1.25 * width))]
    return part if part.size else np.zeros((1, 1, 3), np.uint8)
