"""What a file says of its colours: as browsers show it, with the standards' own figures as the right values."""

import io
import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image, ImageCms

from mien.models.errors import ImageError
from mien.models.images import colours
from mien.models.images.colours import Colours, to_srgb
from mien.models.images.files import decode_image, encode_image

HARD = Path(__file__).parents[4] / "shared" / "hard"
P3_ORANGE, SRGB_OF_IT = (200, 100, 50), (215, 93, 31)  # color(display-p3 ...) to sRGB, by CSS Color 4
# gAMA and cHRM in units of 1/100000; white, red, green, blue
P3_CHRM = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def png(image: Image.Image, *more: tuple[bytes, bytes]) -> bytes:
    """The picture with these chunks behind the header."""
    out = io.BytesIO()
    image.save(out, "PNG")
    data = out.getvalue()
    return data[:33] + chunks(*more) + data[33:]


def chunks(*bodies: tuple[bytes, bytes]) -> bytes:
    return b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in bodies
    )


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def cicp(primaries: int, transfer: int, matrix: int = 0, full: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, matrix, full])


def flat(*colour: int) -> Image.Image:
    return Image.new("RGB", (8, 8), colour if len(colour) == 3 else colour * 3)


def first(data: bytes) -> list[int]:
    return decode_image(data)[4, 4].tolist()


def grey_of(code: int, transfer: int) -> int:
    return int(np.asarray(to_srgb(flat(code), Colours(cicp=(9, transfer))))[0, 0, 1])


