"""Cross-view completion (CroCo v1 and v2, Weinzaepfel et al., 2022 and 2023; MIMIC's variant):
complete view a from a tenth of its patches and the whole of view b, another view of the same
scene."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from mimic.models.decoder import Decoder
from mimic.models.encoder import VisionTransformer
from mimic.models.masking import masked_loss, split
from mimic.models.matching import matching_loss


class CrossViewCompletion(nn.Module):
    """
    The published variants differ in numbers only: CroCo v1 has no class token and 20 of 196 patches
    visible, MIMIC a class token in both views and 19 visible, CroCo v2 rotary positions and a
    base-sized decoder.

    Args:
        encoder: shared by both views.
        decoder: built with `cross` and the encoder's grid, patch and class token.
        visible: patches of view a left visible, see `masking.visible_count`.
        norm_pix: predict pixels normalised within their patch.
        matching: weight of the loss on matched patches (`matching.matching_loss`), 0 = only pixels
            count.
        temperature: of that loss.
    """

    views = 2

    def __init__(
        self,
        encoder: VisionTransformer,
        decoder: Decoder,
        *,
        visible: int,
        norm_pix: bool,
        matching: float,
        temperature: float,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.visible, self.norm_pix = visible, norm_pix
        self.matching, self.temperature = matching, temperature

    def forward(
        self,
        images: Float[Tensor, "b 2 3 h w"],
        noise: Float[Tensor, "b n"],
        matches: Int[Tensor, "b m 2"] | None = None,
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        """
        Args:
            images: normalised; [:, 0] is the masked view a, [:, 1] the reference view b.
            noise: per patch of view a; the lowest stay visible.
            matches: patches of view a and of view b that show the same, -1 = none; None = only
                pixels count.

        Returns:
            Loss over the hidden patches of view a, plus that on matches; predicted pixels of all
            its patches; mask, 1 = hidden.
        """
        a, b = images[:, 0], images[:, 1]
        keep, restore, mask = split(noise, self.visible)
        seen, memory = self.encoder(a, keep), self.encoder(b)
        prediction = self.decoder(seen, restore, memory)
        loss = masked_loss(prediction, a, mask, self.encoder.patch_px, norm_pix=self.norm_pix)
        if matches is not None:
            first = int(self.encoder.class_token)
            loss = loss + self.matching * matching_loss(
                seen[:, first:], memory[:, first:], restore, matches, self.temperature
            )
        return loss, prediction, mask
