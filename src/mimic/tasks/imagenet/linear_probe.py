"""ImageNet linear probe: batch normalisation and one linear layer on frozen vectors, LARS (MAE,
appendix A.1).

Vectors are computed once per view and image and kept. With as many views as epochs every epoch sees
a fresh random crop, as published.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimic.models.heads import ClassifierHead
from mimic.tasks.api import EvalModel, EvalPaths, Result
from mimic.tasks.engine.batches import in_batches, step_indices
from mimic.tasks.engine.encoder_with_head import seeded
from mimic.tasks.engine.feature_cache import FeatureArray
from mimic.tasks.engine.step_progress import show_steps
from mimic.tasks.imagenet import embeddings
from mimic.tasks.imagenet.config import LinearProbeTask
from mimic.tasks.imagenet.dataset import ClassSet, open_imagenet
from mimic.tasks.imagenet.lars import Lars
from mimic.tasks.metrics.items import item_hits
from mimic.training.fit import Optim, RunSpec, fit
from mimic.training.optim import cosine_lr, scaled_lr
from mimic.training.training_stats import LogRecord

WEIGHT_STD = 0.01  # of the linear layer at the start
SCORED = 4096  # vectors classified at once


Point = tuple[dict[str, float], np.ndarray]  # of an epoch: accuracies, and the predicted classes


def run(task: LinearProbeTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Train the probe on the training images, measure it on the validation images after every
    epoch."""
    data = open_imagenet(task, folders.root)
    pool = embeddings.pooling(task, subject.encoder)
    test = embeddings.center_crop_features(task, data, "val", subject, folders)
    curve = _train(task, data, subject, folders, test)
    epoch = len(curve) - 1
    if task.selection != "last":
        epoch = int(np.argmax([point["top1"] for point, _ in curve]))
    chosen, predicted = curve[epoch]
    train_size = len(data.train[0])
    protocol = _protocol(task, pool, train_size, len(test))
    return Result(
        name="top1",
        headline="top1",
        higher_is_better=True,
        metrics={
            **chosen,
            "standard_error": embeddings.accuracy_error(chosen["top1"], len(test)),
            "top1_by_epoch": [point["top1"] for point, _ in curve],
            "classes": len(data.wnids),
            "train_size": train_size,
            "chance": 1 / len(data.wnids),
        },
        protocol=protocol + (f", {data.own}" if data.own else ""),
        selection="last epoch"
        if task.selection == "last"
        else f"best epoch by validation accuracy ({epoch + 1} of {len(curve)})",
        test_size=len(test),
        items=item_hits(predicted == data.val[1]),
        pictures=embeddings.pictures(task, data, predicted),
    )


def _train(
    task: LinearProbeTask,
    data: ClassSet,
    subject: EvalModel,
    folders: EvalPaths,
    test: FeatureArray,
) -> list[Point]:
    """The head's accuracies after every epoch."""
    head = build(task, subject.encoder.width, len(data.wnids))
    head.to(next(subject.encoder.parameters()).device)
    train_size = len(data.train[0])
    updates = max(1, train_size // task.batch)  # of an epoch; the incomplete batch is dropped
    truth = torch.from_numpy(data.val[1])
    curve: list[Point] = []

    @lru_cache(maxsize=2)
    def view(number: int) -> FeatureArray:
        if not task.views:
            return embeddings.center_crop_features(task, data, "train", subject, folders)
        return embeddings.random_crop_features(task, task.crop_area, number, data, subject, folders)

    def draw(step: int) -> list[tuple[Tensor, Tensor]]:
        index = step_indices(step, task.batch, train_size, task.seed)
        seen = view(step // updates % max(1, task.views))
        return [(torch.from_numpy(seen[index]), torch.from_numpy(data.train[1][index]))]

    def score(_: LogRecord) -> None:
        curve.append(accuracies(head, test, truth))
        head.train()

    steps = task.epochs * updates
    run = RunSpec(steps=steps, seed=task.seed, precision="fp32", workers=0, log_every=updates)
    optim = Optim(_lars(task, head), lambda step: learning_rate(task, step, updates))
    with show_steps("train the probe", steps) as shown:
        fit(
            head,
            lambda model, drawn: shown.counted(_loss(model, drawn)),
            draw,
            optim,
            run,
            log=score,
        )
    return curve


def _lars(task: LinearProbeTask, head: nn.Module) -> Lars:
    return Lars(
        head.parameters(),
        momentum=task.momentum,
        trust=task.trust,
        weight_decay=task.weight_decay,
    )


def _loss(model: nn.Module, drawn: tuple[Tensor, Tensor]) -> Tensor:
    device = next(model.parameters()).device
    return F.cross_entropy(model(drawn[0].to(device)), drawn[1].to(device))


def build(task: LinearProbeTask, width: int, classes: int) -> ClassifierHead:
    """Only the linear layer has weights to train: normal of deviation 0.01, bias 0."""

    def head() -> ClassifierHead:
        classifier = ClassifierHead(width, classes)
        nn.init.trunc_normal_(classifier.output.weight, std=WEIGHT_STD)
        nn.init.zeros_(classifier.output.bias)
        return classifier

    classifier = seeded(task.seed, head)
    assert isinstance(classifier, ClassifierHead)
    return classifier


def learning_rate(task: LinearProbeTask, step: int, updates: int) -> float:
    """base_lr * batch / 256 (6.4 at 16,384); linear from 0 over the warm-up, cosine to 0, at every
    update."""
    peak = scaled_lr(task.base_lr, task.batch)
    return cosine_lr(
        step,
        peak=peak,
        floor=0.0,
        warmup=task.warmup_epochs * updates,
        horizon=task.epochs * updates,
    )


def accuracies(
    head: nn.Module, test: FeatureArray, truth: Tensor
) -> tuple[dict[str, float], np.ndarray]:
    """top1 and top5 (of fewer classes, all), and the predicted classes int64[n]."""
    head.eval()
    device = next(head.parameters()).device
    hits = torch.zeros(2)
    best = []
    with torch.inference_mode():
        for part in in_batches(len(test), SCORED):
            logits = head(torch.from_numpy(test[np.arange(part.start, part.stop)]).to(device)).cpu()
            ranked = logits.topk(min(5, logits.shape[1])).indices
            right = ranked == truth[part, None]
            hits += torch.tensor([right[:, 0].sum(), right.sum()])
            best.append(ranked[:, 0])
    top1, top5 = (hits.double() / len(test)).tolist()
    return {"top1": top1, "top5": top5}, torch.cat(best).numpy()


def _protocol(task: LinearProbeTask, pool: str, train_size: int, test_size: int) -> str:
    seen = f"{task.views} random crops an image in turn" if task.views else "centre crops"
    vector = "class token" if pool == "class" else "mean of the patch tokens"
    return (
        f"preset {task.preset}, encoder frozen, {train_size} train / {test_size} test, {vector} "
        f"after the final norm at {task.size_px} px, "
        f"{seen}, {task.epochs} epochs in batches of {task.batch}, LARS at {task.base_lr:g} per 256"
    )
