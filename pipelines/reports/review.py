"""mien review: a page on which a person looks through a run's photos and says what is to be done otherwise."""

import argparse
import contextlib
import hashlib
import json
import sys
import threading
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from mien.models.privacy import REDACTIONS
from mien.pipelines import JobError
from mien.pipelines.reports.report_runs import WITHHELD
from mien.pipelines.reports.review_photos import Looked, Pictures, Reviewed, original, read_reviewed
from mien.pipelines.reports.review_server import ConflictError, ReviewServer
from mien.transforms.page import data_uri, render
from mien.transforms.policy import SHOWS, PhotoCorrections, parse_corrections
from mien.transforms.preview import COLOURS
from mien.transforms.settings import GENERATED
from mien.transforms.steps import VERSION
from mien.transforms.stores import exists, join, normal_uri, printable, read_bytes, write_whole

FILE = "corrections.jsonl"  # in the run's folder
LISTED, SERVED = 1000, 20_000  # photos at most, of a page that is a file and of one that is served
BYTES = 200_000_000  # of all pictures of a page that is a file
_MARK = b"<title>mien review</title>"


def run(args: argparse.Namespace) -> int:
    """Writes the page, or serves it until Ctrl-C; 0. Raises JobError for a folder without a run of redact."""
    if not args.output and not args.serve:
        raise JobError("--output FILE.html or --serve is needed")
    review = Review([normal_uri(uri) for uri in args.runs], args.show_faces, SERVED if args.serve else LISTED)
    if args.output:
        _write(review, normal_uri(args.output), args.quiet)
    if args.serve:
        with ReviewServer(review.served, review.look, review.save) as server, contextlib.suppress(KeyboardInterrupt):
            print(server.url, flush=True)
            if not args.quiet:
                print("Only this machine can open the page; Ctrl-C ends it.", file=sys.stderr)
            server.serve_forever()
    return 0


def _write(review: "Review", output: str, quiet: bool) -> None:
    try:
        if exists(output) and _MARK not in read_bytes(output)[:100_000]:
            raise JobError(f"{output} is there, and is no review of mien's")
        data = review.page(review.filled(quiet), False).encode()
        write_whole(output, data)
    except OSError as error:
        raise JobError(f"{output}: cannot be written: {error.strerror or error}") from error
    if not quiet:
        print(printable(f"{len(review.shown)} photos, {len(data):,} bytes in {output}"), file=sys.stderr)


