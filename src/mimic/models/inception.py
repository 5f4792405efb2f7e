"""The network behind FID: Inception-v3 as ported from TensorFlow's graph of 2015-12-05, up to its
third pool.

The weights carry torchvision's names, with 1008 classes. Three things differ from torchvision's
network: averages at the border leave the padding out, the last block pools by maximum, and images
come as -1..1 at 299 px.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torchvision.models import inception

SIZE_PX = 299
WIDTH = 2048  # of the features
CLASSES = 1008


class _A(inception.InceptionA):
    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_average(x))], dim=1)


class _C(inception.InceptionC):
    def forward(self, x: Tensor) -> Tensor:
        once = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), once, twice, self.branch_pool(_average(x))], dim=1)


class _E(inception.InceptionE):
    def forward(self, x: Tensor) -> Tensor:
        once = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        wide = self.branch3x3_2a(once)
        high = self.branch3x3_2b(once)
        wider = self.branch3x3dbl_3a(twice)
        higher = self.branch3x3dbl_3b(twice)
        return torch.cat(
            [self.branch1x1(x), wide, high, wider, higher, self.branch_pool(self.pooled(x))], dim=1
        )

    def pooled(self, x: Tensor) -> Tensor:
        return _average(x)


class _LastE(_E):
    def pooled(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, kernel_size=3, stride=1, padding=1)


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)


class FidInception(inception.Inception3):
    """Images to 2048 features each. Its weights are a file; until one is loaded they are random,
    and no distance on them is an FID."""

    def __init__(self) -> None:
        blocks = [
            inception.BasicConv2d,
            _A,
            inception.InceptionB,
            _C,
            inception.InceptionD,
            _E,
            inception.InceptionAux,
        ]
        super().__init__(
            CLASSES,
            aux_logits=False,
            transform_input=False,
            inception_blocks=blocks,
            init_weights=False,
        )
        self.Mixed_7c = _LastE(WIDTH)

    def forward(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """
        Args:
            x: of `as_input`.
        """
        for name, module in self.named_children():
            if name == "dropout":  # what follows tells the classes
                break
            x = module(x)
        return x.flatten(1)


def as_input(images: UInt8[Tensor, "b h w 3"]) -> Float[Tensor, "b 3 299 299"]:
    """RGB bytes, enlarged bilinearly (pixel centres at halves, no antialiasing), as -1..1."""
    x = images.movedim(-1, 1).float() / 255
    return 2 * F.interpolate(x, size=(SIZE_PX, SIZE_PX), mode="bilinear", align_corners=False) - 1


def complete(weights: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Old files lack the counters of batch normalisation, which nothing here reads: they are
    added."""
    counters = {
        key: value
        for key, value in network.state_dict().items()
        if key.endswith("num_batches_tracked")
    }
    return {**counters, **weights}
