"""The chunk in three kinds of files: the picture stays as it is, the faces come back, damage is told."""

import contextlib
import io
import pathlib
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mien.models.errors import ContainerError
from mien.models.faces.alignment import similarity
from mien.models.images.chunk import StoredFace, StoredPhoto, pack_photo, unpack_photo
from mien.models.images.container import AVIF_UUID, describe, embed, extract, strip
from mien.models.images.files import Codec, decode_image, encode_image

CODECS: tuple[Codec, ...] = ("avif", "webp", "jpeg")


def image_file(codec: Codec, width: int = 65, height: int = 43) -> bytes:
    y, x = np.mgrid[0:height, 0:width]
    return encode_image(np.stack([x * 3 % 256, y * 5 % 256, (x + y) % 256], 2).astype(np.uint8), codec)


def photo(count: int, payload: int = 62) -> StoredPhoto:
    """Already snapped, so that what comes back is equal."""
    maker = random.Random(count)
    faces = []
    for i in range(count):
        x, y, side = maker.uniform(0, 4000), maker.uniform(0, 3000), maker.uniform(20, 500)
        box = (x - 0.3 * side, y - 0.2 * side, 0.6 * side, 0.7 * side)
        if i % 4 == 3:
            faces.append(StoredFace(box, (), "blur", "otherwise", "", b"", 0.2))
        else:
            square = similarity(x, y, side, maker.uniform(-0.5, 0.5))
            faces.append(StoredFace(box, square, "preserve", "subjects", "base-1", maker.randbytes(payload), 0.9))
    return unpack_photo(pack_photo(StoredPhoto(4000, 3000, tuple(faces), "compress", "0.1.0")))


def opened(data: bytes) -> tuple[str | None, np.ndarray]:
    with Image.open(io.BytesIO(data)) as image:
        return image.format, np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("codec", CODECS)
def test_golden_files_of_version_1(codec: Codec) -> None:
    """Written once by version 0.1.0 and never again; every later version reads them."""
    golden = (pathlib.Path(__file__).parents[2] / "data" / "golden" / f"container-v1.{codec}").read_bytes()
    stored = extract(golden)
    assert (stored.width, stored.height, len(stored.faces), stored.version) == (800, 600, 2, "0.1.0")
    assert stored.faces[0].payload == bytes(range(1, 11))
    assert decode_image(golden).shape == (24, 32, 3)
    assert embed(strip(golden), stored) == golden


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("count", [0, 1, 2, 60, 3000])
def test_round_trip_and_the_same_picture(codec: Codec, count: int) -> None:
    plain, stored = image_file(codec), photo(count)
    both = embed(plain, stored)
    assert extract(both) == stored
    assert opened(both)[0] == opened(plain)[0]
    assert np.array_equal(opened(both)[1], opened(plain)[1])
    assert np.array_equal(decode_image(both), decode_image(plain))


@pytest.mark.parametrize("codec", CODECS)
def test_the_file_grows_by_little_more_than_the_chunk(codec: Codec) -> None:
    plain, stored = image_file(codec), photo(3)
    assert len(embed(plain, stored)) - len(plain) - len(pack_photo(stored)) <= 30


