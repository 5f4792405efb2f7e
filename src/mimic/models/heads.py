"""Heads that turn patch tokens into dense maps or classes.

`ConvNextHead` is the segmentation adapter of the multi-modal MAE line; the linear heads are probes.
Inputs are maps of patch tokens `[batch, width, rows, columns]`; outputs have the pixels of the
image. `dpt_head` holds the dense prediction transformer's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class ConvNextHead(nn.Module):
    """Each token becomes a square of finer cells, refined by ConvNeXt blocks; one 1x1 convolution
    makes the classes.

    Published: ViT-B/16, `head_width=384`, `cell_px=4`, `blocks=4`, 150 classes: 9,588,630
    parameters. No layer scale, no drop path.
    """

    def __init__(
        self, width: int, head_width: int, channels: int, patch_px: int, cell_px: int, blocks: int
    ) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.head_width = head_width
        self.cells = patch_px // cell_px
        self.split = nn.Linear(width, head_width * self.cells**2)
        self.blocks = nn.Sequential(*(ConvNextBlock(head_width) for _ in range(blocks)))
        self.output = nn.Conv2d(head_width, channels, 1)

    def forward(
        self, levels: Sequence[Float[Tensor, "batch width rows columns"]]
    ) -> Float[Tensor, "batch channels height image_width"]:
        """Reads the last level only."""
        tokens = levels[-1].permute(0, 2, 3, 1)
        batch, rows, columns, _ = tokens.shape
        cells = self.split(tokens).reshape(
            batch, rows, columns, self.cells, self.cells, self.head_width
        )
        fine = cells.permute(0, 5, 1, 3, 2, 4).reshape(
            batch, self.head_width, rows * self.cells, columns * self.cells
        )
        return F.interpolate(
            self.output(self.blocks(fine)),
            size=(rows * self.patch_px, columns * self.patch_px),
            mode="bilinear",
            align_corners=False,
        )


class ConvNextBlock(nn.Module):
    """Depth-wise 7x7, LayerNorm over channels, MLP of four times the width, plus the input (Liu et
    al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(
        self, x: Float[Tensor, "batch width rows columns"]
    ) -> Float[Tensor, "batch width rows columns"]:
        """The same grid; normalised over channels, not over places."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.contract(F.gelu(self.expand(y))).permute(0, 3, 1, 2)


class LinearHead(nn.Module):
    """Dense linear probe: batch normalisation and one 1x1 convolution on the last level, enlarged
    to the image."""

    def __init__(self, width: int, channels: int, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.norm = nn.BatchNorm2d(width)
        self.output = nn.Conv2d(width, channels, 1)

    def forward(
        self, levels: Sequence[Float[Tensor, "batch width rows columns"]]
    ) -> Float[Tensor, "batch channels height image_width"]:
        """Reads the last level only; enlarged bilinearly, patch_px times."""
        rows, columns = levels[-1].shape[-2:]
        size = (rows * self.patch_px, columns * self.patch_px)
        return F.interpolate(
            self.output(self.norm(levels[-1])), size=size, mode="bilinear", align_corners=False
        )


class BinsHead(nn.Module):
    """Linear probe of depth: batch normalisation and one 1x1 convolution to weights of bins (relu +
    0.1); depth is their mean, enlarged.

    As the self-distillation line probes depth (DINOv2, DINOv3), after AdaBins with bins of equal
    width.
    """

    centres: Tensor

    def __init__(self, width: int, bins: int, low_m: float, high_m: float, patch_px: int) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.norm = nn.BatchNorm2d(width)
        self.output = nn.Conv2d(width, bins, 1)
        edges = torch.linspace(low_m, high_m, bins + 1)
        self.register_buffer("centres", (edges[:-1] + edges[1:]) / 2)

    def forward(
        self, levels: Sequence[Float[Tensor, "batch width rows columns"]]
    ) -> Float[Tensor, "batch 1 height image_width"]:
        """Reads the last level only. Metres."""
        rows, columns = levels[-1].shape[-2:]
        weights = F.relu(self.output(self.norm(levels[-1]))) + 0.1
        depth = torch.einsum(
            "bnrc,n->brc", weights / weights.sum(dim=1, keepdim=True), self.centres
        )[:, None]
        return F.interpolate(
            depth,
            size=(rows * self.patch_px, columns * self.patch_px),
            mode="bilinear",
            align_corners=False,
        )


class StandardisedLevels(nn.Module):
    """Any dense head, on levels whose channels have mean 0 and deviation 1.

    The residual stream of a vision transformer grows with depth and with training, most of it in
    directions that all patches share: a head's first steps then go into undoing a scale. Batch
    normalisation without parameters makes what a frozen encoder is asked independent of it.
    """

    def __init__(self, head: nn.Module, widths: Sequence[int]) -> None:
        super().__init__()
        self.head = head
        self.norms = nn.ModuleList(
            nn.BatchNorm2d(width, affine=False, eps=1e-6) for width in widths
        )

    def forward(
        self, levels: Sequence[Float[Tensor, "batch _ rows columns"]]
    ) -> Float[Tensor, "batch channels height image_width"]:
        return self.head([norm(x) for norm, x in zip(self.norms, levels, strict=True)])


class ClassifierHead(nn.Module):
    """Linear probe of one feature vector per image: batch normalisation without parameters, then a
    linear layer (MAE, appendix)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6)
        self.output = nn.Linear(width, classes)

    def forward(self, features: Float[Tensor, "batch width"]) -> Float[Tensor, "batch classes"]:
        return self.output(self.norm(features))


class JointHead(nn.Module):
    """The classic decoder of top-down pose (Xiao et al. 2018, ViTPose): a norm, deconvolutions that
    double, one 1x1 convolution a joint.

    Published: `head_width=256`, 16 px patches and 4 px cells, hence two deconvolutions.
    """

    def __init__(
        self, width: int, head_width: int, joints: int, patch_px: int, cell_px: int
    ) -> None:
        super().__init__()
        self.patch_px = patch_px
        self.cell_px = cell_px
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.enlarge = nn.Sequential()
        for index in range(max(0, round(math.log2(patch_px / cell_px)))):
            self.enlarge.append(
                nn.ConvTranspose2d(
                    head_width if index else width, head_width, 4, stride=2, padding=1, bias=False
                )
            )
            self.enlarge.append(nn.BatchNorm2d(head_width))
            self.enlarge.append(nn.ReLU())
        self.output = nn.Conv2d(head_width if len(self.enlarge) else width, joints, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=0.001)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(
        self, levels: Sequence[Float[Tensor, "batch width rows columns"]]
    ) -> Float[Tensor, "batch joints map_rows map_columns"]:
        """Reads the last level only."""
        rows, columns = levels[-1].shape[-2:]
        maps = self.output(self.enlarge(self.norm(levels[-1].movedim(1, -1)).movedim(-1, 1)))
        size = (
            rows * self.patch_px // self.cell_px,
            columns * self.patch_px // self.cell_px,
        )  # other patches than 4, 8, 16 px
        return (
            maps
            if maps.shape[-2:] == size
            else F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
        )


def initialise(head: nn.Module) -> None:
    """The initialisation the published heads effectively get: linear layers Xavier-uniform with
    zero bias, convolutions torch's own."""
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def parameter_count(module: nn.Module) -> int:
    """Parameters that train."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
