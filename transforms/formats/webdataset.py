"""The sample of a photo in a WebDataset shard, KEY.avif and KEY.json, its way there and back, and a shard as it grows
or loses some.

The key is made of the photo's uri, so that it has no dots, is the same in every run, and no two photos share one. Every
byte of a shard follows from its samples: the tar's headers tell no time and no user.
Source: https://github.com/webdataset/webdataset (a sample is what members of one name, up to its first dot, hold).
"""

import contextlib
import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, BinaryIO

from mien.models.errors import ImageError
from mien.models.images import image_size
from mien.transforms.elements import CodedPhoto, SafePhoto
from mien.transforms.formats.blobs import blob_of
from mien.transforms.formats.tar_members import is_plain, members, open_shard
from mien.transforms.stores import SUFFIXES, create, name_under, parse_json

JSON = ".json"
_MAX_JSON = 16_000_000


@dataclass(frozen=True)
class Sample:
    """key: its members' name. suffix, data: of the image file. about: what the JSON beside it says, {} without one."""

    key: str
    suffix: str
    data: bytes
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the image file."""
        return hashlib.sha256(self.data).hexdigest()


def key_of(uri: str) -> str:
    """The key of a photo's sample: 32 hex digits of the sha256 of its uri; logs call the photo by the first 12."""
    return hashlib.sha256(uri.encode()).hexdigest()[:32]


def sample_of(photo: CodedPhoto | SafePhoto, record_uri: bool = False) -> Sample:
    """A coded photo's sample, whose image is what WriteBlobs would write, or a safe photo's. Raises ContainerError.

    record_uri: whether the JSON says where the photo was read; shards are shipped, and its path may name people.
    """
    source = photo.origin.size if photo.origin else None
    about: dict[str, Any] = {"uri": photo.uri} if record_uri else {}
    if isinstance(photo, SafePhoto):
        name, suffix = posixpath.splitext(photo.name)
        data = photo.data
        width, height = image_size(data)
        faces = [{**_common(face), "decided": face.decided} for face in photo.faces]
    else:
        name, suffix = photo.name or name_under("", photo.uri), SUFFIXES[photo.background_codec]
        source, width, height = photo.source_bytes, photo.width, photo.height
        data = blob_of(photo)
        faces = [{**_common(face), "model": face.model, "bytes": len(face.payload)} for face in photo.faces]
    about |= {"name": name, "source_bytes": source, "width": width, "height": height, "faces": faces}
    return Sample(key_of(photo.uri), suffix, data, about | {"policy": photo.policy, "version": photo.version})


def _common(face: Any) -> dict[str, Any]:
    score = None if face.score is None else round(face.score, 4)
    return {"box": [round(side, 3) for side in face.box], "action": face.action, "rule": face.rule, "score": score}


def _header(name: str, size: int) -> tarfile.TarInfo:
    """tarfile's own defaults say nothing of a time or a user."""
    header = tarfile.TarInfo(name)
    header.size = size
    return header


class ShardWriter:
    """One shard as it grows. It is of use only once it is closed."""

    def __init__(self, path: str) -> None:
        self._stream = create(path)
        self._tar: Any = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)
        self.bytes = 0

    def add(self, sample: Sample) -> None:
        """Writes a sample."""
        about = f"{json.dumps(sample.about, ensure_ascii=False)}\n".encode()
        for suffix, data in ((sample.suffix, sample.data), (JSON, about)):
            self.copy(_header(f"{sample.key}{suffix}", len(data)), io.BytesIO(data))

    def copy(self, header: tarfile.TarInfo, stream: BinaryIO) -> None:
        """Writes a member; the stream is at its data."""
        self._tar.addfile(_header(header.name, header.size), stream)
        self._tar.members.clear()  # it would keep every one
        self.bytes = self._tar.offset

    def close(self) -> int:
        """Writes the end mark; the file's bytes."""
        self._tar.close()
        size = self._stream.tell()
        self._stream.close()
        return size

    def abandon(self) -> None:
        """Lets go of the file, which is not whole."""
        with contextlib.suppress(Exception):  # a full disk fails again here; the file is deleted all the same
            self._stream.close()


