"""Masked autoencoder (He et al., 2022): complete an image from a quarter of its own patches."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from mimic.models.objectives.base import Pretraining
from mimic.models.objectives.masking import masked_loss, split


class MaskedAutoencoder(Pretraining):
    """One view, completed from its own visible patches."""

    views = 1

    def forward(
        self,
        images: Float[Tensor, "b 1 3 h w"],
        noise: Float[Tensor, "b n"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        """See `Pretraining.forward`: the loss is over the hidden patches."""
        image = images[:, 0]
        keep, restore, mask = split(noise, self.visible)
        prediction = self.decoder(self.encoder(image, keep), restore, None)
        return (
            masked_loss(prediction, image, mask, self.encoder.patch_px, norm_pix=self.norm_pix),
            prediction,
            mask,
        )
