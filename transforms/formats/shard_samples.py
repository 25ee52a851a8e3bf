"""The samples of a WebDataset shard as inputs: a photo with the other members of its sample, which stay with it.

A sample is what members of one name, up to its first dot, hold, one behind the other. Its picture is worked on; text
beside it (.txt, .cls, .json ...) is copied byte for byte. What may hold another picture, or is not understood, is
refused by name, for nobody would look for faces in it.
Source: https://github.com/webdataset/webdataset (base_plus_ext, group_by_keys).
"""

import fnmatch
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from mien.models.errors import ImageError
from mien.transforms.elements import Failure, ListedFile, Member
from mien.transforms.formats.tar_members import is_plain, kind_of, members, open_shard
from mien.transforms.stores import join, safe_name
from mien.transforms.workers import failure_of

RECORD = ".mien.json"  # what mien says about a sample's photo
MAX_OTHERS = 64_000_000  # bytes of a sample's other members, which are held at once
_DROP = "leave it out with --drop-members"
_LONG_WORD = re.compile(rb"[A-Za-z0-9+/_=-]{1000}")  # base64 and hexadecimal digits; no word and no link is so long
# how pictures begin in base64: JPEG, PNG, GIF, RIFF (WebP); and a data: URI of one
_ENCODED = re.compile(rb"data:(?:image|video)/|/9j/[A-Za-z0-9+/]{40}|iVBORw0KGg|R0lGOD[dl]h|UklGR[A-Za-z0-9+/]{40}")


def key_of_member(name: str) -> tuple[str, str]:
    """A member's key and its suffix: a/b.c.jpg -> a/b, .c.jpg."""
    folder, slash, file = name.rpartition("/")
    key, dot, rest = file.partition(".")
    return f"{folder}{slash}{key}", f"{dot}{rest}".lower()


def ending_of(suffix: str) -> str:
    """What tells a member's kind: .c.jpg -> .jpg."""
    return posixpath.splitext(f"x{suffix}")[1]


def is_dropped(name: str, patterns: Collection[str]) -> bool:
    """Whether a member, or a table's column, is one that the patterns name: by its suffix, with or without the dot, or
    by a glob of its whole name."""
    suffix = key_of_member(name)[1].lstrip(".")
    return any(
        fnmatch.fnmatchcase(name, pattern) or (suffix and fnmatch.fnmatchcase(suffix, pattern.lower().lstrip(".")))
        for pattern in patterns
    )


def check_text(name: str, data: bytes, what: str = "its member") -> None:
    """ImageError for what is no text in UTF-8, or may have a picture written into it in base64 or hexadecimal."""
    try:
        data.decode()
    except UnicodeDecodeError:
        told = "is no text in UTF-8, and may hold a picture"
    else:
        if b"\0" not in data and not _ENCODED.search(data) and not _LONG_WORD.search(data):
            return
        told = "may hold a picture, written as text"
    raise ImageError(f"{what} {name!r} {told}: {_DROP}")


def list_samples(
    shard: ListedFile, suffixes: Collection[str], dropped: Sequence[str] = (), counts: Counter[str] | None = None
) -> Iterator[ListedFile | Failure]:
    """The photos of a shard, as list_members gives them, each with its sample's key and other members.

    suffixes: of pictures, in small letters. dropped: members that are left out, see is_dropped; what mien itself said
    about an earlier photo is too. counts: is added to, by their suffix, how many members are of no sample.

    A Failure, one each: a sample without a picture, with two, with two members of one name, a link, over MAX_OTHERS, or
    a name that is no place in a folder; one whose key was there before; one within which the shard ends; the shard that
    is cut or damaged. Holds the keys of a shard, and no data.
    """
    seen: set[str] = set()
    group: list[tarfile.TarInfo] = []
    key = ""
    try:
        with open_shard(shard.uri) as stream:
            for key, found in groupby(members(stream), lambda member: key_of_member(member.name)[0]):
                group = []
                for member in found:
                    group.append(member)
                yield from _entries(shard, key, group, suffixes, dropped, seen, counts)
                group = []
    except Exception as error:
        if any(not member.isdir() for member in group):
            yield failure_of(join(shard.uri, _place(group[0].name)), "list", ImageError("the shard ends within it"))
        yield failure_of(shard.uri, "list", error)


def _place(name: str) -> str:
    while name.startswith("./"):
        name = name[2:].lstrip("/")
    return name


def _entries(
    shard: ListedFile,
    key: str,
    group: Sequence[tarfile.TarInfo],
    suffixes: Collection[str],
    dropped: Sequence[str],
    seen: set[str],
    counts: Counter[str] | None,
) -> Iterator[ListedFile | Failure]:
    """What list_samples gives for the members of one key."""
    kept = []
    for member in group:
        suffix = key_of_member(member.name)[1]
        if member.isdir() or is_dropped(member.name, dropped) or suffix == RECORD:
            continue
        if (key.endswith("/") or not key or not suffix) and ending_of(suffix) not in suffixes:
            if counts is not None:  # such as .DS_Store or README: of no sample
                counts[kind_of(ending_of(suffix), counts)] += 1
            continue
        kept.append(member)
    if not kept:
        return
    pictures = [member for member in kept if ending_of(key_of_member(member.name)[1]) in suffixes]
    first = (pictures or kept)[0]
    uri = join(shard.uri, _place(first.name if pictures else key))
    others = [member for member in kept if member is not first]
    if reason := _refusal(key, kept, pictures, seen):
        yield failure_of(uri, "list", ImageError(reason))
    else:
        about = tuple(Member(member.name, member.size, member.offset_data) for member in others)
        own = safe_name(f"{shard.name}/{_place(first.name)}")
        start = first.offset_data
        yield ListedFile(uri, own, first.size, shard.modified, shard=shard.uri, start=start, key=key, members=about)
    seen.add(_place(key))


def _refusal(
    key: str, kept: Sequence[tarfile.TarInfo], pictures: Sequence[tarfile.TarInfo], seen: Collection[str]
) -> str:
    """Why a sample cannot be worked on and kept whole; empty where it can."""
    place, names = _place(key), [member.name for member in kept]
    if not key or key.endswith("/") or safe_name(place) != place or not _is_utf8(names):
        return f"{names[0]!r} has no name that a sample can have"
    if place in seen:
        return f"the shard has a sample {place!r} before it"
    if not pictures:
        return f"a sample without a picture: {', '.join(map(repr, names[:3]))} is not written"
    for member in kept:
        if not is_plain(member):
            return f"{member.name!r} is a link or another special member, which is not followed"
        if names.count(member.name) > 1:
            return f"the shard has two members {member.name!r}"
    if len(pictures) > 1:
        second = pictures[1].name
        return (
            f"its sample has a second picture, {second!r}: {_DROP} {key_of_member(second)[1]}, or take --format files"
        )
    total = sum(member.size for member in kept) - pictures[0].size
    if total > MAX_OTHERS:
        large = max((member for member in kept if member is not pictures[0]), key=lambda member: member.size)
        return f"{total} bytes beside its picture, over the limit of {MAX_OTHERS}: {large.name!r}: {_DROP}"
    return ""


def _is_utf8(names: Sequence[str]) -> bool:
    """Whether the names can travel as strings; tarfile reads other bytes as surrogates."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return False
    return True
