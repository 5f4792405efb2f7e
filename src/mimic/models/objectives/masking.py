"""Hiding patches and measuring how well they were predicted. The noise is an argument, so nothing
here is random."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def split(
    noise: Float[Tensor, "b n"], visible: int
) -> tuple[Int[Tensor, "b visible"], Int[Tensor, "b n"], Float[Tensor, "b n"]]:
    """Show the patches of lowest noise.

    Returns:
        keep: indices of the visible patches.
        restore: place of each patch in the sequence (visible ones in the order of `keep`, then
            hidden ones).
        mask: 1 where a patch is hidden, 0 where it is visible.
    """
    order = noise.argsort(dim=1, stable=True)
    restore = order.argsort(dim=1)
    return order[:, :visible], restore, (restore >= visible).to(noise.dtype)


def patchify(images: Float[Tensor, "b 3 h w"], patch_px: int) -> Float[Tensor, "b n d"]:
    """Pixels of each patch as a vector, in the order row, column, channel; patches row by row."""
    b, _, h, w = images.shape
    x = images.reshape(b, 3, h // patch_px, patch_px, w // patch_px, patch_px)
    return x.permute(0, 2, 4, 3, 5, 1).reshape(b, -1, patch_px * patch_px * 3)


def unpatchify(
    patches: Float[Tensor, "b n d"], patch_px: int, grid: tuple[int, int]
) -> Float[Tensor, "b 3 h w"]:
    """The inverse of `patchify`; `grid` is patches down and across."""
    x = patches.reshape(len(patches), *grid, patch_px, patch_px, 3)
    return x.permute(0, 5, 1, 3, 2, 4).reshape(
        len(patches), 3, grid[0] * patch_px, grid[1] * patch_px
    )


def patch_statistics(
    patches: Float[Tensor, "b n d"],
) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
    """Mean and deviation of each patch, over pixels and channels, with the unbiased variance +
    1e-6."""
    return patches.mean(-1, keepdim=True), (
        patches.var(-1, keepdim=True, unbiased=True) + 1e-6
    ).sqrt()


def masked_loss(
    prediction: Float[Tensor, "b n d"],
    images: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b n"],
    patch_px: int,
    *,
    norm_pix: bool,
) -> Float[Tensor, ""]:
    """Mean squared error over the pixels of the hidden patches, in fp32.

    Args:
        norm_pix: compare with pixels normalised within their patch.
    """
    target = patchify(images.float(), patch_px)
    if norm_pix:
        mean, deviation = patch_statistics(target)
        target = (target - mean) / deviation
    error = (prediction.float() - target).square().mean(-1)
    return (error * mask).sum() / mask.sum()


def paste(
    prediction: Float[Tensor, "b n d"],
    images: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b n"],
    patch_px: int,
    *,
    norm_pix: bool,
) -> tuple[Float[Tensor, "b 3 h w"], Float[Tensor, "b 3 h w"]]:
    """For display: the image with its hidden patches blank (0, mid grey), and with the prediction
    pasted into them.

    Normalised predictions have lost each patch's mean and deviation: the true patch's are given
    back to them.
    """
    grid = (images.shape[-2] // patch_px, images.shape[-1] // patch_px)
    target = patchify(images.float(), patch_px)
    prediction = prediction.float()
    if norm_pix:
        mean, deviation = patch_statistics(target)
        prediction = prediction * deviation + mean
    hidden = mask[..., None]
    blank = target * (1 - hidden)
    filled = torch.where(hidden > 0, prediction, target)
    return unpatchify(blank, patch_px, grid), unpatchify(filled, patch_px, grid)
