"""What each composite does, as one value: checked when it is made, handed whole to the stages, recorded whole.

A new option is a field here (or, if only the job reads it, in mien.pipelines.settings) and a line in the parser of the
command line, which takes the limits and the default from the field: so nothing here loads Beam or torch.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

from mien.models.errors import MienError
from mien.transforms.setting_kinds import (
    NOT_HASHED,
    USUAL_DETECTORS,
    Choice,
    DetectorNames,
    Flag,
    Maybe,
    Names,
    Number,
    Ratio,
    Share,
    is_hashed,
    kind_of,
)

if TYPE_CHECKING:
    from mien.transforms.boxes import BoxFile
    from mien.transforms.policy import KeyFile, Policy
    from mien.transforms.workers import Limits

Effort = Literal["auto", "fast", "good", "best"]
BackgroundCodec = Literal["avif", "webp", "jpeg"]
ImageFormat = Literal["png", "jpeg", "webp", "avif"]
Faces = Literal["auto", "neural", "pixels"]
FACES = get_args(Faces)
QUALITY, PREVIEW_BYTES = 60, 700
EFFORTS, BACKGROUNDS, IMAGE_FORMATS = get_args(Effort), get_args(BackgroundCodec), get_args(ImageFormat)
DETECTORS = ("mediapipe", "centerface")
BOX_FORMATS = ("coco", "yolo", "masks")
METADATA = ("date", "copyright", "artist", "camera", "gps", "heading", "orientation")
GENERATED = frozenset(("realistic", "deidentify"))  # actions under which another face takes the place of the original
# seconds that a photo may take: fast is enough for 500 faces
SECONDS: dict[str, float] = {"auto": 3600.0, "fast": 600.0, "good": 3600.0, "best": 36_000.0}


class SettingsError(MienError, ValueError):
    """A setting outside what it may be."""


def _record_policy(policy: "Policy") -> dict[str, Any]:
    """Of the galleries the digests alone: no name of a person is recorded."""
    from mien.transforms.policy import SHOWN

    return {
        "policy": policy.id,
        "policy_hash": policy.hash,
        "galleries": list(policy.digests.values()),
        "hides": not policy.actions <= SHOWN,
        "mask": policy.mask,
    }


def _record_key(key_file: "KeyFile | None") -> dict[str, Any]:
    """No secret: the key's id, wherever it lies."""
    return {"key_id": key_file.id if key_file else None}


def _record_detectors(detectors: Sequence[str]) -> dict[str, Any]:
    """Of detectors of one's own what tells that their code was changed."""
    from mien.models.faces import detector_digest

    own = {name: detector_digest(name) for name in detectors if name not in DETECTORS}
    return {"detectors": list(detectors)} | ({"own_detectors": own} if own else {})


def _record_boxes(boxes: "BoxFile | None") -> dict[str, Any]:
    """What it says, wherever it lies."""
    return {"boxes": boxes.digest if boxes else None}


