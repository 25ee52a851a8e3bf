"""Makes the pool of people who do not exist, from whom models/privacy/new_person.py chooses.

    python -m mien.models.training.pool draw FOLDER --count 4000
    python -m mien.models.training.pool sheets FOLDER SHEETS
    python -m mien.models.training.pool write FOLDER models/weights/pool.safetensors --faces TRAIN... --labels FILE

draw: faces of the generator's prior with what is measured of each, DRAWS a file; a second run goes on where the first
stopped. sheets: the faces that the measures let pass, 10 by 10 with their numbers, to be looked at. write: those that
pass and are not wrong: FILE is a text file with three lines, `wrong`, `glasses` and `beard`, each with the numbers of
the faces that were seen to be so. What an original wears is read from its latents and its embedding by the first
recogniser, by ridge regression on labels that were given by eye to LABELLED real faces of the folders TRAIN
(candid_train and train, in the order of their
names); in ten-fold cross-validation glasses are told with an area under the curve of 0.98, beards with 0.94.
"""

import argparse
import pathlib
from collections.abc import Sequence
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
from mien.models.faces import EMBEDDING as SECOND
from mien.models.faces import NAMES, Looks, arcface_crop, bareness, dlib_recogniser, looks
from mien.models.privacy import SCALE, Pool, packed, person_tensors
from mien.models.runtime import tune_process
from mien.models.training.data import read_faces, to_tensor
from mien.models.training.person import ridge
from mien.models.weights import weights_in_use

DRAWN, DRAWS, SEED = 64, 50, 15
PSI, FARTHEST = 0.75, 2.2  # deviations
# Asked of a face: bareness and opening of the eyes (models/faces/appearance.py), FaceCodec.self_score, and the length
# of the first recogniser's embedding before it is made 1.
LEAST_BARE, LEAST_EYES, LEAST_SCORE, CLEAR = 0.8, 0.2, 0.62, 54.0
KEPT = 96  # pixels of the faces that are kept to be looked at
LABELLED, RIDGE = 300, 2.0
GLASSES = """
10 11 21 24 25 30 31 35 36 38 40 42 47 50 56 59 60 69 84 86 89 99 119 137 138 146 147 150 151 153 162 163 167 168
170 181 185 186 191 192 194 200 204 206 209 221 222 227 230 235 245 250 256 258 261 266 273 280 283 286 287 289 293
294 298
"""
BEARDS = """
1 5 15 22 35 42 44 56 60 79 88 90 99 106 116 117 123 124 128 130 131 137 150 167 185 193 245 248 273 283
"""
Table = dict[str, NDArray[Any]]


