"""Safe photos, and the second look that they get: with real detectors, on a part of a photo with one face."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.models.codec.face_codec import FaceCodec
from mien.models.errors import PrivacyError
from mien.models.faces.landmarks import FaceLandmarker
from mien.models.images.files import decode_image
from mien.models.images.metadata import has_mark
from mien.models.privacy.deidentify import ALIKE, NEAR, Deidentifier
from mien.models.privacy.redaction import redact_faces
from mien.transforms import redact as module
from mien.transforms.elements import ListedFile, PhotoInWork, Pixels
from mien.transforms.policy import parse_corrections
from mien.transforms.policy.rules import load_policy
from mien.transforms.preview import lines_of, preview, sheet
from mien.transforms.redact import FOUND_LATER, Redactor, hidden_faces, safe_pixels
from mien.transforms.settings import RedactSettings
from mien.transforms.steps.align import align_faces
from mien.transforms.steps.correct import ADDED, REMOVED, correct_photo
from mien.transforms.steps.decide import decide_photo
from mien.transforms.steps.detect import find_faces
from mien.transforms.steps.new_faces import draw_new_faces
from mien.transforms.steps.verify import compare, leaks

NAMED = r"^withheld: in the redacted photo face 1 \(\d+ x \d+ at \d+, \d+\) is still recognised; its whole head was"
DATA = Path(__file__).parent.parent / "data" / "photos"


@pytest.fixture(scope="module")
def redactor() -> Iterator[Redactor]:
    made = Redactor(RedactSettings(policy=load_policy("redact"), image_format="png"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def found(redactor: Redactor) -> PhotoInWork:
    pixels = np.ascontiguousarray(decode_image((DATA / "allhands.jpg").read_bytes())[430:750, 110:410])
    with FaceLandmarker() as landmarker:
        photo = find_faces(PhotoInWork("u", "n.jpg", None, 9, pixels), redactor._detector, landmarker)
    assert [bool(face.transform) for face in photo.faces] == [True]
    return photo


def decided(photo: PhotoInWork, policy: str) -> PhotoInWork:
    return decide_photo(load_policy(policy).uncoded(), photo)


def change(photo: PhotoInWork, data: bytes) -> float:
    """Mean difference in the middle of the face."""
    x, y, w, h = (round(side) for side in photo.faces[0].box)
    place = np.s_[y + h // 4 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4]
    return float(np.abs(decode_image(data)[place].astype(float) - photo.pixels[place]).mean())


def test_a_face_goes_and_the_rest_stays(found: PhotoInWork, redactor: Redactor) -> None:
    safe = redactor.redact(decided(found, "redact"))
    assert (safe.uri, safe.name, safe.policy.split(":")[0]) == ("u", "n.jpg.png", "redact")
    assert [(face.action, face.rule, face.decided) for face in safe.faces] == [("fill", "otherwise", "fill")]
    assert safe.faces[0].rank == 1
    assert change(found, safe.data) > 10
    assert np.array_equal(decode_image(safe.data)[:20], found.pixels[:20])
    assert not has_mark(safe.data)


def test_a_face_that_was_missed_is_found_when_verified(found: PhotoInWork, redactor: Redactor) -> None:
    missed = dataclasses.replace(found, faces=())
    safe = redactor.redact(decided(missed, "redact"))
    assert [(face.action, face.rule, face.decided) for face in safe.faces] == [("fill", FOUND_LATER, "")]
    assert change(found, safe.data) > 10


def test_a_face_that_stays_seen_keeps_the_photo_back(
    found: PhotoInWork, redactor: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "redact_faces", lambda pixels, faces: pixels.copy())  # a redaction that does nothing
    with pytest.raises(PrivacyError, match=NAMED):
        redactor.redact(decided(found, "redact"))


def reviewed(photo: PhotoInWork, *lines: dict[str, Any]) -> PhotoInWork:
    """The photo with corrections; lines: without what they all have."""
    height, width = photo.pixels.shape[:2]
    common = {"uri": "u", "size": 9, "modified": 1.5}
    data = "\n".join(json.dumps(common | ({"frame": [width, height]} if "box" in one else {}) | one) for one in lines)
    text = parse_corrections(data.encode(), "c.jsonl").photos["u"].text
    return dataclasses.replace(photo, origin=ListedFile("u", "n.jpg", 9, 1.5, corrections=text))


@pytest.mark.slow
def test_a_photo_that_was_released_is_passed_on(
    found: PhotoInWork, redactor: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "redact_faces", lambda pixels, faces: pixels.copy())  # a redaction that does nothing
    released = decided(reviewed(found, {"do": "release"}), "redact")
    assert [face.action for face in redactor.redact(released).faces][:1] == ["fill"]
    with pytest.raises(PrivacyError, match=NAMED):
        redactor.redact(decided(reviewed(found, {"do": "confirm"}), "redact"))


def test_a_box_that_was_taken_away_is_no_leak(found: PhotoInWork, redactor: Redactor) -> None:
    away = {"do": "remove", "box": list(found.faces[0].box)}
    # as it was found, and as the second look alone finds it
    for photo in (found, dataclasses.replace(found, faces=())):
        safe = redactor.redact(correct_photo(decided(reviewed(photo, away), "redact"), False))
        assert [(face.action, face.rule) for face in safe.faces] == [("keep", REMOVED)]
        assert change(found, safe.data) == 0


def test_a_box_is_filled_where_the_policy_shows_everyone(found: PhotoInWork, redactor: Redactor) -> None:
    with contextlib.closing(Redactor(RedactSettings(policy=load_policy("compress"), image_format="png"))) as shows:
        assert change(found, shows.redact(decided(found, "compress")).data) == 0
        add = {"do": "add", "box": list(found.faces[0].box)}
        safe = shows.redact(correct_photo(decided(reviewed(found, add), "compress"), False))
        assert [(face.action, face.rule) for face in safe.faces] == [("fill", ADDED)]
        assert change(found, safe.data) > 10


def test_what_is_recognised_by_its_surroundings_loses_its_head(
    found: PhotoInWork, redactor: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = lambda pixels, faces: redact_faces(pixels, [f for f in faces if f.mask == "head"])  # noqa: E731
    monkeypatch.setattr(module, "redact_faces", heads)  # a face alone stays as it is
    safe = redactor.redact(decided(found, "redact"))
    assert [(f.action, f.rule) for f in safe.faces] == [("fill", "otherwise (recognised, head)")]
    assert change(found, safe.data) > 10


def test_a_face_that_is_still_recognised_is_filled_in(
    found: PhotoInWork, redactor: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = lambda pixels, faces: redact_faces(pixels, [f for f in faces if f.how == "fill"])  # noqa: E731
    monkeypatch.setattr(module, "redact_faces", filled)  # what should be blurred stays
    photo = decided(found, "redact")
    photo = dataclasses.replace(photo, decisions=(dataclasses.replace(photo.decisions[0], action="blur"),))
    safe = redactor.redact(photo)
    assert [(f.action, f.rule, f.decided) for f in safe.faces] == [("fill", "otherwise (recognised)", "blur")]
    assert change(found, safe.data) > 10


def test_another_face_takes_the_place(found: PhotoInWork) -> None:
    photo = decided(found, "background-people")
    photo = dataclasses.replace(photo, decisions=(dataclasses.replace(photo.decisions[0], action="realistic"),))
    codec = FaceCodec.load()
    aligned = align_faces(photo, in_photo=True)
    photo = draw_new_faces(aligned, codec, Deidentifier(codec))
    face = photo.coded[0]
    assert (face.action, face.rule, face.payload) == ("realistic", aligned.decisions[0].rule, b"")
    assert photo.new[0] is not None

    def outside(pixels: Pixels) -> float:
        return float(np.abs(pixels.astype(float) - found.pixels)[:30].max())

    shown = safe_pixels(photo, photo.coded, "face")
    assert outside(shown) == 0
    x, y, w, h = (round(side) for side in found.faces[0].box)
    assert np.abs(shown[y : y + h, x : x + w].astype(float) - found.pixels[y : y + h, x : x + w]).mean() > 3
    head = safe_pixels(photo, photo.coded, "head")
    assert np.abs(head.astype(float) - found.pixels)[:60].max() > 0  # the hair is gone
    likeness = compare(found.pixels, shown, photo.coded, codec.recogniser)
    assert likeness[0, 0] < ALIKE
    assert likeness[0, 1] > NEAR
    hidden = hidden_faces(photo.coded, "face", [0])
    seen = leaks(found.pixels, found.pixels, photo.coded, hidden, [], lambda _, face: face)
    assert seen.known == (0,)  # the original is recognised in its own place


def test_preserve_is_keep_in_a_safe_photo() -> None:
    policy = load_policy("background-people").uncoded()
    assert [rule.do for rule in policy.rules] == ["keep", "realistic"]
    assert load_policy("compress").uncoded().otherwise == "keep"


def test_a_preview_shows_no_face(found: PhotoInWork) -> None:
    policy = load_policy("compress")  # keeps everybody
    photo = decide_photo(policy, dataclasses.replace(found, uri="<b>&.jpg"))
    seen = preview(photo, policy)
    other = photo.pixels.copy()
    x, y, w, h = (round(side) for side in photo.faces[0].box)
    other[y : y + h, x : x + w] = 255 - other[y : y + h, x : x + w]
    assert preview(dataclasses.replace(photo, pixels=other), policy).data == seen.data
    row = json.loads(lines_of(seen))
    assert (row["uri"], row["action"], row["rule"], row["measures"]["rank"]) == ("<b>&.jpg", "preserve", "otherwise", 1)
    page = sheet([seen], 1)
    assert "&lt;b&gt;&amp;.jpg" in page
    assert "<b>&" not in page
    assert page.count("data:image/jpeg;base64,") == 1
