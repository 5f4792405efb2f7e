"""The benchmark of training measures the training that the stage runs."""

from __future__ import annotations

import pytest
import torch

from benchmarks import pretraining
from benchmarks.gpu.subject import TOY
from mimic import config
from mimic.params import load_params


@pytest.fixture
def recipe(repository: object) -> config.Recipe:
    """MIMIC's, with a model of toy size on images of full size."""
    paper = load_params(pretraining.PAPER).pretrain["mimic"]
    model = paper.model.model_copy(update=TOY)
    return paper.model_copy(
        update={"model": model, "batch": 4, "device_batch": None, "workers": 1, "precision": "fp32"}
    )


def test_fed_from_a_shard(recipe: config.Recipe) -> None:
    assert pretraining.fed(recipe, 8) > 0


def test_both_sides_take_the_same_step(recipe: config.Recipe) -> None:
    """Equal losses: what is compared is speed alone."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        found = pretraining.race(recipe, 2, 2)
        assert found["speedup"] > 0
        assert len(found["ours_s"]) == len(found["references_s"]) == 2
        (manual, images, noise), (auto, *_) = (
            pretraining.prepared(recipe, 2, torch.device("cpu"), kind)
            for kind in ("manual", "auto")
        )
        torch.testing.assert_close(manual(images, noise)[0], auto(images, noise)[0])
    finally:
        torch.set_num_threads(threads)


def test_without_a_gpu_its_share_is_not_made_up(recipe: config.Recipe) -> None:
    found = pretraining.gpu(recipe, torch.device("cpu"))
    assert found["mfu"] is None
    assert found["pairs_per_second"] is None
    assert found["gflop_per_pair"] > 0
