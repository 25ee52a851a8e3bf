"""What is told of a file before it is decoded, and what of its damage: JPEG, PNG, TIFF, BMP, and AVIF's boxes."""

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pillow_heif
import pytest
from PIL import Image, ImageCms

from mien.models.errors import ImageError
from mien.models.images.files import decode_image, encode_image
from mien.models.images.headers import read_header
from mien.models.images.heif_boxes import crop_of

Pixels = npt.NDArray[np.uint8]
SAMPLE = Path(__file__).parents[2] / "data" / "samples" / "1.jpg"


def picture(width: int = 97, height: int = 61) -> Pixels:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    bands = [x / width * 255, y / height * 255, 128 + 100 * np.sin(x / 17) * np.cos(y / 13)]
    return np.stack(bands, 2).astype(np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with Image.open(SAMPLE) as image:
        return image.convert("RGB").resize((320, 240))


JPEGS: dict[str, dict[str, object]] = {
    "baseline": {},
    "444": {"subsampling": 0},
    "422": {"subsampling": 1},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 2},
}


def scan_of(data: bytes) -> int:
    """Where the first scan's data starts."""
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


class TestJpeg:
    @pytest.mark.parametrize("name", JPEGS)
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_the_same_pixels_as_libjpeg_gives_others(self, photo: Image.Image, name: str, mode: str) -> None:
        data = saved(photo.convert(mode), "JPEG", quality=85, **JPEGS[name])
        if (name, mode) == ("422", "CMYK"):  # the black of another size than the first colour
            with pytest.raises(ImageError, match="not supported"):
                decode_image(data)
            return
        with Image.open(io.BytesIO(data)) as image:
            assert np.array_equal(decode_image(data), np.asarray(image.convert("RGB")))

    @pytest.mark.parametrize("name", JPEGS)
    def test_without_its_end_it_is_whole(self, photo: Image.Image, name: str) -> None:
        data = saved(photo, "JPEG", quality=85, **JPEGS[name])
        whole = decode_image(data)
        assert data.endswith(b"\xff\xd9")
        for end in (1, 2):
            assert np.array_equal(decode_image(data[:-end]), whole)
        for end in (3, 4, 5, 100):
            with pytest.raises(ImageError, match="JPEG"):
                decode_image(data[:-end])

    def test_cut_between_two_scans(self, photo: Image.Image) -> None:
        """What is left decodes without a warning, to a picture without its details."""
        data = saved(photo, "JPEG", quality=85, progressive=True)
        starts = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"]
        assert len(starts) > 5
        for start in starts[1:]:
            with pytest.raises(ImageError, match="before its last scan"):
                decode_image(data[:start])

    def test_a_colour_without_a_scan(self) -> None:
        data = saved(Image.fromarray(picture()), "JPEG", progressive=True)
        scan = data.index(b"\xff\xda")
        one = data[:scan] + b"\xff\xda\0\x08\x01\x01\0\0\0\0" + b"\0" * 20 + b"\xff\xd9"
        with pytest.raises(ImageError, match="before its last scan"):
            decode_image(one)

    @pytest.mark.parametrize("name", ["baseline", "444", "422", "restarts"])
    @pytest.mark.parametrize("length", [16, 300])
    def test_a_hole_in_the_scan(self, photo: Image.Image, name: str, length: int) -> None:
        data = saved(photo, "JPEG", quality=85, **JPEGS[name])
        for place in range(scan_of(data), len(data) - length - 30, 997):
            with pytest.raises(ImageError, match="JPEG"):
                decode_image(data[:place] + bytes(length) + data[place + length :])

    @pytest.mark.parametrize("name", JPEGS)
    def test_zeros_to_the_end(self, photo: Image.Image, name: str) -> None:
        """As a copy that was broken off leaves a file whose size was set before."""
        data = saved(photo, "JPEG", quality=85, **JPEGS[name])
        for place in range(scan_of(data), len(data) - 30, 1999):
            for end in (b"", b"\xff\xd9"):
                with pytest.raises(ImageError, match="JPEG"):
                    decode_image(data[:place] + bytes(len(data) - place) + end)

    @pytest.mark.parametrize("name", ["baseline", "progressive", "restarts"])
    def test_libjpegs_warnings_are_heard(self, photo: Image.Image, name: str) -> None:
        """Bytes left out or put in lead the decoder astray; Pillow shows such pictures as if nothing were."""
        data = saved(photo, "JPEG", quality=85, **JPEGS[name])
        middle = (scan_of(data) + len(data)) // 2
        damaged = data[:middle] + data[middle + 2000 :]
        with Image.open(io.BytesIO(damaged)) as image:
            image.load()
        for file in (damaged, data[:-2] + b"abc" * 9 + b"\xff\xd9", data[:middle] + b"\xff\xd9" + data[middle:]):
            with pytest.raises(ImageError, match="JPEG: "):
                decode_image(file)

    def test_flat_pictures_have_zeros_but_no_holes(self) -> None:
        ramp = np.repeat(np.linspace(250, 0, 4096).astype(np.uint8)[None], 64, 0)
        for image in (Image.new("RGB", (800, 400), "white"), Image.new("L", (800, 400)), Image.fromarray(ramp)):
            for options in ({}, {"optimize": True}, {"progressive": True}):
                data = saved(image, "JPEG", quality=60, **options)
                assert np.abs(decode_image(data).astype(int) - np.asarray(image.convert("RGB"))).max() < 6

    def test_padding_before_the_end_does_not_matter(self, photo: Image.Image) -> None:
        data = saved(photo, "JPEG", quality=85)
        for padding in (b"\0", bytes(500), b"\xff" * 9):
            assert np.array_equal(decode_image(data[:-2] + padding + data[-2:]), decode_image(data))

    def test_what_phones_write_into_the_head_of_a_scan(self, photo: Image.Image) -> None:
        data = saved(photo, "JPEG", quality=85)
        start = scan_of(data)
        assert data[start - 3 : start] == b"\0\x3f\0"
        assert np.array_equal(decode_image(data[: start - 3] + bytes(3) + data[start:]), decode_image(data))

    def test_jfif_of_a_later_version(self, photo: Image.Image) -> None:
        data = saved(photo, "JPEG", quality=85)
        assert data[6:13] == b"JFIF\0\1\1"
        assert np.array_equal(decode_image(data[:11] + b"\2\0" + data[13:]), decode_image(data))

    def test_endless_segments(self) -> None:
        with pytest.raises(ImageError, match="100,000 segments"):
            decode_image(b"\xff\xd8" + b"\xff\xd0" * 200_000)

    def test_metadata_between_scans_is_passed_over(self, photo: Image.Image) -> None:
        data = saved(photo, "JPEG", quality=85, progressive=True)
        second = data.index(b"\xff\xda", scan_of(data))
        more = data[:second] + b"\xff\xfe\0\x06note" + b"\xff\xe5\0\x04ab" + data[second:]
        assert np.array_equal(decode_image(more), decode_image(data))
        assert b"note" not in read_header(more).data

    @pytest.mark.parametrize("frame", [b"\xc3", b"\xc5", b"\xcb"])
    def test_other_processes(self, frame: bytes) -> None:
        data = saved(Image.fromarray(picture()), "JPEG")
        with pytest.raises(ImageError, match="lossless and hierarchical"):
            decode_image(data.replace(b"\xff\xc0", b"\xff" + frame, 1))

    def test_twelve_bits(self) -> None:
        data = bytearray(saved(Image.fromarray(picture()), "JPEG"))
        data[data.index(b"\xff\xc0") + 4] = 12
        with pytest.raises(ImageError, match="JPEG"):
            decode_image(bytes(data))


