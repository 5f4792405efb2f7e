"""Whether completion uses the second view: the loss on hidden patches with the true second view and
with a wrong one, of the same pair and with the same patches hidden.

Run `python -m benchmarks.second_view --workspace DIR RUN`. The wrong view is the true one of
another clip's pair. Validation pairs; the mean of the paired differences with its standard error
over pairs, and the same over seeds where a run has several.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mimic import config
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.models.encoder import normalise
from mimic.models.objectives.base import Pretraining
from mimic.models.objectives.masking import masked_loss
from mimic.pairs.images import PIXELS, open_pairs, read_manifest
from mimic.tasks.reconstruction.measure import hiding_noise
from mimic.training.checkpoint import load_model

BATCH = 32
NOWHERE = config.Shards(url=None, cache=Path(".cache"), cache_gb=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--dataset", default="all")
    parser.add_argument("run")
    options = parser.parse_args()
    manifest = Workspace(options.workspace).manifest(options.dataset)
    print(json.dumps(measure(options.workspace, options.run, manifest), indent=2))


def measure(root: Path, run: str, manifest: Path) -> dict[str, Any]:
    """Of every seed of a run, and over them."""
    folders = Workspace(root).encoders(run)
    seeds = {name: of_model(load_model(folder), root, manifest) for name, folder in folders.items()}
    gains = [seed["gain"] for seed in seeds.values()]
    spread = statistics.stdev(gains) if len(gains) > 1 else None
    return {"gain": statistics.mean(gains), "sd": spread, "n": len(gains), "seeds": seeds}


def of_model(model: Pretraining, root: Path, manifest: Path) -> dict[str, Any]:
    """`gain` is how much higher the loss is with the wrong view.

    Raises:
        BadInput: the model sees one view only, or all validation pairs are of one clip.
    """
    if model.views != 2:
        raise BadInput(f"{manifest}: the model never sees a second view")
    rows = read_manifest(manifest, "validation", [*PIXELS, "clip"])
    wrong = of_another_clip(rows["clip"].to_numpy())
    images = open_pairs(rows, root, model.encoder.size_px, NOWHERE)
    grid = model.encoder.grid
    losses: dict[str, list[float]] = {"true": [], "wrong": []}
    model.eval()
    for start in range(0, len(rows), BATCH):
        index = np.arange(start, min(start + BATCH, len(rows)))
        pairs = images.pairs(index)
        other = images.pairs(wrong[index])
        noise = hiding_noise(list(images.keys[index]), grid[0] * grid[1], seed=0)
        for name, second in (("true", pairs[:, 1]), ("wrong", other[:, 1])):
            views = normalise(torch.stack([pairs[:, 0], second], dim=1))
            losses[name] += each_loss(model, views, noise)
    gain = np.subtract(losses["wrong"], losses["true"])
    return {
        "true": float(np.mean(losses["true"])),
        "wrong": float(np.mean(losses["wrong"])),
        "gain": float(gain.mean()),
        "standard_error": float(gain.std(ddof=1) / len(gain) ** 0.5),
        "share_of_pairs_with_gain": float((gain > 0).mean()),
        "pairs": len(gain),
    }


def of_another_clip(clips: np.ndarray) -> np.ndarray:
    """For each pair the place of one of another clip: half the list further, or the next one."""
    places = []
    for place, clip in enumerate(clips):
        order = (place + len(clips) // 2 + np.arange(len(clips))) % len(clips)
        others = order[clips[order] != clip]
        if not len(others):
            raise BadInput("all validation pairs are of one clip; mine more clips")
        places.append(others[0])
    return np.array(places)


@torch.inference_mode()
def each_loss(model: Pretraining, views: torch.Tensor, noise: torch.Tensor) -> list[float]:
    _, prediction, mask = model(views, noise)
    patch_px = model.encoder.patch_px
    return [
        float(
            masked_loss(
                prediction[one : one + 1],
                views[one : one + 1, 0],
                mask[one : one + 1],
                patch_px,
                norm_pix=model.norm_pix,
            )
        )
        for one in range(len(views))
    ]


if __name__ == "__main__":
    main()
