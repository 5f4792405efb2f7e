"""What is known of an import: card.json of models/<name>, and what a user should know, in lines."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mimic import licences
from mimic.infra.storage import file_digest
from mimic.licences import UNSTATED, Licence, combine
from mimic.models.formats import timm_config
from mimic.models.formats.checkpoint_formats import OBJECTIVE_OF, Translated
from mimic.models.objectives.base import Pretraining
from mimic.params import load_params, terms
from mimic.training.imported.containers import Foreign
from mimic.training.imported.foreign import ImportOverrides, Numbers
from mimic.training.imported.safe_load import files_of


def source_of(
    path: Path | None, dialect: str, foreign: Foreign | None, assumed: list[str]
) -> dict[str, Any]:
    """Where the weights come from: what was imported, ignored and assumed."""
    files = [] if path is None else files_of(path)
    epoch = foreign.facts.get("epoch") if foreign else None
    return {
        "file": path and path.name,
        "sha256": file_digest(files[0]) if files else None,
        "shards": {shard.name: file_digest(shard) for shard in files[1:]},
        "dialect": dialect,
        "epoch": epoch if isinstance(epoch, int) else None,
        "taken": foreign and foreign.taken,
        "other_weights": foreign.others if foreign else [],
        "beside": foreign.beside if foreign else [],
        "left_out": foreign.left_out if foreign else [],
        "assumed": assumed,
    }


def card_of(
    path: Path,
    name: str,
    checkpoint: Translated,
    foreign: Foreign,
    numbers: Numbers,
    overrides: ImportOverrides,
    model: Pretraining | None,
) -> dict[str, Any]:
    size = numbers.size if model is not None else replace(numbers.size, decoder_width=0)
    card: dict[str, Any] = {
        "run": name,
        "imported": source_of(path, checkpoint.dialect, foreign, numbers.assumed),
        "objective": overrides.objective or OBJECTIVE_OF.get(checkpoint.dialect),
        "dataset": overrides.dataset,
        "steps": None,
        "versions": {"mimic": version("mimic"), "torch": torch.__version__},
        "model": size.as_card(),
        "licences": terms_of(name, overrides),
    }
    card["imported"] |= {
        "left_out": [*foreign.left_out, *checkpoint.left_out],
        "zero": checkpoint.zero,
    }
    if kwargs := timm_config.plain_kwargs(size):
        card["timm"] = {"name": "timm.models.VisionTransformer", "kwargs": kwargs}
    if model is not None and numbers.masking is not None:
        card |= {
            "mask_ratio": numbers.masking.mask_ratio,
            "visible_rounding": numbers.masking.visible_rounding,
            "visible_patches": model.visible,
            "norm_pix_loss": numbers.masking.norm_pix,
        }
    return card


def terms_of(name: str, overrides: ImportOverrides) -> dict[str, Any]:
    """What the user says of the licence of the file; no file states it so that it can be read."""
    return combine([(f"weights {name}", overrides.licence)])


def licence_of(name: str | None, out: Path) -> Licence:
    """The terms that the command line names: of the table, or declared in the params.yaml of the
    workspace that the weights go to.

    Raises:
        BadInput: nobody knows the name.
    """
    if name is None:
        return UNSTATED
    known = licences.find(name)
    params_file = out.absolute().parent.parent / "params.yaml"
    if known is not None or not params_file.exists():
        return known or licences.resolve(name)
    return licences.resolve(name, terms.own(load_params(params_file).licences))


def terms_notes(card: dict[str, Any]) -> list[str]:
    """What the licence of an import allows, in lines, and how to say it where nobody has."""
    if licences.parts_of(card)[0][1].name != licences.NOT_STATED:
        return licences.summary(card)
    return [
        "licence: not stated, so never taken for permissive; --licence NAME --force says it (the "
        "checkpoints of MAE's authors are CC-BY-NC-4.0, those of CroCo's CC-BY-NC-SA-4.0)"
    ]


def import_notes(source: dict[str, Any]) -> list[str]:
    """What a user of the import should know, in lines, from `imported` of its card."""
    lines = []
    if source["taken"]:
        lines.append(f"imported: the weights under {source['taken']!r}")
    for name in source["other_weights"]:
        lines.append(f"not imported: the weights under {name!r}; --key {name} imports them")
    if kept := source.get("optimizer"):
        lines.append(f"kept, to go on with: the averages of AdamW after its step {kept['step']}")
    if source["beside"]:
        lines.append(f"ignored, not weights of the model: {', '.join(source['beside'])}")
    if source["left_out"]:
        lines.append(f"ignored, not part of the encoder: {', '.join(source['left_out'])}")
    if source.get("zero"):
        lines.append(f"not in the file, and zero: {', '.join(source['zero'])}")
    lines += [f"assumed, because the file does not state it: {what}" for what in source["assumed"]]
    return lines
