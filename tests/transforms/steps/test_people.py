import shutil
from pathlib import Path

import pytest

from mien.models.errors import GalleryError
from mien.models.privacy.gallery import gallery_digest
from mien.transforms.policy.rules import parse_policy
from mien.transforms.steps import people
from mien.transforms.steps.decide import DecideFaces
from mien.transforms.steps.people import gallery, with_galleries

SAMPLES = [Path(__file__).parents[2] / f"data/samples/{number}.jpg" for number in (1, 2)]


def test_a_gallery_that_changes_is_read_again_and_refused_by_who_wants_the_old_one(tmp_path: Path) -> None:
    reference = tmp_path / "people/reference.jpg"
    reference.parent.mkdir()
    shutil.copy(SAMPLES[0], reference)
    uri = str(reference.parent)
    text = f"{{version: 1, rules: [{{name: r, when: {{person_in: {uri}}}, do: keep}}], otherwise: fill}}"
    policy = with_galleries(parse_policy(text, "p"))
    (decide,) = DecideFaces(policy).stages
    assert policy.references == 1
    assert decide.start_seconds > 0  # reading the gallery is part of it
    before = gallery(uri)
    assert before.digest == policy.digests[uri] == gallery_digest(uri)
    assert gallery(uri) is before

    shutil.copy(SAMPLES[1], reference)
    other = gallery(uri, gallery_digest(uri))
    assert other.match(before.embeddings[0]) != "in"
    assert gallery(uri) is other
    people._gallery.cache_clear()  # as in a worker that starts now
    with pytest.raises(GalleryError, match="was changed while the job ran"):
        decide.setup()
    DecideFaces(with_galleries(parse_policy(text, "p"))).stages[0].setup()
