"""Siamese masked autoencoding (SiamMAE, Gupta et al., NeurIPS 2023): complete a future frame from a
twentieth of its patches and the whole of a past frame of the same video.

It is cross-view completion with four differences:

- Time has a direction. The whole reference is the past frame and the masked view the future one.
  Pairs are stored with the earlier view as a, so every pair must change roles before it comes here:
  `augment.swap: 1.0` in the recipe. Pairs that have no time (scenes, sets of photographs) train as
  well, but it is not the published objective.
- 95 % of the future frame is hidden (section 3, masking), 187 of 196 patches: `mask_ratio: 0.95`,
  rounded down.
- A decoder block attends to the past frame first and within the future frame second: the
  "cross-self" decoder (section 3, decoder), the best of three in the paper's ablation.
- There is no loss on correspondences.

As in the paper, both frames pass one encoder with the same two-dimensional positions and nothing
that tells the time apart (section 3, patchify), and the loss is the squared error of pixels
normalised within their patch, over hidden patches.

The authors have published no code. Open, and decided here as CroCo's block has it: an MLP closes
every block, norms come before each part, and the past frame's tokens are normalised in each block
and never updated. The paper builds on MAE's code, whose class token and sizes of the decoder (512
wide, 8 deep) the recipe takes; frames are 4 to 48 apart at 30 a second and one past frame is used
with two future ones ("repeated sampling"), which a mined pair is not.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mimic.models.layers import CrossBlock
from mimic.models.objectives.croco import CrossViewCompletion
from mimic.models.spec import Masking, ViTSize


class CrossSelfBlock(CrossBlock):
    """Attention to the past frame, then self-attention, then an MLP; weights are named as CroCo's,
    whose block attends to itself first."""

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        memory: Float[Tensor, "b s c"],
        rope: Float[Tensor, "2 1 t d"] | None,
    ) -> Float[Tensor, "b t c"]:
        """Both frames lie on the same grid, so `rope` serves the queries and the memory."""
        x = x + self.cross_attn(self.norm2(x), self.norm_y(memory), rope, rope)
        x = x + self.attn(self.norm1(x), rope)
        return x + self.mlp(self.norm3(x))

    def cross_weights(
        self,
        x: Float[Tensor, "b t c"],
        memory: Float[Tensor, "b s c"],
        rope: Float[Tensor, "2 1 t d"] | None,
    ) -> Float[Tensor, "b heads t s"]:
        """How much each token of the future frame attends to each of the past one."""
        return self.cross_attn.weights(self.norm2(x), self.norm_y(memory), rope, rope)


class SiameseAutoencoder(CrossViewCompletion):
    """Cross-view completion with cross-self blocks: view a is the future frame, b the past one.

    Raises:
        ValueError: a loss on correspondences is asked for.
    """

    def __init__(self, size: ViTSize, masking: Masking, attention: str) -> None:
        if masking.matching:
            raise ValueError("the objective siamese has no loss on correspondences: matching is 0")
        super().__init__(size, masking, attention)
        self.decoder.blocks = nn.ModuleList(
            CrossSelfBlock(size.decoder_width, size.decoder_heads, size.norm_eps, attention)
            for _ in range(size.decoder_depth)
        )
