"""The sample of a photo in a WebDataset shard, KEY.avif and KEY.mien.json, its way there and back, and a shard as it
grows or loses some.

The key of a photo that came out of a shard is the one that it had there, and what else its sample held stands beside
it. Any other photo's key is made of its uri, so that it has no dots, is the same in every run, and no two photos share
one. Every byte of a shard follows from its samples: the tar's headers tell no time and no user.
Source: https://github.com/webdataset/webdataset (a sample is what members of one name, up to its first dot, hold).
"""

import contextlib
import hashlib
import io
import json
import posixpath
import tarfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, BinaryIO

from mien.models.errors import ImageError
from mien.models.images import image_size
from mien.transforms.elements import CodedPhoto, SafePhoto
from mien.transforms.formats.blobs import blob_of
from mien.transforms.formats.shard_samples import RECORD, ending_of, key_of_member
from mien.transforms.formats.tar_members import is_plain, members, open_shard
from mien.transforms.stores import SUFFIXES, create, key_of, name_under, parse_json

_OLD_RECORD = ".json"  # of shards that mien 0.1 wrote
_MAX_JSON = 16_000_000


@dataclass(frozen=True)
class Sample:
    """key: its members' name. suffix, data: of the image file. about: what mien's record beside it says, {} without
    one. others: name and bytes of its other members."""

    key: str
    suffix: str
    data: bytes
    about: dict[str, Any] = field(default_factory=dict)
    others: tuple[tuple[str, bytes], ...] = ()

    @property
    def photo(self) -> str:
        """The photo by key_of its uri; where the record says none, the sample's key is that."""
        return _photo_of(self.key, self.about)

    @property
    def sha256(self) -> str:
        """Of the image file."""
        return hashlib.sha256(self.data).hexdigest()


def _photo_of(key: str, about: object) -> str:
    told = about.get("id") if isinstance(about, dict) else None
    return told if isinstance(told, str) else key


def sample_of(
    photo: CodedPhoto | SafePhoto, record_uri: bool = False, others: tuple[tuple[str, bytes], ...] = ()
) -> Sample:
    """A coded photo's sample, whose image is what WriteBlobs would write, or a safe photo's. Raises ContainerError.

    record_uri: whether the JSON says where the photo was read; shards are shipped, and its path may name people.
    others: of a photo that came with its sample (ListedFile.key), its other members.
    """
    key, middle = key_of(photo.uri), ""
    about = about_of(photo, record_uri)
    if photo.origin and photo.origin.key:
        about = {"id": key, **about}
        key = photo.origin.key
        middle = posixpath.splitext(f"x.{photo.uri.rpartition('/')[2].partition('.')[2]}")[0][1:]
    if isinstance(photo, SafePhoto):
        suffix, data = posixpath.splitext(photo.name)[1], photo.data
    else:
        suffix, data = SUFFIXES[photo.background_codec], blob_of(photo)
    return Sample(key, f"{middle}{suffix}", data, about, others)


def about_of(photo: CodedPhoto | SafePhoto, record_uri: bool = False) -> dict[str, Any]:
    """What mien says about a photo beside it; record_uri: as for sample_of."""
    about: dict[str, Any] = {"uri": photo.uri} if record_uri else {}
    if isinstance(photo, SafePhoto):
        name, source = posixpath.splitext(photo.name)[0], photo.origin.size if photo.origin else None
        width, height = image_size(photo.data)
        faces = [{**_common(face), "decided": face.decided} for face in photo.faces]
    else:
        name, source = photo.name or name_under("", photo.uri), photo.source_bytes
        width, height = photo.width, photo.height
        faces = [{**_common(face), "model": face.model, "bytes": len(face.payload)} for face in photo.faces]
    about |= {"name": name, "source_bytes": source, "width": width, "height": height, "faces": faces}
    return about | {"policy": photo.policy, "version": photo.version}


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
        self._tar: Any = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.PAX_FORMAT)
        self._keys: set[str] = set()
        self.bytes = 0

    def takes(self, sample: Sample) -> bool:
        """Whether no sample of its key is in the shard."""
        return sample.key not in self._keys

    def add(self, sample: Sample) -> None:
        """Writes a sample."""
        self._keys.add(sample.key)
        about = f"{json.dumps(sample.about, ensure_ascii=False)}\n".encode()
        own = (f"{sample.key}{sample.suffix}", sample.data), (f"{sample.key}{RECORD}", about)
        for name, data in (own[0], *sample.others, own[1]):
            self.copy(_header(name, len(data)), io.BytesIO(data))

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


