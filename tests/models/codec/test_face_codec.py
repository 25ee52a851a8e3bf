import itertools
import pathlib

import numpy as np
import pytest
import torch
from PIL import Image

from mien.models import FaceCodec
from mien.models.codec.bitstream import HEADER, LAYERS, read_header, write_base
from mien.models.codec.decoder import BASE, GRIDS, STYLE, FaceDecoder, Latents, colour_values
from mien.models.codec.face_codec import AUTO
from mien.models.codec.rate_control import BASE_BYTES, allocate
from mien.models.errors import PayloadError, PayloadTruncatedError, WeightsError, WrongModelError
from mien.models.faces.recogniser import Recogniser, arcface_crop
from mien.models.weights.folder import PACKAGED

_WEIGHTS = [PACKAGED / f"{name}.safetensors" for name in ("decoder", "layers", "encoder")]
GOLDEN = pathlib.Path(__file__).parents[2] / "data/golden"


@pytest.fixture(scope="module")
def codec() -> FaceCodec:
    return FaceCodec.load()


@pytest.fixture(scope="module")
def faces(codec: FaceCodec) -> np.ndarray:
    """Four faces of people who do not exist: the generator's, drawn from latents of the size that real faces have."""
    random, unit = np.random.default_rng(7), codec._unit[: len(codec.decoder.centre)].numpy()
    latents = [random.normal(size=len(unit)).astype(np.float32) * unit * 0.6 for _ in range(4)]
    return codec.decode_batch([codec.write_base(one, np.zeros(3)) for one in latents])


@pytest.fixture(scope="module")
def layered(codec: FaceCodec) -> Latents:
    """Latents in all four layers, as far from nothing as the tables expect."""
    random = np.random.default_rng(8)

    def draw(layer: int) -> torch.Tensor:
        tables = codec.decoder.tables[layer]
        wide = codec.decoder.steps[0] * np.minimum(tables.limits[tables.classes[tables.spread]], 60) / 6
        return torch.from_numpy((random.laplace(size=tables.symbols) * wide).astype(np.float32))

    base = codec._unit[: len(codec.decoder.centre)] * torch.from_numpy(random.normal(size=192).astype(np.float32)) * 0.6
    plain = colour_values(np.zeros(4, np.int32))
    return Latents((base, *(draw(layer) for layer in range(1, len(LAYERS)))), plain)


def similarity(codec: FaceCodec, a: np.ndarray, b: np.ndarray) -> float:
    pictures = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for p in (a, b)]
    one, other = (codec.recogniser(arcface_crop(p)) for p in pictures)
    return float((one * other).sum())


def test_a_face_comes_back_as_the_same_person(codec: FaceCodec, faces: np.ndarray) -> None:
    payloads = codec.encode_batch(faces)
    decoded = codec.decode_batch(payloads)
    assert decoded.shape == faces.shape
    assert decoded.dtype == np.uint8
    found = [similarity(codec, a, b) for a, b in zip(faces, decoded, strict=True)]
    others = [similarity(codec, a, b) for a, b in zip(faces, np.roll(decoded, 1, 0), strict=True)]
    assert np.mean(found) > 0.5 > np.mean(others)


@pytest.mark.parametrize("ceiling", [16, 24, 33, 48, 64, 65, 150, 320])
def test_the_ceiling_holds_and_is_used(codec: FaceCodec, faces: np.ndarray, ceiling: int) -> None:
    payloads = codec.encode_batch(faces, max_bytes=ceiling)
    assert max(map(len, payloads)) <= ceiling
    assert np.mean([len(payload) for payload in payloads]) >= 0.75 * min(ceiling, BASE_BYTES)
    assert all(read_header(payload).sections[0].size <= BASE_BYTES for payload in payloads)


@pytest.mark.parametrize("ceiling", [24, 64, 100, 320, 600, 1200, 1500, 4000])
def test_every_layer_fits_every_ceiling(codec: FaceCodec, layered: Latents, ceiling: int) -> None:
    found = allocate(codec.decoder, layered, np.zeros(4, np.int32), ceiling)
    payload = found.payload(codec.decoder)
    assert 0.9 * ceiling <= len(payload) <= ceiling or ceiling == 4000
    header, latents = codec.decoder.read(payload)
    assert [section.layer for section in header.sections] == list(found.layers)
    wanted = found.dequantised(codec.decoder)
    for ours, theirs in zip(latents.layers, wanted.layers, strict=True):
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)


def test_more_bytes_are_less_error(codec: FaceCodec, layered: Latents) -> None:
    errors = []
    for ceiling in (32, 64, 150, 320, 600, 1200):
        found = allocate(codec.decoder, layered, np.zeros(4, np.int32), ceiling).dequantised(codec.decoder)
        pairs = zip(layered.layers, found.layers, strict=True)
        errors.append(sum(float((a - (0 if b is None else b)).square().sum()) for a, b in pairs if a is not None))
    assert errors == sorted(errors, reverse=True)


