"""The one decoder: every format, every mode, every way to lie, and files that want to do harm."""

import io
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image, ImageCms, ImageOps

from mien.models.errors import ImageError, ImageTooLargeError
from mien.models.images.files import Codec, decode_image, encode_image

Pixels = npt.NDArray[np.uint8]


def picture(width: int = 97, height: int = 61) -> Pixels:
    """Smooth in all directions, no two corners alike, odd sides."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    bands = [x / width * 255, y / height * 255, 128 + 100 * np.sin(x / 17) * np.cos(y / 13)]
    return np.stack(bands, 2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(out, **options)
    else:
        image.save(out, kind, **options)
    return out.getvalue()


def difference(a: Pixels, b: npt.NDArray[np.generic]) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "JPEG": {"quality": 97, "subsampling": 0},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "HEIF": {"quality": 95, "chroma": 444},
}


class TestFormats:
    @pytest.mark.parametrize("kind", LOSSLESS)
    def test_gives_the_pixels_of_each_format(self, kind: str) -> None:
        pixels = picture()
        decoded = decode_image(saved(Image.fromarray(pixels), kind, **LOSSLESS[kind]))
        assert decoded.dtype == np.uint8
        assert decoded.flags.c_contiguous
        assert decoded.flags.writeable
        assert difference(decoded, pixels) <= (0 if kind in ("PNG", "WEBP", "TIFF") else 2)

    def test_gif_shows_its_first_frame(self) -> None:
        frames = [Image.new("P", (40, 30), i) for i in range(3)]
        for frame in frames:
            frame.putpalette([10, 20, 30, 200, 0, 0, 0, 200, 0])
        data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"x" * 1000)
        assert (decode_image(data) == (10, 20, 30)).all()

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "TIFF"])
    def test_animations_show_their_first_frame(self, kind: str) -> None:
        frames = [Image.new("RGB", (40, 30), colour) for colour in ("red", "lime", "blue")]
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert difference(decode_image(data), np.full((30, 40, 3), (255, 0, 0))) < 3

    def test_mpo_shows_its_first_photo(self) -> None:
        first, second = Image.fromarray(picture()), Image.new("RGB", (97, 61), "blue")
        data = saved(first, "MPO", save_all=True, append_images=[second], quality=95)
        assert Image.open(io.BytesIO(data)).format == "MPO"
        assert difference(decode_image(data), picture()) < 3

    @pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
    def test_tiff_compressions(self, compression: str | None) -> None:
        data = saved(Image.fromarray(picture()), "TIFF", compression=compression)
        assert difference(decode_image(data), picture()) < 6

    def test_bigtiff(self) -> None:
        data = saved(Image.fromarray(picture()), "TIFF", big_tiff=True)
        assert data[2] == 43
        assert difference(decode_image(data), picture()) == 0

    def test_nothing_is_registered_with_pillow(self) -> None:
        code = (
            "import mien.models.images.files; from PIL import Image; Image.preinit(); "
            "assert 'HEIF' not in Image.OPEN and Image.MAX_IMAGE_PIXELS == 1024**3 // 4 // 3"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestOrientation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    @pytest.mark.parametrize("value", range(1, 9))
    def test_all_eight_in_each_format(self, kind: str, value: int) -> None:
        exif = Image.Exif()
        exif[274] = value
        image = Image.fromarray(picture())
        options = dict(LOSSLESS[kind])
        data = saved(image, kind, exif=exif.tobytes() if kind == "HEIF" else exif, **options)
        upright = image.copy()
        upright.getexif()[274] = value
        assert difference(decode_image(data), np.asarray(ImageOps.exif_transpose(upright))) < 3

    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    def test_tiff_whether_read_by_pillow_or_libtiff(self, compression: str | None) -> None:
        data = saved(Image.fromarray(picture()), "TIFF", compression=compression, tiffinfo={274: 6})
        assert difference(decode_image(data), np.rot90(picture(), -1)) == 0

    @pytest.mark.parametrize(
        "exif",
        [
            b"Exif\0\0",
            b"Exif\0\0II*\0",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
            b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0",
            b"Exif\0\0no tiff header at all",
        ],
    )
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_a_broken_block_means_upright(self, exif: bytes, kind: str) -> None:
        data = saved(Image.fromarray(picture()), kind, exif=exif, **LOSSLESS[kind])
        assert difference(decode_image(data), picture()) < 3


class TestColour:
    def test_a_profile_is_converted_to_srgb(self) -> None:
        data = saved(Image.new("RGB", (16, 16), (200, 100, 50)), "PNG", icc_profile=DISPLAY_P3)
        assert np.abs(decode_image(data)[8, 8].astype(int) - (215, 93, 31)).max() <= 1  # by CSS Color 4

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_profiles_of_every_format(self, kind: str) -> None:
        image = Image.new("RGB", (32, 32), (200, 100, 50))
        data = saved(image, kind, icc_profile=DISPLAY_P3, **LOSSLESS[kind])
        assert np.abs(decode_image(data)[8, 8].astype(int) - (215, 93, 31)).max() <= 6

    def test_the_profile_of_srgb_changes_nothing(self) -> None:
        srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        data = saved(Image.fromarray(picture()), "PNG", icc_profile=srgb)
        assert difference(decode_image(data), picture()) == 0

    def test_a_large_profile_in_jpeg_is_put_together(self) -> None:
        padded = struct.pack(">I", len(DISPLAY_P3) + 150_000) + DISPLAY_P3[4:] + bytes(150_000)
        data = saved(Image.new("RGB", (32, 32), (200, 100, 50)), "JPEG", quality=97, icc_profile=padded)
        assert np.abs(decode_image(data)[8, 8].astype(int) - (215, 93, 31)).max() <= 4

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("profile", [b"", b"nonsense", bytes(5000), b"\xff" * 200])
    def test_a_broken_profile_is_ignored(self, kind: str, profile: bytes) -> None:
        data = saved(Image.fromarray(picture()), kind, icc_profile=profile, **LOSSLESS[kind])
        assert difference(decode_image(data), picture()) < 3

    def test_a_profile_for_other_colours_is_ignored(self) -> None:
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
        data = saved(Image.fromarray(picture()), "PNG", icc_profile=lab)
        assert difference(decode_image(data), picture()) == 0

    def test_grey_with_a_colour_profile(self) -> None:
        data = saved(Image.new("L", (16, 16), 120), "PNG", icc_profile=DISPLAY_P3)
        assert np.abs(decode_image(data).astype(int) - 120).max() <= 1

    def test_a_jpeg_profile_with_a_missing_part_is_ignored(self) -> None:
        data = saved(Image.fromarray(picture()), "JPEG", quality=97, subsampling=0, icc_profile=bytes(100_000))
        start = data.index(b"ICC_PROFILE\0\x02") - 4
        end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        assert difference(decode_image(data[:start] + data[end:]), picture()) < 3


class TestModes:
    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    def test_one_bit(self, kind: str) -> None:
        expected = (picture()[..., 0] > 127).astype(np.uint8) * 255
        data = saved(Image.fromarray(expected).convert("1"), kind)
        assert difference(decode_image(data)[..., 1], expected) == 0

    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "AVIF"])
    def test_grey(self, kind: str) -> None:
        decoded = decode_image(
            saved(Image.fromarray(picture()[..., 0]), kind, **{"quality": 97} if kind != "PNG" else {})
        )
        assert difference(decoded, np.repeat(picture()[..., :1], 3, 2)) < 2

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_alpha_is_laid_on_white(self, kind: str) -> None:
        options = {**LOSSLESS[kind], **({"exact": True} if kind == "WEBP" else {})}
        alpha = np.repeat([0, 128, 255], 32).astype(np.uint8)[None].repeat(48, 0)
        image = Image.new("RGB", (96, 48), (10, 20, 200))
        image.putalpha(Image.fromarray(alpha))
        decoded = decode_image(saved(image, kind, **options))
        for column, expected in ((10, (255, 255, 255)), (48, (132, 137, 227)), (90, (10, 20, 200))):
            assert np.abs(decoded[24, column].astype(int) - expected).max() <= 3

    def test_grey_with_alpha(self) -> None:
        decoded = decode_image(saved(Image.merge("LA", [Image.new("L", (9, 9), 0), Image.new("L", (9, 9), 51)]), "PNG"))
        assert (decoded == 204).all()

    def test_palette(self) -> None:
        image = Image.fromarray(picture()).quantize(64)
        assert difference(decode_image(saved(image, "PNG")), np.asarray(image.convert("RGB"))) == 0

    @pytest.mark.parametrize("kind", ["PNG", "GIF"])
    def test_palette_with_a_transparent_entry(self, kind: str) -> None:
        image = Image.new("P", (20, 10), 1)
        image.putpalette([255, 0, 0, 0, 0, 255, 0, 255, 0])
        image.paste(2, (0, 0, 10, 10))
        decoded = decode_image(saved(image, kind, transparency=2))
        assert (decoded[5, 4] == 255).all()
        assert tuple(decoded[5, 15]) == (0, 0, 255)

    def test_palette_with_half_transparent_entries(self) -> None:
        image = Image.new("P", (8, 8), 1)
        image.putpalette([255, 0, 0, 0, 0, 0])
        assert (decode_image(saved(image, "PNG", transparency=bytes([255, 51]))) == 204).all()

    @pytest.mark.parametrize(("mode", "colour", "clear"), [("RGB", (1, 2, 3), (1, 2, 3)), ("L", 7, 7), ("1", 0, 0)])
    def test_png_with_one_transparent_colour(self, mode: str, colour: int, clear: int) -> None:
        image = Image.new(mode, (8, 8), colour)
        assert (decode_image(saved(image, "PNG", transparency=clear)) == 255).all()

    def test_sixteen_bit_grey(self) -> None:
        ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(8, 0)
        for kind in ("PNG", "TIFF"):
            decoded = decode_image(saved(Image.fromarray(ramp), kind))
            assert np.array_equal(decoded[0, :, 0], np.arange(256))

    def test_sixteen_bit_grey_with_one_transparent_grey(self) -> None:
        data = png_chunks(ihdr(4, 1, 16, 0), (b"tRNS", b"\x12\x34"), (b"IDAT", b"\0\x12\x34\x12\x35\xff\xff\x80\x00"))
        assert decode_image(data)[0, :, 0].tolist() == [255, 18, 255, 128]

    def test_sixteen_bit_colour(self) -> None:
        png = png_chunks(ihdr(2, 1, 16, 2), (b"IDAT", b"\0" + struct.pack(">6H", 0, 0x8080, 0xFFFF, 257, 514, 771)))
        assert decode_image(png).tolist() == [[[0, 128, 255], [1, 2, 3]]]

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([0.0, 0.5, 1.0], [0, 128, 255]),
            ([0.0, 128.0, 255.0], [0, 128, 255]),
            ([0.0, 32768.0, 65535.0], [0, 128, 255]),
            ([-1.0, 0.0, 1.0], [0, 128, 255]),
            ([float("nan"), float("inf"), 1.0], [0, 255, 255]),
            ([0.25, float("nan"), float("-inf")], [64, 0, 0]),
        ],
    )
    def test_floats(self, values: list[float], expected: list[int]) -> None:
        image = Image.fromarray(np.array([values], np.float32))
        assert decode_image(saved(image, "TIFF"))[0, :, 0].tolist() == expected

    def test_floats_without_a_finite_one(self) -> None:
        image = Image.fromarray(np.full((4, 4), np.nan, np.float32))
        with pytest.raises(ImageError, match="finite"):
            decode_image(saved(image, "TIFF"))

    @pytest.mark.parametrize(("values", "expected"), [([0, 1, 255], [0, 1, 255]), ([0, 257, 65535], [0, 1, 255])])
    def test_thirty_two_bits(self, values: list[int], expected: list[int]) -> None:
        image = Image.fromarray(np.array([values], np.int32))
        assert decode_image(saved(image, "TIFF"))[0, :, 0].tolist() == expected

    def test_cmyk_jpeg_is_stored_inverted_by_adobe(self) -> None:
        image = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
        data = saved(image, "JPEG", quality=97)
        assert b"Adobe" in data
        assert difference(decode_image(data), np.full((32, 32, 3), (255, 0, 0))) < 4

    def test_cmyk_tiff(self) -> None:
        image = Image.new("CMYK", (32, 32), (255, 0, 0, 51))
        assert difference(decode_image(saved(image, "TIFF")), np.full((32, 32, 3), (0, 204, 204))) <= 1

    def test_lab_tiff(self) -> None:
        lab = ImageCms.profileToProfile(
            Image.new("RGB", (8, 8), (200, 60, 90)),
            ImageCms.createProfile("sRGB"),
            ImageCms.createProfile("LAB"),
            outputMode="LAB",
        )
        assert lab is not None
        assert np.abs(decode_image(saved(lab, "TIFF"))[4, 4].astype(int) - (200, 60, 90)).max() <= 2


class TestLimits:
    def test_the_limit_is_exact(self) -> None:
        data = saved(Image.new("RGB", (40, 25)), "PNG")
        assert decode_image(data, max_pixels=1000).shape == (25, 40, 3)
        with pytest.raises(ImageTooLargeError, match="40 x 25 pixels, over the limit of 999"):
            decode_image(data, max_pixels=999)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "GIF"])
    def test_every_format_is_checked(self, kind: str) -> None:
        data = saved(Image.fromarray(picture()).quantize() if kind == "GIF" else Image.fromarray(picture()), kind)
        with pytest.raises(ImageTooLargeError, match="97 x 61"):
            decode_image(data, max_pixels=5000)

    @pytest.mark.parametrize("bomb", ["png", "apng", "gif", "webp", "jpeg", "tiff"])
    def test_bombs_are_refused_before_they_take_memory(self, bomb: str) -> None:
        """In a process that may take 600 MB above what the imports took: each of these pictures has 4 GB and more."""
        code = f"""
