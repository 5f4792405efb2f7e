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


def test_a_race_is_of_both_sides_in_turns(
    recipe: config.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    seconds = {"references": iter([9.0, 9.0, 3.0, 6.0]), "ours": iter([8.0, 8.0, 1.0, 3.0])}

    def timed(side: str) -> float:
        order.append(side)
        return next(seconds[side])

    for name in seconds:
        monkeypatch.setattr(pretraining, name, lambda *_, name=name: name)
    monkeypatch.setattr(pretraining, "timed", timed)
    monkeypatch.setattr(pretraining, "matrix_rate", lambda: 1e12)
    threads = torch.get_num_threads()
    try:
        race = pretraining.race(recipe, 2, 2)
    finally:
        torch.set_num_threads(threads)
    assert order == ["ours", "references", "references", "ours"] * 2
    assert (race["references_s"], race["ours_s"]) == ([3.0, 6.0], [1.0, 3.0])
    assert (race["speedup"], race["speedup_of_fastest"], race["pairs_per_second"]) == (2.5, 3, 1)


def test_both_sides_take_the_same_step(recipe: config.Recipe) -> None:
    """Equal losses: what is compared is speed alone."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert pretraining.race(recipe, 2, 1)["turns"] == 1
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
