"""Reconstruction of held-out pairs (MIMIC, table 3): how well a pretrained model completes view a,
and how unlike the true views the completed ones are as a set. Nothing is trained.

Which patches of a pair are hidden follows from the seed and the pair's key alone: the same from
every model of the same grid. FID and KID are on the published Inception weights or not run at all;
the distances on features of an encoder of ours have names of their own.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra.storage import Workspace, file_digest
from mimic.models.encoder import denormalise, normalise
from mimic.models.inception import FidInception, as_input, complete
from mimic.models.objectives.base import Pretraining
from mimic.models.objectives.masking import masked_loss, paste, patch_statistics, patchify
from mimic.models.spec import visible_count
from mimic.pairs.images import PIXELS, open_pairs, read_manifest
from mimic.tasks.api import EvalModel, EvalPaths, Figure, Result
from mimic.tasks.engine.batches import shown_batches
from mimic.tasks.engine.feature_cache import pooled
from mimic.tasks.engine.visualize import scaled
from mimic.tasks.inspection import DataFound, Needs, Split
from mimic.tasks.metrics.frechet import frechet_distance, kernel_distance
from mimic.tasks.reconstruction.config import ReconstructionTask
from mimic.training.checkpoint import load_encoder, load_into

INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
REMEDY = (
    "get pt_inception-2015-12-05-6726825d.pth (release fid_weights of mseitzer/pytorch-fid), or "
    "set inception: null"
)
NOT_RUN = "not run: weights"
OWN = "own"
FID = "FID"

Extract = Callable[[Tensor], Tensor]  # uint8[b, h, w, 3] to features [b, d]


@dataclass
class PairErrors:
    """Per pair: loss, the loss of a flat patch, squared error of pixels in 0..1; per extractor
    features of true and made views."""

    loss: list[float] = field(default_factory=list)
    flat: list[float] = field(default_factory=list)
    pixel_mse: list[float] = field(default_factory=list)
    features: dict[str, list[tuple[Tensor, Tensor]]] = field(default_factory=dict)
    pictures: list[Figure] = field(default_factory=list)


def look(task: ReconstructionTask, root: Path, needs: Needs) -> DataFound:
    """Whether there are enough held-out pairs, which encoder judges them, and whether the Inception
    weights are the published ones.

    Raises:
        BadInput: there are too few pairs, or the judging encoder or the published Inception
            weights are missing.
    """
    path = Workspace(root).manifest(task.dataset)
    rows = _sample_pairs(task, path)
    name, folder = _judge(task, root)
    judge = folder / "encoder.safetensors"
    if not judge.exists():
        raise BadInput(
            f"{judge}: no such file; run mimic pretrain {task.features_of}, or name another model "
            "in features_of"
        )
    split = Split(task.split, "score", needs)
    for overlap in rows["overlap"]:
        split.add(1, 1, [overlap])
    facts = {
        "features_of": {"model": name, "sha256": file_digest(judge)},
        "inception": None
        if task.inception is None
        else _checked(Workspace(root).resolve(task.inception)),
        "bytes": path.stat().st_size,
        "digest": file_digest(path),
    }
    return DataFound(path, [split], facts)


def _refuse_no_pixels(subject: EvalModel) -> None:
    """An import may have a decoder that never predicted pixels (DUSt3R)."""
    zero = (subject.card.get("imported") or {}).get("zero") or []
    if any(key.startswith("decoder.pred.") for key in zero):
        raise BadInput(
            f"reconstruction: {subject.folder} holds a decoder that predicts no pixels "
            f"({subject.card['imported'].get('dialect')}); the tasks on features can measure it"
        )


def run(task: ReconstructionTask, subject: EvalModel, folders: EvalPaths) -> Result:
    """Measure a whole pretrained model on held-out pairs.

    Raises:
        BadInput: too few pairs, the run has no decoder, the weights asked for are not there.
    """
    _refuse_no_pixels(subject)
    model = subject.model()
    device = subject.device
    trained = model.visible
    patches = model.encoder.grid[0] * model.encoder.grid[1]
    try:
        model.visible = visible_count(patches, task.mask_ratio, task.visible_rounding)
    except ValueError as error:
        raise BadInput(f"reconstruction: {error}") from None
    rows = _sample_pairs(task, Workspace(folders.root).manifest(task.dataset))
    judge, own = _own_features(task, folders.root, device)
    extractors = {OWN: own}
    if task.inception is not None:
        extractors[FID] = _inception_features(
            Workspace(folders.root).resolve(task.inception), device
        )
    seen = _look(task, model, rows, folders, extractors)
    grid = f"{model.encoder.grid[0]} x {model.encoder.grid[1]}"
    masking = {
        "grid": grid,
        "visible": model.visible,
        "patches": patches,
        "visible_in_training": trained,
    }
    metrics = _metrics(seen) | {
        "features": judge,
        "inception": INCEPTION_SHA256 if task.inception else None,
        "masking": masking,
    }
    shown = "visible patches pasted in" if task.paste_visible else "predicted patches everywhere"
    published = "at 299 px, plain bilinear" if task.inception else NOT_RUN
    return Result(
        name="loss",
        headline="loss",
        higher_is_better=False,
        metrics=metrics,
        protocol=(
            f"preset {task.preset}, {len(rows)} {task.split} pairs of {task.dataset}, "
            f"{model.visible} of {patches} patches visible, the "
            f"same ones for every model of a {grid} grid, squared error of pixels normalised "
            "within their patch, mean over pairs; "
            f"distances of {len(rows)} true and {len(rows)} made views with {shown}: own on "
            f"features of {judge['model']} "
            f"({judge['sha256'][:8]}), FID and KID {published}"
        ),
        selection="nothing is chosen",
        test_size=len(rows),
        pictures=seen.pictures,
        items=np.array(seen.loss),
    )


def hiding_noise(keys: list[str], patches: int, seed: int) -> Tensor:
    """float32[pairs, patches]; the lowest stay visible. Each row follows from the seed and its
    pair's key alone."""
    rows = [
        np.random.default_rng([seed, zlib.crc32(key.encode())]).random(patches, dtype=np.float32)
        for key in keys
    ]
    return torch.from_numpy(np.stack(rows))


