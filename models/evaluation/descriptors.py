"""dlib's face descriptor: a recogniser that takes no part in mien's training. It is not a part of mien."""

import importlib.util
import pathlib

import numpy as np
import numpy.typing as npt

from mien.models.errors import WeightsError

SAME_PERSON = 0.6  # distance, dlib's own threshold (dnn_face_recognition_ex.cpp)
# Where a frontal face detector's square lies in an FFHQ-aligned 512 px picture: left, top, right, bottom in px.
BOX = (128, 170, 384, 426)
LANDMARKS, NETWORK = "shape_predictor_5_face_landmarks.dat", "dlib_face_recognition_resnet_model_v1.dat"


class DlibDescriptor:
    """The ResNet descriptor of Davis King's dlib (weights CC0; PyPI face_recognition_models).

    WeightsError where dlib (PyPI dlib-bin) is not installed or the folder does not hold the two .dat files.
    """

    def __init__(self, folder: str | pathlib.Path) -> None:
        try:
            import dlib
        except ImportError as error:
            raise WeightsError("dlib is not installed: pip install dlib-bin") from error
        for name in (LANDMARKS, NETWORK):
            if not pathlib.Path(folder, name).is_file():
                raise WeightsError(f"{folder} does not hold dlib's {name}, of the PyPI package face_recognition_models")
        try:
            self._landmarks = dlib.shape_predictor(str(pathlib.Path(folder, LANDMARKS)))
            self._network = dlib.face_recognition_model_v1(str(pathlib.Path(folder, NETWORK)))
        except RuntimeError as error:
            raise WeightsError(f"{folder} does not hold dlib's models: {error}") from error
        self._box = dlib.rectangle(*BOX)

    def __call__(self, face: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """An aligned face (512, 512, 3) uint8 RGB to (128,)."""
        face = np.ascontiguousarray(face)
        return np.array(self._network.compute_face_descriptor(face, self._landmarks(face, self._box)))


def packaged_models() -> pathlib.Path | None:
    """The folder of the PyPI package face_recognition_models' files, if that and dlib are installed; not imported."""
    if importlib.util.find_spec("dlib") is None or not (spec := importlib.util.find_spec("face_recognition_models")):
        return None
    found = [pathlib.Path(folder, "models") for folder in spec.submodule_search_locations or ()]
    return next((folder for folder in found if (folder / NETWORK).is_file()), None)
