"""The dense prediction transformer's head (Ranftl et al. 2021), as the multi-modal MAE line
fine-tunes it.

Input: maps of patch tokens `[batch, width, rows, columns]`; output: the pixels of the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FINEST_PX = 4  # the levels' cells are 4, 8, 16 and 32 px wide, as near as powers of two come
# Width of the four levels per head width: 96, 192, 384, 768 at 256.
LEVEL_SHARES = (0.375, 0.75, 1.5, 3.0)


class DptHead(nn.Module):
    """Four levels of tokens, fused from deep to shallow, to a map of `channels` at the image's
    resolution.

    Every width is a share of `head_width`: the published head is `head_width=256`, 20,065,921
    parameters for one channel of ViT-B/16.

    Args:
        width: channels of the tokens; a list where levels differ.
        head_width: channels of the fusion path; a multiple of 8.
        channels: channels of the output.
        patch_px: side of a patch; the output of an h x w token map is h * patch_px by w * patch_px.
    """

    def __init__(
        self, width: int | list[int], head_width: int, channels: int, patch_px: int
    ) -> None:
        super().__init__()
        self.patch_px = patch_px
        widths = [width] * len(LEVEL_SHARES) if isinstance(width, int) else width
        level_widths = [int(share * head_width) for share in LEVEL_SHARES]
        finest = 2.0 ** round(math.log2(patch_px / FINEST_PX))
        self.levels = nn.ModuleList(
            _level(tokens, level, finest / 2**index)
            for index, (tokens, level) in enumerate(zip(widths, level_widths, strict=True))
        )
        self.projections = nn.ModuleList(
            nn.Conv2d(level_width, head_width, 3, padding=1, bias=False)
            for level_width in level_widths
        )
        # The deepest block has nothing to fuse with; its `skip` stays unused, as published, so that
        # parameter counts agree.
        self.fusions = nn.ModuleList(Fusion(head_width) for _ in level_widths)
        self.reduce = nn.Conv2d(head_width, head_width // 2, 3, padding=1)
        self.output = nn.Sequential(
            nn.Conv2d(head_width // 2, head_width // 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(head_width // 8, channels, 1),
        )

    def forward(
        self, levels: Sequence[Float[Tensor, "batch _ rows columns"]]
    ) -> Float[Tensor, "batch channels height image_width"]:
        """Of four levels on one grid, from shallow to deep; the map is patch_px times as large."""
        rows, columns = levels[0].shape[-2:]
        maps = [
            project(scale(tokens))
            for project, scale, tokens in zip(self.projections, self.levels, levels, strict=True)
        ]
        fused: Tensor | None = None
        for index in reversed(range(len(maps))):
            finer = (
                maps[index - 1].shape[-2:]
                if index
                else tuple(2 * side for side in maps[0].shape[-2:])
            )
            fused = self.fusions[index](maps[index], fused, finer)
        assert fused is not None
        # The fusion path ends at twice the finest level, half the image: the rest is bilinear.
        full = _resize(self.reduce(fused), (rows * self.patch_px, columns * self.patch_px))
        return self.output(full)


class Fusion(nn.Module):
    """Add the refined skip to what comes from below, refine, enlarge, mix channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.skip = ResidualUnit(width)
        self.refine = ResidualUnit(width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(
        self,
        level: Float[Tensor, "batch width rows columns"],
        deeper: Float[Tensor, "batch width rows columns"] | None,
        size: tuple[int, int],
    ) -> Float[Tensor, "batch width finer_rows finer_columns"]:
        """Fuse a level with what comes from the deeper ones (None: it is the deepest).

        Args:
            size: height and width of the next finer level.
        """
        joined = level if deeper is None else deeper + self.skip(level)
        return self.mix(_resize(self.refine(joined), size))


class ResidualUnit(nn.Module):
    """ReLU, 3x3, ReLU, 3x3, plus the input; no normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "batch width rows columns"]
    ) -> Float[Tensor, "batch width rows columns"]:
        return x + self.second(F.relu(self.first(F.relu(x))))


def _level(width: int, level_width: int, scale: float) -> nn.Sequential:
    """Tokens to a level of `scale` cells a patch and direction; a power of two."""
    project = nn.Conv2d(width, level_width, 1)
    if scale > 1:
        return nn.Sequential(
            project, nn.ConvTranspose2d(level_width, level_width, int(scale), stride=int(scale))
        )
    if scale < 1:
        return nn.Sequential(
            project, nn.Conv2d(level_width, level_width, 3, stride=round(1 / scale), padding=1)
        )
    return nn.Sequential(project)


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
