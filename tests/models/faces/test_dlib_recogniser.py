"""The second recogniser, against dlib's own network where that is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mien.models.evaluation.descriptors import LANDMARKS, NETWORK, DlibDescriptor, packaged_models
from mien.models.faces.dlib_recogniser import EMBEDDING, SAME_PERSON, dlib_recogniser

SAMPLES = sorted((Path(__file__).parents[2] / "data" / "samples").glob("*.jpg"))[:4]


@pytest.fixture(scope="module")
def faces() -> list[np.ndarray]:
    return [np.asarray(Image.open(path).convert("RGB").resize((512, 512))) for path in SAMPLES]


def tensor(face: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(face.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def test_the_descriptors_are_dlibs_own(faces: list[np.ndarray]) -> None:
    dlib = pytest.importorskip("dlib")
    folder = packaged_models()
    if folder is None:
        pytest.skip("face_recognition_models is not installed")
    landmarks = dlib.shape_predictor(str(folder / LANDMARKS))
    network = dlib.face_recognition_model_v1(str(folder / NETWORK))
    reference = DlibDescriptor(folder)
    for face in faces:
        chip = dlib.get_face_chip(face, landmarks(face, dlib.rectangle(128, 170, 384, 426)), 150, 0.25)
        theirs = np.array(network.compute_face_descriptor(chip))
        with torch.inference_mode():
            ours = dlib_recogniser()(tensor(chip))[0].numpy()
            seen = dlib_recogniser().embedding(tensor(face))[0].numpy()
        assert np.linalg.norm(ours - theirs) < 0.06  # the same chip, and weights of 8 bits
        assert np.linalg.norm(seen - reference(face)) < 0.3  # a chip cut without dlib's landmarks


def test_one_person_is_near_and_others_are_far(faces: list[np.ndarray]) -> None:
    with torch.inference_mode():
        found = torch.cat([dlib_recogniser().embedding(tensor(face)) for face in faces])
        darker = dlib_recogniser().embedding(tensor((faces[0] * 0.8).astype(np.uint8)))
        small = dlib_recogniser().embedding(torch.nn.functional.interpolate(tensor(faces[0]), size=128, mode="area"))
    assert found.shape == (len(faces), EMBEDDING)
    assert (found[:1] - darker).norm() < 0.3
    assert (found[:1] - small).norm() < 0.3
    apart = torch.cdist(found, found)[~torch.eye(len(faces), dtype=torch.bool)]
    assert apart.min() > SAME_PERSON


def test_gradients_reach_the_picture(faces: list[np.ndarray]) -> None:
    face = tensor(faces[0]).requires_grad_(True)
    (slope,) = torch.autograd.grad(dlib_recogniser().embedding(face).square().sum(), face)
    assert slope.abs().sum() > 0
