"""The Python interface: mine pairs, pretrain an encoder on them, read its features.

    import mimic

    mined = mimic.mine_pairs(["walk.mp4", "photos/"], out="my_pairs")
    model = mimic.pretrain_encoder(mined.folder, out="my_work", recipe="croco-tiny", steps=200)
    features = mimic.extract_features(mimic.load_encoder(model), ["a.jpg", "b.jpg"])

These functions call what the commands call: `mimic pairs`, and the stages assemble and pretrain.
Bad input raises `mimic.BadInput`, one line that says what is wrong, where, and what to do.

Mining and training may start worker processes, which import the script that called them. A script
therefore calls these functions below `if __name__ == "__main__":`; a notebook needs nothing.
"""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from mimic.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from mimic.infra.storage import Workspace
    from mimic.models.encoder import VisionTransformer

PathLike = str | os.PathLike[str]
# Of the workspace that `pretrain_encoder` makes:
DATASET = "own"
WRITTEN = "# Written by mimic.pretrain_encoder, which replaces it."


@dataclass(frozen=True)
class MinedPairs:
    """What `mine_pairs` wrote, and what became of every candidate.

    Attributes:
        folder: of pair shards; pandas.read_parquet reads it.
        candidates: pairs of views that were compared.
        kept: pairs that were stored.
        outcomes: how many candidates ended how; the numbers add up to `candidates`.
        skipped: path -> why it was not mined.
        damaged: clip -> what of it could not be read; the rest of it was mined.
        failed: clip -> the error that ended it.
        unreadable_views: clip -> picture -> why it could not be read.
    """

    folder: Path
    candidates: int
    kept: int
    outcomes: dict[str, int]
    skipped: dict[str, str]
    damaged: dict[str, str]
    failed: dict[str, str]
    unreadable_views: dict[str, dict[str, str]]


def mine_pairs(
    paths: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    params: PathLike | None = None,
    **options: Any,
) -> MinedPairs:
    """Mine pairs of overlapping views from videos, image folders and .glb scenes: `mimic pairs`.

    Interrupted and called again with the same paths, it resumes; called again when it is finished,
    it returns the finished result.

    Args:
        paths: files and folders, in any mixture; one path may be given as it is.
        out: a new folder for the shards, or one that holds pairs of the same paths.
        params: the parameter file; None = params.yaml of the current folder, else the laptop
            profile that comes with mimic.
        options: stand for the parameter of the same name: `spacing_s`, `crop_bottom` (videos),
            `up`, `island_radius_min_m`, `texture_max_px` (scenes), `group_max` (image folders).

    Raises:
        BadInput: nothing can be mined, an option is unknown or out of range, or `out` holds
            something else.
    """
    from mimic.commands.own import own_data
    from mimic.commands.own.own_options import Options
    from mimic.params import load_params

    unknown = sorted(set(options) - set(Options.__dataclass_fields__))
    if unknown:
        known = ", ".join(Options.__dataclass_fields__)
        raise BadInput(f"mine_pairs: no option named {unknown[0]!r}; known: {known}")
    folder = Path(out)
    read = load_params(_params_file(params))
    own_data.pairs(read, _paths(paths), folder, Options(**options), as_json=False)
    summary = json.loads((folder / own_data.SUMMARY).read_text())
    names = [field.name for field in fields(MinedPairs) if field.name != "folder"]
    return MinedPairs(folder, **{name: summary[name] for name in names})


