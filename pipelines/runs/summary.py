"""What a run has to say when it ends: its figures, in one line, and why something did not work, in one line."""

import re
from typing import Any

from apache_beam.metrics import MetricsFilter
from apache_beam.runners.runner import PipelineResult

from mien.transforms.workers import NAMESPACE


def metrics_of(result: PipelineResult) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
    """Counters by name, summed over the pipeline's steps, and distributions by name."""
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    counters: dict[str, int] = {}
    for counter in found["counters"]:
        counters[counter.key.metric.name] = counters.get(counter.key.metric.name, 0) + (counter.result or 0)
    spread: dict[str, dict[str, int]] = {}
    for entry in found["distributions"]:
        if (of := entry.result) is not None and of.count:
            so_far = spread.get(entry.key.metric.name, {"count": 0, "sum": 0, "min": of.min, "max": of.max})
            spread[entry.key.metric.name] = {
                "count": so_far["count"] + of.count,
                "sum": so_far["sum"] + of.sum,
                "min": min(so_far["min"], of.min),
                "max": max(so_far["max"], of.max),
            }
    return counters, spread


def summary_of(record: dict[str, Any]) -> str:
    """What run.json says, in one line for the terminal."""
    counts, size = record["counts"], record["bytes"]
    passed = "passed over" if record["only_failed"] else "done before"
    skipped = f", {counts['skipped']} {passed}" if counts["skipped"] else ""
    told = [
        (counts["replaced"], "outputs of earlier runs deleted"),
        (counts["pruned"], "outputs without an original deleted (--prune)"),
        (counts["orphans"] - counts["pruned"], "outputs without an original left (--prune deletes what mien wrote)"),
        (counts["damaged"], "damaged index rows or parts passed over"),
    ]
    more = "".join(f"; {count} {text}" for count, text in told if count)
    lost = counts["withheld"] + counts["failed"]
    failed = f"; {lost} not: see {record['failures']}" if lost else ""
    doubt = f" ({counts['in_doubt']} in doubt)" if counts["in_doubt"] else ""
    pages, floats = counts.get("pages_left_out"), counts.get("floats_stretched")
    left = f"; {pages} further pages of TIFF files left out" if pages else ""
    left += f"; {floats} TIFF files of floats, which do not say what white is" if floats else ""
    left += f"; {below} photos need no more than was allowed" if (below := counts.get("below_budget")) else ""
    return (
        f"{counts['out']} of {counts['in']} photos{skipped}, {counts['faces']} faces{doubt}, {size['in']:,} bytes in, "
        f"{size['out']:,} out{_a_photo(record)}, {record['seconds']:.1f} s{left}{failed}{more}"
    )


def _a_photo(record: dict[str, Any]) -> str:
    """Of mien compress the mean of the coded photos and, where all came through, the ratio to their source files."""
    of = record["spread"].get("photo_bytes")
    if record["command"] != "compress" or not of or not of["sum"]:
        return ""
    whole = not record["counts"]["withheld"] + record["counts"]["failed"]
    ratio = record["bytes"]["in"] / of["sum"]
    return f" ({of['sum'] / of['count']:,.0f} bytes a photo" + (f", 1 : {ratio:,.3g})" if whole else ")")


def why_not_listed(error: BaseException) -> str:
    """As reason_of. A folder of a store that is not there lists as empty: that nothing is found is said of a bucket."""
    details = getattr(error, "exception_details", None)
    cause = next(iter(details.values())) if isinstance(details, dict) and details else error
    if getattr(cause, "code", None) == 404 or 404 in cause.args:
        return "no such bucket"
    return reason_of(error)


def reason_of(error: BaseException) -> str:
    """What happened, in one line. Beam packs a store's errors into its own, and puts tracebacks before a message."""
    details = getattr(error, "exception_details", None)
    if isinstance(details, dict) and details:
        return reason_of(next(iter(details.values())))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "Channel closed prematurely" in str(error):
        return "a worker process ended in the middle of its work: it was killed, or memory ran out"
    # Beam wraps an error of a step in another one, and names the step behind it
    said = error.args[0] if error.args and isinstance(error.args[0], str) else error  # S3's have a number beside it
    text = re.sub(r" \[while running '.*'\]$", "", str(said).strip())
    lines = [line.strip().removeprefix("RuntimeError: ") for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__
