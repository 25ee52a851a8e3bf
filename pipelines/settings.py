"""What a job does, as one value: what its composite does (mien.transforms.settings), and what the job reads and writes.

Like those it loads neither Beam nor torch.
"""

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from mien.transforms.settings import (
    Choice,
    CompressSettings,
    Flag,
    MagnifySettings,
    Number,
    RedactSettings,
    Settings,
    SettingsError,
)

SHARDS = "webdataset"
FileBytes = Annotated[int, Number(1, 2**31)]
MAX_BYTES = 200_000_000


@dataclass(frozen=True, kw_only=True)
class CompressJob(CompressSettings):
    """Of mien compress. format: tables, an image a photo, or tar shards; record_uris: into shards each photo's whole
    URI, not its name alone; max_bytes: of a file that is read."""

    format: Annotated[str, Choice(("parquet", "blobs", SHARDS))] = "parquet"
    record_uris: Annotated[bool, Flag()] = False
    max_bytes: FileBytes = MAX_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_uris(self)


@dataclass(frozen=True, kw_only=True)
class RedactJob(RedactSettings):
    """Of mien redact: format: an image a photo, or tar shards. The others as in CompressJob."""

    format: Annotated[str, Choice(("files", SHARDS))] = "files"
    record_uris: Annotated[bool, Flag()] = False
    max_bytes: FileBytes = MAX_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_uris(self)
        if self.write_boxes != "none" and self.format == SHARDS:
            raise SettingsError("--write-boxes is of --format files")


@dataclass(frozen=True, kw_only=True)
class MagnifyJob(MagnifySettings):
    """Of mien magnify: as in CompressJob."""

    max_bytes: FileBytes = MAX_BYTES


def _check_uris(job: CompressJob | RedactJob) -> None:
    """SettingsError for --record-uris where no shard is written: tables always have the URI, other files never do."""
    if job.record_uris and job.format != SHARDS:
        raise SettingsError(f"--record-uris is of --format {SHARDS}")


S = TypeVar("S", bound=Settings)


def settings_of(kind: type[S], args: argparse.Namespace, **own: Any) -> S:
    """The settings of a command line: each field has the option of its name, or its default; or what is in own.

    SettingsError for a value that cannot be.
    """
    given = {each.name: getattr(args, each.name, None) for each in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in given.items() if value is not None} | own)