def pretrain_encoder(
    pairs: PathLike | Iterable[PathLike],
    out: PathLike,
    *,
    recipe: str,
    steps: int,
    seed: int = 0,
    init: PathLike | None = None,
    params: PathLike | None = None,
) -> Path:
    """Pretrain an encoder on folders of pair shards: the stages assemble and pretrain.

    `out` becomes a workspace like any other: params.yaml, the manifest, work in progress in runs/,
    the published model. Interrupted and called again, it resumes.

    Args:
        pairs: folders that `mine_pairs` or `mimic pairs` wrote; one may be given as it is.
        out: a new folder, or one that this function made before.
        recipe: how to train: a name in training/recipes.yaml, or under `pretrain` in the parameter
            file. "croco-tiny" and "mae-tiny" take minutes on a CPU; "croco" and "mae" are ViT-B.
        steps: optimiser steps; 0 publishes the encoder as it starts.
        seed: decides weights, order, masks and augmentation.
        init: weights to start from: the folder of a model, as `load_encoder` takes it, or a
            checkpoint of another project, as `mimic import-weights` reads it; None = random ones.
        params: the parameter file, as in `mine_pairs`.

    Returns:
        The folder of the published model, out/models/<recipe>: encoder.safetensors, card.json,
        log.jsonl. Nothing is sent to MLflow.

    Raises:
        BadInput: no such recipe, a folder without pairs, too few pairs to train on, weights that do
            not fit the recipe, or `out` is a workspace of yours.
    """
    from mimic import assemble, pretrain
    from mimic.infra.storage import Workspace
    from mimic.params import load_params

    steps = _whole_number("steps", steps)
    seed = _whole_number("seed", seed)
    space = Workspace(Path(out))
    file = space.root / "params.yaml"
    if file.exists() and not file.read_text(encoding="utf-8").startswith(WRITTEN):
        raise BadInput(f"{space.root}: is a workspace of yours; name a new folder")
    sources = _link_sources(_paths(pairs), space)
    run = {"recipe": recipe, "dataset": DATASET, "steps": steps, "seed": seed}
    if init is not None:
        run["init"] = _link_weights(Path(init), space)
    _write_params(file, _params_file(params), sources, run)
    own = load_params(file)
    assemble.main(own, space.root, DATASET)
    summary = json.loads(space.metrics("assemble", DATASET).read_bytes())
    if not summary["splits"]["train"]:  # all clips were drawn for validation, of one or two
        _write_params(file, _params_file(params), sources, run, {"validation": 0})
        own = load_params(file)
        assemble.main(own, space.root, DATASET)
    pretrain.main(own, space.root, recipe)
    return space.model(recipe)


def load_encoder(model: PathLike) -> VisionTransformer:
    """A published encoder (a torch module) on the CPU, in eval mode.

    Args:
        model: the folder of a model: what `pretrain_encoder` returned, models/<run> of a workspace,
            or what `mimic import-weights` wrote.

    Raises:
        BadInput: a file is missing or damaged, or the weights do not fit the card.
    """
    from mimic.training import checkpoint

    encoder, _ = checkpoint.load_encoder(Path(model))
    return encoder


def extract_features(
    encoder: VisionTransformer, images: Sequence[PathLike | np.ndarray], *, batch: int = 32
) -> np.ndarray:
    """Patch tokens after the encoder's final norm: float32 [images, patches, width].

    Patches are in row-major order. Images are resized to the size that the encoder was trained at;
    their aspect ratio is not kept, as in mining.

    Args:
        encoder: of `load_encoder`, on any device.
        images: files, or RGB arrays uint8 [height, width, 3], of any sizes.
        batch: images that are encoded at once.

    Raises:
        BadInput: a file that cannot be read, an array of another shape or type, or a `batch` below
            1.
    """
    import numpy as np
    import torch

    from mimic.models.encoder import normalise

    if _whole_number("batch", batch) < 1:
        raise BadInput(f"batch {batch}: must be 1 or more")
    device = next(encoder.parameters()).device
    height, width = encoder.size_px
    rows, columns = encoder.grid_of(height, width)
    features = np.empty((len(images), rows * columns, encoder.width), np.float32)
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        pixels = np.stack([_resized(image, encoder.size_px) for image in images[part]])
        with torch.inference_mode():
            _, patches = encoder.tokens(normalise(torch.from_numpy(pixels).to(device)))
        features[part] = patches.float().cpu().numpy()
    return features


# ---------------------------------------------------------------------------- what they are made of


def _params_file(path: PathLike | None) -> Path:
    """The file that is named; without one, params.yaml of the current folder, else the laptop
    profile that comes with mimic."""
    from mimic.config.missing import PROFILES

    local = Path("params.yaml")
    default = local if local.exists() else PROFILES / "laptop.yaml"
    return default if path is None else Path(path)


