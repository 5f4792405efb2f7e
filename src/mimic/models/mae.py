"""Masked autoencoder (He et al., 2022): complete an image from a quarter of its own patches."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from mimic.models.decoder import Decoder
from mimic.models.encoder import VisionTransformer
from mimic.models.masking import masked_loss, split


class MaskedAutoencoder(nn.Module):
    """
    Args:
        encoder, decoder: built with the same grid, patch and class token; the decoder without
        `cross`.
        visible: patches left visible, see `masking.visible_count`.
        norm_pix: predict pixels normalised within their patch.
    """

    views = 1

    def __init__(
        self, encoder: VisionTransformer, decoder: Decoder, *, visible: int, norm_pix: bool
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.visible, self.norm_pix = visible, norm_pix

    def forward(
        self, images: Float[Tensor, "b 1 3 h w"], noise: Float[Tensor, "b n"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        """
        Args:
            images: normalised; a batch of single views.
            noise: per patch; the lowest stay visible.

        Returns:
            Loss over hidden patches, predicted pixels of all patches, mask (1 = hidden).
        """
        image = images[:, 0]
        keep, restore, mask = split(noise, self.visible)
        prediction = self.decoder(self.encoder(image, keep), restore, None)
        return (
            masked_loss(prediction, image, mask, self.encoder.patch_px, norm_pix=self.norm_pix),
            prediction,
            mask,
        )
