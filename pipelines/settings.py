"""What a job does, as one value: what its composite does (mien.transforms.settings), and what the job reads and writes.

Like those it loads neither Beam nor torch.
"""

import argparse
import dataclasses
from collections.abc import Sequence
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
    Texts,
)

SHARDS = "webdataset"
FileBytes = Annotated[int, Number(1, 2**31)]
MAX_BYTES = 200_000_000


@dataclass(frozen=True, kw_only=True)
class PhotoJob(Settings):
    """Of the jobs that read photos and may write them among what they came with.

    record_uris: into shards each photo's whole URI, not its name alone; drop_members: what of a sample of a shard is
    left out, by its suffix or a glob of its name; max_bytes: of a file that is read.
    """

    format: str = ""
    record_uris: Annotated[bool, Flag()] = False
    drop_members: Annotated[Sequence[str], Texts("pattern")] = ()
    max_bytes: FileBytes = MAX_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.record_uris and self.format != SHARDS:  # tables always have the URI, other files never do
            raise SettingsError(f"--record-uris is of --format {SHARDS}")
        if self.drop_members and self.format != SHARDS:
            raise SettingsError(f"--drop-members is of --format {SHARDS}")

    @property
    def whole(self) -> Sequence[str] | None:
        """What of a shard's samples is left out, where they stay whole, as ListFiles takes it."""
        return self.drop_members if self.format == SHARDS else None


@dataclass(frozen=True, kw_only=True)
class CompressJob(CompressSettings, PhotoJob):
    """Of mien compress. format: tables, an image a photo, or tar shards."""

    format: Annotated[str, Choice(("parquet", "blobs", SHARDS))] = "parquet"


@dataclass(frozen=True, kw_only=True)
class RedactJob(RedactSettings, PhotoJob):
    """Of mien redact. format: an image a photo, or tar shards."""

    format: Annotated[str, Choice(("files", SHARDS))] = "files"


@dataclass(frozen=True, kw_only=True)
class MagnifyJob(MagnifySettings):
    """Of mien magnify: as in PhotoJob."""

    max_bytes: FileBytes = MAX_BYTES


S = TypeVar("S", bound=Settings)


def settings_of(kind: type[S], args: argparse.Namespace, **own: Any) -> S:
    """The settings of a command line: each field has the option of its name, or its default; or what is in own.

    SettingsError for a value that cannot be.
    """
    given = {each.name: getattr(args, each.name, None) for each in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in given.items() if value is not None} | own)
