"""Makes the pool of people who do not exist, from whom models/privacy/new_person.py chooses.

    python -m mien.models.training.pool draw FOLDER --count 1200
    python -m mien.models.training.pool cross FOLDER --count 3000
    python -m mien.models.training.pool sheets FOLDER SHEETS
    python -m mien.models.training.pool write FOLDER models/weights/pool.safetensors --faces TRAIN...

draw: faces of the generator's prior, of the mean pose, expression and light, with what is measured of each, DRAWS a
file. cross: children of two of those that pass, both with glasses or both without: the sum of their latents over the
root of two, which is distributed as theirs is, but seldom torn. A second run goes on where the first stopped. sheets:
the faces that pass, with their numbers, to be looked at. write: the file of the pool.

Glasses and beards of drawn faces are read from their latents and their embedding by the first recogniser, by ridge
regression on the labels that were given by eye to those of the first 531 draws that pass: in ten-fold cross-validation
glasses are told with an area under the curve of 0.999, beards with 0.93. Whoever is in doubt about the glasses is left
out. What an original wears is read in the same way, by labels of LABELLED real faces of the folders TRAIN
(shared/faces/candid_train and train, in the order of their names): 0.98 and 0.94.
"""

import argparse
import math
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.numpy import save_file

from mien.models.codec import FaceCodec
from mien.models.faces import EMBEDDING as FIRST
from mien.models.faces import NAMES, Looks, arcface_crop, bareness, dlib_recogniser, is_clear, looks
from mien.models.privacy import SCALE, Pool, packed, person_tensors
from mien.models.runtime import tune_process
from mien.models.training.data import read_faces, to_tensor
from mien.models.training.person import ridge
from mien.models.weights import weights_in_use

DRAWN, DRAWS, SEED = 64, 50, 16
PSI, FARTHEST = 0.75, 2.2  # deviations
TURNED = NAMES.index("skin_red")  # looks up to here, pose to light, are the mean's in all that are drawn
# Asked of a face: bareness and opening of the eyes (models/faces/appearance.py), FaceCodec.self_score, and the length
# of the first recogniser's embedding before it is made 1.
LEAST_BARE, LEAST_EYES, LEAST_SCORE, CLEAR = 0.8, 0.2, 0.62, 54.0
SECOND = 128  # numbers of the second recogniser's embedding
KEPT = 128  # pixels of the faces that are kept to be looked at
LABELLED, RIDGE = 300, 2.0
GLASSES = """
10 11 21 24 25 30 31 35 36 38 40 42 47 50 56 59 60 69 84 86 89 99 119 137 138 146 147 150 151 153 162 163 167 168
170 181 185 186 191 192 194 200 204 206 209 221 222 227 230 235 245 250 256 258 261 266 273 280 283 286 287 289 293
294 298
"""
BEARDS = """
1 5 15 22 35 42 44 56 60 79 88 90 99 106 116 117 123 124 128 130 131 137 150 167 185 193 245 248 273 283
"""
# Of the first LOOKED_AT draws, by eye.
LOOKED_AT = 531
DRAWN_GLASSES = """
20 29 59 72 73 75 103 110 113 126 128 150 158 167 177 193 197 200 234 253 265 270 276 289 293 310 314 323 329 343 354
376 380 381 401 410 419 421 432 439 482 484 491 504
"""
DRAWN_BEARDS = "2 8 28 62 133 165 187 288 305 313 316 355 369 378 456 478 505 519"
DRAWN_WRONG = "44 63 90 103 130 171 239 254 287 302 303 343 375 386 402 480"
DRAWN_RIDGE = 100.0
BARE, GLASSED, BEARDED = 0.3, 0.55, 0.3  # of the reading: below it without glasses, above it with them, with a beard
GROWN, OLDER, LEAST_PARENTS = 0.6, 0.5, 0.66  # apparent age of parents, of anybody; the score of parents
CHILD_CLEAR = 57.0  # length of the embedding, of children
CHILDREN = 100_000  # number of the first of them
Table = dict[str, NDArray[Any]]


@torch.inference_mode()
def pictured(codec: FaceCodec, place: NDArray[np.float64]) -> torch.Tensor:
    """(1, 3, 256, 256) in -1..1 of deviations (64,) of the base layer's first latents."""
    tensors = person_tensors(codec.basis, weights_in_use())
    latents = tensors["prior.mean"].astype(np.float32)
    latents[:DRAWN] += (tensors["prior.deviation"][:DRAWN] * place).astype(np.float32)
    small = codec.picture(torch.from_numpy(latents)[None], 128).clamp(-1, 1)
    return F.interpolate(small, size=256, mode="bilinear", align_corners=False)


