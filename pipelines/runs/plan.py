"""What one job does, whoever runs it: what it takes, the settings that decide what its outputs are, the pipeline."""

import functools
import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from mien.pipelines.runs.resume import Wanted, fingerprint
from mien.transforms.elements import PhotosAndFailures
from mien.transforms.formats import PhotoColumn
from mien.transforms.policy import Corrections
from mien.transforms.settings import Settings
from mien.transforms.sources import CODED_SUFFIXES


@dataclass(frozen=True)
class Plan:
    """What one job does.

    suffixes: of the files that it takes from folders. settings, model, weights: all that decides what a photo's output
    is; weights: the digests of those that are not the package's. work: the pipeline from the ListedFile that are left,
    and all of them, to the Written, failures included. decided: the names of recorded settings that only decide on
    faces; same: whether faces of an index row are decided on as before (see resume.Wanted). withdraw: whether an output
    of a photo that is now withheld is deleted. parts: whether it writes tables or shards, many photos in a file. dry:
    nothing is made that a later run could take for done. reads: what workers read beside the photos, as paths and URIs.
    check: raises MienError where what the work needs, its models, cannot be used; called if anything is left to do.
    whole, column: as in ListFiles.
    corrections: of a reviewer, of which each photo's are in its own fingerprint and in no other's.
    """

    command: str
    suffixes: frozenset[str]
    settings: Settings
    model: str
    work: Callable[[PhotosAndFailures, beam.PCollection], PhotosAndFailures]
    decided: tuple[str, ...] = ()
    same: Callable[[list[dict[str, Any]]], bool] | None = None
    withdraw: bool = False
    parts: bool = False
    dry: bool = False
    reads: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[], object] = lambda: None
    whole: Sequence[str] | None = None
    column: PhotoColumn | None = None
    corrections: Corrections | None = None

    @functools.cached_property
    def recorded(self) -> dict[str, Any]:
        """All that decides what a photo's output is, as run.json and the fingerprint have it."""
        weights = {"weights": dict(self.weights)} if self.weights else {}
        return self.settings.recorded() | {"model": self.model, "version": version_of("mien")} | weights

    @property
    def tables(self) -> bool:
        """Whether what it reads holds coded photos, many in a file."""
        return self.suffixes is CODED_SUFFIXES

    @property
    def kind(self) -> str:
        """The name of its record, without the suffix."""
        return "dry-run" if self.dry else "run"

    @property
    def wanted(self) -> Wanted:
        """How an output must have been made to be done."""
        base = {name: value for name, value in self.recorded.items() if name not in self.decided}
        return Wanted(fingerprint(self.recorded), fingerprint(base) if self.decided else "", self.same)


def version_of(package: str) -> str | None:
    """The installed package's version; None where it is not."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_codec() -> None:
    """WeightsError where the codec, or what tells faces from what is none, cannot be used."""
    from mien.models.codec import FaceCodec  # brings torch, which a job that has nothing to do does without
    from mien.models.faces import check_reading

    check_reading(FaceCodec.load().recogniser)
