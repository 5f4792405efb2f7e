"""ImageNet k nearest neighbours on frozen vectors: cosine, votes weighted by exp(cosine /
temperature) (DINO)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimic.errors import BadInput
from mimic.tasks.api import EvalModel, EvalPaths, Result
from mimic.tasks.engine.batches import in_batches, shown_batches
from mimic.tasks.engine.feature_cache import FeatureArray
from mimic.tasks.imagenet import embeddings
from mimic.tasks.imagenet.config import KnnTask
from mimic.tasks.imagenet.dataset import open_imagenet
from mimic.tasks.metrics.items import item_hits

# validation and training vectors compared at once
QUERIES = 256
GALLERY_BLOCK = 65536


def run(task: KnnTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Classify the validation images by the training images; nothing is trained.

    Raises:
        BadInput: k is larger than the training split.
    """
    data = open_imagenet(task, folders.root)
    if max(task.k) > len(data.train[0]):
        raise BadInput(
            f"knn: k {max(task.k)}, but there are {len(data.train[0])} training images; lower k"
        )
    pool = embeddings.pooling(task, subject.encoder)
    gallery, test = (
        embeddings.center_crop_features(task, data, split, subject, folders)
        for split in ("train", "val")
    )
    device = next(subject.encoder.parameters()).device
    predicted = classify(
        gallery, torch.from_numpy(data.train[1]), test, task.k, task.temperature, device
    )
    top1 = {str(k): float((classes == data.val[1]).mean()) for k, classes in predicted.items()}
    value = top1[str(task.value_k)]
    vector = "class token" if pool == "class" else "mean of the patch tokens"
    return Result(
        name="top1",
        headline="top1",
        higher_is_better=True,
        metrics={
            "top1": value,
            "standard_error": embeddings.accuracy_error(value, len(test)),
            "by_k": top1,
            "classes": len(data.wnids),
            "train_size": len(gallery),
            "chance": 1 / len(data.wnids),
        },
        protocol=(
            f"preset {task.preset}, encoder frozen, {len(gallery)} train / {len(test)} test, "
            f"{vector} after the final norm at {task.size_px} px, "
            f"{task.value_k} nearest by cosine, temperature {task.temperature:g}"
            f"{', ' if data.own else ''}{data.own}"
        ),
        selection=f"k = {task.value_k}, fixed in params",
        test_size=len(test),
        items=item_hits(predicted[task.value_k] == data.val[1]),
        pictures=embeddings.pictures(task, data, predicted[task.value_k]),
    )


def classify(
    gallery: FeatureArray,
    classes: Tensor,
    test: FeatureArray,
    ks: tuple[int, ...],
    temperature: float,
    device: torch.device,
) -> dict[int, np.ndarray]:
    """Predicted classes int64[tests] for each k; a tie goes to the smaller class number."""
    count = int(classes.max()) + 1
    out: dict[int, list[Tensor]] = {k: [] for k in ks}
    for part in shown_batches(len(test), QUERIES, "find neighbours", "images"):
        query = _unit(test, part, device)
        cosine = torch.zeros(len(query), 0, device=device)
        near = torch.zeros(len(query), 0, dtype=torch.int64, device=device)
        for block in in_batches(len(gallery), GALLERY_BLOCK):
            similarity = query @ _unit(gallery, block, device).T
            numbers = torch.arange(block.start, block.stop, device=device).expand(len(query), -1)
            cosine = torch.cat([cosine, similarity], dim=1)
            near = torch.cat([near, numbers], dim=1)
            cosine, order = cosine.topk(min(max(ks), cosine.shape[1]))
            near = near.gather(1, order)
        # The nearest counts 1: nothing overflows, no ratio changes.
        votes = ((cosine - cosine[:, :1]) / temperature).exp()
        named = classes.to(device)[near]
        for k in ks:
            tally = torch.zeros(len(query), count, device=device).scatter_add_(
                1, named[:, :k], votes[:, :k]
            )
            out[k].append(tally.argmax(dim=1).cpu())
    return {k: torch.cat(parts).numpy() for k, parts in out.items()}


def _unit(vectors_: FeatureArray, part: slice, device: torch.device) -> Tensor:
    return F.normalize(
        torch.from_numpy(vectors_[np.arange(part.start, part.stop)]).to(device), dim=1
    )
