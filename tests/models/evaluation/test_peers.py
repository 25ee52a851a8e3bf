import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mien.models.codec.face_codec import FaceCodec
from mien.models.evaluation import peers
from mien.models.evaluation.measure import Bench, Missing, Row
from mien.models.evaluation.metrics import Meter, psnr
from mien.models.images.files import decode_image

FACE = decode_image((Path(__file__).parents[2] / "data" / "samples" / "1.jpg").read_bytes())


def test_all_codecs_are_there() -> None:
    assert list(peers.installed()) == ["JPEG", "JPEG 2000", "WebP", "AVIF", peers.JPEG_XL]


@pytest.mark.parametrize(
    ("name", "ceiling"), [("JPEG", 600), ("JPEG 2000", 240), ("WebP", 320), ("AVIF", 600), ("JPEG XL", 320)]
)
def test_the_finest_file_of_each_side_is_found(name: str, ceiling: int) -> None:
    peer = peers.installed()[name]
    found = peers.Search(peer, FACE).candidates(ceiling)
    assert len(found) > 1
    assert [file.side for file in found] == sorted({file.side for file in found})
    for file in found[:3]:
        assert len(file.data) <= ceiling
        assert file.data == peer.pack(peers.shrink(FACE, file.side), file.step)
        picture = peer.unpack(file.data)
        assert (picture.shape, picture.dtype) == ((file.side, file.side, 3), np.uint8)
        assert psnr(peers.shrink(FACE, file.side), picture) > 12
        if file.step < peer.steps - 1:
            assert len(peer.pack(peers.shrink(FACE, file.side), file.step + 1)) > ceiling


def test_what_is_packed_once_is_not_packed_again() -> None:
    webp, packed = peers.installed()["WebP"], []

    def pack(pixels: peers.Pixels, step: int) -> bytes:
        packed.append((len(pixels), step))
        return webp.pack(pixels, step)

    search = peers.Search(peers.Peer("WebP", ".webp", webp.steps, pack, webp.unpack), FACE)
    first = search.candidates(320)
    count = len(packed)
    assert search.candidates(320) == first
    assert len(packed) == count == len(set(packed))
    search.candidates(600)
    assert len(packed) == len(set(packed)) < 2 * count + 30


def test_a_codec_whose_header_alone_is_too_large_has_no_file() -> None:
    search = peers.Search(peers.installed()["JPEG"], FACE)
    assert search.candidates(64) == []
    assert 64 < search.smallest() < 400


def test_a_smaller_picture_is_enlarged_with_bicubic() -> None:
    small = peers.shrink(FACE, 96)
    expected = np.asarray(Image.fromarray(small).resize((512, 512), Image.Resampling.BICUBIC))
    assert np.array_equal(peers.enlarge(small), expected)
    assert peers.enlarge(FACE) is FACE


def test_rows_tell_what_the_files_hold(tmp_path: Path) -> None:
    codec = FaceCodec.load()
    meter = Meter(codec.recogniser)
    bench, original = Bench(codec, meter, tmp_path), meter.view(FACE)
    ours = bench.mien("a", original, "fast", 64, "identity")
    assert ours.bytes == ours.path.stat().st_size <= 64
    assert ours.quality.psnr == pytest.approx(psnr(FACE, codec.decode(ours.path.read_bytes())))
    assert ours.score == pytest.approx(codec.scores(FACE[None], [ours.path.read_bytes()])[0])
    assert ours.encode_ms > 0 < ours.decode_ms
    jpeg, webp = (peers.installed()[name] for name in ("JPEG", "WebP"))
    none, best = bench.conventional("a", original, [jpeg, webp], [150], threads=2)
    assert none == Missing("JPEG", 150, peers.Search(jpeg, FACE).smallest())
    assert isinstance(best, Row)
    with Image.open(io.BytesIO(best.path.read_bytes())) as image:
        assert (image.format, image.size) == ("WEBP", (best.side, best.side))
        shown = peers.enlarge(np.asarray(image.convert("RGB")))
    assert best.bytes == best.path.stat().st_size <= 150
    assert best.quality.psnr == pytest.approx(psnr(FACE, shown))
    others = [psnr(FACE, peers.enlarge(webp.unpack(file.data))) for file in peers.Search(webp, FACE).candidates(150)]
    assert best.quality.psnr == pytest.approx(max(others))
    assert {path.name for path in tmp_path.iterdir()} == {ours.path.name, best.path.name}
