"""Where a photo's output goes: its path relative to the inputs' common root, kept whole, under the output folder. And
how names are shown, which others made up."""

import hashlib
import os
import posixpath
import re
from collections.abc import Iterable
from urllib.parse import unquote

SUFFIXES = {"avif": ".avif", "webp": ".webp", "jpeg": ".jpg", "png": ".png"}  # of image files, by their format
_VANISHING = {"": "%", ".": "%2E", "..": "%2E%2E"}
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]+):/+")
_FILE = re.compile(r"file:(?://(?:localhost)?(?=/)|(?=/(?!/)))", re.IGNORECASE)  # another host is another machine
LONGEST = 255  # bytes of a name, in the file systems that are met
ROOM = 24  # bytes of these for what an output has behind its photo's name: .avif, -2.png, -12-face3.mien
_KEPT_SUFFIX = 16  # bytes of a suffix, at most, that a shortened name keeps


def is_local(uri: str) -> bool:
    """True for a path on this machine, False for gs://, s3:// and their like."""
    return _SCHEME.match(uri) is None


def normal_uri(uri: str) -> str:
    """A local path made absolute, a file: URI too, with its %20 read as a space; another URI without a slash at its
    end."""
    if found := _FILE.match(uri):
        uri = unquote(uri[found.end() :], errors="surrogateescape")
    return os.path.abspath(uri) if is_local(uri) else uri.rstrip("/")


def not_for_photos(uri: str) -> str:
    """Why nothing can be read from a URI of this kind, or written to it; empty for one that may do."""
    scheme = _SCHEME.match(uri)
    kind = scheme[1].lower() if scheme else ""
    if kind in ("http", "https", "ftp", "ftps", "sftp"):
        return f"{kind} is not read or written: fetch the files first, and name their folder"
    if kind == "file":
        return "a file URI of another machine; file:///folder/photo.jpg is one of this"
    return ""


def join(folder: str, name: str) -> str:
    """The path of name in folder, for a local folder and for a URI."""
    return f"{folder.rstrip('/')}/{name}"


def printable(text: str) -> str:
    """A line of text as a terminal may get it, whoever made it up: control characters, line breaks and what turns the
    direction of writing stand there as escapes, as in Python's strings."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def common_root(folders: Iterable[str]) -> str:
    """The deepest folder that holds all the given ones, without a slash at its end; may be empty or a bare scheme."""
    parts = [folder.split("/") for folder in folders]
    shared = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return "/".join(shared)


def name_under(root: str, uri: str) -> str:
    """The safe name of a file below root; of one that is not below it, its whole path without the scheme."""
    if root and uri.startswith(f"{root}/"):
        return safe_name(uri[len(root) + 1 :])
    return safe_name(_SCHEME.sub("", uri))


def safe_name(name: str) -> str:
    """A relative path that stays below whatever folder it is joined to, whoever made the name up.

    Components that would climb or vanish (.., ., nothing) and NUL characters are written with a percent sign, so that
    a//b, which an object store tells from a/b, has a place of its own.
    """
    parts = [part.replace("\0", "%00") for part in name.lstrip("/").split("/")]
    return "/".join(_VANISHING.get(part, part) for part in parts)


def output_name(name: str) -> str:
    """The safe name that a photo's outputs begin with: its own, or, where a suffix behind it would make it longer than
    file systems allow, one that is cut, with a hash of the whole in front of its suffix. So are folders that are too
    long, which only stores and shards have."""
    *folders, file = safe_name(name).split("/")
    return "/".join([*(_shortened(folder, LONGEST) for folder in folders), _shortened(file, LONGEST - ROOM)])


def _shortened(part: str, most: int) -> str:
    data = part.encode(errors="surrogatepass")
    if len(data) <= most:
        return part
    suffix = posixpath.splitext(part)[1]
    kept = suffix if len(suffix.encode(errors="surrogatepass")) <= _KEPT_SUFFIX else ""
    end = f"~{hashlib.sha256(data).hexdigest()[:16]}{kept}"
    return data[: most - len(end.encode(errors="surrogatepass"))].decode(errors="ignore") + end


def key_of(uri: str) -> str:
    """The key of a photo's sample: 32 hex digits of the sha256 of its uri; logs call the photo by the first 12."""
    return hashlib.sha256(uri.encode()).hexdigest()[:32]


def is_safe_name(name: object) -> bool:
    """Whether a name that a record gives, and somebody else may have written there, is one that safe_name gives."""
    if not isinstance(name, str) or name != safe_name(name) or not is_local(name):
        return False
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False
