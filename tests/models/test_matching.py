"""The loss on matched patches: its value written out, its geometry against points, and that it
teaches what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mimic.models import Masking, ViTSize, build
from mimic.models.layers import initialise
from mimic.models.objectives.masking import split
from mimic.models.objectives.matching import matching_loss, place_matches

GRID = (4, 6)
SIZE = ViTSize(
    size_px=(16, 16),
    patch_px=4,
    width=16,
    depth=1,
    heads=2,
    decoder_width=8,
    decoder_depth=1,
    decoder_heads=2,
    class_token=True,
    positions="sincos",
    norm_eps=1e-6,
)


def test_it_is_the_mean_cross_entropy_over_visible_matches() -> None:
    random = torch.Generator().manual_seed(0)
    b, n, k, c = 3, 24, 8, 5
    tokens_a, tokens_b = (
        torch.randn(b, n, c, generator=random),
        torch.randn(b, n, c, generator=random),
    )
    keep, restore, mask = split(torch.rand(b, n, generator=random), k)
    visible = torch.stack([tokens_a[i, keep[i]] for i in range(b)])
    matches = torch.full((b, n, 2), -1)
    for row in range(2):  # the third pair has no match
        for patch in range(0, n, 2):
            matches[row, patch] = torch.tensor([patch, (patch * 5 + row) % n])
    expected = []
    for row in range(b):
        losses = []
        for patch, partner in matches[row].tolist():
            if patch >= 0 and not mask[row, patch]:
                cosines = [
                    float(torch.cosine_similarity(tokens_a[row, patch], other, dim=0)) / 0.2
                    for other in tokens_b[row]
                ]
                losses.append(np.log(np.exp(cosines).sum()) - cosines[partner])
        expected.append(np.mean(losses) if losses else 0.0)
    assert expected[0] > 0
    assert expected[2] == 0
    assert float(matching_loss(visible, tokens_b, restore, matches, 0.2)) == pytest.approx(
        np.mean(expected), rel=1e-5
    )


def place(correspondences: torch.Tensor, **choices: Any) -> list[list[int]]:
    whole = torch.tensor([0, 0, 40, 60]).expand(1, 2, 4)
    same: dict[str, Any] = {
        "swap": torch.tensor([False]),
        "flip": torch.tensor([False]),
        "box": whole,
        "grid": GRID,
    }
    placed = place_matches(
        correspondences[None], mined_grid=GRID, stored_px=(40, 60), **same | choices
    )
    return [pair for pair in placed[0].tolist() if pair != [-1, -1]]


def test_matches_follow_the_views() -> None:
    """Patches are 10 px: patch 0 of a (rows 0-9, columns 0-9) is patch 7 of b (10-19, 10-19), patch
    23 of a (30-39, 50-59) patch 8."""
    correspondences = torch.full((24,), -1, dtype=torch.int16)
    correspondences[0], correspondences[23] = 7, 8
    assert place(correspondences) == [[0, 7], [23, 8]]
    assert place(correspondences, swap=torch.tensor([True])) == [[7, 0], [8, 23]]
    assert place(correspondences, flip=torch.tensor([True])) == [[5, 10], [18, 9]]
    assert place(correspondences, grid=(2, 3)) == [
        [0, 0],
        [5, 1],
    ]  # points (5, 5), (15, 15), (35, 55), (15, 25) on patches of 20 px
    assert place(correspondences, grid=(8, 12)) == [[13, 39], [95, 41]]
    left_of_a = torch.tensor(
        [[[0, 0, 40, 30], [0, 0, 40, 60]]]
    )  # 5 px a patch across: what was patch 0 is the second of its row
    assert place(correspondences, box=left_of_a) == [[1, 7]]


def test_it_teaches_the_encoder_to_find_the_partner() -> None:
    """View b holds view a's patches in an order of its own, with their pixels scrambled: which is
    which can only be learned."""

    def accuracy(weight: float) -> float:
        masking = Masking(
            mask_ratio=0.5,
            visible_rounding="down",
            norm_pix=True,
            matching=weight,
            temperature=0.1,
        )
        model = build("croco", SIZE, masking, attention="manual")
        initialise(model, torch.Generator().manual_seed(0))
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        random = torch.Generator().manual_seed(1)
        scrambled = torch.randperm(48, generator=random)
        right: list[float] = []
        for step in range(150):
            order = torch.rand(16, 16, generator=random).argsort(1)
            patches = torch.randn(16, 16, 3, 4, 4, generator=random)
            shuffled = torch.stack(
                [patch[index] for patch, index in zip(patches, order, strict=True)]
            )
            shuffled = shuffled.flatten(2)[..., scrambled].unflatten(2, (3, 4, 4))
            a, b = (
                x.unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).reshape(16, 3, 16, 16)
                for x in (patches, shuffled)
            )
            matches = torch.stack([order, torch.arange(16).expand(16, 16)], dim=-1)
            noise = torch.rand(16, 16, generator=random)
            loss = model(torch.stack([a, b], dim=1), noise, matches if weight else None)[0]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step >= 140:
                keep = split(noise, 8)[0]
                with torch.no_grad():
                    one, two = (
                        torch.nn.functional.normalize(x[:, 1:], dim=-1)
                        for x in (model.encoder(a, keep), model.encoder(b))
                    )
                found = (one @ two.mT).argmax(-1)
                right.append(float((order.gather(1, found) == keep).float().mean()))
        return float(np.mean(right))

    assert accuracy(1.0) > 0.5 > 3 * accuracy(0.0)


def test_one_view_has_nothing_to_match() -> None:
    with pytest.raises(ValueError, match="matching needs two views"):
        build(
            "mae",
            SIZE,
            Masking(mask_ratio=0.5, visible_rounding="down", norm_pix=True, matching=0.5),
        )
