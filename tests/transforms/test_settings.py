"""Settings: what is wrong is refused, and every field that makes another output makes another fingerprint."""

import argparse
import dataclasses
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mien.models.errors import PolicyError
from mien.pipelines import settings as jobs
from mien.pipelines.runs.resume import fingerprint
from mien.pipelines.settings import CompressJob, MagnifyJob, PhotoJob, RedactJob, settings_of
from mien.transforms import CompressPhotos, MagnifyFaces, RedactPhotos, RestorePhotos
from mien.transforms import settings as module
from mien.transforms.boxes.box_file import BoxFile
from mien.transforms.policy.pseudonyms import KeyFile
from mien.transforms.policy.rules import load_policy
from mien.transforms.setting_kinds import (
    USUAL_DETECTORS,
    Choice,
    Flag,
    Maybe,
    Names,
    Number,
    Share,
    Texts,
    is_hashed,
    kind_of,
)
from mien.transforms.settings import (
    CompressSettings,
    FindSettings,
    MagnifySettings,
    RestoreSettings,
    Settings,
    SettingsError,
)
from mien.transforms.workers.isolate import Limits

DATA = Path(__file__).parent.parent / "data"
KINDS = sorted(
    {
        kind
        for home in (module, jobs)
        for kind in vars(home).values()
        if isinstance(kind, type) and issubclass(kind, Settings) and kind is not PhotoJob  # part of others
    },
    key=lambda kind: kind.__name__,
)
POLICY = load_policy("deidentify")
NOT_HASHED = {"threads", "limits"}
# what a field is of, without which it may not be named
BESIDE: dict[str, dict[str, Any]] = {
    "size": {"aligned": True},
    "record_uris": {"format": "webdataset"},
    "drop_members": {"format": "webdataset"},
    "kind": {"column": "image"},
}


def made(kind: type[Settings], **values: Any) -> Any:
    named = {each.name for each in dataclasses.fields(kind)}
    return kind(**({"policy": POLICY} if "policy" in named else {}), **values)


def others(settings: Settings, each: "dataclasses.Field[Any]", folder: Path) -> Iterator[Any]:
    """Values of the field other than its own."""
    value, kind = getattr(settings, each.name), kind_of(each)
    if each.name == "policy":
        yield load_policy("redact")
        yield POLICY.with_mask("head")
    elif each.name == "key_file":
        (folder / "key").write_bytes(secrets.token_bytes(32))
        yield KeyFile.of(str(folder / "key"))
    elif each.name == "boxes":
        (folder / "boxes.csv").write_text("image,x,y,w,h\nx.jpg,1,2,3,4\n")
        yield BoxFile.at(str(folder / "boxes.csv"))
    elif each.name == "column":
        yield "photo"
    elif isinstance(kind, Texts):
        yield ("cls",)
    elif each.name == "limits":
        yield Limits(7.0)
    elif isinstance(kind, Maybe):
        yield 7
    elif isinstance(kind, Number):
        yield value + 1 if value < kind.high else value - 1
    elif isinstance(kind, Share):
        yield (value + 1) / 3
    elif isinstance(kind, Flag):
        yield not value
    elif isinstance(kind, Choice):
        yield from (one for one in kind.known if one != value)
    elif isinstance(kind, Names):
        yield from ((one,) for one in kind.known if (one,) != value)


@pytest.mark.parametrize("kind", KINDS)
def test_another_value_of_a_field_is_another_fingerprint(kind: type[Settings], tmp_path: Path) -> None:
    for each in dataclasses.fields(kind):
        beside = {"column": "image"} if each.name == "format" and kind is RedactJob else BESIDE.get(each.name, {})
        base = made(kind, **beside)
        different = list(others(base, each, tmp_path))
        assert different, f"{kind.__name__}.{each.name}: no other value is known here"
        for value in different:
            changed = fingerprint(dataclasses.replace(base, **{each.name: value}).recorded())
            assert (changed == fingerprint(base.recorded())) == (each.name in NOT_HASHED), each.name
        assert is_hashed(each) == (each.name not in NOT_HASHED)


