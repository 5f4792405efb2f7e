"""Arithmetic of a training step, counted from sizes: 2 for a multiply-add, matrix products only, as
the field counts model FLOPs."""

from __future__ import annotations

from mimic.models.spec import ViTSize

BACKWARD = 2  # forward passes that a backward pass costs
HEAD_NUMBERS = 3  # colours of a predicted pixel


def one_view_flops(size: ViTSize, visible: int) -> float:
    """Forward pass of an image whose visible patches alone are encoded (MAE).

    ViT-B/16 at 224 px: 58.7 GFLOP an image with the backward pass.
    """
    visible_tokens = visible + size.class_token
    tokens = size.patches + size.class_token
    return (
        _embedding(size)
        + size.depth * _block(visible_tokens, size.width)
        + _to_decoder(size, visible_tokens)
        + size.decoder_depth * _block(tokens, size.decoder_width)
        + _prediction(size)
    )


def two_view_flops(size: ViTSize, visible: int) -> float:
    """Forward pass of a pair: view a as above, all of view b, cross-attention (CroCo).

    ViT-B/16 at 224 px as in MIMIC: 160.8 GFLOP a pair with the backward pass.
    """
    visible_tokens = visible + size.class_token
    tokens = size.patches + size.class_token
    decoder_block = _block(tokens, size.decoder_width) + _cross(tokens, size.decoder_width)
    return (
        2 * _embedding(size)
        + size.depth * (_block(visible_tokens, size.width) + _block(tokens, size.width))
        + _to_decoder(size, visible_tokens + tokens)
        + size.decoder_depth * decoder_block
        + _prediction(size)
    )


def one_view_parameters(size: ViTSize) -> int:
    """Trained numbers of an encoder and a decoder of self-attention."""
    return _outside_decoder_blocks(size) + size.decoder_depth * _block_parameters(
        size.decoder_width
    )


def two_view_parameters(size: ViTSize) -> int:
    """The same with cross-attention and two more norms in each block of the decoder."""
    width = size.decoder_width
    cross = 4 * width**2 + 8 * width
    return _outside_decoder_blocks(size) + size.decoder_depth * (_block_parameters(width) + cross)


def _outside_decoder_blocks(size: ViTSize) -> int:
    pixels = HEAD_NUMBERS * size.patch_px**2
    embedding = (pixels + 1) * size.width + int(size.class_token) * size.width
    encoder = embedding + size.depth * _block_parameters(size.width) + 2 * size.width
    to_decoder = (size.width + 2) * size.decoder_width  # with its bias and the mask token
    return encoder + to_decoder + 2 * size.decoder_width + (size.decoder_width + 1) * pixels


def _block_parameters(width: int) -> int:
    return 12 * width**2 + 13 * width


def _embedding(size: ViTSize) -> float:
    return 2.0 * size.patches * HEAD_NUMBERS * size.patch_px**2 * size.width


def _to_decoder(size: ViTSize, tokens: int) -> float:
    return 2.0 * tokens * size.width * size.decoder_width


def _prediction(size: ViTSize) -> float:
    return 2.0 * size.patches * size.decoder_width * HEAD_NUMBERS * size.patch_px**2


def _block(tokens: int, width: int) -> float:
    """Self-attention and MLP: 12 products of width by width a token, and twice tokens by tokens."""
    return 2.0 * tokens * 12 * width**2 + 4.0 * tokens**2 * width


def _cross(tokens: int, width: int) -> float:
    """Cross-attention to as many tokens: four projections, and twice tokens by tokens."""
    return 2.0 * tokens * 4 * width**2 + 4.0 * tokens**2 * width


def training_flops(forward: float) -> float:
    """Forward and backward pass."""
    return (1 + BACKWARD) * forward
