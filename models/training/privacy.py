"""How well new faces hide who was there, measured in written photos: re-identification after `mien redact`.

    python -m mien.models.training.privacy PORTRAITS WORK --policy deidentify --keys P0004 G0026 ...

Each portrait goes the whole way (`mien redact`, in a process of its own, into WORK/POLICY), is read back, and its face
aligned by the landmarks of the original. By each recogniser (mien's two, and dlib's own where it is installed): rank-1
of the new faces among the originals with Wilson's 95 % interval, the area under the curve of own against other pairs,
and their means. Beside it, in the same photos, stand controls: the original, a grey oval, and a stranger's real face of
--strangers, aligned and feathered, at random and matched by apparent sex and age and by skin. Last, WORK/sheet.png with
the originals above the results, and an attack by one who knows the method, the encoder and the pool: the pool's person
is taken out of what the encoder reads in the written face, and what is left is looked for among the originals.
"""

import argparse
import pathlib
import subprocess
import sys

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mien.models.audit import wilson
from mien.models.codec import FaceCodec
from mien.models.evaluation import DlibDescriptor, packaged_models
from mien.models.faces import (
    FaceDetector,
    FaceLandmarker,
    Transform,
    align_face,
    arcface_crop,
    dlib_recogniser,
    face_transform,
)
from mien.models.images import decode_image, encode_image
from mien.models.privacy import EXCHANGED, Deidentifier, join_part
from mien.models.runtime import tune_process
from mien.models.training.data import read_faces, to_tensor

Pixels = NDArray[np.uint8]
Floats = NDArray[np.floating]
QUALITY = 90
SHOWN = 200  # pixels of a face on the sheet


class Recognisers:
    """Embeddings whose negative distances are likenesses: mien's two, and dlib's own where it is installed."""

    def __init__(self, codec: FaceCodec) -> None:
        folder = packaged_models()
        self._codec, self._dlib = codec, DlibDescriptor(folder) if folder else None

    @torch.inference_mode()
    def __call__(self, faces: list[Pixels]) -> dict[str, Floats]:
        """(N, D) by name, of aligned faces (512, 512, 3) uint8."""
        found: dict[str, list[Floats]] = {}
        for face in faces:
            picture = torch.nn.functional.interpolate(to_tensor(face[None]), size=256, mode="area")
            one = {
                "mobilefacenet": self._codec.recogniser(arcface_crop(picture))[0].numpy(),
                "dlib in torch": dlib_recogniser().embedding(picture)[0].numpy(),
            }
            if self._dlib:
                one["dlib"] = self._dlib(face)
            for name, value in one.items():
                found.setdefault(name, []).append(value)
        return {name: np.array(values) for name, values in found.items()}


def figures(new: Floats, originals: Floats) -> str:
    """Of (N, D) embeddings of new faces, each in the place of one of the originals."""
    likeness = -np.linalg.norm(new[:, None] - originals[None], axis=-1)
    own, others = np.diag(likeness), likeness[~np.eye(len(likeness), dtype=bool)]
    hits = int((likeness.argmax(1) == np.arange(len(likeness))).sum())
    share = wilson(hits, len(own))
    return (
        f"rank-1 {hits} of {len(own)} = {share.value:.2f} [{share.low:.2f}, {share.high:.2f}], "
        f"AUC {(own[:, None] > others[None]).mean():.2f}, own {own.mean():.2f}, others {others.mean():.2f}"
    )


def written(photo: Pixels) -> Pixels:
    """The photo as a JPEG gives it back."""
    return decode_image(encode_image(photo, "jpeg", QUALITY), photo.shape[0] * photo.shape[1])


def pasted(photo: Pixels, transform: Transform, face: Pixels | None) -> Pixels:
    """The photo, written, with an aligned face, or grey, over its own, feathered."""
    share = cv2.warpAffine(join_part(512)[0, 0].numpy(), np.array(transform).reshape(2, 3), photo.shape[1::-1])
    over = np.full((512, 512, 3), 128, np.uint8) if face is None else face
    painted = cv2.warpAffine(over, np.array(transform).reshape(2, 3), photo.shape[1::-1])
    return written((photo + share[:, :, None] * (painted.astype(np.float32) - photo)).round().astype(np.uint8))


def redacted(folder: pathlib.Path, keys: list[str], work: pathlib.Path, policy: str) -> dict[str, Pixels]:
    """The written photos by key, those that were not withheld."""
    output = work / policy
    words = [str(folder / f"{key}.jpg") for key in keys if not (output / f"{key}.jpg.jpg").exists()]
    if words:
        command = [sys.executable, "-m", "mien.pipelines", "redact", *words, "--output", str(output)]
        subprocess.run([*command, "--policy", policy, "--quality", str(QUALITY)], check=False)
    found = {key: output / f"{key}.jpg.jpg" for key in keys}
    return {key: decode_image(path.read_bytes()) for key, path in found.items() if path.exists()}


