"""What every pretraining objective has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from mimic.models.decoder import Decoder
from mimic.models.encoder import VisionTransformer
from mimic.models.spec import Masking, ViTSize, visible_count


class Pretraining(nn.Module, ABC):
    """An encoder and the decoder it is pretrained with: view a, partly hidden, is completed.

    Args:
        size: of the encoder and the decoder.
        masking: what is hidden and how the prediction is measured.
        attention: see `layers.attend`.

    Raises:
        ValueError: sizes that do not divide, or a mask ratio that hides all patches or none.
    """

    views: ClassVar[int]  # images of a sample: 2 = a pair

    def __init__(self, size: ViTSize, masking: Masking, attention: str) -> None:
        super().__init__()
        self.encoder = VisionTransformer(size, attention=attention)
        self.decoder = Decoder(size, cross=self.views > 1, attention=attention)
        self.visible = visible_count(size.patches, masking.mask_ratio, masking.visible_rounding)
        self.norm_pix = masking.norm_pix

    @abstractmethod
    def forward(
        self,
        images: Float[Tensor, "b v 3 h w"],
        noise: Float[Tensor, "b n"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b n d"], Float[Tensor, "b n"]]:
        """
        Args:
            images: normalised; [:, 0] is the masked view a, [:, 1], if there is one, the reference
                view b.
            noise: per patch of view a; the lowest stay visible.

        Returns:
            Loss, predicted pixels of all patches of view a, mask (1 = hidden).
        """