class Review:
    """The photos of one or several runs, with the corrections so far.

    show_faces: in the pictures, which are then of the originals. most: photos on the page. Raises JobError for a photo
    that is in two of the runs and CorrectionsError for corrections so far that cannot be read.
    """

    def __init__(self, folders: Sequence[str], show_faces: bool, most: int) -> None:
        self._folders = list(dict.fromkeys(folders))
        found = [photo for folder in self._folders for photo in read_reviewed(folder)]
        self._of = {photo.seen.uri: photo for photo in found}
        if len(self._of) < len(found):
            raise JobError("a photo is in two of the runs: review them one by one")
        found.sort(key=lambda photo: (-sum(weight for weight, _ in photo.doubts), photo.seen.uri))
        self._left_out = max(0, len(found) - most)
        self._photos = found[:most]
        self._faces = show_faces
        self._pictures = Pictures(self._photos, show_faces)
        self._states = {photo.seen.uri: _state(photo) for photo in self._photos}
        self._lock = threading.Lock()
        self._saved()  # CorrectionsError now, not after an evening's work

    @property
    def shown(self) -> list[dict[str, Any]]:
        """What the page knows of each photo, without its picture."""
        return [self._shown(photo) for photo in self._photos]

    def filled(self, quiet: bool) -> list[dict[str, Any]]:
        """The same with pictures, as far as BYTES reach."""
        size, found = 0, []
        for photo in tqdm(self._photos, desc="pictures", leave=False, disable=quiet or None):
            looked = self._pictures.look(photo) if size < BYTES else Looked(note="the page is full: use --serve")
            size += len(looked.picture)
            picture = data_uri(looked.picture, "webp") if looked.picture else ""
            found.append(self._shown(photo) | {"frame": looked.frame, "picture": picture, "note": looked.note})
        return found

    def served(self) -> bytes:
        """The page whose pictures are fetched and whose corrections are posted."""
        return self.page(self.shown, True).encode()

    def look(self, number: int) -> Looked:
        """A photo by its place on the page. IndexError."""
        return self._pictures.look(self._photos[number])

    def page(self, photos: list[dict[str, Any]], served: bool) -> str:
        """The page: a file by itself, or one whose pictures are fetched and whose corrections are posted."""
        corrections, digest = self._saved()
        lines = [json.loads(one.line()) for _, photo in corrections.values() for one in photo.corrections]
        generated = {face["action"] for photo in self._photos for face in photo.seen.faces or ()} & GENERATED
        data = {
            "photos": photos,
            "corrections": lines,
            "digest": digest,
            "served": served,
            "actions": [action for action in SHOWS if action in (*REDACTIONS, "keep", *generated)],
        }
        return render(
            "review.html",
            data=data,
            colours=COLOURS,
            served=served,
            show_faces=self._faces,
            left_out=self._left_out,
            version=VERSION,
        )

    def save(self, data: bytes, digest: str) -> str:
        """Writes all corrections into the folders of their runs; the digest of what is saved.

        digest: of what was saved when the page was loaded or last saved. Raises ConflictError where that has changed,
        CorrectionsError and JobError for corrections that are of no photo of these runs or cannot be meant.
        """
        with self._lock:
            before, was = self._saved()
            if digest != was:
                raise ConflictError("saved elsewhere meanwhile: download yours, then load the page again")
            corrections = parse_corrections(data, "corrections")
            by_folder: dict[str, list[str]] = {folder: [] for folder in self._folders}
            for uri, photo in corrections.photos.items():
                if photo.problem:
                    raise JobError(f"{uri}: {photo.problem}")
                folder, old = before.get(uri, ("", PhotoCorrections()))
                for one in photo.corrections:
                    if one not in old.corrections and (one.size, one.modified) != self._states.get(uri):
                        raise JobError(f"{uri}: no photo of these runs, or not as they have it")
                folder = self._of[uri].folder if uri in self._of else folder
                by_folder[folder] += [one.line() for one in photo.corrections]
            for folder, lines in by_folder.items():
                path = join(folder, FILE)
                if lines or exists(path):
                    write_whole(path, "".join(f"{line}\n" for line in lines).encode())
            return self._saved()[1]

    def _saved(self) -> tuple[dict[str, tuple[str, PhotoCorrections]], str]:
        """The corrections so far by uri, each with the folder that has them, and the digest of their files, which is
        empty where there is none."""
        found: dict[str, tuple[str, PhotoCorrections]] = {}
        digests = []
        for folder in self._folders:
            path = join(folder, FILE)
            data = read_bytes(path) if exists(path) else b""
            digests.append(hashlib.sha256(data).hexdigest() if data else "")
            for uri, photo in parse_corrections(data, path).photos.items():
                if photo.problem or uri in found:
                    raise JobError(f"{path}: {uri}: {photo.problem or 'is in the corrections of another run too'}")
                found[uri] = folder, photo
        return found, ",".join(digests) if any(digests) else ""

    def _shown(self, photo: Reviewed) -> dict[str, Any]:
        seen, state = photo.seen, self._states[photo.seen.uri]
        return {
            "uri": seen.uri,
            "state": seen.state,
            "size": state[0] if state else None,
            "modified": state[1] if state else None,
            "frame": None,
            "faces": [
                {name: face.get(name) for name in ("box", "action", "rule", "decided", "score", "doubted")}
                for face in seen.faces or ()
            ],
            "places": photo.places,
            "message": seen.message,
            "releasable": photo.releasable,
            "doubts": [why for _, why in photo.doubts],
        }


def _state(photo: Reviewed) -> tuple[int, float] | None:
    """Size and time of the original: as the run has it, of a withheld photo as it is now."""
    seen = photo.seen
    if seen.state != WITHHELD and seen.source is not None and seen.modified is not None:
        return seen.source, seen.modified
    try:
        file = original(seen.uri)
    except Exception:  # a store that is away: its photos can be looked at, no more
        return None
    return (file.size, file.modified) if file else None