def row_of(place: NDArray[np.float64], face: NDArray[np.uint8]) -> Table:
    """What is to be measured of a face (256, 256, 3), with nothing measured yet."""
    return {
        "place": place.astype(np.float32),
        "looks": np.full(len(NAMES), np.nan, np.float32),
        "bare": np.zeros((), np.float32),
        "score": np.zeros((), np.float32),
        "first": np.zeros(FIRST, np.float32),
        "second": np.zeros(SECOND, np.float32),
        "face": np.asarray(cv2.resize(face, (KEPT, KEPT), interpolation=cv2.INTER_AREA), np.uint8),
    }


@torch.inference_mode()
def draw(codec: FaceCodec, seen: Looks, number: int) -> Table:
    """One face and what is measured of it; NaN where no landmarks were found."""
    tensors = person_tensors(codec.basis, weights_in_use())
    random = np.random.default_rng([SEED, number])
    slope = tensors["looks.slope"][:TURNED]
    place = np.clip(random.standard_normal(DRAWN) * PSI, -FARTHEST, FARTHEST)
    place -= slope.T @ np.linalg.solve(slope @ slope.T, slope @ place)
    large = pictured(codec, place)
    face = picture_of(large)
    found, row = seen.located(face), row_of(place, face)
    if not found.landmarks:
        return row
    row["looks"] = looks(face, found.landmarks, found.pose).astype(np.float32)
    row["bare"] = np.array(bareness(face, found.landmarks), np.float32)
    if row["bare"] > LEAST_BARE and row["looks"][NAMES.index("eyes")] > LEAST_EYES:
        row["first"] = codec.recogniser.last(codec.recogniser.features(arcface_crop(large))).flatten().numpy()
        if np.linalg.norm(row["first"]) > CLEAR:
            row["score"] = np.array(codec.self_score(face), np.float32)
            row["second"] = dlib_recogniser().embedding(large)[0].numpy()
    return row


@torch.inference_mode()
def cross(codec: FaceCodec, groups: Sequence[NDArray[np.floating]], number: int) -> Table:
    """A child of two of one of the groups (N, 64), the larger the likelier."""
    random = np.random.default_rng([SEED, CHILDREN, number])
    sizes = np.array([len(group) for group in groups])
    group = groups[random.choice(len(groups), p=sizes / sizes.sum())]
    place = group[random.choice(len(group), 2, replace=False)].sum(0) / math.sqrt(2)
    large = pictured(codec, place)
    face = picture_of(large)
    row = row_of(place, face)
    if is_clear(face, codec.recogniser):
        row["first"] = codec.recogniser.last(codec.recogniser.features(arcface_crop(large))).flatten().numpy()
        row["second"] = dlib_recogniser().embedding(large)[0].numpy()
    return row