import resource, sys
from mien.models.images.files import decode_image
from mien.models.errors import ImageTooLargeError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (600 << 20),) * 2)
try:
    decode_image(bytes.fromhex("{bombs()[bomb].hex()}"))
except ImageTooLargeError as error:
    print(error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "over the limit" in done.stdout, done.stderr

    def test_pillows_own_limit_is_not_in_the_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
        for kind in ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF"):
            with warnings.catch_warnings(action="error"):
                assert decode_image(saved(Image.fromarray(picture()), kind)).shape == (61, 97, 3)


class TestBadFiles:
    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "empty"),
            (b"\0", "not a JPEG"),
            (b"%PDF-1.4 and so on", "not a JPEG"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a JPEG"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not a JPEG"),
            (b"8BPS\0\x01", "not a JPEG"),
            (b"BM" + bytes(60), "not a JPEG"),
            (b"P6 2 2 255\n" + bytes(12), "not a JPEG"),
            (b"\xff\xd8\xff", "JPEG"),
            (b"\xff\xd8\xff\xe0", "JPEG"),
            (b"\x89PNG\r\n\x1a\n", "PNG"),
            (b"GIF89a", "GIF"),
            (b"RIFF\0\0\0\0WEBP", "WebP"),
            (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
            (b"II*\0", "TIFF"),
            (b"II+\0\x08\0\0\0" + b"\xff" * 8, "TIFF"),
            (b"\0\0\0\x18ftypavif\0\0\0\0avifmif1", "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        ],
    )
    def test_one_line_says_why(self, data: bytes, reason: str) -> None:
        with pytest.raises(ImageError) as raised:
            decode_image(data)
        assert reason in str(raised.value)
        assert "\n" not in str(raised.value)
        assert len(str(raised.value)) < 200

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "GIF", "progressive", "lzw"])
    def test_a_cut_file_is_an_error_or_whole(self, kind: str) -> None:
        image = Image.fromarray(picture())
        if kind == "progressive":
            data = saved(image, "JPEG", progressive=True)
        elif kind == "lzw":
            data = saved(image, "TIFF", compression="tiff_lzw")
        else:
            data = saved(image.quantize() if kind == "GIF" else image, kind)
        whole = decode_image(data)
        refused = 0
        for end in {*range(0, len(data), max(1, len(data) // 150)), *range(max(0, len(data) - 40), len(data))}:
            try:
                assert np.array_equal(decode_image(data[:end]), whole)
            except ImageError:
                refused += 1
        assert refused > 100

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF", "GIF"])
    def test_damage_never_raises_anything_else(self, kind: str) -> None:
        image = Image.fromarray(picture(48, 32))
        exif = Image.Exif()
        exif[274] = 6
        options = {} if kind in ("GIF", "HEIF") else {"exif": exif, "icc_profile": DISPLAY_P3}
        data = saved(image.quantize() if kind == "GIF" else image, kind, **options)
        random = np.random.default_rng(7)
        for _ in range(120):
            damaged = bytearray(data)
            for _ in range(random.integers(1, 6)):
                position = int(random.integers(0, min(len(data), 700) if random.random() < 0.7 else len(data)))
                damaged[position] = random.integers(0, 256)
            try:
                decoded = decode_image(bytes(damaged), max_pixels=1_000_000)
                assert decoded.dtype == np.uint8
                assert decoded.shape[2] == 3
            except ImageError:
                pass

    def test_no_picture_has_no_pixels(self) -> None:
        for data in (
            png_chunks(ihdr(0, 5, 8, 2), (b"IDAT", b"")),
            b"GIF89a\0\0\0\0\0\0\0,\0\0\0\0\0\0\0\0\0\x02\0;",
            jpeg_of_size(0, 10),
        ):
            with pytest.raises(ImageError):
                decode_image(data)

    def test_raw_files_are_refused_instead_of_their_thumbnails(self) -> None:
        data = saved(Image.fromarray(picture()), "TIFF", tiffinfo={254: 1})
        with pytest.raises(ImageError, match="thumbnail"):
            decode_image(data)

    def test_tiff_tags_that_share_bytes_are_refused(self) -> None:
        block = bytes(1 << 20)
        entries = [struct.pack("<HHII", 256 + i, 3, 1, 8) for i in range(2)]
        entries += [struct.pack("<HHII", 20000 + i, 7, len(block), 8) for i in range(20000)]
        directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
        with pytest.raises(ImageError, match="larger than the file"):
            decode_image(b"II*\0" + struct.pack("<I", 8 + len(block)) + block + directory)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
    def test_exif_tags_that_share_bytes_cost_nothing(self, kind: str) -> None:
        size = 30_000 if kind == "JPEG" else 1 << 20
        entries = b"".join(
            struct.pack("<HHII", 20000 + i, 7, size, 8) for i in range(2500 if kind == "JPEG" else 20000)
        )
        exif = b"Exif\0\0II*\0" + struct.pack("<I", 8 + size) + bytes(size)
        exif += struct.pack("<H", len(entries) // 12) + entries + bytes(4)
        data = saved(Image.fromarray(picture()), "JPEG" if kind == "JPEG" else kind, **LOSSLESS[kind])
        data = with_exif(data, kind, exif)
        assert difference(decode_image(data), picture()) < 3

    def test_a_jpeg_of_endless_scans_is_refused(self) -> None:
        data = saved(Image.fromarray(picture()), "JPEG", progressive=True)
        scan = data.index(b"\xff\xda")
        with pytest.raises(ImageError, match="scans"):
            decode_image(data[:scan] + data[scan:-2] * 100 + data[-2:])
        assert (
            difference(decode_image(data + b"\xff\xda\0\x02" * 500), decode_image(data)) == 0
        )  # a phone's film behind it

    def test_planes_that_pillow_would_read_wrongly_are_refused(self) -> None:
        tags = [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 3, 134), (262, 3, 1, 2), (273, 4, 3, 140), (277, 3, 1, 3)]
        tags += [(278, 3, 1, 1), (279, 4, 3, 152), (284, 3, 1, 2)]
        directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
        rest = struct.pack("<3H3I3I", 16, 16, 16, 8, 12, 16, 4, 4, 4)
        data = b"II*\0" + struct.pack("<I", 20) + bytes(range(12)) + directory + rest
        with pytest.raises(ImageError, match="planes"):
            decode_image(data)

    def test_png_text_is_never_inflated(self) -> None:
        text = (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1 << 24)))
        plain = saved(Image.fromarray(picture()), "PNG")
        data = plain[:33] + b"".join(chunk(*text) for _ in range(100)) + plain[33:]
        assert difference(decode_image(data), picture()) == 0

    def test_broken_photoshop_and_jfif_segments_do_not_matter(self) -> None:
        plain = saved(Image.fromarray(picture()), "JPEG", quality=97, subsampling=0)
        cut = b"\xff\xed" + struct.pack(">H", 24) + b"Photoshop 3.0\x008BIM\x04\x04\x08\0"
        data = plain[:2] + cut + b"\xff\xe0\0\x04\0\0" + b"\xff\xfe\0\x04hi" + plain[2:]
        assert difference(decode_image(data), picture()) < 3

    def test_threads(self) -> None:
        files = [saved(Image.fromarray(picture()), kind, **LOSSLESS[kind]) for kind in LOSSLESS] * 4
        alone = [decode_image(data) for data in files]
        with ThreadPoolExecutor(8) as pool:
            assert all(map(np.array_equal, alone, pool.map(decode_image, files)))


class TestEncode:
    @pytest.mark.parametrize("codec", ["avif", "webp", "jpeg", "png"])
    @pytest.mark.parametrize("size", [(97, 61), (1, 1), (3, 200)])
    def test_round_trip(self, codec: Codec, size: tuple[int, int]) -> None:
        pixels = picture(*size)
        decoded = decode_image(encode_image(pixels, codec, quality=90))
        assert difference(decoded, pixels) <= (0 if codec == "png" else 14 if min(size) < 8 else 3)

    @pytest.mark.parametrize("codec", ["avif", "webp", "jpeg"])
    def test_quality_counts(self, codec: Codec) -> None:
        noisy = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        sizes = [len(encode_image(noisy, codec, quality=quality)) for quality in (1, 30, 60, 90, 100)]
        assert sizes == sorted(set(sizes))

    @pytest.mark.parametrize("codec", ["avif", "webp", "jpeg", "png"])
    def test_nothing_but_pixels(self, codec: Codec) -> None:
        image = Image.open(io.BytesIO(encode_image(picture(), codec)))
        assert not {"exif", "icc_profile", "xmp", "comment"} & set(image.info)
        assert not image.getexif()

    def test_colour_at_half_resolution(self) -> None:
        jpeg = Image.open(io.BytesIO(encode_image(picture(), "jpeg")))
        assert [layer[1:3] for layer in jpeg.layer] == [(2, 2), (1, 1), (1, 1)]  # type: ignore[attr-defined]
        avif = encode_image(picture(), "avif")
        assert avif[avif.index(b"av1C") + 6] & 0x0C == 0x0C  # both chroma_subsampling bits

    def test_avif_says_that_it_is_srgb(self) -> None:
        avif = encode_image(picture(), "avif")
        assert avif[avif.index(b"nclx") + 4 :][:4] == b"\0\x01\0\x0d"  # BT.709's primaries, sRGB's transfer function

    @pytest.mark.parametrize("codec", ["avif", "webp", "jpeg", "png"])
    def test_same_bytes_whatever_the_threads(self, codec: Codec) -> None:
        pixels = picture(700, 500)
        with ThreadPoolExecutor(4) as pool:
            results = set(pool.map(lambda _: encode_image(pixels, codec), range(4)))
        code = (
            "import os, sys, numpy as np; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
            "from mien.models.images.files import encode_image;"
            "pixels = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(500, 700, 3);"
            f"sys.stdout.buffer.write(encode_image(pixels, {codec!r}))"
        )
        run = subprocess.run([sys.executable, "-c", code], input=pixels.tobytes(), capture_output=True, check=True)
        assert results == {run.stdout}

    @pytest.mark.parametrize(("codec", "side"), [("webp", 16383), ("jpeg", 65500), ("avif", 32768)])
    def test_the_largest_side(self, codec: Codec, side: int) -> None:
        strip = np.zeros((2, side + 1, 3), np.uint8)
        assert decode_image(encode_image(strip[:, :-1], codec)).shape == (2, side, 3)
        assert decode_image(encode_image(strip.transpose(1, 0, 2)[:-1], codec)).shape == (side, 2, 3)
        with pytest.raises(ImageTooLargeError, match=str(side)):
            encode_image(strip, codec)

    @pytest.mark.parametrize(
        ("pixels", "codec", "quality"),
        [
            (np.zeros((4, 4), np.uint8), "png", 60),
            (np.zeros((4, 4, 4), np.uint8), "png", 60),
            (np.zeros((4, 4, 3), np.float32), "png", 60),
            (np.zeros((0, 4, 3), np.uint8), "png", 60),
            (np.zeros((4, 4, 3), np.uint8), "gif", 60),
            (np.zeros((4, 4, 3), np.uint8), "jpeg", 0),
            (np.zeros((4, 4, 3), np.uint8), "jpeg", 101),
        ],
    )
    def test_wrong_arguments(self, pixels: Pixels, codec: Codec, quality: int) -> None:
        with pytest.raises(ValueError, match=r"wanted|codec|quality"):
            encode_image(pixels, codec, quality)

    def test_views_are_encoded_like_copies(self) -> None:
        view = picture()[::2, ::-1]
        assert encode_image(view, "png") == encode_image(view.copy(), "png")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def ihdr(width: int, height: int, bits: int, colour: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)


def png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    done = [chunk(kind, zlib.compress(body) if kind == b"IDAT" else body) for kind, body in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(done) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(saved(Image.new("RGB", (16, 16)), "JPEG"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def bombs() -> dict[str, bytes]:
    """Small files that announce pictures of more than a thousand megapixels."""
    control = (b"fcTL", struct.pack(">IIIIIHHBB", 0, 40000, 40000, 0, 0, 1, 1, 1, 0))
    tags = [(256, 4, 1, 40000), (257, 4, 1, 40000), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 1, 8), (279, 4, 1, 1)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return {
        "png": png_chunks(ihdr(40000, 40000, 8, 6), (b"IDAT", bytes(100))),
        "apng": png_chunks(ihdr(40000, 40000, 8, 6), (b"acTL", bytes([0, 0, 0, 1] * 2)), control, (b"IDAT", b"")),
        "gif": b"GIF89a\x01\0\x01\0\0\0\0!\xf9\x04\x08\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x4c\x01\0;",
        "webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + (39999).to_bytes(3, "little") * 2,
        "jpeg": jpeg_of_size(65000, 65000),
        "tiff": b"II*\0" + struct.pack("<I", 16) + bytes(8) + directory,
    }


def with_exif(data: bytes, kind: str, exif: bytes) -> bytes:
    """The file with this EXIF block, which Pillow would not write."""
    if kind == "JPEG":
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    if kind == "PNG":
        return data[:33] + chunk(b"eXIf", exif[6:]) + data[33:]
    marker = b"Exif\0\0II*\0\x08\0\0\0" + bytes(200)
    source = saved(Image.open(io.BytesIO(data)), kind, exif=marker, **LOSSLESS[kind])
    if kind == "WEBP":
        at = source.index(b"EXIF")
        body = exif + b"\0" * (len(exif) % 2)
        changed = source[: at + 4] + struct.pack("<I", len(exif)) + body
        return changed[:4] + struct.pack("<I", len(changed) - 8) + changed[8:]
    # AVIF: libavif puts the block's item where a longer one does not fit, so the short block itself is made hostile
    tags = b"".join(struct.pack("<HHII", 20000 + i, 7, 150, 8) for i in range(12))
    hostile = (b"II*\0\x08\0\0\0" + struct.pack("<H", 12) + tags)[: len(marker) - 6]
    at = source.index(b"II*\0\x08\0\0\0")
    return source[:at] + hostile + source[at + len(hostile) :]


def _xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))


def _display_p3() -> bytes:
    """A matrix profile with Display P3's primaries (adapted to D50, as Apple's) and sRGB's curve."""
    curve = b"para\0\0\0\0\0\x03\0\0" + struct.pack(
        ">5i", *(round(v * 65536) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
    )
    description = b"desc\0\0\0\0\0\0\0\x03P3\0" + bytes(79)
    tags = {
        b"desc": description,
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": _xyz(0.51512, 0.24120, -0.00105),
        b"gXYZ": _xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": _xyz(0.15710, 0.06657, 0.78407),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
        b"cprt": b"text\0\0\0\0CC0\0",
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    head = bytes(4) + b"lcms\x02\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(28) + _xyz(0.9642, 1, 0.8249)[8:]
    profile = head + bytes(128 - len(head)) + table + body
    return struct.pack(">I", len(profile)) + profile[4:]


DISPLAY_P3 = _display_p3()
