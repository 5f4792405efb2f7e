"""Freezing, layer-wise learning rates, the published schedules, and training that depends on the
seed alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mimic.errors import BadInput
from mimic.models import ViTSize
from mimic.models.dpt_head import DptHead
from mimic.models.encoder import VisionTransformer
from mimic.models.heads import ConvNextHead, parameter_count
from mimic.tasks import run_task
from mimic.tasks.depth.config import DepthTask
from mimic.tasks.depth.finetune import augment, build, loss, preprocess, protocol
from mimic.tasks.engine.batches import step_indices
from mimic.tasks.engine.dense_transforms import Batch
from mimic.tasks.engine.encoder_with_head import EncoderWithHead, add_drop_path, read_blocks
from mimic.tasks.engine.feature_cache import maps
from mimic.tasks.engine.finetune import finetune_model
from mimic.training.optim import cosine_lr, layer_decay_groups
from tests.support.miniatures import as_subject, folders_in


@pytest.fixture(scope="module")
def base() -> VisionTransformer:
    """ViT-B/16 with a class token, without memory for its weights."""
    size = ViTSize(
        size_px=(224, 224),
        patch_px=16,
        width=768,
        depth=12,
        heads=12,
        class_token=True,
        positions="sincos",
        norm_eps=1e-6,
    )
    with torch.device("meta"):
        return VisionTransformer(size, attention="auto")


def _tuned(base: VisionTransformer, head: str, freeze: str) -> EncoderWithHead:
    with torch.device("meta"):
        made = {
            "depth": DptHead(768, 256, 1, 16),
            "normals": DptHead(768, 256, 3, 16),
            "segmentation": ConvNextHead(768, 384, 150, 16, 4, 4),
        }
    return EncoderWithHead(base, made[head], (2, 5, 8, 11), freeze, 0.0)


@pytest.mark.parametrize(
    ("head", "freeze", "count"),
    [
        ("depth", "none", 105_711_745),
        ("normals", "none", 105_711_811),
        ("segmentation", "none", 95_234_454),
        ("normals", "blocks", 20_657_347),
        ("normals", "encoder", 20_065_987),
    ],
)
def test_published_trainable_parameters(
    base: VisionTransformer, head: str, freeze: str, count: int
) -> None:
    assert parameter_count(_tuned(base, head, freeze)) == count


def test_published_encoder_parameters(base: VisionTransformer) -> None:
    counted = [
        value.numel()
        for name, value in base.named_parameters()
        if name != "pos_embed" and not name.startswith("norm.")
    ]
    assert sum(counted) == 85_645_824


def test_layer_decay_groups(base: VisionTransformer) -> None:
    model = _tuned(base, "depth", "none")
    groups = layer_decay_groups(model, 3e-4, 0.75)
    scales = {group["lr_scale"] for group in groups}
    assert min(scales) == 0.023757264018058777
    assert max(scales) == 1.0
    assert len(scales) == 14
    assert (
        sum(parameter.numel() for group in groups for parameter in group["params"]) == 105_711_745
    )
    free = [
        parameter for group in groups if group["weight_decay"] == 0 for parameter in group["params"]
    ]
    assert all(parameter.ndim == 1 or parameter is model.encoder.cls_token for parameter in free)
    assert any(parameter is model.encoder.cls_token for parameter in free)
    assert model.layer_of("encoder.patch_embed.proj.weight") == 0
    assert model.layer_of("encoder.blocks.11.mlp.fc1.weight") == 12
    assert model.layer_of("head.output.0.weight") == 13


@pytest.mark.parametrize(
    ("steps_per_epoch", "epochs", "warmup", "base_lr", "means"),
    [
        (
            795 // 128,
            2000,
            100,
            1e-4,
            {
                0: 4.173622704507513e-07,
                1: 1.4190317195325542e-06,
                100: 9.999998259630589e-05,
                500: 8.943585377775027e-05,
                1999: 2.8795201677718946e-11,
            },
        ),
        (
            20210 // 64,
            64,
            1,
            5e-4,
            {0: 2.4999999999999995e-04, 1: 4.998968942776848e-04, 63: 1.040922927759372e-07},
        ),
        (
            100,
            100,
            5,
            3e-4,
            {
                0: 2.9759519038076147e-05,
                1: 8.987975951903806e-05,
                5: 2.999730705607536e-04,
                99: 2.774955323493915e-08,
            },
        ),
    ],
    ids=["nyu", "ade20k", "taskonomy"],
)
def test_published_learning_rates(
    steps_per_epoch: int, epochs: int, warmup: int, base_lr: float, means: dict[int, float]
) -> None:
    """Mean over each epoch's steps, added up in order as the published logs were: equal to the last
    digit."""
    n = steps_per_epoch
    for epoch, mean in means.items():
        rates = [
            cosine_lr(
                step,
                peak=base_lr,
                floor=0.0,
                warmup=n * warmup,
                horizon=n * epochs,
                peak_in_warmup=True,
            )
            for step in range(epoch * n, (epoch + 1) * n)
        ]
        total = reduce(add, rates)  # sum() of Python 3.12 and later rounds less
        assert total / n == mean


def test_step_indices_drop_the_incomplete_batch() -> None:
    epoch = np.concatenate([step_indices(step, 128, 795, 0) for step in range(6)])
    assert len(np.unique(epoch)) == 6 * 128
    assert sorted(step_indices(6, 128, 795, 0)) != sorted(step_indices(0, 128, 795, 0))
    assert (
        np.bincount(step_indices(0, 16, 10, 0)).min() >= 1
    )  # fewer examples than a batch: all are there


@pytest.mark.parametrize("last_norm", [False, True])
def test_the_last_block_is_read_raw_or_after_the_final_norm(
    last_norm: bool, depth_task: DepthTask, make: Callable[..., VisionTransformer], tmp_path: Path
) -> None:
    """CroCo's own head normalises the last of its blocks, and trains that norm; MultiMAE's reads
    all raw."""
    encoder = make()
    with torch.no_grad():
        encoder.norm.weight.uniform_(0.5, 2.0)
    task = depth_task.model_copy(update={"last_norm": last_norm})
    model, images = build(task, encoder), torch.randn(2, 3, 32, 32)
    raw = encoder.intermediates(images, model.blocks)
    read = model.features(images)
    assert all(torch.equal(a, b) for a, b in zip(raw[:3], read[:3], strict=True))
    tokens = torch.nn.functional.layer_norm(
        raw[3].movedim(1, -1), (24,), encoder.norm.weight, encoder.norm.bias, 1e-6
    )
    torch.testing.assert_close(read[3], tokens.movedim(-1, 1) if last_norm else raw[3])
    kept = maps(encoder, model.blocks, model.norm)(images)
    torch.testing.assert_close(kept, torch.stack(read, dim=1))
    before = _state(encoder)
    _train(task, encoder, tmp_path)
    trained = not torch.equal(encoder.norm.weight, before["norm.weight"])
    assert trained == last_norm
    assert ("after the final norm" in protocol(task, 1, 1)) == last_norm


def test_read_blocks() -> None:
    assert read_blocks(None, 12, 4) == (2, 5, 8, 11)
    assert read_blocks(None, 8, 4) == (1, 3, 5, 7)
    assert read_blocks(None, 12, 1) == (11,)
    with pytest.raises(BadInput, match="reads 4"):
        read_blocks((0, 1, 2, 12), 12, 4)


def test_drop_path_drops_whole_branches_in_training_only(
    make: Callable[..., VisionTransformer],
) -> None:
    encoder, images = make(), torch.randn(64, 3, 32, 32)
    plain = encoder.intermediates(images, [3])[0]
    add_drop_path(encoder, 0.5)
    assert torch.equal(encoder.eval().intermediates(images, [3])[0], plain)
    torch.manual_seed(0)
    dropped = encoder.train().intermediates(images, [0, 3])
    assert torch.equal(
        dropped[0], encoder.eval().intermediates(images, [0])[0]
    )  # rate 0 at the first block
    assert not torch.equal(dropped[1], plain)


def test_drop_path_rises_linearly_over_the_blocks(make: Callable[..., VisionTransformer]) -> None:
    """And what is kept is enlarged, so that the mean stays."""
    encoder = make()
    tokens = torch.randn(2000, 1, encoder.pos_embed.shape[-1])
    branches = [block.get_submodule("mlp") for block in encoder.blocks]
    plain = [branch(tokens) for branch in branches]
    add_drop_path(encoder.train(), 0.6)
    torch.manual_seed(0)
    for index, (branch, before) in enumerate(zip(branches, plain, strict=True)):
        after = branch(tokens)
        kept = after.flatten(1).any(dim=1)
        rate = 0.6 * index / (len(branches) - 1)
        assert 1 - float(kept.float().mean()) == pytest.approx(rate, abs=0.04)
        torch.testing.assert_close(after[kept], before[kept] / (1 - rate))


def _examples(n: int = 8) -> Batch:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (n, 32, 40, 3), dtype=np.uint8)
    return Batch(images, images[..., 0].astype(np.float32) / 50 + 1, np.ones((n, 32, 40), bool))


def _train(task: DepthTask, encoder: VisionTransformer, folder: Path) -> EncoderWithHead:
    model = build(task, encoder)
    finetune_model(
        model,
        task,
        _examples(),
        lambda batch: preprocess(task, batch),
        lambda b, rng: augment(task, b, rng),
        lambda o, b: loss(task, o, b),
        folder,
    )
    return model


def _state(encoder: VisionTransformer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in encoder.state_dict().items()}


@pytest.mark.parametrize("freeze", ["none", "blocks", "encoder"])
def test_what_is_frozen_stays_bit_identical(
    freeze: str, depth_task: DepthTask, make: Callable[..., VisionTransformer], tmp_path: Path
) -> None:
    encoder = make(class_token=True)
    before = _state(encoder)
    model = _train(
        depth_task.model_copy(update={"freeze": freeze, "drop_path": 0.1}), encoder, tmp_path
    )
    changed = {
        name
        for name, value in model.encoder.state_dict().items()
        if not torch.equal(value.cpu(), before[name])
    }
    stem = {"cls_token", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    match freeze:
        case "none":
            assert stem < changed
            assert any(name.startswith("blocks.3.") for name in changed)
            assert not {"pos_embed", "norm.weight", "norm.bias"} & changed
        case "blocks":
            assert changed == stem
        case _:
            assert not changed


def test_kept_features_give_the_result_of_encoding_at_every_step(
    depth_task: DepthTask,
    make: Callable[..., VisionTransformer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task = depth_task.model_copy(update={"freeze": "encoder"})
    kept = _train(task, make(), tmp_path / "kept")
    monkeypatch.setattr("mimic.tasks.engine.finetune.CACHED_AUGMENTS", ())
    encoded = _train(task, make(), tmp_path / "encoded")
    for a, b in zip(kept.head.parameters(), encoded.head.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_training_depends_on_the_seed_alone(
    depth_task: DepthTask, make: Callable[..., VisionTransformer], tmp_path: Path
) -> None:
    task = depth_task.model_copy(update={"drop_path": 0.2, "steps": 3})
    first = _train(task, make(), tmp_path / "first")
    torch.rand(7)
    again = _train(task, make(), tmp_path / "again")
    other = _train(task.model_copy(update={"seed": 1}), make(), tmp_path / "other")
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert not all(
        torch.equal(a, b)
        for a, b in zip(first.head.parameters(), other.head.parameters(), strict=True)
    )


def test_a_long_run_resumes(
    depth_task: DepthTask, make: Callable[..., VisionTransformer], tmp_path: Path
) -> None:
    task = depth_task.model_copy(update={"save_every": 2, "steps": 4})
    whole = _train(task, make(), tmp_path / "whole")
    folder = tmp_path / "cut"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic.tasks.depth.finetune.berhu", _fails_after(3))
        with pytest.raises(RuntimeError, match="killed"):
            _train(task, make(), folder)
    resumed = _train(task, make(), folder)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True)
    )


@pytest.mark.parametrize("freeze", ["none", "blocks", "encoder"])
def test_what_was_trained_is_taken_again(
    freeze: str, depth_task: DepthTask, make: Callable[..., VisionTransformer], tmp_path: Path
) -> None:
    """Whatever was trained comes back, and nothing else is kept."""
    task = depth_task.model_copy(update={"freeze": freeze, "steps": 3})
    first = _train(task, make(), tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mimic.tasks.engine.train_loop.fit", _fails_after(0))
        again = _train(task, make(), tmp_path)
    state = again.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.state_dict().items())
    kept = load_file(tmp_path / "trained.safetensors")
    assert {"encoder.blocks.0.attn.qkv.weight" in kept, "encoder.pos_embed" in kept} == {
        freeze == "none",
        False,
    }
    with pytest.raises(BadInput, match=r"weights of another model; remove"):
        _train(task.model_copy(update={"head_width": 8}), make(depth=5), tmp_path)


def test_a_run_that_was_killed_after_its_last_checkpoint(
    depth_task: DepthTask, encoder: VisionTransformer, nyu_folder: Path
) -> None:
    """Nothing is left to train: its loss is not known, and that is said, not made up."""
    task = depth_task.model_copy(update={"save_every": 2, "steps": 4})
    folders = folders_in(nyu_folder.parent)
    whole = run_task(task, as_subject(copy.deepcopy(encoder)), folders)
    (folders.progress / "trained.json").unlink()
    resumed = run_task(task, as_subject(encoder), folders)
    assert resumed.metrics["train_loss"] is None
    assert whole.metrics["train_loss"] > 0
    assert resumed.value == whole.value


def _fails_after(calls: int) -> Callable[..., torch.Tensor]:
    from mimic.tasks.metrics.depth import berhu

    left = iter(range(calls))

    def cost(*arguments: torch.Tensor) -> torch.Tensor:
        if next(left, None) is None:
            raise RuntimeError("killed")
        return berhu(*arguments)

    return cost
