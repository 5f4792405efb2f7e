"""Patch matching: an encoder that knows the place scores 1, one that knows nothing scores
chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer, denormalise
from mimic.tasks.correspondence import patch_matching
from mimic.tasks.correspondence.config import CorrespondenceTask
from mimic.tasks.correspondence.patch_matching import truth_on_grid
from tests.support.miniatures import as_subject, folders_in, write_dataset


class Oracle(torch.nn.Module):
    """Features that encode the place in the scene, read from the colour ramps; block 0 is constant,
    the last block is the oracle."""

    patch_px, width, depth, heads, size_px, class_token = 8, 64, 2, 1, (32, 32), False

    def intermediates(self, images: torch.Tensor, blocks: object) -> list[torch.Tensor]:
        colour = denormalise(images).float().movedim(-1, 1)[:, :2]
        place = torch.nn.functional.avg_pool2d(colour, 8)
        near = torch.exp(
            -((place[:, :, None] - torch.linspace(0, 255, 32)[:, None, None]) ** 2) / 400
        )
        return [torch.ones(len(images), 4, 4, 4), near.flatten(1, 2)]


def test_an_oracle_scores_one_and_a_constant_chance(
    tmp_path: Path, correspondence_task: CorrespondenceTask
) -> None:
    write_dataset(tmp_path, 6)
    result = patch_matching.run(correspondence_task, as_subject(Oracle()), folders_in(tmp_path))
    assert result.value == 1.0
    assert result.metrics["median_error"] == 0
    assert result.selection.startswith("the last block")
    assert result.metrics["patches"] == 6 * 12  # the first of four columns leaves the frame
    assert result.metrics["blocks"][0]["exact"] == pytest.approx(
        1 / 12
    )  # a constant always answers patch 0, right for one patch
    assert result.metrics["chance"]["exact"] == pytest.approx(1 / 16)
    assert result.metrics["same_place"] == {"exact": 0.0, "within1": 1.0, "median_error": 1.0}
    assert {name: entry["pairs"] for name, entry in result.metrics["by_overlap"].items()} == {
        "0-0.7": 5,
        "0.7-1": 1,
    }
    assert len(result.pictures) == 2
    assert result.pictures[0].image.shape == (224, 448, 3)


def test_noise_scores_chance() -> None:
    from mimic.tasks.metrics.matching import chance, nearest, offsets, recall

    random = torch.Generator().manual_seed(0)
    truth = np.arange(64, dtype=np.int16)
    off = [
        offsets(
            nearest(torch.randn(64, 32, generator=random), torch.randn(64, 32, generator=random)),
            truth,
            8,
        )
        for _ in range(40)
    ]
    found, expected = recall(np.concatenate(off)), chance(truth, 8)
    assert found["exact"] == pytest.approx(expected["exact"], abs=0.01)
    assert found["within1"] == pytest.approx(expected["within1"], abs=0.03)


def test_truth_moves_to_the_grid_of_the_encoder() -> None:
    """A shift of a quarter of the frame is a quarter at every size."""
    for size_px, patch_px in ((224, 14), (64, 8), (32, 8)):
        shift = np.array([[1, 0, -56], [0, 1, 0], [0, 0, 1]], float)
        side = size_px // patch_px
        truth = truth_on_grid(shift, 224, size_px, patch_px).reshape(side, side)
        quarter = side // 4
        assert (
            truth[:, quarter:] == np.arange(side * side).reshape(side, side)[:, : side - quarter]
        ).all()
        assert (truth[:, :quarter] == -1).all()


def test_bad_input(
    tmp_path: Path, correspondence_task: CorrespondenceTask, encoder: VisionTransformer
) -> None:
    with pytest.raises(BadInput, match=r"toy\.parquet: no such"):
        patch_matching.run(correspondence_task, as_subject(encoder), folders_in(tmp_path))
    write_dataset(tmp_path, 2, split="train")
    with pytest.raises(BadInput, match="validation"):
        patch_matching.run(correspondence_task, as_subject(encoder), folders_in(tmp_path))
    with pytest.raises(BadInput, match="block 9 of an encoder of 4"):
        patch_matching.run(
            correspondence_task.model_copy(update={"block": 9}),
            as_subject(encoder),
            folders_in(tmp_path),
        )