@pytest.mark.parametrize("kind", [FindSettings, CompressJob, RedactJob])
def test_usual_own_and_no_detectors(kind: type[FindSettings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(DATA / "plates.py", tmp_path / "own_plates.py")
    monkeypatch.syspath_prepend(tmp_path)
    beside = {"policy": load_policy("redact")} if kind is not FindSettings else {}
    own = kind(detectors=("mien", "own_plates:Plates"), **beside)
    assert own.detectors == (*USUAL_DETECTORS, "own_plates:Plates")
    assert (own.kinds, own.own) == ({"face", "plate"}, ("own_plates:Plates",))
    assert len(own.recorded()["own_detectors"]["own_plates:Plates"]) == 12
    (tmp_path / "b.csv").write_text("image,x,y,w,h,kind\nx.jpg,1,2,3,4,sign\n")
    boxes = BoxFile.at(str(tmp_path / "b.csv"))
    alone = kind(detectors="none", boxes=boxes, **beside)
    assert (alone.detectors, alone.kinds) == ((), {"sign"})
    assert dataclasses.replace(alone).recorded() == alone.recorded()
    for detectors, message in (
        ("none", "no detector, and no boxes"),
        (("mien", "none"), "none stands alone"),
        ("nowhere:Plates", "detector 'nowhere:Plates' cannot be loaded"),
    ):
        with pytest.raises(SettingsError, match=message):
            kind(detectors=detectors, **beside)


def test_what_is_no_face_must_be_for_something(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text("image,x,y,w,h,kind\nx.jpg,1,2,3,4,sign\n")
    boxes = BoxFile.at(str(tmp_path / "b.csv"))
    with pytest.raises(PolicyError, match="sign is found too, and otherwise"):
        CompressJob(policy=load_policy("compress"), boxes=boxes)
    with pytest.raises(SettingsError, match="what is magnified is faces, and not sign"):
        MagnifySettings(boxes=boxes)
    with pytest.raises(SettingsError, match="--write-boxes is of --format files"):
        RedactJob(policy=load_policy("redact"), write_boxes="coco", format="webdataset")


def test_no_secret_and_no_name_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(secrets.token_bytes(32))
    key = KeyFile.of(str(tmp_path / "key"))
    recorded = made(RedactJob, key_file=key).recorded()
    assert recorded["key_id"] == key.id
    assert str(tmp_path) not in str(recorded)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (CompressSettings, {"quality": 0}, "quality: 0 is not between 1 and 100"),
        (CompressSettings, {"quality": True}, "quality: True is not a whole number"),
        (CompressSettings, {"photo_bytes": 0}, "photo_bytes: 0 is not between 1 and"),
        (CompressSettings, {"ratio": 0.5}, "ratio: 0.5 is not between 1 and 1,000,000"),
        (CompressSettings, {"faces": "both"}, "faces: 'both' is not one of auto, neural, pixels"),
        (CompressSettings, {"photo_bytes": 900, "quality": 60}, "--photo-bytes and --quality exclude each other"),
        (CompressSettings, {"photo_bytes": 900, "ratio": 90}, "--photo-bytes and --ratio exclude each other"),
        (CompressSettings, {"preview": True, "ratio": 90}, "--preview and --ratio exclude each other"),
        (CompressSettings, {"preview": True, "photo_bytes": 90}, "--preview and --photo-bytes exclude each other"),
        (CompressSettings, {"effort": "more"}, "effort: 'more' is not one of auto, fast, good, best"),
        (CompressSettings, {"detectors": ()}, "detectors: no detector"),
        (CompressSettings, {"detectors": "eyes"}, "detectors: unknown detector 'eyes'"),
        (RedactJob, {"keep": ("name",)}, "keep: unknown field 'name'"),
        (RedactJob, {"visible_mark": 1}, "visible_mark: 1 is neither True nor False"),
        (CompressJob, {"record_uris": True}, "--record-uris is of --format webdataset"),
        (MagnifySettings, {"strength": 1.5}, "strength: 1.5 is not between 0 and 1"),
        (MagnifySettings, {"size": 300}, "size: 300 is not one of 128, 256, 512"),
    ],
)
def test_what_cannot_be_is_refused(kind: type[Settings], values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        made(kind, **values)


def test_a_composite_takes_its_settings_or_their_fields() -> None:
    settings = made(CompressSettings, threads=2, limits=Limits(7.0))
    stages = [CompressPhotos(settings).stages, CompressPhotos("deidentify", threads=2, limits=Limits(7.0)).stages]
    assert [[type(stage) for stage in one] for one in stages] == [[type(stage) for stage in stages[0]]] * 2
    assert stages[0][-1]._settings == stages[1][-1]._settings == settings
    assert CompressPhotos(settings, quality=7).stages[-1]._settings.quality == 7
    for composite in (CompressPhotos, RedactPhotos, RestorePhotos, MagnifyFaces):
        with pytest.raises(TypeError, match="qualty"):
            composite(qualty=3)
    with pytest.raises(SettingsError, match="quality"):
        RestorePhotos("jpeg", quality=101)


def test_what_an_option_leaves_out_is_the_field_s_default() -> None:
    args = argparse.Namespace(factor=None, size=None, aligned=False, samples=3, output="o")
    assert settings_of(MagnifyJob, args) == MagnifyJob(samples=3)
    assert settings_of(RestoreSettings, args, quality=5) == RestoreSettings(quality=5)


def test_bytes_of_a_photo() -> None:
    assert made(CompressSettings).budget(9000) is None
    assert made(CompressSettings, photo_bytes=1000).budget(9000) == 1000
    assert made(CompressSettings, preview=True).budget(9000) == 700
    assert made(CompressSettings, ratio=64).budget(9000) == 140
    assert dataclasses.replace(made(CompressSettings, preview=True), faces="pixels").photo_bytes == 700
    assert made(CompressSettings).recorded()["quality"] == 60
    assert made(CompressSettings, preview=True).recorded()["quality"] is None
