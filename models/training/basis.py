"""The basis of the base layer: directions of w, ordered by how much they are seen.

    python -m mien.models.training.basis teacher.safetensors basis.safetensors --faces 100 \
        --backbone squeezenet_v1.1.ncnn.bin --heads squeeze.pth

A small change dw of a style changes the picture's features (LPIPS, pixels, recogniser) by J dw. With M the mean of J^T
J and C the covariance of w, the Karhunen-Loeve transform of M^(1/2) w gives coordinates in which a uniform quantiser
step costs the same visible error everywhere, so that bits go where they are seen. M is estimated from gradients of
random projections of the features (Hutchinson). Written: mean (512), analysis (512, K), synthesis (K, 512), deviation
(K).
"""

import argparse
import logging

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from mien.models.codec import face_weight
from mien.models.faces import arcface_crop
from mien.models.training.generator_import import Teacher
from mien.models.training.losses import FaceLoss

KEPT = 320
PROJECTIONS = 4  # a face; the forward pass is shared
log = logging.getLogger(__name__)


def projected_gradients(teacher: Teacher, loss: FaceLoss, w: Tensor) -> Tensor:
    """(PROJECTIONS, 512): gradients of random projections of the features of one face, w (1, 512)."""
    w = w.clone().requires_grad_(True)
    face = F.interpolate(teacher.generator(w), size=256, mode="area")
    parts = []
    for feature, head in zip(loss.lpips.features(face), loss.lpips.heads, strict=True):
        place = F.interpolate(loss.place, size=feature.shape[-2:], mode="area")
        parts.append(feature * (head.clamp(min=0) * place / place.mean() / feature[0, 0].numel()).sqrt())
    small = F.avg_pool2d(face, 4)
    parts.append(small * (face_weight(64) / small[0].numel()).sqrt())
    parts.append(loss.recogniser(arcface_crop(face)) * (loss.weights.identity / 2) ** 0.5)
    vector = torch.cat([p.flatten() for p in parts])
    rows = []
    for i in range(PROJECTIONS):
        signs = torch.randint(0, 2, vector.shape).float() * 2 - 1
        (row,) = torch.autograd.grad((vector * signs).sum(), w, retain_graph=i < PROJECTIONS - 1)
        rows.append(row)
    return torch.cat(rows)


def basis(metric: Tensor, covariance: Tensor, kept: int) -> tuple[Tensor, Tensor, Tensor]:
    """(analysis (512, K), synthesis (K, 512), deviation (K)) from M and C, both (512, 512) float64."""
    # few gradients leave directions unseen: a share of the identity keeps M invertible and its smallest directions last
    metric = metric + 0.02 * metric.trace() / len(metric) * torch.eye(len(metric), dtype=metric.dtype)
    values, vectors = torch.linalg.eigh(metric)
    root, inverse = (vectors * values.sqrt()) @ vectors.T, (vectors / values.sqrt()) @ vectors.T
    spread, turn = torch.linalg.eigh(root @ covariance @ root)
    spread, turn = spread.flip(0)[:kept], turn.flip(1)[:, :kept]
    return root @ turn, turn.T @ inverse, spread.clamp(min=0).sqrt()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher")
    parser.add_argument("target")
    parser.add_argument("--faces", type=int, default=100)
    parser.add_argument("--backbone", required=True, help="squeezenet_v1.1.ncnn.bin")
    parser.add_argument("--heads", required=True, help="lpips/weights/v0.1/squeeze.pth")
    parser.add_argument("--recogniser", required=True, help="recogniser.safetensors")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(1)
    teacher, loss = Teacher(options.teacher), FaceLoss(options.backbone, options.heads, options.recogniser)
    w = teacher.map(torch.randn(20000, 512))
    mean = w.mean(0)
    metric, done = torch.zeros(512, 512, dtype=torch.float64), 0
    for i in range(options.faces):
        one = mean + 0.8 * (w[i : i + 1] - mean)
        rows = projected_gradients(teacher, loss, one).double()
        metric += rows.T @ rows
        done += len(rows)
        if i % 10 == 9:
            log.info("%d of %d faces", i + 1, options.faces)
    analysis, synthesis, deviation = basis(metric / done, torch.cov(w.T.double()), KEPT)
    log.info("deviations %s", [round(float(d), 4) for d in deviation[[0, 1, 3, 7, 15, 31, 63, 127, 255, -1]]])
    tensors = {
        "mean": mean,
        "analysis": analysis,
        "synthesis": synthesis,
        "deviation": deviation,
        "metric": metric / done,
    }
    save_file({name: value.float().contiguous() for name, value in tensors.items()}, options.target)


if __name__ == "__main__":
    main()
