"""Fits what models/privacy/deidentify.py draws new people with: the prior of the base layer's latents, and the
directions in them that change pose, expression, light and skin tone, and apparent age and sex.

    python -m mien.models.training.person teacher.safetensors SAMPLES models/weights/person.safetensors --count 1500

SAMPLES is a folder for latents and pictures; a second run goes on where the first stopped. Needs MediaPipe.

Looks (models/faces/appearance.py) and the recogniser's embedding are regressed on the latents (ridge). The directions
move the looks, and the embedding as little as can be: with J the slope of the embedding and M = (1 + k J^T J)^-1 they
are M A^T (A M A^T)^-1, the generalised inverse of the looks' slope A in a metric in which changing the person costs.
Age and sex are read from the embedding by ridge regression on LABELS, judged by eye on the first 240 samples.
"""

import argparse
import logging
import pathlib
import re

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tqdm import tqdm

from mien.models.codec import FaceCodec
from mien.models.faces import NAMES, Looks, arcface_crop
from mien.models.training.data import to_tensor
from mien.models.training.generator_import import Teacher
from mien.models.training.samples import sample_w

SIZE, PRIOR, SEED = 256, 20000, 1
RIDGE, TRAIT_RIDGE = 60.0, 2.0
PERSON_COST = 300.0  # k
PERSON = 16  # directions that move the embedding most
DRAWN = 64  # latents that are drawn and moved: finer ones stay at their mean, and leave the bytes to these
OUTLIER = 3.5  # deviations
# Sample, m or f (- where unclear), and c(hild), y(oung), m(iddle-aged), o(ld).
LABELS = """
1mo 2my 3my 4my 5fy 8mm 9my 10fc 11mo 12fy 13my 14fc 15mo 16my 17my 19mm 20mm 21fm 22mo 23mo 24fy 25fy 26fy 27fm 28fy
29mm 30my 31my 32mm 33fm 34mm 35my 36fm 38fy 40mm 42fy 43mo 44fy 45fy 46fm 47my 48my 49-c 52my 53fy 54mm 55fy 56fy 57fy
59mm 60fy 62mc 63mo 65fy 66my 67fy 68fy 69my 70mo 71my 72mm 73mm 75my 77fm 78fy 79fo 80my 81my 82fy 83my 86fc 87-c 88mm
89mc 91mm 92fy 93mm 96fy 97fy 98my 99fy 100mm 101fc 102my 104my 106fy 108fy 109mc 110mo 111fm 112fy 114my 115fy 116fy
117-c 118mc 120mc 121mm 122mo 123fo 124mo 125fc 126mm 127fy 129fy 130mm 131fy 132mm 133mc 134mm 135fy 136fy 137mm 139fy
140mo 141fy 142-c 143mm 144fc 146fy 148mm 149my 150fm 151fo 152fc 153fm 155fy 156mm 157mm 158fy 159mo 160mo 161mc 162mc
163fm 164fy 166-c 167mm 169mm 170fy 171fc 172mm 173mm 175mm 177mm 178mc 179mm 180fc 182fm 183my 184fm 185fm 186fy 188fm
189fy 190fc 192fm 193my 194-c 195mo 196fy 197my 198fy 199mc 201fy 203fy 204my 205fy 206fy 207fy 208mm 209fy 211mm 213fy
214mo 215mm 216mm 217fm 218fy 220fm 221mo 222-c 223fy 224-c 226my 228mm 230my 231fy 232fm 233-c 234fy 237mm 238my 239my
"""
log = logging.getLogger(__name__)
Floats = NDArray[np.floating]


def ridge(inputs: Floats, outputs: Floats, penalty: float) -> Floats:
    """Slope (inputs, outputs) of outputs (N, outputs) on inputs (N, inputs), both centred here."""
    # numpy's solver is all it takes: scikit-learn would be a dependency for two lines
    inputs, outputs = inputs - inputs.mean(0), outputs - outputs.mean(0)
    found: Floats = np.linalg.solve(inputs.T @ inputs + penalty * np.eye(inputs.shape[1]), inputs.T @ outputs)
    return found


def analysis(codec: FaceCodec, w: torch.Tensor) -> Floats:
    """(512, K): the regression of the base layer's latents on w - mean, for styles w (N, 512) like the teacher's."""
    covariance = np.cov(w.double().numpy().T)
    synthesis, unit = codec.decoder.synthesis.double().numpy(), codec.base_deviation.double().numpy()
    found: Floats = np.linalg.solve(covariance + 1e-6 * np.eye(512), synthesis.T * unit**2)
    return found


