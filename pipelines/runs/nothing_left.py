"""A look at the index before anything is started: a scheduled run that finds all photos done needs no worker."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator

from mien.pipelines.runs.index import FAILED_FILES, INDEX, Row, failure_row_of, index_row_of, rows_of, run_of
from mien.pipelines.runs.resume import OutputState, Wanted, is_done, latest
from mien.transforms.elements import ListedFile
from mien.transforms.formats import is_shard
from mien.transforms.stores import files_named, key_of, stat_file

MAX_INDEX = 64_000_000  # bytes of index and failures files that are looked at here: 100,000 photos; Beam takes more


def all_done(
    files: Iterator[object], output: str, wanted: Wanted, check: bool, covers: Callable[[str], bool]
) -> Counter[str] | None:
    """The counters of a run in which every photo is done already.

    None where any is left, has no original any more or could not be listed, and where only the way through Beam can
    tell: photos in shards, or in tables some of whose photos are looked up one by one.

    files: what the inputs list (ListedFile and Failure). wanted, check, covers: as for
    PendingFiles.
    """
    index, failures = (files_named(output, kind, ".jsonl") for kind in (INDEX, FAILED_FILES))
    sizes = [found[0] for path in (*index, *failures) if (found := stat_file(path))]
    if not index or sum(sizes) > MAX_INDEX:
        return None
    state = OutputState.of(output, check)
    if state.looked:
        return None
    counters: Counter[str] = Counter()
    rows, failed = (_by_key(paths, parse, counters) for paths, parse in _kinds(index, failures))
    done: set[str] = set()
    for file in files:
        if not isinstance(file, ListedFile) or is_shard(file.uri):
            return None
        key = key_of(file.uri)
        if key in done:
            continue
        newest = max(failed.get(key, ()), key=lambda row: str(row["run"]), default=None)
        if not is_done(file, latest(rows.get(key, ())), newest, (), wanted, state):
            return None
        done.add(key)
    for key in rows.keys() - done:
        row = latest(rows[key])
        if row is not None and covers(row["uri"]) and state.has_some(row, ()):
            return None
    counters["photos_skipped"] = len(done)
    return counters


def _kinds(index: list[str], failures: list[str]) -> list[tuple[list[str], Callable[[bytes], Row]]]:
    return [(index, index_row_of), (failures, failure_row_of)]


def _by_key(paths: list[str], parse: Callable[[bytes], Row], counters: Counter[str]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = defaultdict(list)
    for path in paths:
        run = run_of(path)
        for row in rows_of(path, parse):
            if row is None:
                counters["rows_damaged"] += 1
            else:
                found[key_of(row["uri"])].append({**row, "run": run})
    return found
