"""Cross-view completion (CroCo v1 and v2, Weinzaepfel et al., 2022 and 2023; MIMIC's variant):
complete view a from a tenth of its patches and the whole of view b, another view of the same
scene."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from mimic.models.objectives.base import Pretraining
from mimic.models.objectives.masking import masked_loss, split
from mimic.models.objectives.matching import matching_loss
from mimic.models.spec import Masking, ViTSize


class CrossViewCompletion(Pretraining):
    """One encoder for both views, and a decoder with cross-attention from view a to view b.

    The published variants differ in numbers only: CroCo v1 has no class token and 20 of 196 patches
    visible, MIMIC a class token in both views and 19 visible, CroCo v2 rotary positions and a
    base-sized decoder.
    """

    views = 2

    def __init__(self, size: ViTSize, masking: Masking, attention: str) -> None:
        super().__init__(size, masking, attention)
        self.matching = masking.matching
        self.temperature = masking.temperature

    def forward(
        self,
        images: Float[Tensor, "b 2 3 h w"],
        noise: Float[Tensor, "b n"],
        matches: Int[Tensor, "b m 2"] | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        """See `Pretraining.forward`: the loss is over the hidden patches of view a.

        Args:
            matches: patches of view a and of view b that show the same, -1 = none; their loss is
                added. None = only pixels count.
        """
        a = images[:, 0]
        b = images[:, 1]
        keep, restore, mask = split(noise, self.visible)
        seen = self.encoder(a, keep)
        memory = self.encoder(b)
        prediction = self.decoder(seen, restore, memory)
        loss = masked_loss(prediction, a, mask, self.encoder.patch_px, norm_pix=self.norm_pix)
        if matches is not None:
            first = int(self.encoder.class_token)
            loss = loss + self.matching * matching_loss(
                seen[:, first:], memory[:, first:], restore, matches, self.temperature
            )
        return loss, prediction, mask