def load_inception(path: Path) -> FidInception:
    """The network behind FID with the published weights, in eval mode.

    Raises:
        BadInput: the file is missing, or is not the published one: a distance on other weights is
            not FID.
    """
    _checked(path)
    network = FidInception()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise BadInput(f"{path}: cannot be read ({str(error).splitlines()[0]}); {REMEDY}") from None
    load_into(network, complete(weights, network), path)
    return network.eval()


def _checked(path: Path) -> str:
    """The checksum of a file that is the published one."""
    if not path.exists():
        raise BadInput(f"{path}: no such file; {REMEDY}")
    digest = file_digest(path)
    if digest != INCEPTION_SHA256:
        raise BadInput(
            f"{path}: sha256 {digest[:8]}, the published weights have {INCEPTION_SHA256[:8]}; "
            f"{REMEDY}"
        )
    return digest


def _sample_pairs(task: ReconstructionTask, manifest: Path) -> pd.DataFrame:
    """The pairs to reconstruct: a fixed draw of as many as asked for."""
    rows = (
        read_manifest(manifest, task.split, [*PIXELS, "overlap"])
        .sort_values("key", kind="stable")
        .reset_index(drop=True)
    )
    if len(rows) < task.pairs:
        asked = (
            f"{len(rows)} pairs in its {task.split} split, {task.pairs} asked for: "
            f"{task.pairs - len(rows)} short"
        )
        raise BadInput(
            f"{manifest}: {asked}; lower pairs, or raise datasets.{task.dataset}.{task.split}"
        )
    rng = np.random.default_rng([task.seed, zlib.crc32(task.dataset.encode())])
    return rows.iloc[np.sort(rng.permutation(len(rows))[: task.pairs])].reset_index(drop=True)


def _judge(task: ReconstructionTask, root: Path) -> tuple[str, Path]:
    """Name and folder of the encoder of features_of: of a run with several seeds, its first."""
    workspace = Workspace(root)
    encoders = workspace.encoders(task.features_of)
    name = min(encoders, key=lambda one: seed_of(one)[1] or 0, default=task.features_of)
    return name, encoders.get(name, workspace.model(name))


def _own_features(
    task: ReconstructionTask, root: Path, device: torch.device
) -> tuple[dict[str, Any], Extract]:
    """Which encoder judges, and its mean patch token."""
    name, folder = _judge(task, root)
    encoder, _ = load_encoder(folder)
    tokens = pooled(encoder.to(device), "mean")
    height, width = encoder.size_px

    def extract(images: Tensor) -> Tensor:
        x = normalise(images)
        if x.shape[-2:] != (height, width):
            x = F.interpolate(
                x, size=(height, width), mode="bilinear", align_corners=False, antialias=True
            )
        return tokens(x)

    judge = {
        "model": name,
        "sha256": file_digest(folder / "encoder.safetensors"),
        "pool": "mean",
        "width": encoder.width,
    }
    return judge, extract