class TestPng:
    def test_a_flipped_bit_anywhere_in_the_picture(self) -> None:
        data = saved(Image.fromarray(picture()), "PNG")
        start = data.index(b"IDAT") + 4
        for place in range(start, len(data) - 16, 97):
            damaged = bytearray(data)
            damaged[place] ^= 4
            with pytest.raises(ImageError, match="checksum"):
                decode_image(bytes(damaged))


def tiff(values: bytes, width: int, bits: int, photometric: int, order: str = "<", form: int = 1) -> bytes:
    """One row of grey."""
    tags = [(256, 4, width), (257, 4, 1), (258, 3, bits), (259, 3, 1), (262, 3, photometric), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, 1), (279, 4, len(values)), (339, 3, form)]
    at = 8 + len(values) + len(values) % 2
    directory = struct.pack(order + "H", len(tags))
    for tag, kind, value in tags:
        directory += struct.pack(order + ("HHIHxx" if kind == 3 else "HHII"), tag, kind, 1, value)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    return head + values + bytes(len(values) % 2) + directory + bytes(4)


class TestTiff:
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("zero", [0, 1])
    @pytest.mark.parametrize(
        ("bits", "packed", "expected"),
        [
            (1, {"<": b"\x50", ">": b"\x50"}, [0, 255, 0, 255]),
            (4, {"<": b"\x0f\x80", ">": b"\x0f\x80"}, [0, 255, 136, 0]),
            (8, {"<": b"\0\xff\x80\x01", ">": b"\0\xff\x80\x01"}, [0, 255, 128, 1]),
            (16, {o: struct.pack(o + "4H", 0, 65535, 0x8080, 257) for o in "<>"}, [0, 255, 128, 1]),
        ],
    )
    def test_white_is_zero(
        self, order: str, zero: int, bits: int, packed: dict[str, bytes], expected: list[int]
    ) -> None:
        """Photometric interpretation 0 is the negative of 1."""
        data = tiff(packed[order], 4, bits, zero, order)
        if (bits, zero, order) == (16, 0, ">"):  # which Pillow does not read
            with pytest.raises(ImageError, match="mode"):
                decode_image(data)
            return
        decoded = decode_image(data)[0, :, 0].tolist()
        assert decoded == (expected if zero else [255 - value for value in expected])

    def test_twelve_bits(self) -> None:
        values = bytes.fromhex("000 fff 808 010".replace(" ", ""))
        assert decode_image(tiff(values, 4, 12, 1))[0, :, 0].tolist() == [0, 255, 128, 1]

    def test_floats_with_white_as_zero_are_refused(self) -> None:
        with pytest.raises(ImageError, match="white as zero"):
            decode_image(tiff(struct.pack("<4f", 0, 1, 0.5, 0.25), 4, 32, 0, "<", 3))
        with pytest.raises(ImageError, match="mode"):
            decode_image(tiff(struct.pack("<4i", 0, 1, 2, 3), 4, 32, 0, "<", 2))

    def test_a_profile_of_sixteen_bits_counts(self) -> None:
        grey = Image.fromarray(np.full((8, 8), 0x8080, np.uint16))
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        assert decode_image(saved(grey, "TIFF", icc_profile=profile))[4, 4].tolist() == [128] * 3

    def test_pages_and_floats_are_counted(self) -> None:
        pages = [Image.fromarray(picture()) for _ in range(4)]
        data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
        assert (read_header(data).pages, read_header(data).floats) == (4, False)
        floats = saved(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
        assert (read_header(floats).pages, read_header(floats).floats) == (1, True)

    def test_directories_in_a_circle(self) -> None:
        data = bytearray(tiff(b"\0\1\2\3", 4, 8, 1))
        data[-4:] = data[4:8]
        assert read_header(bytes(data)).pages == 1


class TestBmp:
    @pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA"])
    def test_modes(self, mode: str) -> None:
        image = Image.fromarray(picture()).convert(mode)
        expected = np.asarray(image.convert("RGB"))
        assert np.array_equal(decode_image(saved(image, "BMP")), expected)

    def test_upside_down_and_too_large(self) -> None:
        data = bytearray(saved(Image.fromarray(picture()), "BMP"))
        data[22:26] = struct.pack("<i", -61)
        assert np.array_equal(decode_image(bytes(data)), picture()[::-1])
        with pytest.raises(ImageError, match="97 x 61 pixels, over the limit"):
            decode_image(bytes(data), 5000)

    def test_cut(self) -> None:
        data = saved(Image.fromarray(picture()), "BMP")
        for end in (20, 40, 60, 1000, len(data) - 100):
            with pytest.raises(ImageError, match="BMP"):
                decode_image(data[:end])

    @pytest.mark.parametrize(
        ("space", "right"), [(b"BGRs", True), (b" niW", True), (bytes(4), False), (b"KNIL", False)]
    )
    def test_colours_of_version_4(self, space: bytes, right: bool) -> None:
        plain = saved(Image.fromarray(picture(8, 8)), "BMP")
        head = struct.pack("<I", 108) + plain[18:54] + bytes(16) + space + struct.pack("<12I", *range(12))
        data = plain[:10] + struct.pack("<I", 14 + 108) + head + plain[54:]
        if right:
            assert np.array_equal(decode_image(data), picture(8, 8))
        else:
            with pytest.raises(ImageError, match="colours"):
                decode_image(data)


def with_property(data: bytes, *boxes: bytes) -> bytes:
    """An AVIF or HEIF file of one item with more properties of it, which the encoders do not write."""
    added = b"".join(boxes)
    grown = len(added) + len(boxes)
    result = bytearray(data)

    def grow(kind: bytes, by: int) -> int:
        at = result.index(kind) - 4
        size = struct.unpack_from(">I", result, at)[0]
        struct.pack_into(">I", result, at, size + by)
        return at + size

    item = struct.pack(">I", data.index(b"mdat") + 4)
    at = result.index(item, result.index(b"iloc"))
    struct.pack_into(">I", result, at, data.index(b"mdat") + 4 + grown)
    for kind in (b"meta", b"iprp"):
        grow(kind, grown)
    ipma = result.index(b"ipma")
    count = ipma + 4 + 4 + 4 + 2
    properties = result[count]
    known = 0
    pos, end = result.index(b"ipco") + 4, struct.unpack_from(">I", result, result.index(b"ipco") - 4)[0]
    end += result.index(b"ipco") - 4
    while pos < end:
        pos += struct.unpack_from(">I", result, pos)[0]
        known += 1
    result[count] += len(boxes)
    grow(b"ipma", len(boxes))
    place = count + 1 + properties
    result[place:place] = bytes(0x80 | known + 1 + i for i in range(len(boxes)))
    end_of_ipco = grow(b"ipco", len(added))
    result[end_of_ipco:end_of_ipco] = added
    return bytes(result)


def clap(width: int, height: int, x: tuple[int, int], y: tuple[int, int]) -> bytes:
    """x, y: of the crop's middle from the picture's, as fractions."""
    return struct.pack(">I4sIIIIiIiI", 40, b"clap", width, 1, height, 1, *x, *y)


def box(kind: bytes, value: int) -> bytes:
    return struct.pack(">I4sB", 9, kind, value)


@pytest.fixture(scope="module")
def plain() -> bytes:
    return saved(Image.fromarray(picture(96, 60)), "AVIF", quality=100, subsampling="4:4:4")


class TestAvif:
    def test_the_crop(self, plain: bytes) -> None:
        """The left 40 columns, and of the rows those from 10 to 40."""
        data = with_property(plain, clap(40, 30, (-56, 2), (-10, 2)))
        assert np.array_equal(decode_image(data), decode_image(plain)[10:40, :40])

    @pytest.mark.parametrize("turn", range(4))
    @pytest.mark.parametrize("mirror", [None, 0, 1])
    def test_cropped_then_turned_then_mirrored(self, plain: bytes, turn: int, mirror: int | None) -> None:
        """By ISO 23000-22, 7.3.6.7; irot turns to the left, imir 0 exchanges top and bottom."""
        more = [] if mirror is None else [box(b"imir", mirror)]
        data = with_property(plain, clap(40, 30, (-56, 2), (-10, 2)), box(b"irot", turn), *more)
        expected = np.rot90(decode_image(plain)[10:40, :40], turn)
        if mirror is not None:
            expected = expected[::-1] if mirror == 0 else expected[:, ::-1]
        assert np.array_equal(decode_image(data), expected)

    @pytest.mark.parametrize(
        "crop",
        [
            clap(40, 30, (-58, 2), (0, 1)),  # a column outside
            clap(40, 30, (0, 1), (16, 1)),
            clap(41, 30, (0, 1), (0, 1)),  # half a pixel
            clap(0, 30, (0, 1), (0, 1)),
            clap(40, 30, (0, 0), (0, 1)),
        ],
    )
    def test_a_crop_that_cannot_be(self, plain: bytes, crop: bytes) -> None:
        with pytest.raises(ImageError, match="crop"):
            decode_image(with_property(plain, crop))

    def test_exif_is_not_read(self) -> None:
        exif = Image.Exif()
        exif[270] = "canary"
        data = saved(Image.fromarray(picture()), "AVIF", exif=exif)
        with Image.open(io.BytesIO(data)) as image:
            assert image.getexif()[270] == "canary"
        with Image.open(io.BytesIO(read_header(data).data)) as image:
            assert 270 not in image.getexif()

    def test_bytes_behind_the_last_box(self, plain: bytes) -> None:
        assert np.array_equal(decode_image(plain + bytes(30)), decode_image(plain))
        assert np.array_equal(decode_image(plain + b"\r\n"), decode_image(plain))

    def test_a_sequence_says_it_in_its_first_track(self) -> None:
        frames = [Image.fromarray(picture())] * 2
        data = saved(frames[0], "AVIF", save_all=True, append_images=frames[1:])
        assert data[8:12] == b"avis"
        found = read_header(data).properties
        assert {b"av1C", b"colr"} <= {kind for kind, _ in found}
        assert crop_of([*found, (b"clap", clap(40, 30, (-57, 2), (-11, 2))[8:])], 97, 61) == (0, 10, 40, 40)

    def test_heif_is_cropped_by_its_decoder(self) -> None:
        out = io.BytesIO()
        pillow_heif.from_pillow(Image.fromarray(picture(96, 64))).save(out, quality=95, chroma=444)
        whole = decode_image(out.getvalue())
        crop = decode_image(with_property(out.getvalue(), clap(40, 30, (-56, 2), (-14, 2))))
        assert np.array_equal(crop, whole[10:40, :40])


def test_a_generated_file_still_reads() -> None:
    for codec in ("avif", "webp", "jpeg", "png"):
        assert decode_image(encode_image(picture(), codec)).shape == (61, 97, 3)  # type: ignore[arg-type]
