"""MediaPipe's tasks, opened from the vendored models without their noise on stderr and without errors at exit.

MediaPipe itself is loaded when the first task is opened: it brings Matplotlib, and a job's main process needs neither.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mien.models.weights import third_party_file

if TYPE_CHECKING:
    from mediapipe import Image
    from mediapipe.tasks.python import vision

# What MediaPipe, absl, TFLite and LiteRT tell while a graph starts and ends; errors (E, F) are not among it. No
# environment variable stops it: absl writes all to stderr until an initialisation that MediaPipe 1.2 never does.
_NOISE = re.compile(rb"WARNING: Logging before |INFO: |[IW]\d{4} \d\d:")
_stderr_lock = threading.Lock()
# Held until they are closed: a task that the garbage collector finds in a cycle waits in its __del__ for a thread that
# the collector has ended already, for ever.
_open_tasks: set[Any] = set()
_opened_any = threading.Event()


@atexit.register
def _exit_quietly() -> None:
    """A task's __del__ fails noisily once the interpreter has lost its modules; the process frees it all anyway.

    LiteRT has its say later still, when C++ takes its globals down: from here on nothing listens.
    """
    for task in _open_tasks:
        task._handle = None
    if _opened_any.is_set():
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Holds back what C++ code writes to stderr and afterwards passes on all of it that is not known noise."""
    with _stderr_lock, tempfile.TemporaryFile() as held:
        try:
            stderr = os.dup(2)
        except OSError:  # a process without stderr
            yield
            return
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            held.seek(0)
            for line in held:
                if not _NOISE.match(line):
                    os.write(stderr, line)
            os.close(stderr)


def _opened(create: Callable[[], Any]) -> Any:
    with _quiet():
        task = create()
        task.detect(mediapipe_image(np.zeros((64, 64, 3), np.uint8)))  # its threads speak up to their first picture
    _open_tasks.add(task)
    _opened_any.set()
    return task


def close_task(task: Any) -> None:
    """Frees a task's graph and threads; a second time does nothing."""
    _open_tasks.discard(task)
    with _quiet():
        task.close()


def open_face_detector(min_score: float) -> vision.FaceDetector:
    """The full-range detector, for single pictures. WeightsError where its model is missing or damaged."""
    from mediapipe.tasks.python import BaseOptions, vision

    return _opened(
        lambda: vision.FaceDetector.create_from_options(
            vision.FaceDetectorOptions(
                base_options=BaseOptions(model_asset_path=str(third_party_file("mp_full_range.tflite"))),
                min_detection_confidence=min_score,
            )
        )
    )


def open_face_landmarker(
    faces: int, min_detection: float, min_presence: float, blendshapes: bool = False
) -> vision.FaceLandmarker:
    """The landmarker with head pose, for single pictures with at most so many faces. WeightsError as above."""
    from mediapipe.tasks.python import BaseOptions, vision

    return _opened(
        lambda: vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(third_party_file("face_landmarker.task"))),
                num_faces=faces,
                min_face_detection_confidence=min_detection,
                min_face_presence_confidence=min_presence,
                output_facial_transformation_matrixes=True,
                output_face_blendshapes=blendshapes,
            )
        )
    )


def mediapipe_image(pixels: npt.NDArray[np.uint8]) -> Image:
    """(H, W, 3) uint8 RGB as MediaPipe takes it, which copies the pixels."""
    from mediapipe import Image, ImageFormat

    return Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(pixels))