def test_every_prefix_that_ends_with_a_layer_decodes(codec: FaceCodec, layered: Latents) -> None:
    payload = allocate(codec.decoder, layered, np.zeros(4, np.int32), 1500).payload(codec.decoder)
    sections = read_header(payload).sections
    assert [section.layer for section in sections] == [BASE, STYLE, *GRIDS]
    ends = [section.offset + section.size for section in sections]
    pictures = [codec.decode(payload[:end], size=128).astype(int) for end in ends]
    assert all(np.abs(a - b).mean() > 0.1 for a, b in itertools.pairwise(pictures))
    for length in range(0, len(payload), 7):
        if length not in ends:
            with pytest.raises(PayloadTruncatedError):
                codec.decode(payload[:length])


@pytest.mark.slow
def test_more_bytes_are_closer(codec: FaceCodec, faces: np.ndarray) -> None:
    found = []
    for ceiling in (16, 32, 320):
        decoded = codec.decode_batch(codec.encode_batch(faces, max_bytes=ceiling), size=128)
        found.append(np.mean([similarity(codec, a, b) for a, b in zip(faces, decoded, strict=True)]))
    assert found[0] < found[1] < found[2]


@pytest.mark.slow
def test_bytes_do_not_depend_on_batch_or_threads(codec: FaceCodec, faces: np.ndarray) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = [codec.encode(face) for face in faces[:2]]
        torch.set_num_threads(2)
        assert codec.encode_batch(np.tile(faces[:2], (2, 1, 1, 1))) == alone * 2
        assert FaceCodec(*(path.read_bytes() for path in _WEIGHTS)).encode_batch(faces[:2]) == alone
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.slow
def test_pixels_agree_between_batches_and_threads(codec: FaceCodec, faces: np.ndarray) -> None:
    payloads, before = codec.encode_batch(faces[:2]), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = np.stack([codec.decode(payload) for payload in payloads])
        torch.set_num_threads(2)
        together = codec.decode_batch(payloads)
    finally:
        torch.set_num_threads(before)
    assert np.abs(alone.astype(int) - together).max() <= 1


@pytest.mark.parametrize("size", [128, 256])
def test_smaller_sizes_show_the_same_face(codec: FaceCodec, faces: np.ndarray, size: int) -> None:
    payload = codec.encode(faces[0])
    whole, small = codec.decode(payload), codec.decode(payload, size=size)
    assert small.shape == (size, size, 3)
    shrunk = np.asarray(Image.fromarray(whole).resize((size, size), Image.Resampling.BOX)).astype(int)
    assert np.abs(shrunk - small).mean() < 14
    assert similarity(codec, whole, small) > 0.6


@pytest.mark.slow
def test_scores_tell_faces_from_other_things(codec: FaceCodec, faces: np.ndarray) -> None:
    random = np.random.default_rng(0)
    noise = random.integers(0, 256, (512, 512, 3), np.uint8)
    stripes = np.repeat(np.repeat(random.integers(0, 256, (32, 1, 3), np.uint8), 16, 0), 512, 1)
    everything = np.concatenate([faces, noise[None], stripes[None], np.full((1, 512, 512, 3), 200, np.uint8)])
    payloads = codec.encode_batch(everything)
    scores = codec.scores(everything, payloads)
    assert scores.dtype == np.float32
    assert (scores[:4] >= codec.MIN_SCORE).all()
    assert (scores[4:] < codec.MIN_SCORE).all()
    coded = codec.code_batch(everything)
    np.testing.assert_allclose([c.score for c in coded], scores, atol=0.01)
    assert [c.payload for c in coded] == payloads
    in_stream = [read_header(payload).score for payload in payloads]
    np.testing.assert_allclose(in_stream, 255 * scores, atol=3)


def test_a_grey_face_stays_grey(codec: FaceCodec, faces: np.ndarray) -> None:
    grey = np.repeat(faces[0].mean(-1, keepdims=True).round().astype(np.uint8), 3, -1)
    decoded = codec.decode(codec.encode(grey)).astype(int)
    assert (decoded.max(-1) - decoded.min(-1)).mean() < 6


def test_realistic_is_closer_to_the_mean_face(codec: FaceCodec, faces: np.ndarray) -> None:
    far = [
        np.linalg.norm(
            [codec.decoder.read(codec.encode(face, objective=objective))[1].layers[BASE].numpy() for face in faces]
        )
        for objective in ("identity", "realistic")
    ]
    assert far[1] < 0.9 * far[0]


