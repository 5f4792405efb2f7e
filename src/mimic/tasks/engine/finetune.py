"""Training a head on an encoder, and perhaps the encoder with it: what is frozen, layer-wise
learning rates, their schedule.

The recipe of the multi-modal MAE line (spec: common machinery): no final norm, positions not
trained, the class token dropped before the head, learning rates that fall by `layer_decay` a layer
towards the input, linear warm-up from zero, cosine to zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from mimic.errors import BadInput
from mimic.infra.progress import counted
from mimic.models.encoder import VisionTransformer, normalise
from mimic.tasks.engine.dense_transforms import FLIP_SHARE, Batch, Examples, Mirrored
from mimic.tasks.engine.saved_weights import Best, once
from mimic.tasks.engine.step_progress import saving, stepping
from mimic.tasks.sections import TrainedTask
from mimic.training.batches import batch_indices
from mimic.training.fit import HERE, WHOLE, choose_device, fit
from mimic.training.optim import adamw
from mimic.training.watch import Record

POSITIONS, FINAL_NORM = (
    "pos_embed",
    "norm.",
)  # of the encoder: never trained; trained only where it is read


class Tuned(nn.Module):
    """An encoder with a head on the outputs of some of its blocks.

    Args:
        freeze: "none"; "blocks" trains the patch projection and class token beside the head (what
            the peers' flag does, stochastic depth stays on); "encoder" trains the head alone, on
            features made in eval mode without gradient.
        norm: the head reads the last of its blocks through the encoder's final norm, as linear
            probes and CroCo's own DPT do.
    """

    def __init__(
        self,
        encoder: VisionTransformer,
        head: nn.Module,
        blocks: Sequence[int],
        freeze: str,
        drop_path: float,
        *,
        norm: bool = False,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.encoder, self.head, self.blocks, self.freeze = encoder, head, tuple(blocks), freeze
        unread = (POSITIONS,) if norm else (POSITIONS, FINAL_NORM)
        for name, parameter in encoder.named_parameters():
            fixed = (
                name.startswith(unread)
                or freeze == "encoder"
                or (freeze == "blocks" and name.startswith("blocks."))
            )
            parameter.requires_grad_(not fixed)
        if drop_path and freeze != "encoder":
            add_drop_path(encoder, drop_path)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def train(self, mode: bool = True) -> Tuned:
        super().train(mode)
        self.encoder.train(mode and self.freeze != "encoder")
        return self

    def features(self, images: Tensor) -> list[Tensor]:
        """What the head reads: one map [batch, width, rows, columns] per block."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.freeze != "encoder"):
            return normed(self.encoder, self.encoder.intermediates(images, self.blocks), self.norm)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def normed(encoder: VisionTransformer, levels: list[Tensor], norm: bool) -> list[Tensor]:
    """Maps [b, width, rows, columns] of the blocks a head reads, with `norm` the last of them after
    the final norm."""
    return (
        [*levels[:-1], encoder.norm(levels[-1].movedim(1, -1)).movedim(-1, 1)] if norm else levels
    )


def read_as(last_norm: bool) -> str:
    """For the protocol line of a DPT head."""
    return "last block read after the final norm, " if last_norm else "blocks read raw, "


def read_blocks(blocks: tuple[int, ...] | None, depth: int, levels: int) -> tuple[int, ...]:
    """The encoder blocks a head of `levels` levels reads: as given, or evenly spaced and ending
    with the last (2, 5, 8, 11 of 12).

    Raises:
        BadInput: the encoder has no such block, or the head reads another number of blocks.
    """
    if blocks is None and depth < levels:
        raise BadInput(
            f"blocks null: the head reads {levels} blocks, the encoder has {depth}; pretrain a "
            f"deeper one, or say which to read (one may be read twice), such as "
            f"blocks: {[index * depth // levels for index in range(levels)]}"
        )
    if blocks is None:
        return tuple((index + 1) * depth // levels - 1 for index in range(levels))
    if len(blocks) != levels or not all(0 <= block < depth for block in blocks):
        raise BadInput(
            f"blocks {list(blocks)}: the head reads {levels} blocks of an encoder of {depth} "
            "(counted from 0); null = evenly spaced"
        )
    return blocks


def require_patches(size_px: int, patch_px: int) -> None:
    """Raises BadInput if a square of size_px is not whole patches."""
    if size_px % patch_px:
        nearest = max(1, round(size_px / patch_px)) * patch_px
        raise BadInput(
            f"size_px {size_px}: the encoder's patches of {patch_px} px do not divide it; "
            f"{nearest} would do"
        )


def add_drop_path(encoder: VisionTransformer, rate: float) -> None:
    """Stochastic depth on both branches of each block while training: linear from 0 at the first
    block to `rate` at the last."""
    for block, share in zip(
        encoder.blocks, torch.linspace(0, rate, len(encoder.blocks)).tolist(), strict=True
    ):
        for branch in (block.get_submodule("attn"), block.get_submodule("mlp")):
            branch.register_forward_hook(_drop(share))


def _drop(rate: float) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    def hook(module: nn.Module, _: Any, output: Tensor) -> Tensor:
        if not module.training or rate == 0:
            return output
        kept = torch.rand(len(output), *[1] * (output.ndim - 1), device=output.device) >= rate
        return output * kept / (1 - rate)

    return hook


# ---------------------------------------------------------------------------- optimiser groups and
# schedule


def layer_of(name: str, depth: int) -> int:
    """0: patch projection, class token, positions; i + 1: block i; depth + 1: everything else.
    `name` as in `Tuned.named_parameters`."""
    if name.startswith("encoder.blocks."):
        return int(name.split(".")[2]) + 1
    first = (
        "encoder.patch_embed.",
        "encoder.cls_token",
        "encoder.reg_token",
        "encoder.pos_embed",
        "encoder.norm_pre.",
    )
    return 0 if name.startswith(first) else depth + 1


def parameter_groups(model: Tuned, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters by layer and by whether they decay; `lr_scale` = layer_decay ** (layers
    above).

    No decay for vectors, biases and the class token.
    """
    depth = model.encoder.depth
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer, decays = (
            layer_of(name, depth),
            parameter.ndim > 1 and not name.endswith(("cls_token", "reg_token", "pos_embed")),
        )
        group = {
            "params": [],
            "weight_decay": weight_decay if decays else 0.0,
            "lr_scale": layer_decay ** (depth + 1 - layer),
        }
        groups.setdefault((layer, decays), group)["params"].append(parameter)
    return list(groups.values())


def learning_rate(step: int, steps: int, warmup_steps: int, base: float) -> float:
    """Linear from 0 to `base`, both included, over the warm-up; then half a cosine that would reach
    0 one step after the last."""
    if step < warmup_steps:
        return float(np.linspace(0.0, base, warmup_steps)[step])
    return base * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / (steps - warmup_steps)))


def seeded(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    """A module whose random initial weights depend on `seed` alone; the caller's random state is
    left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def in_batches(length: int, batch: int) -> Iterable[slice]:
    return (slice(start, min(start + batch, length)) for start in range(0, length, batch))


def shown_batches(length: int, batch: int, title: str, unit: str) -> Iterable[slice]:
    """The same with progress shown while they are gone through."""

    def size(part: slice) -> int:
        return int(part.stop - part.start)

    return counted(in_batches(length, batch), title, length, unit, size)


# ---------------------------------------------------------------------------- training

T = TypeVar("T", bound=Mirrored)
Levels = Callable[
    [np.ndarray, np.ndarray], list[Tensor]
]  # of examples and which of them are mirrored: [b, width, rows, columns] a level
FEATURE_BATCH = 64  # images encoded at once when features are kept
KEPT = (
    "none",
    "flip",
)  # augmentations that show a frozen encoder few enough different images to keep their features


@dataclass(frozen=True)
class Drawn:
    """One step's examples: numbers in the train set, what the model sees of them, and which of them
    are mirrored."""

    index: np.ndarray
    batch: Batch
    mirrored: np.ndarray


def tune(
    model: Tuned,
    task: TrainedTask,
    train: Examples[T],
    prepare: Callable[[T], Batch],
    augment: Callable[[T, np.random.Generator], Batch],
    loss: Callable[[Tensor, Batch], Tensor],
    folder: Path,
    kept: Levels | None = None,
    best: Best | None = None,
) -> float | None:
    """Train what is not frozen, in place; the mean loss of the last tenth of the steps (None: not
    known).

    With the encoder frozen and no augmentation but mirroring, each image is encoded once (its
    mirror image too) and only the head runs at each step: the same draws, so the same result as
    encoding at every step.

    Args:
        train: a Batch in memory, or images on disk that are read as they are drawn.
        prepare: what the model sees of examples without chance (a centre crop, say): images of one
            size.
        augment: the same by chance, after mirroring; called for recipes other than "none" and
            "flip".
        loss: of the model's output for what it saw.
        folder: where a long run keeps its checkpoints; calling again resumes it.
        kept: features of examples of `train`, and of their mirror images if these can be drawn;
            None = made here where they can be kept.
        best: afterwards the model is the one that did best on validation images; None = as it is
            after the last step.
    """
    model.to(choose_device())

    def trained() -> float | None:
        return _tuned(model, task, train, prepare, augment, loss, folder, kept, best)

    return once(model, folder, trained)


def _tuned(
    model: Tuned,
    task: TrainedTask,
    train: Examples[T],
    prepare: Callable[[T], Batch],
    augment: Callable[[T, np.random.Generator], Batch],
    loss: Callable[[Tensor, Batch], Tensor],
    folder: Path,
    kept: Levels | None,
    best: Best | None,
) -> float | None:
    """`tune`, of a model on its device that was not trained before."""
    keeps = task.freeze == "encoder" and task.augment in KEPT
    if kept is None and keeps:
        kept = _levels(model, train, prepare, mirrored=task.augment == "flip")

    def draw(step: int) -> list[Drawn]:
        index = step_indices(step, task.batch, len(train), task.seed)
        rng = np.random.default_rng([task.seed, step])
        examples, mirrored = train.take(index), np.zeros(len(index), bool)
        if task.augment != "none":
            mirrored = rng.random(len(index)) < FLIP_SHARE
            examples = examples.mirrored(mirrored)
        return [
            Drawn(
                index,
                prepare(examples) if task.augment in ("none", "flip") else augment(examples, rng),
                mirrored,
            )
        ]

    def step_loss(called: nn.Module, drawn: Drawn) -> Tensor:
        if kept is None:
            return loss(
                called(normalise(torch.from_numpy(drawn.batch.images).to(model.device))),
                drawn.batch,
            )
        return loss(model.head(kept(drawn.index, drawn.mirrored)), drawn.batch)

    warmup_steps = round(task.warmup * task.steps)
    with stepping("train the head" if task.freeze == "encoder" else "train", task.steps) as shown:

        def record(now: Record) -> None:
            shown.record(now)
            if best is not None:
                best.look(model, now.step)

        fit(
            model,
            lambda called, drawn: shown.counted(step_loss(called, drawn)),
            draw,
            adamw(parameter_groups(model, task.weight_decay, task.layer_decay), betas=task.betas),
            lambda step: learning_rate(step, task.steps, warmup_steps, task.lr),
            parts=WHOLE,
            steps=task.steps,
            seed=task.seed,
            precision=task.precision,
            workers=0,
            clip_norm=task.clip_grad,
            log_every=max(1, task.steps // 10) if best is None else best.every,
            log=record,
            saving=saving(task, folder),
            place=HERE,
        )
    if best is not None:
        best.take(model)
    return shown.loss


def step_indices(step: int, batch: int, length: int, seed: int) -> np.ndarray:
    """Examples of a step: a fresh permutation every epoch, its incomplete last batch dropped (795
    in batches of 128: 6 steps an epoch).

    Fewer examples than a batch holds (few-shot): epochs run on inside a batch.
    """
    if length < batch:
        return batch_indices(step, batch, length, seed)
    epoch, place = divmod(step, length // batch)
    return _epoch_order(length, seed, epoch)[place * batch : (place + 1) * batch]


@lru_cache(maxsize=2)
def _epoch_order(length: int, seed: int, epoch: int) -> np.ndarray:
    """Kept, because a mixture of a million pairs takes longer to shuffle than a step takes."""
    order = np.random.default_rng([seed, epoch]).permutation(length)
    order.setflags(write=False)
    return order


def _levels(
    model: Tuned, train: Examples[T], prepare: Callable[[T], Batch], mirrored: bool
) -> Levels:
    """Features of all examples, and of their mirror images if these can be drawn, held in
    memory."""
    parts = []
    model.eval()
    with torch.no_grad():
        for turn in (False, True) if mirrored else (False,):
            for part in in_batches(len(train), FEATURE_BATCH):
                index = np.arange(part.start, part.stop)
                seen = prepare(train.take(index).mirrored(np.full(len(index), turn)))
                parts.append(
                    model.features(normalise(torch.from_numpy(seen.images).to(model.device)))
                )
    levels = [torch.cat(level) for level in zip(*parts, strict=True)]

    def look_up(index: np.ndarray, turned: np.ndarray) -> list[Tensor]:
        rows = torch.from_numpy(index + len(train) * turned).to(model.device)
        return [level[rows] for level in levels]

    return look_up
