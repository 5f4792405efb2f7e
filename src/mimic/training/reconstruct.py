"""What a pretrained model makes of views it never saw: view a, what it was shown of it, what it
answered, view b."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mimic import config
from mimic.errors import BadInput
from mimic.models import OBJECTIVES
from mimic.models.encoder import denormalise, normalise
from mimic.models.objectives.base import Pretraining
from mimic.models.objectives.masking import paste
from mimic.pairs.images import open_pairs, read_manifest
from mimic.training.augment import generator
from mimic.training.batches import evenly_spaced

COLUMNS = ("view_a", "masked", "reconstruction", "view_b")


@torch.no_grad()
def reconstruct(model: Pretraining, images: Tensor, noise: Tensor) -> dict[str, np.ndarray]:
    """uint8 [n, h, w, 3] pictures for each of COLUMNS.

    Args:
        images: uint8 [n, 2, h, w, 3], at the model's size.
        noise: [n, patches]; the lowest stay visible.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    views = normalise(images.to(device))
    _, prediction, mask = model(views[:, : model.views], noise.to(device))
    model.train(training)
    a = views[:, 0]
    masked, filled = paste(prediction, a, mask, model.encoder.patch_px, norm_pix=model.norm_pix)
    pictures = (images[:, 0], denormalise(masked), denormalise(filled), images[:, 1])
    return {name: picture.cpu().numpy() for name, picture in zip(COLUMNS, pictures, strict=True)}


def held_out(
    manifest: Path, root: Path, recipe: config.Recipe, run: config.Run, shards: config.Shards
) -> Callable[[Pretraining], tuple[dict[str, np.ndarray], str]]:
    """What shows a model at work: pictures of a few held-out pairs, spread over the split, and
    their caption.

    The noise is the same whenever it is called, and for every run of a seed.
    """
    split = "validation"
    try:
        rows = read_manifest(manifest, split)
    except BadInput:
        split = "train"
        rows = read_manifest(manifest, split)
    chosen = np.array(evenly_spaced(len(rows), recipe.samples, nearest=True))
    images = open_pairs(rows, root, recipe.model.height_width_px, shards)
    decoded = images.pairs(chosen)

    def show(model: Pretraining) -> tuple[dict[str, np.ndarray], str]:
        noise = torch.rand(
            len(chosen),
            model.encoder.grid[0] * model.encoder.grid[1],
            generator=generator(run.only_seed, 0),
        )
        return reconstruct(model, decoded, noise) | {
            "keys": images.keys[chosen].astype(str)
        }, caption(model, recipe.objective, split)

    return show


def caption(model: Pretraining, objective: str, split: str) -> str:
    """What the pictures show, said honestly."""
    patches = model.encoder.grid[0] * model.encoder.grid[1]
    colours = (
        "It predicts each patch normalised by the patch's own mean and deviation; for display the "
        "true patch's are put back, "
        "so the overall brightness is given and only the structure within a patch is the model's."
        if model.norm_pix
        else ""
    )
    whose = "Held-out pairs" if split == "validation" else "Training pairs (none are held out)"
    shown = (
        f"The model sees {model.visible} of {patches} patches of view a and "
        f"{OBJECTIVES[objective].reference}."
    )
    return f"{whose}. {shown} {colours}".strip()


def draw(pictures: dict[str, np.ndarray], caption: str, path: Path) -> None:
    """Write the pictures as one PNG: a row a pair, a titled column for each of COLUMNS, the caption
    below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = len(pictures["view_a"])
    figure = Figure(figsize=(8, 2 * rows + 0.9), dpi=100, layout="constrained")
    axes = figure.subplots(rows, len(COLUMNS), squeeze=False)
    for column, name in enumerate(COLUMNS):
        axes[0, column].set_title(name.replace("_", " "), fontsize=10)
        for row in range(rows):
            axes[row, column].imshow(pictures[name][row], interpolation="nearest")
            axes[row, column].set_axis_off()
    figure.supxlabel(caption, fontsize=8, wrap=True)
    FigureCanvasAgg(figure).print_png(path)
