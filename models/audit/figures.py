"""The figures of an audit, as JSON can say them: rates, sizes, distortion, realism and findings of compared faces."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.models.audit.parrot import LEVELS, Parrot, retrain
from mien.models.audit.photo import ALLOWED, DETECTORS, OriginalFace, OutputFace
from mien.models.audit.recognisers import FaceRecogniser, MobileFaceNet
from mien.models.audit.reidentification import (
    FALSE_ACCEPT_RATES,
    Estimate,
    Reidentification,
    reidentify,
    roc,
    same_people,
)
from mien.models.evaluation import kid
from mien.models.faces import distortion

Array = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Json = dict[str, Any]

# Measured on 101 faces of five group photos. Coded again by JPEG, AVIF or WebP of quality 30 to 90 they keep at least
# 0.45 of their detail (AVIF of quality 35: 0.31, 95 % of them over 0.52); pixelated to 12 pixels a side at most 0.22,
# blurred by a twelfth of it 0.32, filled 0.01. A face whose lower half was filled keeps 0.4 of its cells in the median,
# one pixelated to 12 pixels at most 0.28. The PSNR is for faces without detail: pixelated to 16 at most 36.5 dB.
AS_IT_WAS, AS_IT_WAS_DB, PARTLY = 0.45, 38.0, 0.35
WITHIN = 8.0  # degrees of yaw and pitch
SIZES = (0, 16, 24, 32, 48, 96, math.inf)  # pixels of a face's side
TELLING_SIDE = 32  # pixels below which two originals are not taken for one person's: they are all alike
MAX_FACES = 2000  # originals that are compared all with all; of more so many are drawn
PARROT_LIMIT = 3.0  # times chance
LEFT = ("as it was", "partly as it was", "recognisable")
# Of a false find of one detector nothing can be told, and of what is no face any more a parrot learns only the colours
# of a photo: what the whole of an output gives away is judged by these.
AGREED, FACE_SEEN = "no rule, found by both detectors", "of these, a face is seen"
VERDICTS = ("kept by a rule", *LEFT, "changed", "gone")


def thresholds(recognisers: Sequence[FaceRecogniser]) -> Json:
    """What the verdicts are made by."""
    return {
        "detail kept, as it was": AS_IT_WAS,
        "psnr, as it was": AS_IT_WAS_DB,
        "cells kept, partly as it was": PARTLY,
        "similarity, same person": {one.name: one.same_person for one in recognisers},
        "degrees, pose kept": WITHIN,
        "parrot, times chance": PARROT_LIMIT,
    }


class Gallery:
    """The originals' faces that could be aligned, and whose they are as far as the recogniser can tell."""

    def __init__(self, faces: Sequence[OriginalFace], recognisers: Sequence[FaceRecogniser]) -> None:
        aligned = [face for face in faces if face.seen.embeddings]
        self.all = len(aligned)
        if len(aligned) > MAX_FACES:
            chosen = np.random.default_rng(0).permutation(len(aligned))[:MAX_FACES]
            aligned = [aligned[i] for i in sorted(chosen.tolist())]
        self.faces = aligned
        self.place = {id(face): i for i, face in enumerate(aligned)}
        self.recognisers = recognisers
        self.embeddings: dict[str, Array] = {}
        self.people: Numbers = np.arange(len(aligned))
        judge = next(one for one in recognisers if isinstance(one, MobileFaceNet))
        if aligned:
            for one in recognisers:
                self.embeddings[one.name] = np.stack([face.seen.embeddings[one.name] for face in aligned])
            alike = judge.similarities(self.embeddings[judge.name], self.embeddings[judge.name])
            small = np.array([face.side < TELLING_SIDE for face in aligned])
            alike[small] = alike[:, small] = -1
            self.people = same_people(alike, judge.same_person)


def face_rows(faces: Sequence[tuple[int, OutputFace]], gallery: Gallery) -> list[Json]:
    """One row a place: photo's number, measures and the verdict. No embedding, no name."""
    similar: list[Json] = [{} for _ in faces]
    ranks: list[Json] = [{} for _ in faces]
    known = [i for i, (_, face) in enumerate(faces) if id(face.original) in gallery.place and face.seen.embeddings]
    own = np.array([gallery.place[id(faces[i][1].original)] for i in known], int)
    for one in gallery.recognisers:
        if not known:
            break
        scores = one.similarities(_stack(faces, known, one.name), gallery.embeddings[one.name])
        others = gallery.people[own][:, None] != gallery.people[None, :]
        mine = scores[np.arange(len(own)), own]
        greater = ((scores > mine[:, None]) & others).sum(1)
        for i, score, rank in zip(known, mine.tolist(), (greater + 1).tolist(), strict=True):
            similar[i][one.name], ranks[i][one.name] = round(score, 4), rank
    limits = {one.name: one.same_person for one in gallery.recognisers}
    rows = []
    for (photo, face), similarity, rank in zip(faces, similar, ranks, strict=True):
        linked = [name for name, value in similarity.items() if value >= limits[name] and rank[name] == 1]
        rows.append(
            {
                "photo": photo,
                "box": [round(value, 1) for value in face.original.box],
                "found_by": list(face.original.found_by),
                "aligned": bool(face.original.transform),
                "action": face.action,
                "seen_by": list(face.seen_by),
                "detail_kept": round(face.kept.face, 3),
                "cells_kept": round(face.kept.cells, 3),
                "psnr": round(min(face.kept.psnr, 99.0), 1),
                "similarity": similarity,
                "rank": rank,
                "linked_by": linked,
                "verdict": verdict(face, linked),
            }
        )
    return rows


