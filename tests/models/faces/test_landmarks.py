import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.models.benchmark_detection import true_boxes
from mien.models.faces.alignment import align_face, anchor_points, similarity, snap_transform, square
from mien.models.faces.face import Face
from mien.models.faces.landmarks import FaceLandmarker, plausible, pose
from mien.models.images.files import decode_image

DATA = Path(__file__).parents[2] / "data"
TRUTH = json.loads((DATA / "faces.json").read_text())
SHARED = Path(__file__).parents[4] / "shared" / "faces" / "dev"


@pytest.fixture(scope="module")
def landmarker():
    with FaceLandmarker() as landmarker:
        yield landmarker


def photo_and_faces(name):
    pixels = decode_image((DATA / "photos" / name).read_bytes())
    boxes, _ = true_boxes(TRUTH, name, pixels.shape[1])
    return pixels, [Face(tuple(box), 0.9) for box in boxes.tolist()]


@pytest.fixture(scope="module")
def team(landmarker):
    pixels, faces = photo_and_faces("team.jpg")
    return pixels, [landmarker.locate(pixels, face) for face in faces]


def anchors(face):
    return anchor_points(face.landmarks)


def test_most_faces_get_landmarks_where_they_are(team):
    _, faces = team
    located = [face for face in faces if face.landmarks]
    assert len(located) >= 0.8 * len(faces)
    for face in located:
        assert len(face.landmarks) == 956
        assert face.transform == snap_transform(face.transform)
        x, y, width, height = face.box
        middle = anchors(face).mean(0)
        assert x < middle[0] < x + width
        assert y < middle[1] < y + height
        _, _, side, _ = square(face.transform)
        assert 1.0 * width < side < 4 * width
        yaw, pitch, roll = face.pose
        assert abs(yaw) < 80
        assert abs(pitch) < 60
        assert abs(roll) < 75


def test_faces_without_landmarks_come_back_unchanged(landmarker):
    wall = Face((40.0, 40, 60, 70), 0.3)
    assert landmarker.locate(np.full((200, 200, 3), 180, np.uint8), wall) is wall
    tiny = Face((0.0, 0.0, 3.0, 4.0), 0.3)
    assert landmarker.locate(np.full((6, 5, 3), 180, np.uint8), tiny) is tiny


def test_a_mirrored_photo_mirrors_landmarks_yaw_and_roll(landmarker, team):
    pixels, faces = team
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    width = pixels.shape[1]
    shifts = []
    for face in [face for face in faces if face.landmarks][:20]:
        x, y, w, h = face.box
        other = landmarker.locate(mirrored, Face((width - x - w, y, w, h), face.score))
        assert other.landmarks
        yaw, pitch, roll = face.pose
        assert np.abs(np.array(other.pose) - [-yaw, pitch, -roll]).max() < 20
        if abs(yaw) > 12:
            assert other.pose[0] * yaw < 0
        flipped = anchors(other)[[2, 3, 0, 1]]
        shifts.append((width - 1 - flipped[:, 0] - anchors(face)[:, 0]).mean() / w)
    assert abs(np.mean(shifts)) < 0.02  # of a face's width: no half pixel here or there


def test_yaw_points_where_the_person_looks(team):
    """In the picture's direction: the nose (1) lies on that side of the middle between the ears (234, 454)."""
    _, faces = team
    turned = [face for face in faces if face.landmarks and abs(face.pose[0]) > 15]
    assert len(turned) >= 5
    for face in turned:
        points = np.array(face.landmarks).reshape(478, 2)
        offset = points[1, 0] - (points[234, 0] + points[454, 0]) / 2
        assert offset * face.pose[0] > 0


@pytest.mark.parametrize("turn", [-40, 25])
def test_roll_and_square_turn_with_the_photo(landmarker, team, turn):
    """turn: clockwise degrees."""
    pixels, faces = team
    face = next(face for face in faces if face.landmarks and max(map(abs, face.pose)) < 20)
    cx, cy, side, angle = square(face.transform)
    view = align_face(pixels, similarity(cx, cy, side * 1.5, np.radians(-turn)), 300)
    turned = landmarker.locate(view, Face((80.0, 75.0, 140.0, 165.0), 0.9))
    assert turned.pose[2] == pytest.approx(face.pose[2] + turn, abs=8)
    assert np.degrees(square(turned.transform)[3]) == pytest.approx(np.degrees(angle) + turn, abs=5)