def picture_of(face: torch.Tensor) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = ((face[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    return found


def keep(folder: pathlib.Path, count: int, one: Callable[[int], Table]) -> None:
    """Files of DRAWS faces each; those that are there already are left."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, count, DRAWS):
        path = folder / f"{start:06d}.npz"
        if not path.exists():
            rows = [one(number) for number in range(start, start + DRAWS)]
            table = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
            np.savez(path.with_suffix(".part.npz"), allow_pickle=False, **table)
            path.with_suffix(".part.npz").rename(path)
            print(path, flush=True)


def kept(folder: pathlib.Path) -> Table:
    """What keep() kept, with numbers, and the length of the first embedding, which is 1 then."""
    parts = [np.load(path) for path in sorted(folder.glob("[0-9]*[0-9].npz"))]
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0].files}
    found["number"] = np.arange(len(found["bare"]))
    found["length"] = np.linalg.norm(found["first"], axis=1)
    found["first"] = found["first"] / np.maximum(found["length"], 1)[:, None]
    return found


def passing(folder: pathlib.Path, codec: FaceCodec) -> Table:
    """What was measured of the faces whose measures are good, their numbers, and `worn`, (N, 2) of 0 and 1."""
    tensors, found = person_tensors(codec.basis, weights_in_use()), kept(folder)
    eyes, turned = found["looks"][:, NAMES.index("eyes")], np.abs(found["looks"][:, :2])
    good = (found["bare"] > LEAST_BARE) & (found["score"] > LEAST_SCORE) & (eyes > LEAST_EYES) & (turned < 25).all(1)
    good &= found["length"] > CLEAR
    looked_at, labels = good & (found["number"] < LOOKED_AT), np.zeros((LOOKED_AT, 2))
    for i, known in enumerate((DRAWN_GLASSES, DRAWN_BEARDS)):
        labels[list(map(int, known.split())), i] = 1
    inputs = np.column_stack([found["place"], SCALE * found["first"]]).astype(np.float64)
    read = fitted_reading(inputs[looked_at], labels[found["number"][looked_at]], DRAWN_RIDGE)
    good &= ~np.isin(found["number"], list(map(int, DRAWN_WRONG.split())))
    if (folder / "children").exists():
        children = kept(folder / "children")
        children["number"] += CHILDREN
        found = {key: np.concatenate([found[key], children[key]]) for key in found}
        good = np.concatenate([good, children["length"] > CHILD_CLEAR])
        inputs = np.column_stack([found["place"], SCALE * found["first"]]).astype(np.float64)
    worn = inputs @ read[:, :-1].T + read[:, -1]
    found["traits"] = found["first"] @ tensors["traits.read"].T + tensors["traits.read_offset"]
    found["worn"] = np.column_stack([worn[:, 0] > GLASSED, worn[:, 1] > BEARDED]).astype(np.float64)
    good &= ((worn[:, 0] < BARE) | (worn[:, 0] > GLASSED)) & (found["traits"][:, 1] > OLDER)
    return {key: value[good] for key, value in found.items()}


def parents(folder: pathlib.Path, codec: FaceCodec) -> list[NDArray[np.floating]]:
    """Latents of the grown ones of those drawn that pass: with glasses, and without."""
    found = passing(folder, codec)
    good = (found["traits"][:, 1] > GROWN) & (found["score"] > LEAST_PARENTS) & (found["number"] < CHILDREN)
    return [found["place"][good & (found["worn"][:, 0] == worn)] for worn in (1, 0)]


def sheets(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Contact sheets of the faces that pass."""
    target.mkdir(parents=True, exist_ok=True)
    found, side = passing(folder, FaceCodec.load()), 100
    for start in range(0, len(found["face"]), 112):
        sheet = Image.new("RGB", (14 * side, 8 * side))
        text = ImageDraw.Draw(sheet)
        for i in range(start, min(start + 112, len(found["face"]))):
            corner = (i - start) % 14 * side, (i - start) // 14 * side
            sheet.paste(Image.fromarray(found["face"][i]).resize((side, side)), corner)
            text.text((corner[0] + 2, corner[1]), str(found["number"][i]), (255, 255, 0))
        sheet.save(target / f"{start:05d}.png")


def fitted_reading(inputs: NDArray[np.float64], labels: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """(K, D + 1) slopes and offset of the ridge regression of labels (N, K) on inputs (N, D)."""
    middle, spread = inputs.mean(0), inputs.std(0)
    slope = ridge(inputs / spread, labels, weight).T / spread
    return np.column_stack([slope, labels.mean(0) - slope @ middle])


def wearing(codec: FaceCodec, folders: Sequence[pathlib.Path]) -> NDArray[np.float64]:
    """(2, 257) what reads glasses and beard, as Pool.worn_by() does of real faces."""
    tensors, faces = person_tensors(codec.basis, weights_in_use()), to_tensor(read_faces(folders)[:LABELLED])
    rows = []
    for face in faces:
        latents, person = codec.look(face)
        place = (latents[:DRAWN].numpy() - tensors["prior.mean"][:DRAWN]) / tensors["prior.deviation"][:DRAWN]
        rows.append(np.concatenate([place, SCALE * person[0].numpy()]))
    inputs, labels = np.array(rows, np.float64), np.zeros((len(rows), 2))
    for i, known in enumerate((GLASSES, BEARDS)):
        labels[list(map(int, known.split())), i] = 1
    return fitted_reading(inputs, labels, RIDGE * inputs.shape[1])


def write(folder: pathlib.Path, target: pathlib.Path, faces: Sequence[pathlib.Path]) -> None:
    """The file of the pool."""
    codec = FaceCodec.load()
    found, tensors = passing(folder, codec), person_tensors(codec.basis, weights_in_use())
    place, first, second = (found[key].astype(np.float64) for key in ("place", "first", "second"))
    expected = place @ tensors["looks.slope"].T + tensors["looks.offset"]
    pool = Pool(place, first, second, expected, found["traits"], found["worn"], wearing(codec, faces))
    save_file(packed(pool), target, metadata={"basis": codec.basis})
    print(f"{len(pool)} people, {int(pool.worn[:, 0].sum())} with glasses, {int(pool.worn[:, 1].sum())} with a beard")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["draw", "cross", "sheets", "write"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path, nargs="?")
    parser.add_argument("--count", type=int, default=1200)
    parser.add_argument("--faces", type=pathlib.Path, nargs="*", default=[])
    options = parser.parse_args()
    tune_process(1)
    if options.step == "draw":
        codec, seen = FaceCodec.load(), Looks()
        keep(options.folder, options.count, lambda number: draw(codec, seen, number))
    elif options.step == "cross":
        codec = FaceCodec.load()
        groups = parents(options.folder, codec)
        keep(options.folder / "children", options.count, lambda number: cross(codec, groups, number))
    elif options.step == "sheets":
        sheets(options.folder, options.target)
    else:
        write(options.folder, options.target, options.faces)


if __name__ == "__main__":
    main()