def make_samples(codec: FaceCodec, teacher: Teacher, folder: pathlib.Path, count: int) -> Floats:
    """Draws `count` faces of the base layer into the folder; the latents (PRIOR, K) that they are the first of."""
    w = sample_w(teacher, PRIOR, SEED)
    latents = ((w - codec.decoder.mean).double().numpy()) @ analysis(codec, w)
    folder.mkdir(parents=True, exist_ok=True)
    path, done = folder / "faces.npy", folder / "done"
    begin = int(done.read_text()) if done.exists() else 0
    shape = (count, SIZE, SIZE, 3)
    faces = np.lib.format.open_memmap(path, "r+" if begin else "w+", np.uint8, None if begin else shape)
    for i in tqdm(range(begin, count), mininterval=30):
        faces[i] = codec.draw_base(latents[i].astype(np.float32), SIZE)
        done.write_text(str(i + 1))
    return latents


def observe(codec: FaceCodec, faces: NDArray[np.uint8]) -> tuple[Floats, Floats]:
    """Looks (N, 13), NaN where no landmarks were found, and embeddings (N, 192)."""
    looks, measured, embeddings = Looks(), [], []
    for face in tqdm(faces, mininterval=30):
        found = looks.measure(np.array(face))
        measured.append(np.full(len(NAMES), np.nan) if found is None else found)
        with torch.inference_mode():
            embeddings.append(codec.recogniser(arcface_crop(to_tensor(face[None])))[0].numpy())
    return np.array(measured), np.array(embeddings, np.float64)


def fit(latents: Floats, looks: Floats, embeddings: Floats) -> dict[str, NDArray[np.float16 | np.float32]]:
    """The tensors of person.safetensors, from latents (PRIOR, K) and what was observed of the first N."""
    mean, deviation = latents.mean(0), latents.std(0)
    places = ((latents - mean) / deviation)[: len(looks), :DRAWN]
    seen = ~np.isnan(looks).any(1)
    middle, spread = np.median(looks[seen], 0), looks[seen].std(0)
    seen &= (np.abs(looks - middle) < OUTLIER * spread).all(1)
    log.info("%d of %d samples with plain looks", seen.sum(), len(looks))
    middle, spread = looks[seen].mean(0), looks[seen].std(0)
    slope = ridge(places[seen], (looks[seen] - middle) / spread, RIDGE).T * spread[:, None]
    offset = middle - slope @ places[seen].mean(0)
    person = ridge(places[seen], embeddings[seen], RIDGE).T
    metric = np.linalg.inv(np.eye(DRAWN) + PERSON_COST * person.T @ person)

    labels = re.findall(r"(\d+)([mf-])([cymo])", LABELS)
    known = np.array([int(number) for number, *_ in labels])
    sex = np.array([{"m": 1.0, "f": -1.0, "-": 0.0}[letter] for _, letter, _ in labels])
    age = np.array(["cymo".index(letter) for *_, letter in labels], np.float64)
    labelled = np.stack([sex, age], 1)
    read = ridge(embeddings[known], labelled, TRAIT_RIDGE).T
    read_offset = labelled.mean(0) - read @ embeddings[known].mean(0)
    traits = embeddings @ read.T + read_offset
    trait_slope = ridge(places[seen], traits[seen], RIDGE).T
    trait_offset = traits[seen].mean(0) - trait_slope @ places[seen].mean(0)
    log.info("sex and age of the samples: %s +- %s", traits.mean(0).round(2), traits.std(0).round(2))
    for name, matrix, values in (("looks", slope, looks[seen]), ("traits", trait_slope, traits[seen])):
        error = values - values.mean(0) - (places[seen] - places[seen].mean(0)) @ matrix.T
        log.info("%s: R2 %s", name, (1 - error.var(0) / values.var(0)).round(2))
    tensors = {
        "prior.mean": mean.astype(np.float32),
        "prior.deviation": deviation.astype(np.float32),
        "person.directions": np.linalg.svd(person).Vh[:PERSON].T.astype(np.float16),
        "looks.slope": slope.astype(np.float16),
        "looks.offset": offset.astype(np.float32),
        "looks.direction": right_inverse(slope, metric, 0.02 * spread**2).astype(np.float16),
        "traits.read": read.astype(np.float16),
        "traits.read_offset": read_offset.astype(np.float32),
        "traits.slope": trait_slope.astype(np.float16),
        "traits.offset": trait_offset.astype(np.float32),
        "traits.direction": right_inverse(trait_slope, np.eye(DRAWN), 0.0).astype(np.float16),
    }
    # safetensors writes an array's memory as it lies
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def right_inverse(slope: Floats, metric: Floats, noise: Floats | float) -> Floats:
    """(K, rows): for slope (rows, K) and metric (K, K), the cheapest change of the latents by one unit of each row."""
    crossed = slope @ metric @ slope.T
    found: Floats = metric @ slope.T @ np.linalg.inv(crossed + np.eye(len(slope)) * noise)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("samples", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=1500)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    codec = FaceCodec.load()
    latents = make_samples(codec, Teacher(options.teacher), options.samples, options.count)
    faces = np.load(options.samples / "faces.npy", mmap_mode="r")[: options.count]
    save_file(fit(latents, *observe(codec, faces)), options.target, metadata={"basis": codec.basis})


if __name__ == "__main__":
    main()
