"""One family of models: a vision transformer encoder, and the two objectives that pretrain it.
Arrays and numbers in, arrays out."""

from __future__ import annotations

from typing import Literal

from mimic.models.croco import CrossViewCompletion
from mimic.models.decoder import Decoder
from mimic.models.encoder import Encoder, Positions, VisionTransformer
from mimic.models.layers import ROPE_BASE, initialise
from mimic.models.mae import MaskedAutoencoder
from mimic.models.masking import Rounding, visible_count

Objective = Literal["mae", "croco"]
Pretraining = MaskedAutoencoder | CrossViewCompletion


def build(
    objective: Objective,
    *,
    size_px: tuple[int, int],
    patch_px: int,
    width: int,
    depth: int,
    heads: int,
    decoder_width: int,
    decoder_depth: int,
    decoder_heads: int,
    class_token: bool,
    positions: Positions,
    norm_eps: float,
    attention: str,
    mask_ratio: float,
    visible_rounding: Rounding,
    norm_pix: bool,
    matching: float = 0.0,
    temperature: float = 1.0,
    rope_base: float = ROPE_BASE,
) -> Pretraining:
    """A model to pretrain, with torch's default weights until `initialise` or `load_state_dict`.

    Raises:
        ValueError: sizes that do not divide, matching without a second view, or a mask ratio that
            hides all patches or none.
    """
    encoder = VisionTransformer(
        size_px=size_px,
        patch_px=patch_px,
        width=width,
        depth=depth,
        heads=heads,
        class_token=class_token,
        positions=positions,
        norm_eps=norm_eps,
        attention=attention,
        rope_base=rope_base,
    )
    decoder = Decoder(
        grid=encoder.grid,
        patch_px=patch_px,
        encoder_width=width,
        width=decoder_width,
        depth=decoder_depth,
        heads=decoder_heads,
        class_token=class_token,
        cross=objective == "croco",
        positions=positions,
        norm_eps=norm_eps,
        attention=attention,
        rope_base=rope_base,
    )
    visible = visible_count(encoder.grid[0] * encoder.grid[1], mask_ratio, visible_rounding)
    match objective:
        case "mae":
            if matching:
                raise ValueError("matching needs two views; the objective mae has one")
            return MaskedAutoencoder(encoder, decoder, visible=visible, norm_pix=norm_pix)
        case "croco":
            return CrossViewCompletion(
                encoder,
                decoder,
                visible=visible,
                norm_pix=norm_pix,
                matching=matching,
                temperature=temperature,
            )
