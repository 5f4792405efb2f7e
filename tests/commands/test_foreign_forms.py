"""Forms that torch writes weights in, and what trainings leave beside them: read as the same
weights, or refused in a line."""

from __future__ import annotations

import argparse
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mimic.commands.import_weights import import_weights
from tests.commands.test_foreign_weights import BARE, imported, refusal
from tests.commands.test_weights import NOTHING, SIDE, WIDTH


def _views() -> dict[str, torch.Tensor]:
    """Of one storage, as a flat optimiser leaves them; none begins at its start."""
    storage = torch.cat([torch.full((1000,), 7.0), *(value.flatten() for value in BARE.values())])
    sizes = [1000, *(value.numel() for value in BARE.values())]
    pieces = storage.split(sizes)[1:]
    return {
        key: piece.view(value.shape)
        for (key, value), piece in zip(BARE.items(), pieces, strict=True)
    }


def _with_metadata() -> OrderedDict[str, torch.Tensor]:
    """As `state_dict()` gives it."""
    state = OrderedDict(BARE)
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    return state


FORMS: dict[str, Any] = {
    "float64": {key: value.double() for key, value in BARE.items()},
    "parameters": {key: nn.Parameter(value) for key, value in BARE.items()},
    "views": _views(),
    "columns first": {
        key: value.t().contiguous().t() if value.ndim == 2 else value for key, value in BARE.items()
    },
    "metadata": _with_metadata(),
}


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_however_torch_writes_them_they_are_the_same_weights(
    tmp_path: Path, form: str, as_zip: bool
) -> None:
    path = tmp_path / "f.pth"
    torch.save({"model": FORMS[form]}, path, _use_new_zipfile_serialization=as_zip)
    import_weights(path, tmp_path / "models/theirs", NOTHING)
    weights = load_file(tmp_path / "models/theirs/encoder.safetensors")
    assert weights.keys() == BARE.keys()
    assert all(value.dtype == torch.float32 for value in weights.values())
    assert all(torch.equal(weights[key], BARE[key]) for key in BARE)


def test_a_note_in_a_safetensors_file_changes_nothing(tmp_path: Path) -> None:
    save_file(BARE, tmp_path / "f.safetensors", metadata={"format": "pt", "author": "two\nlines"})
    import_weights(tmp_path / "f.safetensors", tmp_path / "models/theirs", NOTHING)
    weights = load_file(tmp_path / "models/theirs/encoder.safetensors")
    assert all(torch.equal(weights[key], BARE[key]) for key in BARE)


BESIDE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "scaler": ({"scaler": torch.amp.GradScaler("cpu").state_dict()}, ["scaler"]),
    "random numbers": ({"rng": torch.get_rng_state()}, ["rng"]),
    "a device": ({"args": argparse.Namespace(device=torch.device("cuda:0"))}, []),
    "a type": ({"args": argparse.Namespace(dtype=torch.bfloat16)}, []),
}


@pytest.mark.parametrize("what", BESIDE)
def test_what_a_training_leaves_beside_them_is_ignored(tmp_path: Path, what: str) -> None:
    content, beside = BESIDE[what]
    card, weights = imported(tmp_path, {"model": BARE} | content)
    assert card["imported"]["beside"] == beside
    assert all(torch.equal(weights[key], BARE[key]) for key in BARE)


@pytest.mark.parametrize(
    "content",
    [
        {"args": argparse.Namespace(lr=np.float64(1e-3))},
        {"epoch": np.int64(3)},
        {"mean": np.zeros(3)},
    ],
)
def test_numbers_of_numpy_are_refused_with_what_to_do(
    tmp_path: Path, content: dict[str, Any]
) -> None:
    """They are rebuilt by a function that the file names."""
    message = refusal(tmp_path, {"model": BARE} | content)
    assert "nothing in it was executed (Unsupported global: GLOBAL numpy" in message
    assert "save its weights alone" in message


def test_tensors_without_numbers_are_refused(tmp_path: Path) -> None:
    empty = {key: value.to("meta") for key, value in BARE.items()}
    assert "holds no numbers: tensors on the meta device" in refusal(tmp_path, empty)


@pytest.mark.parametrize(("side_px", "patch_px"), [(518, 14), (SIDE, 8)])
def test_the_grid_follows_from_the_table_of_positions(
    tmp_path: Path, side_px: int, patch_px: int
) -> None:
    """DINOv2's is 37 x 37 patches of 14 px."""
    tokens = (side_px // patch_px) ** 2 + 1
    draw = torch.Generator().manual_seed(0)
    changed = {
        "patch_embed.proj.weight": torch.randn(WIDTH, 3, patch_px, patch_px, generator=draw),
        "pos_embed": torch.randn(1, tokens, WIDTH, generator=draw),
    }
    card, weights = imported(tmp_path, {"model": BARE | changed})
    assert card["model"]["size_px"] == [side_px, side_px]
    assert card["model"]["patch_px"] == patch_px
    assert all(torch.equal(weights[key], value) for key, value in changed.items())