_RECORDED: dict[str, Callable[[Any], dict[str, Any]]] = {
    "policy": _record_policy,
    "key_file": _record_key,
    "detectors": _record_detectors,
    "boxes": _record_boxes,
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Of every composite. threads: of one worker process, so one on a runner that starts a process for each core;
    limits: what one photo may take, by default `seconds` and what a worker's memory allows.

    SettingsError for a value that is not of its field's kind.
    """

    threads: Annotated[int, Number(1, 1024), NOT_HASHED] = 1
    limits: Annotated["Limits | None", NOT_HASHED] = None

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            if kind := kind_of(each):
                try:
                    object.__setattr__(self, each.name, kind.check(getattr(self, each.name)))
                except ValueError as error:
                    raise SettingsError(f"{each.name}: {error}") from None

    @property
    def seconds(self) -> float:
        """What a photo may take if nothing is said about it."""
        return SECONDS["fast"]

    @property
    def photo_limits(self) -> "Limits":
        """What a photo may take."""
        from mien.transforms.workers import Limits

        return self.limits or Limits(self.seconds)

    def recorded(self) -> dict[str, Any]:
        """All that decides what a photo's output is, as run.json and the fingerprint have it: every field but those
        that say that they are not hashed."""
        found: dict[str, Any] = {}
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if each.name in _RECORDED:
                found |= _RECORDED[each.name](value)
            elif is_hashed(each):
                found[each.name] = list(value) if isinstance(value, tuple) else value
        return found


@dataclass(frozen=True, kw_only=True)
class FindSettings(Settings):
    """How faces are found. detectors: whose finds are joined with the search in all turns; min_score: what they are
    less sure of is no face; boxes: a file of boxes that are joined to what they find, or its path (BoxesError);
    max_pixels: of a photo."""

    detectors: Annotated[Sequence[str], DetectorNames(DETECTORS, "detector")] = USUAL_DETECTORS
    min_score: Annotated[float, Share()] = 0.0
    boxes: "BoxFile | None" = None
    max_pixels: Annotated[int, Number(1, 2**31)] = 100_000_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.boxes, str):  # as Beam YAML can say it
            from mien.transforms.boxes import BoxFile

            object.__setattr__(self, "boxes", BoxFile.at(self.boxes))
        if not self.detectors and self.boxes is None:
            raise SettingsError(f"detectors: no detector, and no boxes (--boxes); known are {', '.join(DETECTORS)}")

    @property
    def own(self) -> tuple[str, ...]:
        """Those of the detectors that are not mien's."""
        return tuple(name for name in self.detectors if name not in DETECTORS)

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of all that may be found: faces, and what detectors of one's own and the boxes are of."""
        from mien.models.faces import FACE_KIND, detector_kind

        faces = {FACE_KIND} if set(self.detectors) & set(DETECTORS) else set()
        return frozenset(
            faces | {detector_kind(name) for name in self.own} | set(self.boxes.kinds if self.boxes else ())
        )


@dataclass(frozen=True, kw_only=True)
class FaceSettings(FindSettings):
    """What is done with the faces. policy: who stays recognisable; face_bytes: a coded face at most; effort: of the
    codec, see mien.models.codec; margin: by how much of its width and height a box grows on each side before what is in
    it is hidden."""

    policy: "Policy"
    margin: Annotated[float, Share()] = 0.0
    face_bytes: Annotated[int, Number(16, 4096)] = 320
    effort: Annotated[Effort, Choice(EFFORTS)] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.policy.check_kinds(self.kinds)
        object.__setattr__(self, "policy", self.policy.pinned())

    @property
    def seconds(self) -> float:
        """As the effort asks."""
        return SECONDS[self.effort]


@dataclass(frozen=True, kw_only=True)
class CompressSettings(FaceSettings):
    """Of CompressPhotos. effort auto: what is coded under `preserve` is the same person to two recognisers, or the face
    stays in the background; background, quality: the coder of everything but the faces, and its quality (60).

    Instead of a quality, the bytes of a coded photo at most, all counted: photo_bytes, or ratio, the source file's
    bytes to those, or preview, which is photo_bytes=700. faces: of those that the policy preserves, coded by the face
    codec (neural), left in the background (pixels), or each as it looks more like the original at these bytes (auto).
    """

    background: Annotated[BackgroundCodec, Choice(BACKGROUNDS)] = "avif"
    quality: Annotated[int | None, Maybe(Number(1, 100))] = None
    photo_bytes: Annotated[int | None, Maybe(Number(1, 2**31))] = None
    ratio: Annotated[float | None, Maybe(Ratio())] = None
    preview: Annotated[bool, Flag()] = False
    faces: Annotated[Faces, Choice(FACES)] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preview:
            if self.photo_bytes not in (None, PREVIEW_BYTES):
                raise SettingsError("--preview and --photo-bytes exclude each other")
            object.__setattr__(self, "photo_bytes", PREVIEW_BYTES)
        limits = {"--photo-bytes": self.photo_bytes, "--ratio": self.ratio, "--quality": self.quality}
        given = [name for name, value in limits.items() if value is not None]
        if len(given) > 1:
            given[0] = "--preview" if self.preview else given[0]
            raise SettingsError(f"{' and '.join(given)} exclude each other: each says how many bytes a photo gets")

    @property
    def coder_quality(self) -> int:
        """Of the background, where no budget decides."""
        return QUALITY if self.quality is None else self.quality

    def recorded(self) -> dict[str, Any]:
        """With the quality that nobody said, where it is used."""
        bounded = self.photo_bytes is not None or self.ratio is not None
        return super().recorded() | {"quality": None if bounded else self.coder_quality}

    def budget(self, source_bytes: int) -> int | None:
        """Bytes of a coded photo at most; None where the quality decides. source_bytes: of the file it is made from."""
        return self.photo_bytes if self.ratio is None else max(1, int(source_bytes / self.ratio))


@dataclass(frozen=True, kw_only=True)
class RedactSettings(FaceSettings):
    """Of RedactPhotos. image_format, quality: of the files; keep: metadata that is written anew
    (mien.models.images.metadata); keep_blocks: every block of a JPEG file that no hidden face touches keeps its
    coefficients bit for bit, and quality is not used; synthesis_mark: say in XMP that faces are generated;
    visible_mark: write it into the picture too, both only for photos that have generated faces; key_file: with it one
    person gets the same new face in every photo under `deidentify`, and one that cannot be matched with its person is
    filled in; write_boxes: what is written beside each photo of what was found, or of what was painted over."""

    effort: Annotated[Effort, Choice(EFFORTS)] = "fast"
    image_format: Annotated[ImageFormat, Choice(IMAGE_FORMATS)] = "jpeg"
    quality: Annotated[int, Number(1, 100)] = 90
    keep: Annotated[Sequence[str], Names(METADATA, "field", empty=True)] = ()
    keep_blocks: Annotated[bool, Flag()] = False
    synthesis_mark: Annotated[bool, Flag()] = True
    visible_mark: Annotated[bool, Flag()] = False
    key_file: "KeyFile | None" = None
    write_boxes: Annotated[str, Choice(("none", *BOX_FORMATS))] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep_blocks and self.image_format != "jpeg":
            raise SettingsError("--keep-blocks is of --image-format jpeg")
        if self.keep_blocks and importlib.util.find_spec("jpeglib") is None:
            raise SettingsError("--keep-blocks needs jpeglib: pip install 'mien[blocks]'")

    @property
    def generates(self) -> bool:
        """Whether a face may get another one in its place."""
        return bool(self.policy.actions & GENERATED)

    @property
    def named_by(self) -> "KeyFile | None":
        """The key file, if the policy asks for people with pseudonyms."""
        return self.key_file if "deidentify" in self.policy.actions else None

    @property
    def seconds(self) -> float:
        """As the effort asks, and more where new faces are drawn."""
        return SECONDS["good" if self.effort == "fast" and self.generates else self.effort]


@dataclass(frozen=True, kw_only=True)
class RestoreSettings(Settings):
    """Of RestorePhotos. image_format: of the files; quality: of the lossy ones; synthesis_mark: a picture with decoded
    faces says in XMP that a trained model made them."""

    image_format: Annotated[ImageFormat, Choice(IMAGE_FORMATS)] = "png"
    quality: Annotated[int, Number(1, 100)] = 90
    synthesis_mark: Annotated[bool, Flag()] = True


@dataclass(frozen=True, kw_only=True)
class MagnifySettings(FindSettings):
    """Of MagnifyFaces. factor: how many times as wide and high photos become. aligned: each picture is one FFHQ-aligned
    face of 8 to 256 px and becomes one of size px; in photos the size follows from the factor. strength, samples, seed:
    as in FaceMagnifier.magnify. payload: reports hold the faces as payloads of the codec. image_format: of the files;
    quality: of the lossy ones; max_pixels: of a photo, before and after."""

    factor: Annotated[int, Number(2, 64)] = 4
    aligned: Annotated[bool, Flag()] = False
    size: Annotated[int, Choice((128, 256, 512))] = 512
    strength: Annotated[float, Share()] = 0.0
    samples: Annotated[int, Number(1, 64)] = 1
    seed: Annotated[int, Number(0, 2**31)] = 0
    payload: Annotated[bool, Flag()] = False
    image_format: Annotated[ImageFormat, Choice(IMAGE_FORMATS)] = "png"
    quality: Annotated[int, Number(1, 100)] = 95

    def __post_init__(self) -> None:
        super().__post_init__()
        if others := self.kinds - {"face"}:
            raise SettingsError(f"detectors: what is magnified is faces, and not {min(others)}")

    def recorded(self) -> dict[str, Any]:
        """Without what the kind of picture does not use."""
        unused = ("factor", "detectors", "min_score", "boxes") if self.aligned else ("size",)
        return super().recorded() | dict.fromkeys(unused)


S = TypeVar("S", bound=Settings)


def chosen(kind: type[S], options: Mapping[str, Any], **first: Any) -> S:
    """The settings of a composite: its first parameter, which may be the settings whole, and its other options.

    TypeError for an option that is no field, SettingsError for a value that cannot be.
    """
    (value,) = first.values()
    if isinstance(value, kind):
        return dataclasses.replace(value, **options)
    return kind(**first, **options)


def opened(policy: "str | Policy") -> "Policy":
    """A policy by the name of a built-in one, or a file's path or URI; or as it is. PolicyError."""
    if isinstance(policy, str):
        from mien.transforms.policy import load_policy

        return load_policy(policy)
    return policy