def verdict(face: OutputFace, linked: Sequence[str]) -> str:
    """as it was, recognisable, partly as it was; kept by a rule where one of these is allowed by the record; changed (a
    face is seen, another one) or gone."""
    if face.kept.face >= AS_IT_WAS or face.kept.psnr >= AS_IT_WAS_DB:
        found = "as it was"
    elif linked:
        found = "recognisable"
    elif face.kept.cells >= PARTLY:
        found = "partly as it was"
    else:
        return "changed" if face.seen_by else "gone"
    return "kept by a rule" if face.action in ALLOWED else found


def figures(faces: Sequence[tuple[int, OutputFace]], rows: Sequence[Json], gallery: Gallery) -> Json:
    """All figures of one view of the outputs: what a viewer shows, or what restore brings back."""
    hidden = [i for i, (_, face) in enumerate(faces) if face.action not in ALLOWED]
    agreed = [i for i in hidden if len(faces[i][1].original.found_by) == len(DETECTORS)]
    groups = {
        "every place": list(range(len(faces))),
        AGREED: agreed,
        FACE_SEEN: [i for i in agreed if faces[i][1].seen_by],
    }
    for action in sorted({face.action for _, face in faces if face.action}):
        groups[f"action {action}"] = [i for i, (_, face) in enumerate(faces) if face.action == action]
    named: dict[tuple[int, ...], list[str]] = {}
    for name, members in groups.items():
        named.setdefault(tuple(members), []).append(name)
    return {
        "faces": len(faces),
        "verdicts": {name: sum(row["verdict"] == name for row in rows) for name in VERDICTS},
        "sizes": _sizes(faces, rows),
        "reidentification": [
            {"group": "; ".join(names), **found}
            for members, names in named.items()
            if (found := _group([faces[i][1] for i in members], gallery))
        ],
        "distortion": _distortion([face for _, face in faces]),
        "realism": _realism([face for _, face in faces]),
    }


def _group(faces: Sequence[OutputFace], gallery: Gallery) -> Json:
    """Re-identification of some of the outputs against all originals; empty where there is nothing to tell."""
    faces = [face for face in faces if face.seen.embeddings and id(face.original) in gallery.place]
    if not faces or len(set(gallery.people.tolist())) < 2:
        return {}
    own = np.array([gallery.place[id(face.original)] for face in faces])
    found: list[Json] = []
    for one in gallery.recognisers:
        scores = one.similarities(
            np.stack([face.seen.embeddings[one.name] for face in faces]), gallery.embeddings[one.name]
        )
        found.append({"recogniser": one.name, **_rates(reidentify(scores, own, gallery.people))})
    parrots = []
    for level in LEVELS:
        originals = {
            name: np.stack([f.seen.learned[name] for f in gallery.faces]).astype(float) for name in LEVELS[level]
        }
        outputs = {name: np.stack([f.seen.learned[name] for f in faces]).astype(float) for name in LEVELS[level]}
        parrot = retrain(originals, outputs, own, gallery.people, level)
        parrots.append(_parrot(level, parrot))
    return {"faces": len(faces), "originals": len(gallery.faces), "recognisers": found, "parrots": parrots}


def _rates(found: Reidentification) -> Json:
    edges = np.histogram_bin_edges(np.concatenate([found.genuine, found.impostor]), 40)
    return {
        "rank1": _json(found.rank1),
        "rank5": _json(found.rank5),
        "chance1": found.chance1,
        "chance5": found.chance5,
        "above_chance": found.above_chance,
        "eer": _json(found.eer),
        "tar": {
            f"{rate:g}": _json(tar) if tar else None for rate, tar in zip(FALSE_ACCEPT_RATES, found.tar, strict=True)
        },
        "genuine_pairs": len(found.genuine),
        "impostor_pairs": len(found.impostor),
        "histogram": {
            "edges": edges.round(4).tolist(),
            "genuine": np.histogram(found.genuine, edges)[0].tolist(),
            "impostor": np.histogram(found.impostor, edges)[0].tolist(),
        },
        "roc": roc(found.genuine, found.impostor, 60).round(5).tolist(),
    }


def _parrot(level: str, found: Parrot | None) -> Json:
    if found is None:
        return {"level": level, "rank1": None}
    return {
        "level": level,
        "rank1": _json(found.rank1),
        "chance": found.chance,
        "held_out_originals": found.gallery,
        "times_chance": _json(found.times_chance),
        "above_limit": found.times_chance.low > PARROT_LIMIT,
    }


