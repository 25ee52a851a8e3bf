"""mien report: what became of the photos of one or several runs, as one page; made from their outputs alone."""

import argparse
import sys

from apache_beam.io.filesystems import FileSystems

from mien.pipelines import JobError
from mien.pipelines.reports.report_page import page
from mien.pipelines.reports.report_runs import read_run
from mien.transforms.stores import normal_uri, printable, read_bytes, write_whole

_MARK = b"<title>mien report</title>"


def run(args: argparse.Namespace) -> int:
    """Writes the page; 0. Raises JobError for a folder without a run and for a page that cannot be written."""
    output = normal_uri(args.output)
    runs = [read_run(folder) for folder in dict.fromkeys(normal_uri(uri) for uri in args.runs)]
    try:
        if FileSystems.exists(output) and _MARK not in read_bytes(output)[:100_000]:
            raise JobError(f"{output} is there, and is no report of mien's")
        data = page(runs, args.quiet).encode()
        write_whole(output, data)
    except OSError as error:
        raise JobError(f"{output}: cannot be written: {error.strerror or error}") from error
    if not args.quiet:
        photos = sum(len(one.photos) for one in runs)
        print(printable(f"{photos} photos, {len(data):,} bytes in {output}"), file=sys.stderr)
    return 0