@pytest.mark.parametrize("payload", [0, 65521, 65524, 65525, 200_000])
def test_a_chunk_larger_than_a_jpeg_segment(payload: int) -> None:
    empty = len(pack_photo(photo(1, 0)))
    exact = payload - empty - 2 if payload else 0  # 65524: the chunk fills its segment to the last byte
    stored = photo(1, max(exact, 0))
    both = embed(image_file("jpeg"), stored)
    assert extract(both) == stored
    assert both.count(b"mien\0") == max(1, -(-len(pack_photo(stored)) // 65524))
    assert np.array_equal(opened(both)[1], opened(image_file("jpeg"))[1])


@pytest.mark.parametrize("codec", CODECS)
def test_a_chunk_is_replaced_and_not_doubled(codec: Codec) -> None:
    plain = image_file(codec)
    first, second = photo(40, 3000), photo(2)
    assert embed(embed(plain, first), second) == embed(plain, second)
    assert extract(embed(embed(plain, first), second)) == second


@pytest.mark.parametrize("codec", CODECS)
def test_strip(codec: Codec) -> None:
    plain = image_file(codec)
    stripped = strip(embed(plain, photo(5)))
    assert strip(plain) == plain
    assert np.array_equal(opened(stripped)[1], opened(plain)[1])
    if codec != "webp":  # which keeps the extended header
        assert stripped == plain
    with pytest.raises(ContainerError, match="no mien chunk"):
        extract(stripped)


class TestWebP:
    @pytest.mark.parametrize("lossless", [False, True])
    @pytest.mark.parametrize("alpha", [False, True])
    @pytest.mark.parametrize("size", [(1, 1), (300, 70), (16383, 2)])
    def test_simple_files_become_extended_ones(self, lossless: bool, alpha: bool, size: tuple[int, int]) -> None:
        image = Image.new("RGBA" if alpha else "RGB", size, (10, 200, 30, 100) if alpha else (10, 200, 30))
        out = io.BytesIO()
        image.save(out, "WEBP", lossless=lossless)
        plain = out.getvalue()
        both = embed(plain, photo(1))
        assert both[12:16] == b"VP8X"
        assert int.from_bytes(both[4:8], "little") == len(both) - 8
        assert len(both) % 2 == 0
        with Image.open(io.BytesIO(both)) as changed, Image.open(io.BytesIO(plain)) as original:
            assert changed.size == size
            assert changed.mode == original.mode
            assert changed.tobytes() == original.tobytes()
        assert extract(both) == photo(1)

    def test_a_picture_without_pixels(self) -> None:
        plain = bytearray(image_file("webp"))
        assert plain[12:16] == b"VP8 "
        plain[26:28] = bytes(2)  # its width
        with pytest.raises(ContainerError, match="no picture"):
            embed(bytes(plain), photo(1))

    def test_other_chunks_stay(self) -> None:
        out = io.BytesIO()
        Image.new("RGB", (20, 10)).save(out, "WEBP", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0", xmp=b"<x/>")
        both = embed(out.getvalue(), photo(1))
        assert both.startswith(out.getvalue()[12:], 12)
        assert strip(both) == out.getvalue()

    def test_bytes_behind_the_file_do_not_matter(self) -> None:
        both = embed(image_file("webp"), photo(2))
        assert extract(both + b"junk") == photo(2)
        assert strip(both + b"junk") == strip(both)
        assert embed(image_file("webp") + b"junk", photo(2)) == both


class TestJpeg:
    def test_behind_jfif_and_exif_and_before_all_else(self) -> None:
        out = io.BytesIO()
        Image.new("RGB", (20, 10)).save(out, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0", comment=b"hello")
        names = [
            piece.name for piece in describe(embed(out.getvalue(), photo(1))) if not piece.name.startswith("mien.")
        ]
        assert names[:4] == ["SOI", "APP0", "APP1", "APP11 of mien"]
        assert names[-1] == "scans"

    def test_others_app11_segments_stay(self) -> None:
        plain = image_file("jpeg")
        other = plain[:2] + b"\xff\xeb\0\x0aJP\0\x01\0\0\0\x01" + plain[2:]
        assert strip(embed(other, photo(1))) == other

    def test_segments_in_another_order_or_missing(self) -> None:
        both = embed(image_file("jpeg"), photo(1, 150_000))
        pieces = [piece for piece in describe(both) if piece.name == "APP11 of mien"]
        assert len(pieces) == 3
        one, two, three = (both[piece.offset : piece.offset + piece.length] for piece in pieces)
        before, after = both[: pieces[0].offset], both[pieces[2].offset + pieces[2].length :]
        for damaged in (two + one + three, one + three, two + three, one + two, one + one + two + three):
            with pytest.raises(ContainerError, match="segment"):
                extract(before + damaged + after)

    def test_fill_bytes(self) -> None:
        plain = image_file("jpeg")
        assert extract(embed(plain[:2] + b"\xff\xff" + plain[2:], photo(1))) == photo(1)


class TestAvif:
    def test_the_box_is_the_last(self) -> None:
        both = embed(image_file("avif"), photo(1))
        assert both.startswith(image_file("avif"))
        assert [piece.name for piece in describe(both) if "box" in piece.name and "mien." not in piece.name] == [
            "box ftyp",
            "box meta",
            "box mdat",
            "box uuid of mien",
        ]

    def test_another_uuid_box_stays(self) -> None:
        other = image_file("avif") + struct.pack(">I4s", 40, b"uuid") + bytes(32)
        assert strip(embed(other, photo(1))) == other

    def test_a_long_size_is_understood(self) -> None:
        chunk = pack_photo(photo(1))
        box = struct.pack(">I4sQ", 1, b"uuid", 32 + len(chunk)) + AVIF_UUID + chunk
        assert extract(image_file("avif") + box) == photo(1)

    def test_two_chunks(self) -> None:
        both = embed(image_file("avif"), photo(1))
        with pytest.raises(ContainerError, match="2 mien chunks"):
            extract(both + both[len(image_file("avif")) :])

    def test_a_box_to_the_end_of_the_file(self) -> None:
        plain = bytearray(image_file("avif"))
        at = plain.index(b"mdat") - 4
        plain[at : at + 4] = bytes(4)
        with pytest.raises(ContainerError, match="no mien chunk"):
            extract(bytes(plain))
        with pytest.raises(ContainerError, match="no length"):
            embed(bytes(plain), photo(1))


class TestDamage:
    @pytest.mark.parametrize("codec", CODECS)
    def test_cut_at_every_position(self, codec: Codec) -> None:
        stored = photo(2)
        both = embed(image_file(codec, 17, 11), stored)
        for end in range(len(both)):
            with contextlib.suppress(ContainerError):
                assert extract(both[:end]) == stored
                assert codec == "jpeg"  # cut in its pixels, which lie behind the chunk

    @pytest.mark.parametrize("codec", CODECS)
    def test_one_flipped_bit_at_every_position(self, codec: Codec) -> None:
        stored = photo(2)
        both = embed(image_file(codec, 17, 11), stored)
        for position in range(len(both)):
            for bit in (0, 3, 7):
                damaged = bytearray(both)
                damaged[position] ^= 1 << bit
                with contextlib.suppress(ContainerError):
                    assert extract(bytes(damaged)) == stored
                    strip(bytes(damaged))
                    describe(bytes(damaged))

    @pytest.mark.parametrize("codec", CODECS)
    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_any_damage(self, codec: Codec, data: st.DataObject) -> None:
        stored = photo(2)
        both = bytearray(embed(image_file(codec, 17, 11), stored))
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(both) - 1))
            both[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=12))
        damaged = bytes(both)
        for action in (extract, strip, describe, lambda file: embed(file, stored)):
            try:
                result = action(damaged)
            except ContainerError:
                continue
            if isinstance(result, StoredPhoto):
                assert result == stored

    @pytest.mark.parametrize("start", [b"", b"RIFF", b"RIFF\0\0\0\0WEBP", b"\xff\xd8", b"\0\0\0\x08ftypavif"])
    @settings(max_examples=100, deadline=None)
    @given(rest=st.binary(max_size=60))
    def test_any_file(self, start: bytes, rest: bytes) -> None:
        for action in (extract, strip, describe, lambda file: embed(file, photo(1))):
            with contextlib.suppress(ContainerError):
                action(start + rest)

    @pytest.mark.parametrize("codec", CODECS)
    def test_causes(self, codec: Codec) -> None:
        plain = image_file(codec)
        both = embed(plain, photo(1))
        chunk = pack_photo(photo(1))
        at = both.index(chunk)
        with pytest.raises(ContainerError, match="no mien chunk"):
            extract(plain)
        with pytest.raises(ContainerError, match="checksum"):
            extract(both[: at + 20] + bytes([both[at + 20] ^ 1]) + both[at + 21 :])
        with pytest.raises(ContainerError, match="newer"):
            extract(both[:at] + b"\x02" + both[at + 1 :])
        with pytest.raises(ContainerError, match="cut off"):
            extract(both[: at + 10])

    @pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\0\0\0\x18ftypheic"])
    def test_other_formats(self, data: bytes) -> None:
        for action in (extract, strip, describe, lambda file: embed(file, photo(0))):
            with pytest.raises(ContainerError, match="not an AVIF, WebP or JPEG file"):
                action(data)


class TestDescribe:
    @pytest.mark.parametrize("codec", CODECS)
    def test_parts_are_the_file_and_fields_the_chunk(self, codec: Codec) -> None:
        stored = photo(3)
        both = embed(image_file(codec), stored)
        pieces = describe(both)
        end = 0
        for piece in (piece for piece in pieces if not piece.name.startswith("mien.")):
            assert piece.offset == end
            end += piece.length
        assert end == len(both)
        fields = {piece.name: piece for piece in pieces if piece.name.startswith("mien.")}
        assert sum(field.length for field in fields.values()) == len(pack_photo(stored))
        payload = fields["mien.faces[1].payload"]
        assert both[payload.offset : payload.offset + payload.length] == stored.faces[1].payload
        assert fields["mien.width"].value == "4000"
        assert [piece.offset for piece in pieces] == sorted(piece.offset for piece in pieces)

    def test_a_plain_file_has_parts_only(self) -> None:
        for codec in CODECS:
            pieces = describe(image_file(codec))
            assert sum(piece.length for piece in pieces) == len(image_file(codec))

    def test_fields_over_several_segments(self) -> None:
        stored = photo(1000, 200)
        both = embed(image_file("jpeg"), stored)
        fields = {piece.name: piece for piece in describe(both)}
        straddling = 0
        for number, face in enumerate(stored.faces):
            if not face.payload:
                continue
            piece = fields[f"mien.faces[{number}].payload"]
            assert piece.length == len(face.payload)
            straddling += both[piece.offset : piece.offset + piece.length] != face.payload
        assert straddling <= 4

    def test_a_damaged_chunk_is_told(self) -> None:
        both = bytearray(embed(image_file("avif"), photo(1)))
        both[-1] ^= 1
        with pytest.raises(ContainerError, match="checksum"):
            describe(bytes(both))