def _sizes(faces: Sequence[tuple[int, OutputFace]], rows: Sequence[Json]) -> list[Json]:
    """By the face's side: originals' faces that both detectors or only one found, and what is left of them."""
    found = []
    for low, high in itertools.pairwise(SIZES):
        here = [row for (_, face), row in zip(faces, rows, strict=True) if low <= face.original.side < high]
        line: Json = {"from": low, "below": high if high < math.inf else None}
        for name, some in (
            ("agreed", [row for row in here if len(row["found_by"]) == len(DETECTORS)]),
            ("one_only", [row for row in here if len(row["found_by"]) < len(DETECTORS)]),
        ):
            counts = {key: sum(row["verdict"] == key for row in some) for key in ("kept by a rule", *LEFT)}
            line[name] = {"faces": len(some), **counts, "face_seen": sum(bool(row["seen_by"]) for row in some)}
        found.append(line)
    return found


def _distortion(faces: Sequence[OutputFace]) -> Json:
    """Of the places where a face is seen by a detector, or read by the landmarker, before and after."""
    pairs = [(face.original.seen.look, face.seen.look) for face in faces]
    told = [distortion(before, after) for before, after in pairs if before and after]
    found: Json = {"faces": len(told), "of": sum(before is not None for before, _ in pairs)}
    if told:
        for name in ("yaw", "pitch", "roll", "expression", "gaze"):
            values = np.array([getattr(one, name) for one in told])
            found[name] = {"median": float(np.median(values)), "p90": float(np.quantile(values, 0.9))}
            if name in ("yaw", "pitch", "roll"):
                found[name]["within"] = float((values <= WITHIN).mean())
        found["pose_within"] = float(np.mean([max(one.yaw, one.pitch) <= WITHIN for one in told]))
    return found


def _realism(faces: Sequence[OutputFace]) -> Json:
    """KID over the channel means of two of MobileFaceNet's maps, and what originals have among themselves."""
    pairs = [
        (face.original.seen.learned, face.seen.learned)
        for face in faces
        if face.seen.learned and face.original.seen.learned
    ]
    if len(pairs) < 8:
        return {"faces": len(pairs), "kid": None}
    before, after = (np.stack([_channels(pair[side]) for pair in pairs]) for side in (0, 1))
    mean, deviation = before.mean(0), before.std(0) + 1e-3
    before, after = (before - mean) / deviation, np.clip((after - mean) / deviation, -10, 10)
    value, spread = kid(before, after) or (math.nan, math.nan)
    floor, floor_spread = kid(before, before) or (math.nan, math.nan)
    return {
        "faces": len(pairs),
        "features": "mobilefacenet, channel means of the 14 x 14 and 7 x 7 maps, in deviations of the originals",
        "kid": {"mean": value, "deviation": spread},
        "originals_among_themselves": {"mean": floor, "deviation": floor_spread},
    }


def _channels(learned: dict[str, npt.NDArray[np.float32]]) -> Array:
    return np.concatenate([learned[name].reshape(128, -1).mean(1) for name in ("middle", "last")]).astype(float)


def _stack(faces: Sequence[tuple[int, OutputFace]], chosen: Sequence[int], name: str) -> Array:
    return np.stack([faces[i][1].seen.embeddings[name] for i in chosen])


def _json(estimate: Estimate) -> list[float | None]:
    """[value, low, high], None for nan."""
    return [None if math.isnan(value) else round(value, 5) for value in (estimate.value, estimate.low, estimate.high)]


def findings(view: str, found: Json, undecided: int) -> list[Json]:
    """What of a view's figures is a reason to worry: kind, view, count and detail."""
    told: list[Json] = []
    for name in LEFT:
        both = sum(size["agreed"][name] for size in found["sizes"])
        alone = sum(size["one_only"][name] for size in found["sizes"])
        for kind, count in ((f"face {name}", both), (f"place {name}, found by one detector", alone)):
            if count:
                told.append({"kind": kind, "view": view, "count": count, "detail": "allowed by no rule"})
    if undecided:
        detail = "both detectors see a face where the output's record has none"
        told.append({"kind": "face without a decision", "view": view, "count": undecided, "detail": detail})
    named = {name: group for group in found["reidentification"] for name in group["group"].split("; ")}
    nothing: Json = {"recognisers": [], "parrots": [], "faces": 0}
    group = named.get(AGREED, nothing)
    for one in group["recognisers"]:
        if one["above_chance"]:
            detail = f"rank-1 {one['rank1'][0]:.1%}, chance {one['chance1']:.1%}"
            told.append(
                {"kind": f"linked by {one['recogniser']}", "view": view, "count": group["faces"], "detail": detail}
            )
    group = named.get(FACE_SEEN, nothing)
    for one in group["parrots"]:
        # the parrot that learns from appearance finds pose and light too, which a new face keeps: told, but no finding
        if one["level"] == "identity" and one.get("above_limit"):
            detail = f"rank-1 {one['rank1'][0]:.1%}, {one['times_chance'][0]:.1f} times chance"
            told.append({"kind": "linked by the parrot", "view": view, "count": group["faces"], "detail": detail})
    return told
