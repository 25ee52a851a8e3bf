"""What travels between the stages: frozen dataclasses with a Beam schema, so that they cross workers.

Beam's row coder gives sequences back as lists; each class turns them into tuples again, so that a value that crossed a
worker equals the one that did not.
"""

import dataclasses
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from apache_beam import PCollection, coders
from apache_beam.typehints import row_type, schemas

from mien.models.faces import FACE_KIND, Face

if TYPE_CHECKING:
    from mien.models.privacy import Hidden

FAILURES = "failures"

Pixels = npt.NDArray[np.uint8]
Measured: TypeAlias = dict[str, float | None]


class _Row:
    def __post_init__(self) -> None:
        for part in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, part.name)
            if isinstance(value, list):
                object.__setattr__(self, part.name, tuple(value))

    def __iter__(self) -> Iterator[Any]:
        """The values in order, as Beam's data frames and the writers of Beam YAML take a row."""
        return (getattr(self, part.name) for part in dataclasses.fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Member(_Row):
    """A member of a tar. name: as it stands there; size: bytes of its data, which start at that byte."""

    name: str
    size: int
    start: int


@dataclass(frozen=True)
class ListedFile(_Row):
    """A file that was found but not yet read: bytes, and when it was last changed (Unix seconds).

    name: its path relative to the common root of all inputs; what the output is named after. photos: how many it holds.
    ours: an earlier run of the same job has written its output, which may be replaced. shard, start: of a member of a
    tar, the tar's uri and where in it, in bytes, the member's data start; modified is the tar's. key, members: of a
    photo whose WebDataset sample is to stay whole, its key and what else is in it. column, group: of a row of a table,
    where its picture is, and its row group; shard is then the table and start the row, from 0. path: of the file that
    the row names, whose size this is; modified is the later one of both. corrections: what a reviewer wants otherwise,
    as text (mien.transforms.policy.PhotoCorrections).
    """

    uri: str
    name: str
    size: int
    modified: float
    photos: int = 1
    ours: bool = False
    shard: str = ""
    start: int = 0
    key: str = ""
    members: tuple[Member, ...] = ()
    column: str = ""
    group: int = 0
    path: str = ""
    corrections: str = ""

    def at(self, path: str, size: int, modified: float) -> "ListedFile":
        """The same, to be read from a file of its own."""
        return dataclasses.replace(self, path=path, size=size, modified=modified)


@dataclass(frozen=True)
class FaceSeed(_Row):
    """The seed of a face's pseudonym, by the face's place.

    box: x, y, width, height in photo pixels, as the search for people found it. sealed: the seed, encrypted with the
    key that the job is given (mien.transforms.policy.pseudonyms).
    """

    box: tuple[float, float, float, float]
    sealed: bytes = field(repr=False)


@dataclass(frozen=True)
class Photo(_Row):
    """An image file's bytes.

    name: what the output is named after; empty: the whole uri without its scheme. origin: the file it was read from.
    seeds: of the pseudonyms of its faces, in any order. spent: milliseconds that each stage took for it so far, by the
    stage's name.
    """

    uri: str
    data: bytes
    name: str = ""
    origin: ListedFile | None = None
    seeds: tuple[FaceSeed, ...] = ()
    spent: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision(_Row):
    """What is to be done with a face, and the rule that says so.

    doubted: whether another rule would have said so if a doubt about a gallery's people had been settled otherwise.
    """

    action: str
    rule: str
    doubted: bool = False


@dataclass(frozen=True)
class CodedFace(_Row):
    """A face as it is stored; see models.container.StoredFace. payload is empty for a face that is not coded. kind: as
    in mien.models.faces.Face; not stored."""

    box: tuple[float, float, float, float]
    transform: tuple[float, ...]
    action: str
    rule: str
    model: str
    payload: bytes
    score: float
    kind: str = FACE_KIND


@dataclass(frozen=True)
class CodedPhoto(_Row):
    """A photo as it is stored: the background with its faces filled in, as an image file, and the faces.

    name, origin, spent: as in Photo.
    """

    uri: str
    source_bytes: int
    width: int
    height: int
    background: bytes
    background_codec: str
    faces: tuple[CodedFace, ...]
    policy: str
    version: str
    name: str = ""
    origin: ListedFile | None = None
    spent: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class HandledFace(_Row):
    """What became of a face of a safe photo.

    box: x, y, width, height in photo pixels. action, rule: what was done, and the policy's rule that said so. decided:
    the rule's own action, which may be another one than could be carried out; empty for a face that was first found
    when the photo was verified. doubted: as in Decision. kind: as in mien.models.faces.Face. The rest: see
    mien.transforms.steps.decide.measures.
    """

    box: tuple[float, float, float, float]
    action: str
    rule: str
    decided: str
    area: float | None = None
    rank: float | None = None
    center: float | None = None
    yaw: float | None = None
    pitch: float | None = None
    score: float | None = None
    sharpness: float | None = None
    doubted: bool = False
    count: float | None = None
    kind: str = FACE_KIND


@dataclass(frozen=True)
class SafePhoto(_Row):
    """A photo that may be shown: an image file's bytes, and what was done with its faces.

    name: of its file, relative to the output folder. policy: the id of the policy. origin, spent: as in Photo. beside,
    beside_data: a file that goes beside it, by what is behind its name, and its bytes; empty: none.
    """

    uri: str
    name: str
    data: bytes
    faces: tuple[HandledFace, ...]
    policy: str
    version: str
    origin: ListedFile | None = None
    spent: Mapping[str, int] = field(default_factory=dict)
    beside: str = ""
    beside_data: bytes = b""


@dataclass(frozen=True)
class MagnifiedFace(_Row):
    """What became of a face of a magnified photo, in one of its pictures.

    sample, face: the picture's and the face's number, from 1. box: x, y, width, height in pixels of the photo. pixels:
    of the aligned face's side, before; factor: how many times as many it has after. magnified: whether it was; else
    reasons say why not. flagged, reasons: why it should be looked at. rms to likeness: as in models.magnify.Magnified.
    payload: of mien's face codec, empty where none was asked for.
    """

    sample: int
    face: int
    box: tuple[float, float, float, float]
    pixels: int
    factor: float
    magnified: bool
    flagged: bool
    reasons: tuple[str, ...]
    rms: float | None = None
    limit: float | None = None
    similarity: float | None = None
    identity_preserved: bool | None = None
    likeness: float | None = None
    payload: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class MagnifiedPhoto(_Row):
    """A photo or an aligned face, magnified: image files, one for each sample, and what became of its faces in each.

    name: of the file that it was made from, relative to the output folder. origin, spent: as in Photo.
    """

    uri: str
    name: str
    image_format: str
    pictures: tuple[bytes, ...]
    faces: tuple[MagnifiedFace, ...]
    version: str
    origin: ListedFile | None = None
    spent: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure(_Row):
    """A photo that did not get through: the stage it failed in, the error's class, and its message in one line."""

    uri: str
    stage: str
    error: str
    message: str


@dataclass(frozen=True)
class OutputFile(_Row):
    """A file of the output as it was written. name: relative to the output folder; size: bytes; modified: Unix seconds;
    sha256: of all of it, as hex digits."""

    name: str
    size: int
    modified: float
    sha256: str


@dataclass(frozen=True)
class Written(_Row):
    """A photo that is safe in the output.

    output: the file that holds it, relative to the output folder. sha256: of its image file, also of one in a shard; of
    a table's row see mien.transforms.formats.parquet.row_digest. faces: of a safe photo. files: all that were written
    for it, none where it lies in a table or shard. bytes: of the output, in a table about so many. actions: faces by
    what was done with them. spent: as in Photo.
    """

    uri: str
    output: str
    origin: ListedFile | None
    sha256: str = ""
    faces: tuple[HandledFace, ...] = ()
    bytes: int = 0
    actions: Mapping[str, int] = field(default_factory=dict)
    spent: Mapping[str, int] = field(default_factory=dict)
    files: tuple[OutputFile, ...] = ()


class _EqualsRowCoder(type):
    """Beam takes a frozen dataclass for a row where its coder's class equals RowCoder, and looks no further."""

    def __eq__(cls, other: object) -> bool:
        return other is coders.RowCoder or other is cls

    __hash__ = type.__hash__


class ElementCoder(coders.RowCoder, metaclass=_EqualsRowCoder):
    """Beam's row coder for one of these classes, which names the class.

    A worker that meets a plain row coder before it has met this module makes up a named tuple, and would go on with it
    (seen with the second process of a local job and with a worker pool, as soon as one photo failed). This coder
    travels as a reference to the class, so that whoever reads it imports the class first.
    """

    def __init__(self, element: type) -> None:
        super().__init__(schemas.schema_from_element_type(element))
        self._element = element

    def as_deterministic_coder(self, step_label: str, error_message: str | None = None) -> coders.Coder:
        """As the row coder does, which is only asked for keys."""
        return coders.RowCoder(self.schema).as_deterministic_coder(step_label, error_message)

    def to_runner_api_parameter(self, context: Any) -> Any:
        """Pickled, by __reduce__."""
        return coders.Coder.to_runner_api_parameter(self, context)

    @classmethod
    def from_type_hint(cls, element: type, registry: Any) -> Any:
        """The coder of a PCollection's element type."""
        return cls(element)

    def __reduce__(self) -> tuple[Any, ...]:
        return ElementCoder, (self._element,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ElementCoder) and self._element is other._element

    def __hash__(self) -> int:
        return hash(self._element)


for _element in (
    Member,
    ListedFile,
    FaceSeed,
    Photo,
    Decision,
    CodedFace,
    CodedPhoto,
    HandledFace,
    SafePhoto,
    MagnifiedFace,
    MagnifiedPhoto,
    Failure,
    OutputFile,
    Written,
):
    # Beam draws a schema's id at random in each process, so that a worker would not know these classes again and would
    # make named tuples of them; an id that follows from the fields is the same everywhere.
    _fields = ",".join(f"{part.name}:{part.type}" for part in dataclasses.fields(_element))
    _id = uuid.uuid5(uuid.NAMESPACE_URL, f"mien/{_element.__name__}?{_fields}")
    setattr(_element, row_type._BEAM_SCHEMA_ID, str(_id))
    coders.registry.register_row(_element)
    coders.registry.register_coder(_element, ElementCoder)


@dataclass(frozen=True)
class PlainPhoto:
    """A photo coded with the own pixels of every face that a policy preserves.

    data: the image file; pixels: what it shows, (H, W, 3) uint8. hidden: what was done to the faces that are not seen.
    room: the file's bytes at most, None where a quality decided; full: whether nothing better was to be had.
    """

    data: bytes
    pixels: Pixels = field(repr=False)
    hidden: "tuple[Hidden, ...]"
    room: int | None
    full: bool


@dataclass(frozen=True)
class PhotoInWork:
    """A photo between decoding and coding. Lives inside one fused stage and has no schema: pixels are never shuffled.

    pixels: (H, W, 3) uint8 RGB. faces, decisions, aligned and coded are of one length once their stage is through;
    aligned holds a (512, 512, 3) uint8 face where one is to be coded and None elsewhere. measured: of each face, see
    mien.transforms.steps.decide.measures. embeddings: (192,) float32 of the recogniser, where a policy asks for them;
    they live here and in galleries alone. new: of each face that another one takes the place of in this very photo,
    what is drawn there. plain: the photo with its preserved faces in their own pixels; ceilings: of each face, bytes of
    its payload at most; both where faces are chosen by what they look like. exif: what of the file's own metadata is to
    be written anew. source: the file, where its blocks are to be kept. seeds, spent: as in Photo.
    """

    uri: str
    name: str
    origin: ListedFile | None
    source_bytes: int
    pixels: Pixels
    faces: tuple[Face, ...] = ()
    decisions: tuple[Decision, ...] = ()
    aligned: tuple[Pixels | None, ...] = ()
    coded: tuple[CodedFace, ...] = ()
    new: tuple[Pixels | None, ...] = ()
    measured: tuple[Measured, ...] = ()
    plain: PlainPhoto | None = field(default=None, repr=False)
    ceilings: tuple[int, ...] = ()
    exif: bytes = b""
    source: bytes = field(default=b"", repr=False)
    seeds: tuple[FaceSeed, ...] = ()
    embeddings: tuple[npt.NDArray[np.float32] | None, ...] = field(default=(), repr=False)
    spent: Mapping[str, int] = field(default_factory=dict)


class PhotosAndFailures(dict[str, PCollection]):
    """Two PCollections, as attributes for Python and as a mapping for Beam and Beam YAML.

    No __init__ of its own: Beam copies it as it copies every mapping.
    """

    def __or__(self, transform: Any) -> Any:
        """Both into the next transform, as with a PCollection."""
        return transform.__ror__(self)

    @property
    def photos(self) -> PCollection:
        """What came through the stage."""
        return self["photos"]

    @property
    def failures(self) -> PCollection:
        """PCollection of Failure."""
        return self[FAILURES]
