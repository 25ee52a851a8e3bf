import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mien.models.codec.face_codec import FaceCodec
from mien.models.errors import WeightsError
from mien.models.evaluation.descriptors import SAME_PERSON, DlibDescriptor, packaged_models
from mien.models.evaluation.lpips import FIRES, TORCHVISION, WIDTHS, Lpips, packaged_heads
from mien.models.evaluation.metrics import Meter, kid, psnr, ssim
from mien.models.images.files import decode_image

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
BACKBONE = Path(__file__).parents[4] / "shared/assets/squeezenet_v1.1.ncnn.bin"
HEADS = os.environ.get("MIEN_LPIPS_HEADS") or packaged_heads()
DLIB = os.environ.get("MIEN_DLIB") or packaged_models()


def sample(name: int) -> np.ndarray:
    return decode_image((SAMPLES / f"{name}.jpg").read_bytes())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The same random network as ncnn and as torchvision store it, and random heads."""
    folder, random = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(1)
    shapes = {"features.0": (64, 3, 3, 3)}
    for place, (inputs, squeezed, expanded) in zip(TORCHVISION, FIRES, strict=True):
        shapes[f"features.{place}.squeeze"] = (squeezed, inputs, 1, 1)
        shapes[f"features.{place}.expand1x1"] = (expanded, squeezed, 1, 1)
        shapes[f"features.{place}.expand3x3"] = (expanded, squeezed, 3, 3)
    state, blob = {}, b""
    for name, shape in shapes.items():
        half = (torch.randn(shape, generator=random) / np.prod(shape[1:]) ** 0.5).half()
        bias = torch.randn(shape[0], generator=random)
        state |= {f"{name}.weight": half.float(), f"{name}.bias": bias}
        packed = half.numpy().tobytes()
        blob += b"\x47\x6b\x30\x01" + packed + bytes(-len(packed) % 4) + bias.numpy().tobytes()
    (folder / "net.bin").write_bytes(blob)
    torch.save(state, folder / "net.pth")
    torch.save({f"lin{i}.model.1.weight": torch.rand(1, w, 1, 1) for i, w in enumerate(WIDTHS)}, folder / "heads.pth")
    return folder / "net.bin", folder / "net.pth", folder / "heads.pth"


def test_lpips_is_the_same_from_ncnns_file_and_from_torchvisions(weights: tuple[Path, Path, Path]) -> None:
    ncnn, torchvision, heads = weights
    a, b = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    found = [Lpips(path, heads)(a, b) for path in (ncnn, torchvision)]
    assert torch.equal(found[0], found[1])
    assert (found[0] > 0).all()
    assert torch.equal(Lpips(ncnn, heads)(a, a), torch.zeros(2))


def test_files_that_are_not_lpips_weights(weights: tuple[Path, Path, Path], tmp_path: Path) -> None:
    ncnn, _, heads = weights
    (tmp_path / "bad.bin").write_bytes(ncnn.read_bytes()[:1000])
    (tmp_path / "bad.pth").write_bytes(b"nonsense")
    for backbone, linear in (
        (tmp_path / "bad.bin", heads),
        (tmp_path / "bad.pth", heads),
        (tmp_path / "gone.bin", heads),
        (ncnn, tmp_path / "bad.pth"),
        (heads.with_name("net.pth"), ncnn),
    ):
        with pytest.raises(WeightsError, match="does not hold"):
            Lpips(backbone, linear)


@pytest.mark.skipif(not (BACKBONE.exists() and HEADS), reason="LPIPS's weights are not here")
def test_lpips_is_the_published_one() -> None:
    torch.manual_seed(123)  # the example in torchmetrics' documentation of squeeze
    a, b = torch.rand(10, 3, 100, 100) * 2 - 1, torch.rand(10, 3, 100, 100) * 2 - 1
    assert float(Lpips(BACKBONE, str(HEADS))(a, b).mean()) == pytest.approx(0.1008, abs=5e-4)


@pytest.mark.skipif(not DLIB, reason="dlib's models are not here")
def test_dlib_tells_two_people_apart() -> None:
    describe = DlibDescriptor(str(DLIB))
    first, second, brighter = (
        describe(face) for face in (sample(1), sample(2), (sample(1) * 0.9 + 20).clip(0, 255).astype(np.uint8))
    )
    assert np.linalg.norm(first - second) > SAME_PERSON > np.linalg.norm(first - brighter) + 0.2


def test_dlib_without_its_models(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="dlib"):
        DlibDescriptor(tmp_path)


def test_psnr_and_ssim_are_what_their_formulas_say() -> None:
    dark, light = np.full((64, 64, 3), 100, np.uint8), np.full((64, 64, 3), 110, np.uint8)
    assert psnr(dark, light) == pytest.approx(10 * np.log10(255**2 / 100), abs=1e-3)
    c1 = (0.01 * 255) ** 2  # without contrast only the luminance term is left
    assert ssim(dark, light) == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1), abs=1e-4)
    face = sample(1)
    noisy = [(face + np.random.default_rng(1).normal(0, s, face.shape)).clip(0, 255).astype(np.uint8) for s in (5, 20)]
    assert ssim(face, face) == pytest.approx(1)
    assert 1 > ssim(face, noisy[0]) > ssim(face, noisy[1]) > 0


def test_kid_is_about_zero_for_one_distribution_and_grows_with_the_distance() -> None:
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 60, 16)).astype(np.float32)
    same, near, far = (kid(a, b + shift) or (np.nan, np.nan) for shift in (0, 0.5, 1))
    assert abs(same[0]) < 3 * same[1]
    assert same[0] < near[0] < far[0]
    assert far[0] > 3 * far[1]
    assert kid(100 * a, 100 * (b + 1)) == pytest.approx(far)  # the features' unit does not matter
    assert kid(a[:3], b[:3]) is None


def test_the_meter_compares_with_what_it_has(weights: tuple[Path, Path, Path]) -> None:
    first, second = sample(1), sample(2)
    recogniser = FaceCodec.load().recogniser
    bare = Meter(recogniser)
    views = [bare.view(face) for face in (first, second)]
    quality = bare.compare(*views)
    assert (quality.lpips, quality.dlib) == (None, None)
    assert quality.id < 0.52 < bare.compare(views[0], views[0]).id == pytest.approx(1, abs=1e-4)
    assert set(views[0].spaces) == {"recogniser"}
    full = Meter(recogniser, Lpips(weights[0], weights[2]))
    views = [full.view(face) for face in (first, second)]
    assert {space: values.shape for space, values in views[0].spaces.items()} == {
        "recogniser": (128,),
        "squeezenet": (512,),
    }
    assert full.distances(views[0], [first, second]) == pytest.approx([0, full.compare(*views).lpips])
