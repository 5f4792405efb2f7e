"""Which patches are hidden, and how the prediction of them is judged."""

from __future__ import annotations

import pytest
import torch

from mimic.models.objectives import masking
from mimic.models.spec import visible_count


def test_counts_of_the_papers() -> None:
    """MAE shows 49 of 196 patches, CroCo 20, MIMIC 19."""
    assert visible_count(196, 0.75, "down") == 49
    assert visible_count(196, 0.9, "up") == 20
    assert visible_count(196, 0.9, "down") == 19
    for ratio in (0.0, 1.0):
        with pytest.raises(ValueError, match="at least one"):
            visible_count(196, ratio, "up")


def test_split_shows_the_lowest_noise() -> None:
    noise = torch.rand(5, 30)
    keep, restore, mask = masking.split(noise, 7)
    for b in range(5):
        lowest = set(noise[b].argsort()[:7].tolist())
        assert set(keep[b].tolist()) == lowest
        assert {i for i in range(30) if mask[b, i] == 0} == lowest
        assert [keep[b, restore[b, i]] for i in keep[b]] == keep[b].tolist()
        assert sorted(restore[b].tolist()) == list(range(30))


def test_patches_hold_row_column_channel() -> None:
    images = torch.arange(2 * 3 * 8 * 12).float().reshape(2, 3, 8, 12)
    patches = masking.patchify(images, 4)
    for row, column, p, q, channel in ((0, 0, 0, 0, 0), (1, 2, 3, 1, 2), (0, 1, 2, 3, 1)):
        assert (
            patches[:, row * 3 + column, (p * 4 + q) * 3 + channel]
            == images[:, channel, row * 4 + p, column * 4 + q]
        ).all()
    assert torch.equal(masking.unpatchify(patches, 4, (2, 3)), images)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_loss_is_a_plain_loop(norm_pix: bool) -> None:
    images, prediction = torch.randn(2, 3, 8, 8), torch.randn(2, 4, 48)
    mask = torch.tensor([[1.0, 0, 1, 1], [1, 1, 0, 1]])
    total, count = 0.0, 0
    for b in range(2):
        for n in range(4):
            if not mask[b, n]:
                continue
            row, column = divmod(n, 2)
            target = [
                images[b, c, row * 4 + p, column * 4 + q].item()
                for p in range(4)
                for q in range(4)
                for c in range(3)
            ]
            if norm_pix:
                mean = sum(target) / 48
                variance = sum((value - mean) ** 2 for value in target) / 47
                target = [(value - mean) / (variance + 1e-6) ** 0.5 for value in target]
            total += (
                sum((a - t) ** 2 for a, t in zip(prediction[b, n].tolist(), target, strict=True))
                / 48
            )
            count += 1
    loss = masking.masked_loss(prediction, images, mask, 4, norm_pix=norm_pix)
    assert loss.item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_a_perfect_prediction_is_pasted_as_the_image(norm_pix: bool) -> None:
    images, mask = torch.randn(2, 3, 8, 8), torch.tensor([[1.0, 0, 1, 1], [1, 1, 0, 1]])
    perfect = masking.patchify(images, 4)
    if norm_pix:
        mean, deviation = masking.patch_statistics(perfect)
        perfect = (perfect - mean) / deviation
    blank, filled = masking.paste(perfect, images, mask, 4, norm_pix=norm_pix)
    assert torch.allclose(filled, images, atol=1e-5)
    assert (blank[0, :, :4, :4] == 0).all()
    assert torch.equal(blank[0, :, :4, 4:], images[0, :, :4, 4:])
