"""Rate and quality of the codec on folders of aligned faces, from payload files that were written and read back.

    python -m mien.models.training.evaluate ../shared/faces/dev ../shared/faces/wild_dev \
        --backbone squeezenet_v1.1.ncnn.bin --heads squeeze.pth \
        [--dlib face_recognition_models/models] [--weights FOLDER] [--effort fast] [--pictures DIR]

LPIPS (squeeze) at 256 px, cosine of the recogniser, distance of dlib's descriptors (same person < 0.6; a recogniser
that took no part in training) where --dlib names its two model files and dlib is installed.
"""

import argparse
import pathlib
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mien.models.codec import FaceCodec
from mien.models.recogniser import arcface_crop
from mien.models.training.data import read_faces, to_tensor
from mien.models.training.lpips import Lpips

# Where a frontal face detector's square lies in an FFHQ-aligned 512 px picture, for dlib's landmarks.
DLIB_BOX = (128, 170, 384, 426)


class Dlib:
    """dlib's ResNet descriptor (CC0; PyPI face_recognition_models), (128,)."""

    def __init__(self, folder: pathlib.Path) -> None:
        import dlib

        self.dlib = dlib
        self.landmarks = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
        self.net = dlib.face_recognition_model_v1(str(folder / "dlib_face_recognition_resnet_model_v1.dat"))

    def __call__(self, face: np.ndarray) -> np.ndarray:
        shape = self.landmarks(face, self.dlib.rectangle(*DLIB_BOX))
        return np.array(self.net.compute_face_descriptor(face, shape))


def evaluate(codec: FaceCodec, folder: pathlib.Path, options: argparse.Namespace) -> dict[str, float]:
    faces = read_faces([folder], 512)
    lpips, dlib = Lpips(options.backbone, options.heads), Dlib(options.dlib) if options.dlib else None
    rows, decoded = [], []
    with tempfile.TemporaryDirectory() as place:
        for i, face in enumerate(faces):
            path, begin = pathlib.Path(place, f"{i}.mien"), time.perf_counter()
            path.write_bytes(codec.encode(face, options.max_bytes, options.objective, options.effort))
            middle = time.perf_counter()
            payload = path.read_bytes()
            decoded.append(codec.decode(payload))
            end = time.perf_counter()
            small = [F.interpolate(to_tensor(f[None]), size=256, mode="area") for f in (face, decoded[-1])]
            with torch.inference_mode():
                ids = [codec.recogniser(arcface_crop(s)) for s in small]
                row = {
                    "bytes": len(payload),
                    "lpips": float(lpips(*small)),
                    "psnr": float(-10 * torch.log10(((small[0] - small[1]) / 2).square().mean())),
                    "cosine": float((ids[0] * ids[1]).sum()),
                    "encode ms": (middle - begin) * 1000,
                    "decode ms": (end - middle) * 1000,
                }
            if dlib:
                row["dlib"] = float(np.linalg.norm(dlib(face) - dlib(decoded[-1])))
            rows.append(row)
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for begin in range(0, len(faces), 11):
            pair = (faces[begin : begin + 11], decoded[begin : begin + 11])
            sheet = np.concatenate([np.concatenate(list(part), 1) for part in pair])
            shrunk = Image.fromarray(sheet).resize((sheet.shape[1] // 2, sheet.shape[0] // 2), Image.Resampling.BOX)
            shrunk.save(options.pictures / f"{folder.name}-{begin:03d}.png")
    found = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    for name in ("encode ms", "decode ms"):
        found[name] = float(np.median([row[name] for row in rows]))
    return {"faces": len(rows), "max bytes": max(row["bytes"] for row in rows)} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--backbone", required=True)
    parser.add_argument("--heads", required=True)
    parser.add_argument("--dlib", type=pathlib.Path)
    parser.add_argument("--weights")
    parser.add_argument("--max-bytes", type=int, default=320)
    parser.add_argument("--objective", default="identity")
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--pictures", type=pathlib.Path)
    options = parser.parse_args()
    codec = FaceCodec.load(options.weights)
    for folder in options.folders:
        found = evaluate(codec, folder, options)
        print(folder.name, options.effort, *(f"{name} {value:.4g}" for name, value in found.items()), sep="  ")


if __name__ == "__main__":
    main()
