"""Depth from kept features: the linear probe and few shots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.models.heads import BinsHead
from mimic.tasks import run_task
from mimic.tasks.depth import finetune, frozen
from mimic.tasks.depth.config import DepthTask, FewShotDepthTask, LinearDepthTask
from mimic.tasks.depth.nyu import Nyu
from mimic.tasks.engine.few_shot import by_shots, subset
from mimic.tasks.metrics.depth import log_loss
from tests.support.miniatures import as_subject, folders_in


def count_images(encoder: VisionTransformer, seen: list[int]) -> None:
    """How many images pass the encoder."""
    encoder.patch_embed.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))


def test_few_shot_end_to_end(
    few_shot_depth_task: FewShotDepthTask, nyu_folder: Path, encoder: VisionTransformer
) -> None:
    """Mean and sample deviation over seeds; five times the seeds cost no further pass of the
    encoder."""
    seen: list[int] = []
    count_images(encoder, seen)
    folders = folders_in(nyu_folder.parent)
    result = run_task(few_shot_depth_task, as_subject(encoder), folders)
    by_k = result.metrics["by_k"]
    assert result.name == "delta1"
    assert result.value == by_k["5"]["mean"]
    assert list(by_k) == ["2", "5"]
    assert len(by_k["2"]["values"]) == 3
    assert len(set(by_k["2"]["values"])) > 1
    assert by_k["2"]["mean"] == pytest.approx(np.mean(by_k["2"]["values"]))
    assert result.items is not None  # over test items, as of every task: draws are by_k's
    assert result.metrics["standard_error"] == pytest.approx(
        np.std(result.items, ddof=1) / len(result.items) ** 0.5
    )
    assert result.test_size == 5
    assert len(result.pictures) == 2
    assert "mean of 3 draws of 5 images" in result.protocol
    once = 2 * 8 + 5  # the training images and their mirror images, the test images
    assert sum(seen) == once
    more = few_shot_depth_task.model_copy(update={"seeds": 5})
    again = run_task(more, as_subject(encoder), folders_in(nyu_folder.parent))
    assert sum(seen) == once
    assert again.metrics["by_k"]["5"]["values"][:3] == by_k["5"]["values"]


def test_all_images_are_the_frozen_task(
    few_shot_depth_task: FewShotDepthTask,
    depth_task: DepthTask,
    nyu_folder: Path,
    encoder: VisionTransformer,
) -> None:
    """With as many shots as there are images, kept features give what the depth task gives by
    encoding everything itself."""
    few = few_shot_depth_task.model_copy(
        update={"shots": (8,), "seeds": 2, "augment": "none", "batch": 8, "flip_test": True}
    )
    found = run_task(few, as_subject(encoder), folders_in(nyu_folder.parent)).metrics["by_k"]["8"][
        "values"
    ]
    for seed, value in enumerate(found):
        plain = depth_task.model_copy(
            update={
                "freeze": "encoder",
                "augment": "none",
                "batch": 8,
                "flip_test": True,
                "seed": seed,
            }
        )
        assert value == pytest.approx(
            run_task(plain, as_subject(encoder), folders_in(nyu_folder.parent)).value, abs=1e-4
        )


@pytest.mark.parametrize("flip_test", [False, True])
def test_kept_features_give_the_depth_that_images_give(
    few_shot_depth_task: FewShotDepthTask,
    nyu_folder: Path,
    encoder: VisionTransformer,
    flip_test: bool,
) -> None:
    """Of each test image all sums of errors, which a prediction turned the wrong way changes."""
    task = few_shot_depth_task.model_copy(update={"flip_test": flip_test})
    model = finetune.build(task, encoder)
    with Nyu(nyu_folder, None) as nyu:
        kept = frozen.cache_features(task, model, nyu, nyu_folder / "features")
        found, _ = frozen._score(task, model, kept)
        tests = finetune.Tests(nyu, task.eval_batch)
        plain, _ = finetune.score(
            task, tests, 8, lambda _, seen: finetune.predict(task, model, seen)
        )
        once = task.model_copy(update={"flip_test": not flip_test})
        other, _ = finetune.score(
            task, tests, 8, lambda _, seen: finetune.predict(once, model, seen)
        )
    np.testing.assert_allclose(found[:, 4:], plain[:, 4:], rtol=1e-5)
    assert np.abs(other[:, 4:] / plain[:, 4:] - 1).max() > 1e-3  # the flip does matter


def test_subsets_are_nested_and_differ_by_seed() -> None:
    for seed in range(5):
        small, large = subset(seed, 10, 795), subset(seed, 80, 795)
        assert small.tolist() == large[:10].tolist()
        assert len(set(large.tolist())) == 80
        assert large.max() < 795
    assert len({tuple(sorted(subset(seed, 10, 795))) for seed in range(5)}) == 5
    assert by_shots({3: [1.0, 2.0, 4.0]})["3"] == {
        "mean": pytest.approx(7 / 3),
        "std": pytest.approx((14 / 6) ** 0.5),
        "values": [1, 2, 4],
    }


def test_linear_probe_end_to_end(
    linear_depth_task: LinearDepthTask, nyu_folder: Path, encoder: VisionTransformer
) -> None:
    """Brightness tells depth: a linear layer on a random encoder beats one constant depth."""
    result = run_task(linear_depth_task, as_subject(encoder), folders_in(nyu_folder.parent))
    short = run_task(
        linear_depth_task.model_copy(update={"steps": 1}),
        as_subject(encoder),
        folders_in(nyu_folder.parent),
    )
    assert (
        result.metrics["averages"]["image"]["rmse"]
        < 0.9 * short.metrics["averages"]["image"]["rmse"]
    )
    assert result.name == "delta1"
    assert 0 < result.value <= 1
    assert "linear, 16 bins" in result.protocol
    assert len(result.pictures) == 2


def test_bins_by_hand() -> None:
    """Weights relu(x) + 0.1 of four bins of 1 m; equal weights give the middle, one large weight
    its own bin."""
    head = BinsHead(3, 4, 0.0, 4.0, patch_px=2).eval()
    torch.nn.init.zeros_(head.output.weight)
    torch.nn.init.constant_(head.output.bias, -1.0)
    tokens = [torch.randn(1, 3, 2, 3)]
    torch.testing.assert_close(head(tokens), torch.full((1, 1, 4, 6), 2.0))
    head.output.bias.data[3] = 0.6
    expected = (0.1 * (0.5 + 1.5 + 2.5) + 0.7 * 3.5) / 1.0
    torch.testing.assert_close(head(tokens), torch.full((1, 1, 4, 6), expected))


def test_log_loss_by_hand() -> None:
    target = torch.tensor([[1.0, 2.0, 4.0, 9.0]]) - 1e-3
    valid = torch.tensor([[True, True, True, False]])
    scaled = (
        target + 1e-3
    ) * 1.5 - 1e-3  # a wrong scale alone: no variance, the mean of the logarithm remains
    assert float(log_loss(scaled, target, valid)) == pytest.approx(
        0.15**0.5 * np.log(1.5), rel=1e-4
    )
    other = torch.tensor([[1.0, 4.0, 4.0, 5.0]]) - 1e-3
    g = np.array([0, np.log(2), 0])
    assert float(log_loss(other, target, valid)) == pytest.approx(
        (g.var(ddof=1) + 0.15 * g.mean() ** 2) ** 0.5, rel=1e-4
    )
    assert float(log_loss(scaled, target, torch.zeros_like(valid))) == 0


def test_wrong_requests(
    few_shot_depth_task: FewShotDepthTask, nyu_folder: Path, encoder: VisionTransformer
) -> None:
    with pytest.raises(BadInput, match="shots 100: there are 8 training images"):
        run_task(
            few_shot_depth_task.model_copy(update={"shots": (100,)}),
            as_subject(encoder),
            folders_in(nyu_folder.parent),
        )
    for wrong in ({"freeze": "none"}, {"augment": "peer"}, {"seeds": 1}):
        with pytest.raises(ValidationError):
            FewShotDepthTask.model_validate({**few_shot_depth_task.model_dump(), **wrong})


def test_linear_probe_needs_metres(linear_depth_task: LinearDepthTask) -> None:
    for wrong, message in (
        ({"standardise": True}, "batch norm of its own"),
        ({"depth_max_m": None}, "bins need"),
        ({"target_std": 2.0}, "bins are metres"),
    ):
        with pytest.raises(ValidationError, match=message):
            LinearDepthTask.model_validate({**linear_depth_task.model_dump(), **wrong})


def test_levels_are_standardised_where_the_section_says_so(
    few_shot_depth_task: FewShotDepthTask, nyu_folder: Path, encoder: VisionTransformer
) -> None:
    """An encoder whose residual stream is ten times as large is another one to a raw head only."""
    written = few_shot_depth_task.model_dump(mode="json")
    assert "standardise" not in written
    stated = FewShotDepthTask.model_validate(written | {"standardise": True})
    assert FewShotDepthTask.model_validate(stated.model_dump(mode="json")) == stated
    outputs = {}
    for name, task in (("raw", few_shot_depth_task), ("standardised", stated)):
        model = finetune.build(task, encoder)
        levels = model.features(torch.randn(4, 3, 32, 32, generator=torch.manual_seed(1)))
        outputs[name] = [model.head([scale * level for level in levels]) for scale in (1, 10)]
    assert (outputs["raw"][0] - outputs["raw"][1]).abs().max() > 0.1
    torch.testing.assert_close(*outputs["standardised"], atol=1e-3, rtol=1e-3)
    result = run_task(stated, as_subject(encoder), folders_in(nyu_folder.parent))
    assert "standardised" in result.protocol