@pytest.mark.slow
def test_good_is_no_further_than_fast(codec: FaceCodec) -> None:
    face = np.asarray(Image.open(GOLDEN.parent / "face.jpg"))
    fast, good = (codec.decode(codec.encode(face, effort=effort)) for effort in ("fast", "good"))
    assert np.abs(good - face.astype(int)).mean() < 1.1 * np.abs(fast - face.astype(int)).mean()
    assert similarity(codec, face, good) >= similarity(codec, face, fast) - 0.02


@pytest.mark.slow
def test_auto_leaves_alone_who_is_known_after_one_pass(codec: FaceCodec) -> None:
    face = np.asarray(Image.open(GOLDEN.parent / "face.jpg"))[None]
    (fast,), (auto,) = (codec.code_batch(face, effort=effort) for effort in ("fast", "auto"))
    assert (fast.same_person, auto.same_person) == (None, True)
    assert auto.payload == fast.payload


@pytest.mark.slow
def test_auto_counts_its_work(codec: FaceCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing is ever enough it ends after as many steps as the face's size allows, and says so."""
    noise = np.random.default_rng(1).integers(0, 256, (1, 512, 512, 3), np.uint8)
    drawn = []
    draw = FaceDecoder.draw
    monkeypatch.setattr(FaceDecoder, "draw", lambda *args, **names: drawn.append(1) or draw(*args, **names))
    (coded,) = codec.code_batch(noise, effort="auto", sides=[100.0])
    assert coded.same_person is False
    assert AUTO[1][0] > 100
    assert len(drawn) <= 2 + AUTO[1][1].steps + 1 + 2  # one pass, the steps and a look at the last, what is decoded


def test_golden_payloads(codec: FaceCodec) -> None:
    """Payloads of the packaged model decode to the recorded pictures."""
    paths = sorted(GOLDEN.glob("*.mien"))
    assert {read_header(path.read_bytes()).version for path in paths} == {2}
    for path in paths:
        expected = np.asarray(Image.open(path.with_suffix(".png"))).astype(int)
        assert np.abs(codec.decode(path.read_bytes(), size=128) - expected).max() <= 1


@pytest.mark.parametrize(
    "face",
    [
        np.zeros((511, 512, 3), np.uint8),
        np.zeros((512, 512), np.uint8),
        np.zeros((512, 512, 4), np.uint8),
        np.zeros((512, 512, 3), np.float32),
        np.zeros((1, 512, 512, 3), np.uint8),
        [[1, 2, 3]],
    ],
)
def test_what_is_no_face_array_is_refused(codec: FaceCodec, face: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be"):
        codec.encode(face)


def test_wrong_arguments_are_refused(codec: FaceCodec, faces: np.ndarray) -> None:
    with pytest.raises(ValueError, match="objective"):
        codec.encode(faces[0], objective="funny")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="effort"):
        codec.encode(faces[0], effort="more")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 9 bytes"):
        codec.encode(faces[0], max_bytes=3)
    with pytest.raises(ValueError, match="128, 256, 512"):
        codec.decode(codec.encode(faces[0]), size=300)


def test_another_model_is_refused(codec: FaceCodec, faces: np.ndarray) -> None:
    section = read_header(codec.encode(faces[0])).sections[0]
    with pytest.raises(WrongModelError):
        codec.decode(write_base(section.symbols, section.step, 0, codec.decoder.number ^ 1))


def test_empty_batches(codec: FaceCodec) -> None:
    assert codec.encode_batch(np.empty((0, 512, 512, 3), np.uint8)) == []
    assert codec.decode_batch([], size=256).shape == (0, 256, 256, 3)


def test_a_damaged_payload_spoils_no_batch_silently(codec: FaceCodec, faces: np.ndarray) -> None:
    payload = codec.encode(faces[0])
    with pytest.raises(PayloadError):
        codec.decode_batch([payload, payload[:-1]])


def test_header_says_the_model(codec: FaceCodec, faces: np.ndarray) -> None:
    header = read_header(codec.encode(faces[0]))
    assert codec.model.endswith(f"{header.model:04x}")
    assert header.total <= 320
    assert len(header.sections[0].symbols) + HEADER.size == header.sections[0].size


def test_missing_and_broken_weights(tmp_path: pathlib.Path) -> None:
    with pytest.raises(WeightsError, match="cannot read"):
        FaceCodec.load(str(tmp_path / "nothing"))
    for name in ("decoder", "layers", "encoder"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"no weights")
    with pytest.raises(WeightsError, match="does not hold"):
        FaceCodec.load(str(tmp_path))


def test_recogniser_takes_112_px() -> None:
    assert Recogniser().features(torch.zeros(1, 3, 112, 112)).shape == (1, 128, 7, 7)