def count_samples(uri: str, suffixes: Collection[str]) -> int:
    """How many samples of a shard have an image file; what a cut or damage has taken away counts as one more."""
    count = 0
    with open_shard(uri) as stream:
        try:
            for _, group in groupby(members(stream), lambda member: key_of_member(member.name)[0]):
                count += any(ending_of(key_of_member(member.name)[1]) in suffixes for member in group)
        except tarfile.TarError:
            count += 1
    return count


def samples(uri: str, suffixes: Collection[str], max_bytes: int) -> Iterator[Sample | Exception]:
    """The samples of a shard that have an image file, one in memory at a time; the exception in place of one that
    cannot be used. suffixes: of image files, in small letters; max_bytes: of one. Other members are passed over.

    Raises tarfile.TarError, ImageError or OSError for a shard that is none, is damaged or cut, once what is before that
    is out.
    """
    with open_shard(uri) as stream:
        for key, group in groupby(members(stream), lambda member: key_of_member(member.name)[0]):
            suffix, data = "", b""
            records: dict[str, Any] = {}
            problems: dict[str, ImageError] = {}
            try:
                for member in group:
                    kind = key_of_member(member.name)[1]
                    is_record = kind in (RECORD, _OLD_RECORD)
                    if ending_of(kind) not in suffixes and not is_record:
                        continue
                    try:
                        read = _read(stream, member, _MAX_JSON if is_record else max_bytes)
                        if is_record:
                            records[kind] = parse_json(read)
                        else:
                            suffix, data = kind, read
                    except (ImageError, ValueError, RecursionError) as error:
                        suffix = suffix or kind
                        problems[kind] = ImageError(f"{member.name!r}: {error}")
            except tarfile.TarError:
                if records and data and not problems:  # the sample before a cut
                    yield _sample(key, suffix, data, records)
                raise
            if RECORD in records:  # then a .json beside it is anybody's
                problems.pop(_OLD_RECORD, None)
            if suffix:
                yield next(iter(problems.values()), None) or _sample(key, suffix, data, records)


def _sample(key: str, suffix: str, data: bytes, records: dict[str, Any]) -> Sample:
    about = records.get(RECORD, records.get(_OLD_RECORD))
    return Sample(key, suffix, data, about if isinstance(about, dict) else {})


def members_of_shard(part: str, digests: bool) -> Iterator[tuple[str, str]]:
    """(key_of the photo's uri, sha256 of the image file) of each whole sample of a shard that ShardWriter wrote;
    without digests the records alone are read.

    Raises tarfile.TarError, ImageError or OSError for what is damaged or cut.
    """
    if digests:
        for sample in samples(part, set(SUFFIXES.values()), 1 << 31):
            if isinstance(sample, Sample):
                yield sample.photo, sample.sha256
        return
    with open_shard(part) as stream:
        for key, group in groupby(members(stream), lambda member: key_of_member(member.name)[0]):
            whole = list(group)
            if len(whole) > 1:
                yield _photo_of(key, _record(stream, whole)), ""


def _record(stream: BinaryIO, group: Iterable[tarfile.TarInfo]) -> object:
    """What mien's record among a sample's members says; None without one, and of one that cannot be read."""
    for member in group:
        if key_of_member(member.name)[1] == RECORD:
            with contextlib.suppress(ImageError, ValueError, RecursionError):
                return parse_json(_read(stream, member, _MAX_JSON))
    return None


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
        held = []
        for key, group in groupby(members(stream), lambda member: key_of_member(member.name)[0]):
            held.append(_photo_of(key, _record(stream, group)))
        found = {by_key[photo] for photo in by_key.keys() & set(held)}
        left = sum(photo not in by_key for photo in held)
        if found and left:
            writer = ShardWriter(copy)
            try:
                stream.seek(0)
                grouped = groupby(members(stream), lambda member: key_of_member(member.name)[0])
                for photo, (_, group) in zip(held, grouped, strict=True):
                    for member in group:
                        if photo not in by_key:
                            stream.seek(member.offset_data)
                            writer.copy(member, stream)
            except BaseException:
                writer.abandon()
                raise
            writer.close()
    return left, found