class TestPng:
    @pytest.mark.parametrize(("value", "expected"), [(1.0, 188), (0.45455, 129), (0.55556, 146)])
    def test_gamma(self, value: float, expected: int) -> None:
        """128 is (128/255)^(1/gamma) of the light, and sRGB's code of that by IEC 61966-2-1."""
        assert first(png(flat(128), gamma(value))) == [expected] * 3

    def test_gamma_of_grey_with_alpha_leaves_the_alpha(self) -> None:
        image = Image.merge("LA", [Image.new("L", (8, 8), 128), Image.new("L", (8, 8), 51)])
        assert first(png(image, gamma(1.0))) == [242] * 3  # 188 with one fifth on white

    def test_gamma_of_a_palette_and_of_sixteen_bits(self) -> None:
        assert first(png(flat(128).quantize(2), gamma(1.0))) == [188] * 3
        sixteen = Image.fromarray(np.full((8, 8), 0x8080, np.uint16))
        assert first(png(sixteen, gamma(1.0))) == [188] * 3

    def test_grey_with_alpha_of_sixteen_bits(self) -> None:
        rows = (b"\0" + struct.pack(">HH", 0x8080, 0x3333) * 8) * 8
        head = (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 4, 0, 0, 0))
        data = b"\x89PNG\r\n\x1a\n" + chunks(head, gamma(1.0), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        assert first(data) == [242] * 3  # 188 with one fifth on white

    def test_primaries(self) -> None:
        assert first(png(flat(*P3_ORANGE), (b"cHRM", P3_CHRM))) == pytest.approx(SRGB_OF_IT, abs=1)

    def test_another_white_stays_white(self) -> None:
        d50 = struct.pack(">8I", 34570, 35850, 64000, 33000, 30000, 60000, 15000, 6000)
        assert first(png(flat(255), (b"cHRM", d50))) == [255] * 3

    def test_primaries_that_span_no_colours_say_nothing(self) -> None:
        for broken in (bytes(32), b"\xff" * 32, struct.pack(">8I", *[30000] * 8), P3_CHRM[:20]):
            assert first(png(flat(*P3_ORANGE), (b"cHRM", broken))) == list(P3_ORANGE)

    def test_code_points(self) -> None:
        assert first(png(flat(*P3_ORANGE), cicp(12, 13))) == pytest.approx(SRGB_OF_IT, abs=1)
        assert first(png(flat(*P3_ORANGE), cicp(1, 13))) == list(P3_ORANGE)
        assert first(png(flat(128), cicp(1, 8))) == [188] * 3

    def test_what_counts_first(self) -> None:
        """cICP before iCCP before sRGB before gAMA, in whatever order they lie."""
        image = flat(128)
        profile = (b"iCCP", b"p\0\0" + zlib.compress(SRGB_PROFILE))
        srgb = (b"sRGB", b"\0")
        for order in itertools.permutations((gamma(1.0), srgb)):
            assert first(png(image, *order)) == [128] * 3
        assert first(png(image, gamma(1.0), profile)) == [128] * 3
        assert first(png(image, profile, srgb, gamma(1.0), cicp(1, 8))) == [188] * 3

    @pytest.mark.parametrize(
        "chunk", [cicp(12, 13, 1), cicp(12, 13, 0, 0), cicp(99, 13), cicp(1, 9), gamma(1e-4), (b"gAMA", b"\xff" * 4)]
    )
    def test_what_is_not_understood_is_refused(self, chunk: tuple[bytes, bytes]) -> None:
        with pytest.raises(ImageError, match=r"colours|gamma") as raised:
            decode_image(png(flat(128), chunk))
        assert "\n" not in str(raised.value)


class TestCodePoints:
    def test_avif_in_display_p3(self) -> None:
        data = encode_image(np.full((32, 32, 3), P3_ORANGE, np.uint8), "avif", 95)
        at = data.index(b"nclx") + 4
        p3 = data[:at] + b"\0\x0c" + data[at + 2 :]
        assert first(p3) == pytest.approx(SRGB_OF_IT, abs=4)
        assert first(data) == pytest.approx(P3_ORANGE, abs=4)

    def test_avif_that_says_it_in_its_stream_only(self) -> None:
        """Primaries, transfer and matrix lie in the sequence header, at any bit; P3's take the place of BT.709's."""
        data = encode_image(np.full((32, 32, 3), P3_ORANGE, np.uint8), "avif", 95).replace(b"colrnclx", b"skipnclx")
        bits = "".join(f"{byte:08b}" for byte in data)
        start = 8 * (data.index(b"mdat") + 4)
        at = bits.index(f"{1:08b}{13:08b}{6:08b}", start)
        assert at < start + 8 * 30
        changed = bits[:at] + f"{12:08b}" + bits[at + 8 :]
        p3 = bytes(int(changed[i : i + 8], 2) for i in range(0, len(changed), 8))
        assert first(data) == pytest.approx(P3_ORANGE, abs=4)
        assert first(p3) == pytest.approx(SRGB_OF_IT, abs=4)

    def test_heif_in_display_p3(self) -> None:
        out = io.BytesIO()
        heif = pillow_heif.from_pillow(Image.new("RGB", (32, 32), P3_ORANGE))
        nclx = {"color_primaries": 12, "transfer_characteristics": 13, "matrix_coefficients": 6, "full_range_flag": 1}
        heif.save(out, quality=95, chroma=444, **nclx)
        assert first(out.getvalue()) == pytest.approx(SRGB_OF_IT, abs=4)

    @pytest.mark.parametrize("transfer", [1, 2, 6, 13, 14, 15])
    def test_video_is_shown_as_srgb(self, transfer: int) -> None:
        image = flat(10, 90, 200)
        assert to_srgb(image, Colours(cicp=(1, transfer))).tobytes() == image.tobytes()

    def test_powers(self) -> None:
        assert grey_of(128, 4) == 129
        assert grey_of(128, 5) == 106  # (128/255)^2.8

    @pytest.mark.parametrize("primaries", [1, 2, 4, 5, 6, 7, 9, 11, 12, 22])
    @pytest.mark.parametrize("transfer", [8, 13])
    def test_black_and_white_stay(self, primaries: int, transfer: int) -> None:
        for code in (0, 255):
            image = to_srgb(flat(code), Colours(cicp=(primaries, transfer)))
            assert np.asarray(image)[0, 0].tolist() == [code] * 3

    def test_wide_gamut_is_cut(self) -> None:
        assert np.asarray(to_srgb(flat(255, 0, 0), Colours(cicp=(9, 13))))[0, 0].tolist() == [255, 0, 0]
        assert np.asarray(to_srgb(flat(0, 255, 0), Colours(cicp=(9, 13))))[0, 0].tolist() == [0, 255, 0]


class TestHdr:
    """BT.2408, table 1: 18 % grey is 26 cd/m2, at 38 % of PQ and of HLG; white is 203 cd/m2, at 58 % and 75 %."""

    def test_mid_grey_is_where_sdr_has_it(self) -> None:
        # 26/203 of the light is 101 in sRGB; the tone curve leaves it
        assert grey_of(round(0.38 * 255), 16) == pytest.approx(101, abs=2)
        assert grey_of(round(0.38 * 255), 18) == pytest.approx(101, abs=2)

    def test_white_is_bright_and_leaves_room_for_highlights(self) -> None:
        pq, hlg = grey_of(round(0.58 * 255), 16), grey_of(round(0.75 * 255), 18)
        assert abs(pq - hlg) <= 2
        assert 220 <= pq <= 240

    @pytest.mark.parametrize("transfer", [16, 18])
    def test_from_black_to_white_without_a_step_back(self, transfer: int) -> None:
        ramp = [grey_of(code, transfer) for code in range(256)]
        assert ramp == sorted(ramp)
        assert ramp[0] == 0
        assert ramp[192 if transfer == 16 else 255] == 255  # 1000 cd/m2
        assert max(b - a for a, b in itertools.pairwise(ramp)) <= 6

    @pytest.mark.parametrize("transfer", [16, 18])
    def test_colours_keep_their_hue(self, transfer: int) -> None:
        r, g, b = np.asarray(to_srgb(flat(150, 120, 100), Colours(cicp=(1, transfer))))[0, 0].astype(int)
        assert r > g + 20 > b + 30

    def test_strips_make_no_difference(self, monkeypatch: pytest.MonkeyPatch) -> None:
        y, x = np.mgrid[0:60, 0:50]
        image = Image.fromarray(np.stack([y * 4, x * 5, (x + y) * 2], 2).astype(np.uint8))
        for transfer in (13, 16, 18):
            whole = to_srgb(image, Colours(cicp=(9, transfer))).tobytes()
            with monkeypatch.context() as patch:
                patch.setattr(colours, "_PIXELS_AT_ONCE", 333)
                assert to_srgb(image, Colours(cicp=(9, transfer))).tobytes() == whole

    @pytest.mark.parametrize("transfer", [16, 18])
    def test_heif_of_ten_bits(self, transfer: int) -> None:
        grey = np.full((64, 64, 3), round(0.38 * 65535), np.uint16)
        out = io.BytesIO()
        nclx = {"color_primaries": 9, "transfer_characteristics": transfer, "matrix_coefficients": 9}
        heif = pillow_heif.from_bytes("RGB;16", (64, 64), grey.tobytes())
        heif.save(out, quality=95, chroma=444, full_range_flag=1, **nclx)
        assert first(out.getvalue()) == pytest.approx([101] * 3, abs=3)

    @pytest.mark.parametrize("transfer", [16, 18])
    def test_by_a_file(self, transfer: int) -> None:
        data = encode_image(np.full((32, 32, 3), 97, np.uint8), "avif", 95)
        at = data.index(b"nclx") + 4
        hdr = data[:at] + struct.pack(">HH", 9, transfer) + data[at + 4 :]
        assert first(hdr) == pytest.approx([101] * 3, abs=5)


@pytest.mark.skipif(not HARD.is_dir(), reason="the hard inputs are not here")
@pytest.mark.parametrize(
    ("name", "shape", "mean"),
    [
        ("06-white-is-zero-16-bit.tif", (200, 220), (104, 104, 104)),
        ("07-hdr-pq.avif", (560, 800), (138, 122, 108)),
        ("09-gamma-1.png", (168, 240), (138, 122, 108)),
        ("10-cropped-by-clap.avif", (560, 800), (138, 122, 108)),
    ],
)
def test_photos_from_the_world(name: str, shape: tuple[int, int], mean: tuple[int, int, int]) -> None:
    """07, 09 and 10 are one photo, whose own mean this is."""
    pixels: npt.NDArray[np.uint8] = decode_image((HARD / name).read_bytes())
    assert pixels.shape[:2] == shape
    assert pixels.mean((0, 1)) == pytest.approx(mean, abs=5)
