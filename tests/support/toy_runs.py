"""Pretraining runs of toy size: a workspace with pairs, a recipe of each kind, and what to do with
them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from mimic import pretrain
from mimic.params import load_params, resolve_params
from mimic.training import journal
from tests.support import toy_pairs

TINY: dict[str, Any] = {
    "size_px": 32,
    "patch_px": 8,
    "width": 32,
    "depth": 2,
    "heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "class_token": False,
    "positions": "sincos",
    "norm_eps": 1.0e-6,
}
SMALL: dict[str, Any] = {
    "model": TINY,
    "batch": 8,
    "log_every": 2,
    "save_every": 3,
    "workers": 1,
    "samples": 2,
    "precision": "fp32",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "mae": {
        "objective": "mae",
        "mask_ratio": 0.75,
        "visible_rounding": "down",
        "model": TINY | {"class_token": True},
    },
    "croco": {},
    "mimic": {"visible_rounding": "down", "mask_ratio": 0.8, "model": TINY | {"class_token": True}},
    "v2": {"model": TINY | {"positions": "rope"}, "horizon": 2.0},
    "matched": {
        "matching": {"weight": 0.5, "temperature": 0.1},
        "model": TINY | {"class_token": True},
    },
    "siamese": {
        "objective": "siamese",
        "mask_ratio": 0.95,
        "visible_rounding": "up",
        "model": TINY | {"class_token": True},
        "augment": {
            "swap": 1.0,
            "crop": "resized",
            "crop_area": [0.5, 1.0],
            "flip": 0.5,
            "jitter": 0.0,
        },
    },
    "wide": {
        "model": TINY | {"size_px": [16, 24]},
        "augment": {
            "swap": 0.0,
            "crop": "window",
            "crop_area": [0.2, 1.0],
            "flip": 0.0,
            "jitter": 0.4,
        },
    },
    "cropped": {
        "augment": {
            "swap": 0.5,
            "crop": "resized",
            "crop_area": [0.2, 1.0],
            "flip": 0.5,
            "jitter": 0.0,
        }
    },
}


def write_workspace(root: Path, repository: Path) -> Path:
    """24 toy pairs, four of them held out, and a run of each variant: 10 steps of a model of two
    blocks."""
    toy_pairs.write_dataset(root, "toy", pairs=24, size_px=32, seed=0, validation=4)
    raw = resolve_params(repository / "params.yaml").full()
    raw["datasets"]["toy"] = raw["datasets"]["mimic-1m"] | {"sources": {"phone": None}}
    raw["pretrain"] = {
        name: raw["pretrain"]["croco"] | SMALL | numbers for name, numbers in VARIANTS.items()
    }
    raw["runs"] = {
        name: {"recipe": name, "dataset": "toy", "steps": 10, "seed": 0} for name in VARIANTS
    }
    raw["runs"]["random"] = {"recipe": "croco", "dataset": "toy", "steps": 0, "seed": 0}
    raw["table"]["runs"] = ["random"]
    raw["evaluate"]["reconstruction"] |= {"features_of": "random", "tracked_by": "models/random"}
    raw["tracking"]["uri"] = None
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    return root


def change(workspace: Path, section: str, name: str, **values: Any) -> None:
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw[section][name].update(values)
    path.write_text(yaml.safe_dump(raw))


def change_tracking(workspace: Path, uri: str) -> None:
    path = workspace / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["tracking"]["uri"] = uri
    path.write_text(yaml.safe_dump(raw))


def run(workspace: Path, name: str) -> Path:
    """Train it, also where it is trained already, unless it has several seeds."""
    forget_trained(workspace, name)
    pretrain.main(load_params(workspace / "params.yaml"), workspace, name)
    return workspace / "models" / name


def forget_trained(workspace: Path, name: str) -> None:
    """The encoder that a finished training left; what is unfinished stays."""
    for kept in (workspace / "runs/pretrain" / name).glob("*/published"):
        shutil.rmtree(kept)


def files(folder: Path) -> dict[str, bytes]:
    """What must be the same however the run went: everything."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextmanager
def killed_after(step: int) -> Iterator[None]:
    """Interrupt the training once it has logged this step; what it then says is caught."""
    append = journal.JsonlLogger.append

    def dies(log: journal.JsonlLogger, line: dict[str, Any]) -> None:
        append(log, line)
        if line["step"] == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal.JsonlLogger, "append", dies)
        with pytest.raises(KeyboardInterrupt):
            yield
