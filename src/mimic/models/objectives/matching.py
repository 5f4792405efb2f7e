"""A loss beside the pixels': a patch of view a that the encoder sees should resemble the patch of
view b that shows the same spot.

InfoNCE within a pair (as in dense contrastive learning, Wang et al., 2021), on the encoder's
tokens, which completion has at hand anyway: for each visible patch of view a with a known partner,
the negatives are all other patches of view b.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from mimic.models.layers import gather


def matching_loss(
    visible: Float[Tensor, "b k c"],
    b: Float[Tensor, "b n c"],
    restore: Int[Tensor, "b n"],
    matches: Int[Tensor, "b m 2"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Mean over pairs of the mean cross-entropy over a pair's matches, in fp32; a pair without any
    adds nothing.

    Args:
        visible: the encoder's tokens of view a's visible patches, in the order of `masking.split`.
        b: the encoder's tokens of all patches of view b.
        restore: place of each patch of view a in the sequence, from `masking.split`.
        matches: patch of view a, patch of view b; -1 where there is none.
        temperature: divides the cosine similarities.
    """
    a_patch, b_patch = matches.clamp(min=0).unbind(-1)
    position = restore.gather(1, a_patch)
    counts = (matches >= 0).all(-1) & (position < visible.shape[1])
    a_token = gather(visible, position.clamp(max=visible.shape[1] - 1))
    similarity = (
        F.normalize(a_token.float(), dim=-1) @ F.normalize(b.float(), dim=-1).mT / temperature
    )
    loss = F.cross_entropy(similarity.flatten(0, 1), b_patch.flatten(), reduction="none").unflatten(
        0, b_patch.shape
    )
    return ((loss * counts).sum(1) / counts.sum(1).clamp(min=1)).mean()


def place_matches(
    correspondences: Int[Tensor, "b p"],
    *,
    mined_grid: tuple[int, int],
    grid: tuple[int, int],
    stored_px: tuple[int, int],
    swap: Bool[Tensor, "b"],
    flip: Bool[Tensor, "b"],
    box: Int[Tensor, "b 2 4"],
) -> Int[Tensor, "b p 2"]:
    """Mined correspondences as the model sees them: views exchanged, cropped and mirrored, on the
    model's own grid.

    Each match is a pair of points, the centres of its patches, and is lost when one of them is
    cropped away.

    Args:
        correspondences: for each patch of the mined view a the patch of view b, -1 = none, row by
        row. mined_grid, grid: patches down and across when it was mined, and of the model.
        stored_px: height and width of the stored images that `box` cuts from.
        swap, flip, box: the step's choices; boxes belong to the views after the exchange.

    Returns:
        Patch of view a, patch of view b; -1, -1 where there is none.
    """
    a = torch.arange(correspondences.shape[1]).expand_as(correspondences)
    b = correspondences.long()
    known = b >= 0
    pair = torch.stack(
        [torch.where(swap[:, None], b, a), torch.where(swap[:, None], a, b)], dim=-1
    ).clamp(min=0)
    index = torch.zeros_like(pair)
    for axis in (0, 1):
        coordinate = pair // mined_grid[1] if axis == 0 else pair % mined_grid[1]
        pixel = (coordinate + 0.5) / mined_grid[axis] * stored_px[axis]
        share = (pixel - box[:, None, :, axis]) / box[:, None, :, 2 + axis]
        if axis == 1:
            share = torch.where(flip[:, None, None], 1 - share, share)
        known = known & ((share >= 0) & (share < 1)).all(-1)
        index = index * grid[axis] + (share * grid[axis]).long().clamp(0, grid[axis] - 1)
    return torch.where(known[..., None], index, -1)