def test_an_aligned_face_is_aligned(landmarker, team):
    pixels, faces = team
    moved = []
    for face in [face for face in faces if face.landmarks and max(map(abs, face.pose)) < 25][:15]:
        aligned = align_face(pixels, face.transform)
        again = landmarker.locate(aligned, Face((128.0, 130.0, 256.0, 320.0), 0.9))
        cx, cy, side, angle = square(again.transform)
        moved.append((cx - 255.5, cy - 255.5, side - 512, np.degrees(angle)))
    assert np.abs(moved).mean(0) == pytest.approx([0, 0, 0, 0], abs=40)
    assert np.mean(moved, 0)[[0, 1, 3]] == pytest.approx([0, 0, 0], abs=4)


@pytest.mark.skipif(not SHARED.exists(), reason="the aligned faces of ../shared/faces are not here")
def test_faces_that_others_aligned_stay_where_they_are(landmarker):
    errors = []
    for path in sorted(SHARED.glob("*.jpg"))[:15]:
        pixels = decode_image(path.read_bytes())
        face = landmarker.locate(pixels, Face((128.0, 130.0, 256.0, 320.0), 0.9))
        a, b, c, d, e, f = face.transform
        points = anchors(face)
        back = np.linalg.solve([[a, b], [d, e]], (points - [c, f]).T).T
        errors.append(np.hypot(*(back - points).T).mean())
    assert np.mean(errors) < 3


def test_a_face_over_the_border(landmarker, team):
    pixels, faces = team
    face = max((face for face in faces if face.landmarks), key=lambda face: face.box[2])
    x, y, width, height = face.box
    left = int(x + 0.15 * width)
    cut = landmarker.locate(np.ascontiguousarray(pixels[:, left:]), Face((x - left, y, width, height), 0.9))
    if cut.landmarks:
        assert np.abs(anchors(cut) - anchors(face) + np.array([left, 0])).max() < 0.3 * width
    beyond = Face((-500.0, -500.0, 50.0, 60.0), 0.9)
    assert landmarker.locate(pixels, beyond) is beyond


def test_implausible_landmarks_are_refused(team):
    _, faces = team
    face = next(face for face in faces if face.landmarks and max(map(abs, face.pose)) < 15)
    points = np.array(face.landmarks).reshape(478, 2)
    middle = points.mean(0)
    assert plausible(points, face.box)
    assert not plausible(points + np.array([face.box[2], 0]), face.box)
    assert not plausible((points - middle) * 0.3 + middle, face.box)
    assert not plausible((points - middle) * 3 + middle, face.box)
    assert not plausible((points - middle) * [0.1, 1] + middle, face.box)
    assert not plausible((points - middle) * [-1, 1] + middle, face.box)
    assert not plausible(np.full((478, 2), np.nan), face.box)


def test_pose_of_known_rotations():
    for axis, expected in (((0, 20, 0), (20, 0, 0)), ((20, 0, 0), (0, -20, 0)), ((0, 0, 20), (0, 0, -20))):
        matrix = np.eye(4)
        matrix[:3, :3] = 1.7 * cv2.Rodrigues(np.radians(np.array(axis, float)))[0]
        assert pose(matrix) == pytest.approx(expected, abs=1e-6)


FORGOTTEN = """
import gc
from mien.models.faces.landmarks import FaceLandmarker

class Cycle:
    def __init__(self):
        self.me, self.landmarker = self, FaceLandmarker()

for _ in range(3):
    Cycle()
gc.collect()
"""


def test_a_landmarker_that_nobody_closed_does_not_stop_the_garbage_collector():
    subprocess.run([sys.executable, "-c", FORGOTTEN], check=True, timeout=120)