def _paths(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    if isinstance(paths, str | os.PathLike):
        return [Path(paths)]
    return [Path(path) for path in paths]


def _link_sources(folders: Sequence[Path], space: Workspace) -> list[str]:
    """Link folders of pair shards into the workspace, each as a source; the names of the sources.

    Raises:
        BadInput: no folder is given, or one holds no pair shards.
    """
    from mimic.infra import storage
    from mimic.pairs.schema import plain_name, shards_in

    names = []
    for folder in folders:
        real = folder.resolve()
        if not shards_in(real):
            raise BadInput(f"{folder}: holds no pair shards; mine_pairs writes them")
        name = f"own-{plain_name(real.name)}-{storage.fingerprint(str(real))[:8]}"
        link = space.pairs(name)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(real)
        names.append(name)
    if not names:
        raise BadInput("pretrain_encoder: no folder of pairs is given")
    return names


def _link_weights(weights: Path, space: Workspace) -> str:
    """Weights to start from as a model of the workspace: a model's folder is linked, anything else
    imported; its name there.

    Raises:
        BadInput: it is neither.
    """
    from mimic.commands.import_weights import ImportOverrides, import_weights
    from mimic.infra import storage
    from mimic.pairs.schema import plain_name

    real = weights.resolve()
    name = f"start-{plain_name(real.stem)}-{storage.fingerprint(str(real))[:8]}"
    link = space.model(name)
    if not (real / "card.json").exists():
        import_weights(weights, link, ImportOverrides(None, None, None, None, None))
    elif not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(real)
    return name


def _whole_number(name: str, value: SupportsIndex) -> int:
    """An int, of a numpy integer too.

    Raises:
        BadInput: it is none.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise BadInput(f"{name}={value!r} is no whole number") from None


def _write_params(
    path: Path,
    template: Path,
    sources: Sequence[str],
    run: dict[str, Any],
    differs: Mapping[str, Any] | None = None,
) -> None:
    """A parameter file with one dataset, of all pairs of these sources, and one run beside the
    random encoder; what else decides a training is the template's.

    Args:
        differs: keys of the dataset that differ from the template's.
    """
    import yaml

    from mimic.infra.storage import write_bytes
    from mimic.params import load_params, resolve_params

    load_params(template)  # so that errors name the file where they are
    given = dict(resolve_params(template).document.content)  # with what its profile says
    source = {**next(iter(given["sources"].values())), "tracked_by": "params.yaml"}
    dataset = next(iter(given["datasets"].values())) | (differs or {})
    recipe = run["recipe"]
    begun = "init" in run
    random = {**run, "steps": 0}
    random.pop("init", None)
    given |= {
        "sources": {name: {**source, "root": f"data/pairs/{name}"} for name in sources},
        "datasets": {DATASET: {**dataset, "sources": dict.fromkeys(sources), "contains": None}},
        "runs": {"random": random} if begun else {recipe: run, "random": random},
        "adapt": {recipe: run} if begun else {},
        "imported": [run["init"]] if begun else [],
        "evaluate": {},
        "table": {**given["table"], "runs": ["random", recipe], "tasks": []},
        "tracking": {**given["tracking"], "uri": None},
    }
    given["datasets"][DATASET]["test"] = {"sources": {}, "clips": 0}
    text = yaml.safe_dump(given, sort_keys=False, allow_unicode=True)
    write_bytes(path, f"{WRITTEN}\n{text}".encode())


def _resized(image: PathLike | np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """RGB, uint8 [height, width, 3], of a file or an array."""
    import cv2
    import numpy as np

    from mimic.sources import base, images

    if isinstance(image, np.ndarray):
        pixels = image
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            shape = "x".join(map(str, pixels.shape))
            raise BadInput(
                f"extract_features: an array is {pixels.dtype} {shape}; give uint8 RGB, "
                "[height, width, 3]"
            )
    else:
        try:
            pixels = images.read(Path(image))
        except base.Unreadable as error:
            raise BadInput(f"{image}: {error}") from None
    height, width = size_px
    smaller = pixels.shape[0] >= height and pixels.shape[1] >= width
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return cv2.resize(pixels, (width, height), interpolation=interpolation)
