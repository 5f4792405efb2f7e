"""Cross-view completion (CroCo v1 and v2, Weinzaepfel et al., 2022 and 2023; MIMIC's variant): complete view a from a tenth of its patches
and the whole of view b, another view of the same scene."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mimic.models.decoder import Decoder
from mimic.models.encoder import VisionTransformer
from mimic.models.masking import masked_loss, split


class CrossViewCompletion(nn.Module):
    """
    The published variants differ in numbers only: CroCo v1 has no class token and 20 of 196 patches visible, MIMIC a class token in both
    views and 19 visible, CroCo v2 rotary positions and a base-sized decoder.

    Args:
        encoder: shared by both views.
        decoder: built with `cross` and the encoder's grid, patch and class token.
        visible: patches of view a left visible, see `masking.visible_count`.
        norm_pix: predict pixels normalised within their patch.
    """

    views = 2

    def __init__(self, encoder: VisionTransformer, decoder: Decoder, *, visible: int, norm_pix: bool) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.visible, self.norm_pix = visible, norm_pix

    def forward(
        self, images: Float[Tensor, "b 2 3 h w"], noise: Float[Tensor, "b n"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        """
        Args:
            images: normalised; [:, 0] is the masked view a, [:, 1] the reference view b.
            noise: per patch of view a; the lowest stay visible.

        Returns:
            Loss over the hidden patches of view a, predicted pixels of all its patches, mask (1 = hidden).
        """
        a, b = images[:, 0], images[:, 1]
        keep, restore, mask = split(noise, self.visible)
        prediction = self.decoder(self.encoder(a, keep), restore, self.encoder(b))
        return masked_loss(prediction, a, mask, self.encoder.patch_px, norm_pix=self.norm_pix), prediction, mask
