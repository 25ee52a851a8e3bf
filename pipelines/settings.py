"""What a job does, as one value: what its composite does (mien.transforms.settings), and what the job reads and writes.

Like those it loads neither Beam nor torch.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from mien.transforms.setting_kinds import Choice, Flag, Number, Texts
from mien.transforms.settings import CompressSettings, MagnifySettings, RedactSettings, Settings, SettingsError

if TYPE_CHECKING:
    from mien.transforms.formats import PhotoColumn

SHARDS, TABLES = "webdataset", "parquet"
FileBytes = Annotated[int, Number(1, 2**31)]
MAX_BYTES = 200_000_000


@dataclass(frozen=True, kw_only=True)
class PhotoJob(Settings):
    """Of the jobs that read photos and may write them among what they came with.

    record_uris: into shards and tables each photo's whole URI, not its name alone; drop_members: members of samples, or
    columns of tables, that are left out, by suffix or a glob of the name; column: of the tables that are read, Parquet
    or CSV, the one with the photos; kind: bytes, or uri for paths and URIs, auto: as the column's type says;
    max_bytes: of a file that is read.
    """

    format: str = ""
    column: str = ""
    kind: Annotated[str, Choice(("auto", "bytes", "uri"))] = "auto"
    record_uris: Annotated[bool, Flag()] = False
    drop_members: Annotated[Sequence[str], Texts("pattern")] = ()
    max_bytes: FileBytes = MAX_BYTES

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.record_uris and not self._records_uris:
            raise SettingsError(f"--record-uris is of --format {SHARDS}")
        if self.drop_members and self.format != SHARDS and not self._passes_on:
            raise SettingsError(f"--drop-members is of --format {SHARDS}, and of tables in and out")
        if self.kind != "auto" and not self.column:
            raise SettingsError("--kind is of the photos' column: name it with --column")

    @property
    def _records_uris(self) -> bool:
        """Whether URIs are left out unless they are asked for: tables of coded photos always have them, files never."""
        return self.format == SHARDS

    @property
    def _passes_on(self) -> bool:
        """Whether the other columns of tables go on."""
        return self.format == TABLES and bool(self.column)

    @property
    def photo_column(self) -> "PhotoColumn | None":
        """Where the photos are in tables, if tables are read."""
        from mien.transforms.formats import PhotoColumn

        kind = "" if self.kind == "auto" else self.kind
        return PhotoColumn(self.column, kind, tuple(self.drop_members), self._passes_on) if self.column else None

    @property
    def whole(self) -> Sequence[str] | None:
        """What of a shard's samples is left out, where they stay whole, as ListFiles takes it."""
        return self.drop_members if self.format == SHARDS else None


@dataclass(frozen=True, kw_only=True)
class CompressJob(CompressSettings, PhotoJob):
    """Of mien compress. format: tables, an image a photo, or tar shards."""

    format: Annotated[str, Choice((TABLES, "blobs", SHARDS))] = TABLES


@dataclass(frozen=True, kw_only=True)
class RedactJob(RedactSettings, PhotoJob):
    """Of mien redact. format: an image a photo, tar shards, or tables of the columns that the photos came with."""

    format: Annotated[str, Choice(("files", SHARDS, TABLES))] = "files"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.format == TABLES and not self.column:
            raise SettingsError(f"--format {TABLES} is of photos that come in tables: name their column with --column")
        if self.write_boxes != "none" and self.format != "files":
            raise SettingsError("--write-boxes is of --format files")

    @property
    def _records_uris(self) -> bool:
        return self.format in (SHARDS, TABLES)


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