def key_of_member(name: str) -> tuple[str, str]:
    """A member's key and its suffix: a/b.c.jpg -> a/b, .c.jpg."""
    folder, slash, file = name.rpartition("/")
    key, dot, rest = file.partition(".")
    return f"{folder}{slash}{key}", f"{dot}{rest}".lower()


def count_samples(uri: str, suffixes: Collection[str]) -> int:
    """How many samples of a shard have an image file; what a cut or damage has taken away counts as one more."""
    count = 0
    with open_shard(uri) as stream:
        try:
            for _, group in groupby(members(stream), lambda member: key_of_member(member.name)[0]):
                count += any(key_of_member(member.name)[1] in suffixes for member in group)
        except tarfile.TarError:
            count += 1
    return count


def samples(uri: str, suffixes: Collection[str], max_bytes: int) -> Iterator[Sample | Exception]:
    """The samples of a shard that have an image file, one in memory at a time; the exception in place of one that
    cannot be used. suffixes: of image files, in small letters; max_bytes: of one.

    Raises tarfile.TarError, ImageError or OSError for a shard that is none, is damaged or cut, once what is before that
    is out.
    """
    with open_shard(uri) as stream:
        for key, group in groupby(members(stream), lambda member: key_of_member(member.name)[0]):
            suffix, data = "", b""
            about: Any = {}
            problem: Exception | None = None
            try:
                for member in group:
                    kind = key_of_member(member.name)[1]
                    if kind not in suffixes and kind != JSON:
                        continue
                    try:
                        read = _read(stream, member, _MAX_JSON if kind == JSON else max_bytes)
                        if kind == JSON:
                            about = parse_json(read)
                        else:
                            suffix, data = kind, read
                    except (ImageError, ValueError, RecursionError) as error:
                        suffix, problem = suffix or kind, ImageError(f"{member.name!r}: {error}")
            except tarfile.TarError:
                if about and data and not problem:  # the sample before a cut
                    yield Sample(key, suffix, data, about)
                raise
            if suffix:
                yield problem or Sample(key, suffix, data, about if isinstance(about, dict) else {})


def members_of_shard(part: str, digests: bool) -> Iterator[tuple[str, str]]:
    """(key, sha256 of the image file) of each whole sample of a shard that ShardWriter wrote; without digests the
    headers alone are read.

    Raises tarfile.TarError, ImageError or OSError for what is damaged or cut.
    """
    if digests:
        for sample in samples(part, set(SUFFIXES.values()), 1 << 31):
            if isinstance(sample, Sample):
                yield sample.key, sample.sha256
        return
    with open_shard(part) as stream:
        for key, group in groupby(members(stream), lambda member: key_of_member(member.name)[0]):
            if len(list(group)) > 1:
                yield key, ""


def _read(stream: BinaryIO, member: tarfile.TarInfo, max_bytes: int) -> bytes:
    if not is_plain(member):
        raise ImageError("a link or another special member, which is not followed")
    if member.size > max_bytes:
        raise ImageError(f"{member.size} bytes, over the limit of {max_bytes}")
    stream.seek(member.offset_data)
    data = stream.read(member.size)
    if len(data) < member.size:
        raise ImageError(f"the shard ends within it: {len(data)} of {member.size} bytes are there")
    return data


def without_samples(part: str, uris: Collection[str], copy: str) -> tuple[int, set[str]]:
    """Writes a copy of a shard without the samples of the uris; how many samples it has, and which uris the shard had.

    No copy where no sample would be left, or where the shard has none of the uris. Of shards that ShardWriter wrote.
    """
    by_key = {key_of(uri): uri for uri in uris}
    with open_shard(part) as stream:
        keys = {key_of_member(member.name)[0] for member in members(stream)}
        found = {by_key[key] for key in keys & by_key.keys()}
        left = len(keys) - len(found)
        if found and left:
            writer = ShardWriter(copy)
            try:
                stream.seek(0)
                for member in members(stream):
                    if key_of_member(member.name)[0] not in by_key:
                        stream.seek(member.offset_data)
                        writer.copy(member, stream)
            except BaseException:
                writer.abandon()
                raise
            writer.close()
    return left, found
