"""Correspondence from cross-attention: the maps are the ones the decoder uses, and a known map
gives a known motion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mimic.errors import BadInput
from mimic.models import Masking, ViTSize, build
from mimic.models.layers import initialise
from mimic.models.two_view import TwoViews, hooks
from mimic.tasks import run_task
from mimic.tasks.correspondence import cross_attention
from mimic.tasks.correspondence.config import CrossAttentionTask
from mimic.tasks.correspondence.cross_attention import dense_flow, true_flow
from tests.support.miniatures import SHIFT, as_subject, folders_in, write_dataset

SIZES: dict[str, Any] = {
    "patch_px": 8,
    "width": 24,
    "depth": 4,
    "heads": 2,
    "decoder_width": 16,
    "decoder_depth": 2,
    "decoder_heads": 2,
    "norm_eps": 1e-6,
}
MASKING: dict[str, Any] = {"mask_ratio": 0.75, "visible_rounding": "down"}


def make_model(
    objective: str = "croco",
    positions: str = "sincos",
    class_token: bool = False,
    size_px: tuple[int, int] = (32, 32),
) -> Any:
    shape = {"positions": positions, "class_token": class_token, "size_px": size_px}
    masks = Masking(**MASKING, norm_pix=True)
    model = build(objective, ViTSize(**SIZES, **shape), masks)  # type: ignore[arg-type]
    initialise(model, torch.Generator().manual_seed(0))
    return model.eval()


def publish_model(folder: Path, objective: str = "croco", **shape: Any) -> Path:
    model = make_model(objective, **shape)
    folder.mkdir(parents=True)
    save_file(model.encoder.state_dict(), folder / "encoder.safetensors")
    save_file(model.state_dict(), folder / "model.safetensors")
    encoder = model.encoder
    size = {
        **SIZES,
        "size_px": list(encoder.size_px),
        "positions": encoder.positions,
        "class_token": encoder.class_token,
    }
    (folder / "card.json").write_text(
        json.dumps({"model": size, "objective": objective, **MASKING, "norm_pix_loss": True})
    )
    return folder


@pytest.fixture
def task() -> CrossAttentionTask:
    shared: dict[str, Any] = {
        "dataset": "toy",
        "tracked_by": Path("x"),
        "samples": 2,
        "seed": 0,
        "overlap_bins": (0.0, 0.7, 1.0),
    }
    return CrossAttentionTask(
        task="cross-attention", pairs=6, batch=4, temperature=1e-4, reciprocal=True, **shared
    )


@pytest.mark.parametrize("positions", ["sincos", "rope"])
@pytest.mark.parametrize("class_token", [False, True])
def test_the_maps_are_the_ones_the_decoder_uses(positions: str, class_token: bool) -> None:
    """Values weighted by the maps and projected are what each cross-attention returned; the stages
    are those of the forward pass."""
    model = make_model(positions=positions, class_token=class_token)
    two, random = TwoViews(model).eval(), torch.Generator().manual_seed(1)
    a, b = (torch.randn(2, 3, 32, 32, generator=random) for _ in range(2))
    memory, grid, seen = model.encoder(b), (4, 4), []
    hook = model.decoder.blocks[1].cross_attn.register_forward_hook(
        lambda module, given, out: seen.append((module, given, out))
    )
    with torch.no_grad():
        stages = model.decoder.stages(model.encoder(a), memory, grid)
        hook.remove()
        module, given, out = seen[0]
        weights = module.weights(*given)
        values = module.projv(given[1]).unflatten(-1, (2, -1)).transpose(1, 2)
        torch.testing.assert_close(
            module.proj((weights @ values).transpose(1, 2).flatten(2)), out, atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 2, weights.shape[2]))
        everything = torch.arange(16).expand(2, -1)
        predicted = model.decoder(model.encoder(a), everything, memory)
        torch.testing.assert_close(
            model.decoder.pred(stages[-1][:, int(class_token) :]), predicted, atol=1e-5, rtol=1e-4
        )
        assert two.attention(a, b).shape == (2, 16, 16)
        assert two.levels(a[:, :, :, :24], b[:, :, :, :24], (1, 3, 4, 5))[-1].shape == (
            2,
            16,
            4,
            3,
        )  # another grid


def test_hooks_are_the_published_ones() -> None:
    assert hooks(None, 12, 12) == (11, 15, 19, 23)
    assert hooks(None, 24, 12) == (23, 27, 31, 35)
    assert hooks(None, 12, 8) == (10, 13, 16, 19)
    with pytest.raises(ValueError, match="of 4 \\+ 2 blocks"):
        hooks((0, 1, 2, 9), 4, 2)


def test_a_known_map_gives_a_known_motion() -> None:
    """Each patch looks one patch to the left: eight pixels, in the middle of the frame."""
    weights = torch.zeros(1, 16, 16)
    for patch in range(16):
        weights[0, patch, patch - 1 if patch % 4 else patch] = 0.5
    flow = dense_flow(weights, 4, 8, 1e-4)
    assert flow.shape == (1, 2, 32, 32)
    torch.testing.assert_close(flow[0, 0, :, 12:], torch.full((32, 20), -8.0))
    assert flow[0, 1].abs().max() < 1e-4
    motion, inside = true_flow(np.array([[1, 0, -8], [0, 1, 0], [0, 0, 1]], float), 32)
    assert (motion == [-8, 0]).all()
    assert inside[:, 8:].all()
    assert not inside[:, :8].any()


def test_an_oracle_scores_one(
    tmp_path: Path, task: CrossAttentionTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path, 6)
    folder = publish_model(tmp_path / "models/croco")
    assert SHIFT == 16  # of 64 px: one patch of four

    def left(model: object, a: torch.Tensor, b: torch.Tensor, reciprocal: bool) -> torch.Tensor:
        weights = torch.zeros(len(a), 16, 16)
        weights[:, range(16), [patch - 1 if patch % 4 else patch for patch in range(16)]] = 1
        return weights

    monkeypatch.setattr(cross_attention, "costs", left)
    metrics = cross_attention.run(task, as_subject(None, folder), folders_in(tmp_path)).metrics
    assert metrics["exact"] == 1
    assert metrics["patches"] == 72
    assert metrics["by_overlap"]["0-0.7"]["pairs"] == 5
    assert metrics["EPE_px"] < 1  # between columns 0 and 1 the enlarged motion changes
    assert metrics["PCK5"] > 0.8


@pytest.mark.parametrize("size_px", [(32, 32), (32, 48)])
def test_end_to_end(tmp_path: Path, task: CrossAttentionTask, size_px: tuple[int, int]) -> None:
    write_dataset(tmp_path, 6)
    subject = as_subject(None, publish_model(tmp_path / "models/croco", size_px=size_px))
    result = run_task(task, subject, folders_in(tmp_path))
    assert 0 <= result.value <= 1
    assert result.test_size == 6
    assert len(result.pictures) == 2
    assert result.metrics == run_task(task, subject, folders_in(tmp_path)).metrics
    assert {"EPE_px", "PCK1", "encoder", "chance", "standard_error"} <= result.metrics.keys()


def test_bad_models(tmp_path: Path, task: CrossAttentionTask) -> None:
    write_dataset(tmp_path, 2)
    with pytest.raises(BadInput, match="never saw a second view"):
        run_task(
            task,
            as_subject(None, publish_model(tmp_path / "models/mae", "mae")),
            folders_in(tmp_path),
        )
    folder = publish_model(tmp_path / "models/croco")
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match="holds an encoder only"):
        run_task(task, as_subject(None, folder), folders_in(tmp_path))