def _inception_features(path: Path, device: torch.device) -> Extract:
    network = load_inception(path).to(device)
    return lambda images: network(as_input(images))


@torch.inference_mode()
def _look(
    task: ReconstructionTask,
    model: Pretraining,
    rows: pd.DataFrame,
    paths: EvalPaths,
    extractors: dict[str, Extract],
) -> PairErrors:
    device = next(model.parameters()).device
    patch_px = model.encoder.patch_px
    images = open_pairs(rows, paths.root, model.encoder.size_px, paths.shards)
    seen = PairErrors(features={name: [] for name in extractors})
    for part in shown_batches(len(rows), task.batch, "complete views", "pairs"):
        start = part.start
        index = np.arange(part.start, part.stop)
        pairs = images.pairs(index).to(device)
        views = normalise(pairs)
        noise = hiding_noise(
            list(images.keys[index]), model.encoder.grid[0] * model.encoder.grid[1], task.seed
        )
        _, prediction, mask = model(views[:, : model.views], noise.to(device))
        a = views[:, 0]
        prediction = prediction.float() if model.norm_pix else _normalised(prediction, a, patch_px)
        masked = denormalise(paste(prediction, a, mask, patch_px, norm_pix=True)[0])
        pasted = mask if task.paste_visible else torch.ones_like(mask)
        completed = denormalise(paste(prediction, a, pasted, patch_px, norm_pix=True)[1])
        error = ((completed.float() - pairs[:, 0].float()) / 255).square().movedim(-1, 1)
        off = (patchify(error, patch_px).mean(-1) * mask).sum(1) / mask.sum(1)
        seen.pixel_mse += off.tolist()
        for item in range(len(index)):
            one = slice(item, item + 1)
            for answer, losses in (
                (prediction, seen.loss),
                (torch.zeros_like(prediction), seen.flat),
            ):
                losses.append(
                    float(masked_loss(answer[one], a[one], mask[one], patch_px, norm_pix=True))
                )
            if start + item < task.samples:
                parts = (pairs[item, 0], masked[item], completed[item], pairs[item, 1])
                seen.pictures.append(_picture(parts, start + item, model, seen.loss[-1]))
        for name, extract in extractors.items():
            seen.features[name].append((extract(pairs[:, 0]).cpu(), extract(completed).cpu()))
    return seen


def _normalised(prediction: Tensor, a: Tensor, patch_px: int) -> Tensor:
    """Pixels as a model without `norm_pix` predicts them, in the space where all models are
    compared."""
    mean, deviation = patch_statistics(patchify(a, patch_px))
    return (prediction.float() - mean) / deviation


def _metrics(seen: PairErrors) -> dict[str, Any]:
    loss = np.array(seen.loss)
    mse = np.array(seen.pixel_mse)
    sets = {
        name: [torch.cat(part).numpy() for part in zip(*parts, strict=True)]
        for name, parts in seen.features.items()
    }
    return {
        "loss": float(loss.mean()),
        "standard_error": float(loss.std(ddof=1) / np.sqrt(len(loss))),
        "flat_loss": float(np.mean(seen.flat)),  # of answering every patch with its mean
        "pixel_mse": float(mse.mean()),
        "PSNR_dB": float(np.mean(-10 * np.log10(np.maximum(mse, 1e-10)))),
        "frechet_own": frechet_distance(*sets[OWN]),
        "kernel_own": kernel_distance(*sets[OWN]),
        "FID": frechet_distance(*sets[FID]) if FID in sets else NOT_RUN,
        "KID": kernel_distance(*sets[FID]) if FID in sets else NOT_RUN,
    }


def _picture(parts: tuple[Tensor, ...], number: int, model: Pretraining, loss: float) -> Figure:
    strip = np.concatenate([scaled(part.cpu().numpy()) for part in parts], axis=1)
    helped = "view b" if model.views == 2 else "view b, which the model never sees"
    patches = model.encoder.grid[0] * model.encoder.grid[1]
    caption = (
        f"view a; the {model.visible} of its {patches} patches shown; reconstruction, loss "
        f"{loss:.3f}; {helped}"
    )
    return Figure(f"pair-{number:02d}", strip, caption)
