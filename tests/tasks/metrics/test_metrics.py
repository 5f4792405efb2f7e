"""Depth errors and patch matches against numbers worked out by hand and against torchmetrics."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.errors import BadInput
from mimic.tasks.metrics.depth import (
    average,
    berhu,
    by_batch,
    by_everything,
    by_image,
    delta1_error,
    depth_sums,
)
from mimic.tasks.metrics.items import item_ious
from mimic.tasks.metrics.matching import chance, nearest, offsets, recall


def _depth(seed: int, n: int = 6) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    truth = 0.5 + 9 * torch.rand(n, 5, 7, generator=random)
    prediction = truth * torch.exp(0.3 * torch.randn(n, 5, 7, generator=random))
    valid = torch.rand(n, 5, 7, generator=random) > 0.3
    return prediction, truth, valid


def test_by_hand() -> None:
    prediction = torch.tensor([[[1.0, 2.0, 3.0, 9.0]]])
    truth = torch.tensor([[[1.0, 1.5, 4.0, 1.0]]])
    valid = torch.tensor([[[True, True, True, False]]])
    found = average(depth_sums(prediction, truth, valid), by_everything(1))
    assert found["delta1"] == pytest.approx(1 / 3)  # ratios 1, 4/3, 4/3
    assert found["delta2"] == 1.0
    assert found["rmse"] == pytest.approx(np.sqrt((0.25 + 1) / 3))
    assert found["rel"] == pytest.approx((0.5 / 1.5 + 1 / 4) / 3)
    assert found["squared_rel"] == pytest.approx((0.25 / 1.5 + 1 / 4) / 3)
    assert found["log_rmse"] == pytest.approx(np.sqrt(2 * np.log(4 / 3) ** 2 / 3))


def test_deltas_are_powers_of_a_quarter_more_and_strict() -> None:
    """1.25, 1.25^2, 1.25^3 are exact in binary: a ratio at a limit does not count."""
    below = [np.nextafter(1.25**k, 0) for k in (1, 2, 3)]
    ratios = [below[0], 1.25, below[1], 1.25**2, below[2], 1.25**3, 2.4, 3.7]
    prediction = torch.tensor([[ratios]], dtype=torch.float64)
    truth, valid = torch.ones_like(prediction), torch.ones_like(prediction, dtype=torch.bool)
    found = average(depth_sums(prediction, truth, valid), by_everything(1))
    assert [found[f"delta{k}"] for k in (1, 2, 3)] == [1 / 8, 3 / 8, 5 / 8]


def test_three_averages_by_hand() -> None:
    """Image 1: 4 valid pixels, 1 good; image 2: 1 valid pixel, good."""
    truth = torch.ones(2, 1, 4)
    prediction = torch.tensor([[[1.0, 2, 2, 2]], [[1.0, 2, 2, 2]]])
    valid = torch.tensor([[[True] * 4], [[True, False, False, False]]])
    sums = depth_sums(prediction, truth, valid)
    assert average(sums, by_image(2))["delta1"] == pytest.approx((0.25 + 1) / 2)
    assert average(sums, by_everything(2))["delta1"] == pytest.approx(2 / 5)
    assert average(sums, by_batch(2, 1, 1)) == average(sums, by_image(2))
    assert average(sums, by_batch(2, 2, 1)) == average(sums, by_everything(2))


def test_rmse_equals_torchmetrics() -> None:
    from torchmetrics.regression import MeanSquaredError, MeanSquaredLogError

    prediction, truth, valid = _depth(1)
    found = average(depth_sums(prediction, truth, valid), by_everything(6))
    p, t = prediction[valid].double(), truth[valid].double()
    assert found["rmse"] == pytest.approx(MeanSquaredError(squared=False)(p, t).item(), rel=1e-6)
    # torchmetrics takes log(1 + x): shift to compare
    assert found["log_rmse"] ** 2 == pytest.approx(
        MeanSquaredLogError()(p - 1, t - 1).item(), rel=1e-6
    )


def test_published_batches() -> None:
    """654 images, two processes, batches of 96: sizes 96 96 96 39 twice, every image once."""
    pools = by_batch(654, 96, 2)
    assert [len(pool) for pool in pools] == [96, 96, 96, 39] * 2
    assert sorted(np.concatenate(pools).tolist()) == list(range(654))
    assert pools[0][:3].tolist() == [0, 2, 4]
    assert pools[4][:3].tolist() == [1, 3, 5]


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_invariants(seed: int) -> None:
    prediction, truth, valid = _depth(seed)
    one = average(depth_sums(prediction, truth, valid), by_everything(6))
    swapped = average(depth_sums(truth, prediction, valid), by_everything(6))
    assert one["delta1"] == swapped["delta1"]
    assert one["log_rmse"] == pytest.approx(swapped["log_rmse"])
    perfect = average(depth_sums(truth, truth, valid), by_image(6))
    assert perfect["delta1"] == 1
    assert perfect["rmse"] == 0
    changed = torch.where(valid, prediction, torch.full_like(prediction, float("nan")))
    assert average(depth_sums(changed, truth, valid), by_everything(6)) == one
    sums = depth_sums(prediction, truth, valid)
    split = np.concatenate(
        [depth_sums(prediction[i : i + 2], truth[i : i + 2], valid[i : i + 2]) for i in (0, 2, 4)]
    )
    np.testing.assert_allclose(sums, split)
    assert average(sums, by_batch(6, 4, 1))["delta1"] != average(sums, by_batch(6, 3, 1))[
        "delta1"
    ] or one["delta1"] in (0, 1)


def test_images_without_valid_pixels_do_not_count() -> None:
    prediction, truth, valid = _depth(3, n=2)
    valid[1] = False
    sums = depth_sums(prediction, truth, valid)
    assert average(sums, by_image(2)) == average(sums[:1], by_image(1))
    with pytest.raises(BadInput, match="has a valid pixel"):
        average(sums[1:], by_image(1))


def test_a_negative_prediction_is_wrong_but_finite() -> None:
    found = average(
        depth_sums(torch.tensor([[[-1.0]]]), torch.tensor([[[2.0]]]), torch.tensor([[[True]]])),
        by_image(1),
    )
    assert found["delta3"] == 0
    assert np.isfinite(found["log_rmse"])


def test_berhu_by_hand() -> None:
    prediction, target = torch.tensor([1.0, 5.0, 0.5, 99.0]), torch.zeros(4)
    valid = torch.tensor([True, True, True, False])
    c = 1.0  # a fifth of 5
    expected = ((1 + c**2) / (2 * c) + (25 + c**2) / (2 * c) + 0.5) / 3
    assert berhu(prediction, target, valid).item() == pytest.approx(expected)
    assert berhu(7 * prediction, 7 * target, valid).item() == pytest.approx(
        7 * expected
    )  # homogeneous of degree 1


def test_berhu_without_valid_pixels_costs_nothing() -> None:
    prediction = torch.ones(3, requires_grad=True)
    cost = berhu(prediction, torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    cost.backward()
    assert cost.item() == 0
    assert not prediction.grad.any()


def test_recall_by_hand() -> None:
    truth = np.array([0, 5, -1, 10], np.int16)  # on a 4 x 4 grid
    found = np.array(
        [0, 0, 3, 15]
    )  # exact; one row and one column off; not counted; one and one off
    off = offsets(found, truth, 4)
    assert off.tolist() == [[0, 0], [-1, -1], [1, 1]]
    assert recall(off) == {
        "exact": 1 / 3,
        "within1": 1.0,
        "median_error": pytest.approx(np.sqrt(2)),
    }


def test_nearest_is_cosine_and_ties_go_first() -> None:
    a = torch.tensor([[2.0, 0.0], [0.0, 0.1]])
    b = torch.tensor([[0.0, 5.0], [1.0, 1.0], [9.0, 0.1]])
    assert nearest(a, b).tolist() == [2, 0]
    assert nearest(torch.ones(3, 2), torch.ones(4, 2)).tolist() == [0, 0, 0]


def test_chance_is_exact() -> None:
    """A corner has 4 patches within one, the centre of a 3 x 3 grid 9."""
    assert chance(np.array([4], np.int16), 3)["exact"] == pytest.approx(1 / 9)
    assert chance(np.array([4], np.int16), 3)["within1"] == 1.0
    assert chance(np.array([0, -1], np.int16), 3)["within1"] == pytest.approx(4 / 9)


@pytest.mark.parametrize("side", [1, 2, 5, 8])
def test_chance_is_the_score_of_every_guess(side: int) -> None:
    """Listed one by one, over an odd and an even number of guesses."""
    for count in (1, 6):
        truth = np.random.default_rng(side).integers(0, side * side, count).astype(np.int16)
        guesses = np.tile(np.arange(side * side), count)
        listed = recall(offsets(guesses, np.repeat(truth, side * side), side))
        assert chance(np.append(truth, -1).astype(np.int16), side) == listed


def test_chance_on_a_fine_grid_needs_no_list_of_guesses() -> None:
    """DINOv2 at 518 px: 1369 patches, of which 164,000 true matches are a few hundred pairs."""
    truth = np.random.default_rng(0).integers(0, 37 * 37, 164_000).astype(np.int16)
    tracemalloc.start()
    assert chance(truth, 37)["exact"] == pytest.approx(1 / 1369)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6
    with pytest.raises(BadInput, match="no patch has a true match"):
        chance(np.full(9, -1, np.int16), 3)


def test_an_image_without_labels_says_nothing_of_the_mean_iou() -> None:
    counts = np.random.default_rng(0).integers(1, 50, (5, 3, 4))
    counts[:, 0] = np.minimum(counts[:, 0], counts[:, 1:].min(axis=1))
    alone = item_ious(counts, pooled=True)
    empty = np.zeros((5, 3, 4), np.int64)
    among = item_ious(np.concatenate([counts, empty]), pooled=True)
    assert among[:5].tolist() == alone.tolist()
    assert np.isnan(among[5:]).all()


def test_the_error_of_delta1_is_what_fresh_images_show() -> None:
    """Spread of the value over many test sets of 60 images, against the error stated from one."""
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        sums = np.zeros((60, 8))
        sums[:, 0] = rng.integers(200, 1000, 60)
        sums[:, 1] = np.round(sums[:, 0] * rng.beta(4, 4, 60))
        return sums

    sets = [draw() for _ in range(400)]
    for pooled, pools in ((False, by_image(60)), (True, by_everything(60))):
        spread = np.std([average(sums, pools)["delta1"] for sums in sets])
        assert np.mean([delta1_error(sums, pooled) for sums in sets]) == pytest.approx(
            spread, rel=0.1
        )
    assert delta1_error(draw()[:1], pooled=False) is None
