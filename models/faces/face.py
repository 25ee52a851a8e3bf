"""What is known of one face in a photo, or of a region of another kind that a detector of one's own finds."""

from dataclasses import dataclass

FACE_KIND = "face"
KIND_PATTERN = r"[a-z][a-z0-9_-]{0,39}"  # of a kind's name, a regular expression


@dataclass(frozen=True)
class Face:
    """A found face, in pixels of the upright photo; x to the right, y down.

    box: x, y, width, height; may reach over the border.
    landmarks: MediaPipe's 478 points as x0, y0, x1, y1, ...; empty where none could be found.
    pose: yaw, pitch, roll in degrees, 0 for a face that looks into the camera; empty where unknown.
    score: the detector's confidence, 0 to 1.
    transform: 2 x 3 matrix, row by row, from pixels of the aligned 512 x 512 face to pixels of the photo; empty where
        the face could not be aligned.
    kind: what it is; only a face is ever aligned, coded or replaced by another.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: tuple[float, ...] = ()
    pose: tuple[float, ...] = ()
    transform: tuple[float, ...] = ()
    kind: str = FACE_KIND
