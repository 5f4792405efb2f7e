"""What is on disk is whole, fits, and runs nothing."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mimic.errors import BadInput
from mimic.infra.cluster.world import SINGLE_PROCESS
from mimic.models import ViTSize
from mimic.models.encoder import VisionTransformer
from mimic.models.layers import initialise
from mimic.training import checkpoint
from mimic.training.encoder_folder import write_card
from mimic.training.optim import adamw, parameter_groups

SIZE: dict[str, Any] = {
    "size_px": [16, 24],
    "patch_px": 8,
    "width": 16,
    "depth": 1,
    "heads": 2,
    "class_token": True,
    "positions": "sincos",
    "norm_eps": 1e-6,
}


def trainee(width: int = 4) -> tuple[nn.Linear, torch.optim.Optimizer]:
    model = nn.Linear(width, 3)
    return model, adamw(parameter_groups(model, 0.1), betas=(0.9, 0.95))


def stepped(folder: Path, steps: list[int], keep: int) -> list[torch.Tensor]:
    """Save a checkpoint for each step; the weights of each."""
    model, optimizer = trainee()
    weights = []
    for step in steps:
        model(torch.ones(1, 4)).sum().backward()
        optimizer.param_groups[0]["lr"] = 0.1
        optimizer.step()
        checkpoint.save(folder, step, model, optimizer, SINGLE_PROCESS, keep)
        weights.append(model.weight.detach().clone())
    return weights


def test_the_last_few_are_kept_and_the_newest_restored(tmp_path: Path) -> None:
    weights = stepped(tmp_path, [5, 10, 15, 20], keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"step-0000000{n}.{kind}" for n in (15, 20) for kind in ("json", "pt")
    ]
    model, optimizer = trainee()
    assert checkpoint.restore(tmp_path, model, optimizer, SINGLE_PROCESS).step == 20
    assert torch.equal(model.weight, weights[-1])
    assert len(optimizer.state) == 2
    checkpoint.remove_all(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_restore_is_step_zero(tmp_path: Path) -> None:
    assert checkpoint.restore(tmp_path / "none", *trainee(), SINGLE_PROCESS).step == 0


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "unmarked", "mark torn"])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    weights = stepped(tmp_path, [5, 10], keep=2)
    newest = tmp_path / "step-000000010.pt"
    data = newest.read_bytes()
    match damage:
        case "truncated":
            newest.write_bytes(data[: len(data) // 2])
        case "flipped":
            newest.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
        case "missing":
            newest.unlink()
        case "unmarked":
            newest.with_suffix(".json").unlink()
        case "mark torn":
            newest.with_suffix(".json").write_text('{"step"')
    (tmp_path / ".step-000000015.pt.1234.part").write_bytes(b"killed while saving")
    model, optimizer = trainee()
    assert checkpoint.restore(tmp_path, model, optimizer, SINGLE_PROCESS).step == 5
    assert torch.equal(model.weight, weights[0])
    assert not list(tmp_path.glob(".*.part"))
    assert damage == "unmarked" or "step-000000010.pt is damaged" in caplog.text


def test_what_is_saved_after_a_damaged_one_counts(tmp_path: Path) -> None:
    """Also where one is kept: its number is lower, and it must not go as the older one."""
    stepped(tmp_path, [300], keep=1)
    (tmp_path / "step-000000300.pt").write_bytes(b"torn")
    assert checkpoint.restore(tmp_path, *trainee(), SINGLE_PROCESS).step == 0
    weights = stepped(tmp_path, [100], keep=1)
    model, optimizer = trainee()
    assert checkpoint.restore(tmp_path, model, optimizer, SINGLE_PROCESS).step == 100
    assert torch.equal(model.weight, weights[-1])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stepped(tmp_path, [5, 10], keep=2)

    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(torch.OutOfMemoryError):
        checkpoint.restore(tmp_path, *trainee(), SINGLE_PROCESS)


def test_a_disk_that_does_not_answer_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stepped(tmp_path, [5, 10], keep=2)

    def stale(path: Path) -> str:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    monkeypatch.setattr(checkpoint, "file_digest", stale)
    with pytest.raises(BadInput, match=r"step-000000010\.pt: cannot be read \(Stale file handle\)"):
        checkpoint.restore(tmp_path, *trainee(), SINGLE_PROCESS)


class Hostile:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple:
        return (open, (self.path, "w"))


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    stepped(tmp_path, [5], keep=2)
    path = tmp_path / "step-000000005.pt"
    torch.save({"step": 5, "model": Hostile(tmp_path / "ran"), "optimizer": {}}, path)
    from mimic.infra.storage import file_digest

    path.with_suffix(".json").write_text(
        json.dumps({"step": 5, "bytes": path.stat().st_size, "sha256": file_digest(path)})
    )
    assert checkpoint.restore(tmp_path, *trainee(), SINGLE_PROCESS).step == 0
    assert not (tmp_path / "ran").exists()


def test_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    stepped(tmp_path, [5], keep=2)
    model, optimizer = trainee(width=7)
    before = model.weight.detach().clone()
    with pytest.raises(
        BadInput,
        match=r"step-000000005\.pt: does not fit this model: 1 of another shape \(weight \[3, 4\] "
        r"for \[3, 7\]\)",
    ) as info:
        checkpoint.restore(tmp_path, model, optimizer, SINGLE_PROCESS)
    assert "\n" not in str(info.value)
    assert torch.equal(model.weight, before)


def test_a_full_disk_leaves_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stepped(tmp_path, [5], keep=2)

    def full(value: object, file: object) -> None:
        file.write(b"part")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space"):
        stepped(tmp_path, [10], keep=2)
    monkeypatch.undo()
    assert checkpoint.restore(tmp_path, *trainee(), SINGLE_PROCESS).step == 5


def published(folder: Path) -> VisionTransformer:
    encoder = VisionTransformer(ViTSize.of_card(SIZE), attention="auto")
    initialise(encoder, torch.Generator().manual_seed(0))
    folder.mkdir()
    checkpoint.write_weights(encoder.state_dict(), folder / "encoder.safetensors", {"run": "toy"})
    (folder / "card.json").write_text(json.dumps({"run": "toy", "model": SIZE}))
    return encoder


def test_a_published_encoder_loads_back(tmp_path: Path) -> None:
    encoder = published(tmp_path / "toy")
    loaded, card = checkpoint.load_encoder(tmp_path / "toy")
    assert card["run"] == "toy"
    assert loaded.size_px == (16, 24)
    assert not loaded.training
    images = torch.randn(1, 3, 16, 24)
    assert torch.equal(loaded(images), encoder(images))


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    encoder = published(tmp_path / "toy")
    for name in ("one", "two"):
        checkpoint.write_weights(
            dict(reversed(encoder.state_dict().items())), tmp_path / name, {"b": 1, "a": 2}
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no card", "no card.json"),
        ("card torn", "not valid JSON"),
        ("card empty", "holds no 'model' sizes"),
        ("no weights", "no such file"),
        ("weights cut", "not a whole safetensors file"),
        ("weights pickled", "not a whole safetensors file"),
        ("another number", r"encoder.safetensors: its sha256 is not that of card.json; .* again"),
        ("deeper card", r"12 missing \(blocks.1.norm1.weight, blocks.1.norm1.bias, ...\)"),
        (
            "card without class token",
            r"1 unexpected \(cls_token\); 1 of another shape \(pos_embed \[1, 7, 16\] for \[1, 6, "
            r"16\]\)",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_one_line(tmp_path: Path, damage: str, message: str) -> None:
    folder = tmp_path / "toy"
    published(folder)
    card, weights = folder / "card.json", folder / "encoder.safetensors"
    match damage:
        case "no card":
            card.unlink()
        case "card torn":
            card.write_text("{")
        case "card empty":
            card.write_text("{}")
        case "no weights":
            weights.unlink()
        case "weights cut":
            weights.write_bytes(weights.read_bytes()[:-8])
        case "weights pickled":
            weights.write_bytes(pickle.dumps(Hostile(tmp_path / "ran")))
        case "another number":
            stated = json.loads(card.read_text())
            write_card(folder, stated)
            weights.write_bytes(weights.read_bytes()[:-1] + b"\x40")
        case "deeper card":
            card.write_text(json.dumps({"model": SIZE | {"depth": 2}}))
        case "card without class token":
            card.write_text(json.dumps({"model": SIZE | {"class_token": False}}))
    with pytest.raises(BadInput, match=message) as info:
        checkpoint.load_encoder(folder)
    assert "\n" not in str(info.value)
    assert not (tmp_path / "ran").exists()