@torch.inference_mode()
def draw(codec: FaceCodec, seen: Looks, number: int) -> Table:
    """One face and what is measured of it; NaN where no landmarks were found."""
    tensors = person_tensors(codec.basis, weights_in_use())
    random = np.random.default_rng([SEED, number])
    place = np.clip(random.standard_normal(DRAWN) * PSI, -FARTHEST, FARTHEST).astype(np.float32)
    latents = tensors["prior.mean"].astype(np.float32)
    latents[:DRAWN] += tensors["prior.deviation"][:DRAWN].astype(np.float32) * place
    small = codec.picture(torch.from_numpy(latents)[None], 128).clamp(-1, 1)
    large = F.interpolate(small, size=256, mode="bilinear", align_corners=False)
    face = ((large[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    found = seen.located(face)
    row: Table = {
        "place": place,
        "looks": np.full(len(NAMES), np.nan, np.float32),
        "bare": np.zeros((), np.float32),
        "score": np.zeros((), np.float32),
        "first": np.zeros(FIRST, np.float32),
        "second": np.zeros(SECOND, np.float32),
        "face": np.asarray(cv2.resize(face, (KEPT, KEPT), interpolation=cv2.INTER_AREA), np.uint8),
    }
    if not found.landmarks:
        return row
    row["looks"] = looks(face, found.landmarks, found.pose).astype(np.float32)
    row["bare"] = np.array(bareness(face, found.landmarks), np.float32)
    if row["bare"] > LEAST_BARE and row["looks"][NAMES.index("eyes")] > LEAST_EYES:
        row["score"] = np.array(codec.self_score(face), np.float32)
        row["first"] = codec.recogniser.last(codec.recogniser.features(arcface_crop(large))).flatten().numpy()
        row["second"] = dlib_recogniser().embedding(large)[0].numpy()
    return row


def draw_all(folder: pathlib.Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    codec, seen = FaceCodec.load(), Looks()
    for start in range(0, count, DRAWS):
        path = folder / f"{start:06d}.npz"
        if not path.exists():
            rows = [draw(codec, seen, number) for number in range(start, start + DRAWS)]
            table = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
            np.savez(path.with_suffix(".part.npz"), allow_pickle=False, **table)
            path.with_suffix(".part.npz").rename(path)
            print(path, flush=True)


def passing(folder: pathlib.Path, codec: FaceCodec) -> Table:
    """What was measured of the faces whose measures are good, with their numbers."""
    parts = [np.load(path) for path in sorted(folder.glob("[0-9]*[0-9].npz"))]
    found = {key: np.concatenate([part[key] for part in parts]) for key in parts[0].files}
    found["number"] = np.arange(len(found["bare"]))
    length = np.linalg.norm(found["first"], axis=1)
    good = (found["bare"] > LEAST_BARE) & (found["score"] > LEAST_SCORE) & (length > CLEAR)
    good &= (found["looks"][:, NAMES.index("eyes")] > LEAST_EYES) & (np.abs(found["looks"][:, :2]) < 25).all(1)
    return {key: value[good] for key, value in found.items()}


def sheets(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Contact sheets of the faces that pass."""
    target.mkdir(parents=True, exist_ok=True)
    found = passing(folder, FaceCodec.load())
    for start in range(0, len(found["face"]), 100):
        sheet = Image.new("RGB", (10 * KEPT, 10 * KEPT))
        write = ImageDraw.Draw(sheet)
        for i in range(start, min(start + 100, len(found["face"]))):
            corner = (i - start) % 10 * KEPT, (i - start) // 10 * KEPT
            sheet.paste(Image.fromarray(found["face"][i]), corner)
            write.text((corner[0] + 2, corner[1]), str(found["number"][i]), (255, 255, 0))
        sheet.save(target / f"{start:05d}.png")


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
    middle = inputs.mean(0)
    spread = inputs.std(0)
    slope = ridge(inputs / spread, labels, RIDGE * inputs.shape[1]).T / spread
    return np.column_stack([slope, labels.mean(0) - slope @ middle])


def write(folder: pathlib.Path, target: pathlib.Path, faces: Sequence[pathlib.Path], labels: pathlib.Path) -> None:
    """The file of the pool."""
    codec = FaceCodec.load()
    found, tensors = passing(folder, codec), person_tensors(codec.basis, weights_in_use())
    said = {name: set(map(int, numbers)) for name, *numbers in map(str.split, labels.read_text().splitlines())}
    good = np.array([int(number) not in said["wrong"] for number in found["number"]])
    worn = [[int(number) in said[name] for name in ("glasses", "beard")] for number in found["number"][good]]
    first = found["first"][good].astype(np.float64)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    traits = first @ tensors["traits.read"].T + tensors["traits.read_offset"]
    others = [found[key][good].astype(np.float64) for key in ("place", "second", "looks")]
    pool = Pool(others[0], first, others[1], others[2], traits, np.array(worn, np.float64), wearing(codec, faces))
    save_file(packed(pool), target, metadata={"basis": codec.basis})
    print(f"{len(pool)} people")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["draw", "sheets", "write"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path, nargs="?")
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--faces", type=pathlib.Path, nargs="*", default=[])
    parser.add_argument("--labels", type=pathlib.Path)
    options = parser.parse_args()
    tune_process(1)
    if options.step == "draw":
        draw_all(options.folder, options.count)
    elif options.step == "sheets":
        sheets(options.folder, options.target)
    else:
        write(options.folder, options.target, options.faces, options.labels)


if __name__ == "__main__":
    main()