def tone(face: Pixels) -> Floats:
    """(3,) logarithms of the colours of an aligned face's cheeks."""
    return np.log(face[280:340, 170:340].reshape(-1, 3).mean(0) + 1)


def attacked(deidentifier: Deidentifier, new: list[Pixels], originals: list[Pixels]) -> str:
    """Rank-1 of what is left where the pool's person is taken out of the latents that are read in the new faces."""
    read = [[deidentifier.person_of(face) for face in faces] for faces in (new, originals)]
    places, known = (np.array(part) for part in read)
    found = []
    for place in places:
        left = (place[None] - EXCHANGED * deidentifier.people) / (1 - EXCHANGED)
        apart = np.linalg.norm(left[:, None] - known[None], axis=-1)
        found.append(int(apart.min(0).argmin()))
    plain = np.linalg.norm(places[:, None] - known[None], axis=-1).argmin(1)
    own = np.arange(len(new))
    shares = (plain == own).mean(), (np.array(found) == own).mean()
    return "latents as they are read: rank-1 {:.2f}; less the pool's people: {:.2f}".format(*shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("work", type=pathlib.Path)
    parser.add_argument("--policy", default="deidentify")
    parser.add_argument("--keys", nargs="*", default=[])
    parser.add_argument("--strangers", nargs="*", type=pathlib.Path, default=[], help="folders of aligned faces")
    options = parser.parse_args()
    tune_process(1)
    keys = options.keys or sorted(path.stem for path in options.folder.glob("*.jpg"))
    safe = redacted(options.folder, keys, options.work, options.policy)
    print(f"{len(safe)} of {len(keys)} photos were written")
    codec, detector, landmarker = FaceCodec.load(), FaceDetector(["mediapipe"]), FaceLandmarker()
    see, deidentifier = Recognisers(codec), Deidentifier(codec)
    photos, transforms = {}, {}
    for key in safe:
        photo = decode_image((options.folder / f"{key}.jpg").read_bytes())
        face = landmarker.locate(photo, max(detector.detect(photo), key=lambda one: one.box[2] * one.box[3]))
        photos[key], transforms[key] = photo, face_transform(face.landmarks)
    originals = [align_face(photos[key], transforms[key]) for key in safe]
    known = see(originals)
    results = {options.policy: [align_face(safe[key], transforms[key]) for key in safe]}
    results["original"] = [align_face(written(photos[key]), transforms[key]) for key in safe]
    results["grey oval"] = [align_face(pasted(photos[key], transforms[key], None), transforms[key]) for key in safe]
    if options.strangers:
        strangers = list(read_faces(options.strangers, 512))
        random = np.random.default_rng(0)
        chosen = {"stranger at random": [strangers[i] for i in random.permutation(len(strangers))[: len(safe)]]}
        traits = np.array([deidentifier.apparent(one) for one in see(strangers)["mobilefacenet"].astype(np.float64)])
        tones, matched = np.array([tone(face) for face in strangers]), []
        for own, embedding in zip(originals, known["mobilefacenet"].astype(np.float64), strict=True):
            apart = np.abs(traits - deidentifier.apparent(embedding)) @ [2.0, 1.0]
            matched.append(strangers[int((apart + 2 * np.abs(tones - tone(own)).mean(1)).argmin())])
        chosen["stranger of the same sex, age and skin"] = matched
        for name, faces in chosen.items():
            shown = [pasted(photos[key], transforms[key], face) for key, face in zip(safe, faces, strict=True)]
            results[name] = [align_face(one, transforms[key]) for key, one in zip(safe, shown, strict=True)]
    for name, faces in results.items():
        for recogniser, embeddings in see(faces).items():
            print(f"{name}, {recogniser}: {figures(embeddings, known[recogniser])}")
    print(attacked(deidentifier, results[options.policy], originals))
    pairs = [
        np.concatenate([cv2.resize(f, (SHOWN, SHOWN), interpolation=cv2.INTER_AREA) for f in pair])
        for pair in zip(originals, results[options.policy], strict=True)
    ]
    pairs += [np.zeros_like(pairs[0])] * (-len(pairs) % 8)
    rows = [np.concatenate(pairs[i : i + 8], 1) for i in range(0, len(pairs), 8)]
    Image.fromarray(np.concatenate(rows)).save(options.work / "sheet.png")


if __name__ == "__main__":
    main()
