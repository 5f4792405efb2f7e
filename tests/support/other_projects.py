"""Models of other projects, written here from what is public of them: their keys, the order of
their computations, their rules of loading. Nothing of `mimic` is used, so that equal features mean
equal models."""

from __future__ import annotations

import math
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Rope:
    """Rotary positions as complex numbers: half of a head turns with the row, half with the column;
    channels k and k + d/4 are the real and the imaginary part of one number."""

    def __init__(self, base: float) -> None:
        self.base = base

    def __call__(self, x: Tensor, places: Tensor) -> Tensor:
        """Heads [b, h, n, d] turned by places [n, 2] (row, column)."""
        halves = x.double().chunk(2, dim=-1)
        return torch.cat(
            [self._turned(half, places[:, axis]) for axis, half in enumerate(halves)], dim=-1
        ).to(x.dtype)

    def _turned(self, half: Tensor, place: Tensor) -> Tensor:
        real, imaginary = half.chunk(2, dim=-1)
        count = real.shape[-1]
        turn = place.double()[:, None] / self.base ** (torch.arange(count).double() / count)
        moved = torch.complex(real, imaginary) * torch.polar(torch.ones_like(turn), turn)
        return torch.cat([moved.real, moved.imag], dim=-1)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, rope: Rope | None) -> None:
        super().__init__()
        self.heads = heads
        self.rope = rope
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, places: Tensor | None) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).movedim(2, 0).transpose(2, 3)
        if self.rope is not None and places is not None:
            q = self.rope(q, places)
            k = self.rope(k, places)
        return self.proj(attended(q, k, v))


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int, rope: Rope | None) -> None:
        super().__init__()
        self.heads = heads
        self.rope = rope
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, places: Tensor | None) -> Tensor:
        q, k, v = (
            project(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, tokens in ((self.projq, x), (self.projk, memory), (self.projv, memory))
        )
        if self.rope is not None and places is not None:
            q = self.rope(q, places)
            k = self.rope(k, places)
        return self.proj(attended(q, k, v))


class Block(nn.Module):
    def __init__(self, width: int, heads: int, rope: Rope | None, norm: Any) -> None:
        super().__init__()
        self.norm1 = norm(width)
        self.attn = Attention(width, heads, rope)
        self.norm2 = norm(width)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, places: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm1(x), places)
        return x + self.mlp(self.norm2(x))


class DecoderBlock(Block):
    def __init__(self, width: int, heads: int, rope: Rope | None, norm: Any) -> None:
        super().__init__(width, heads, rope, norm)
        self.cross_attn = CrossAttention(width, heads, rope)
        self.norm3 = norm(width)
        self.norm_y = norm(width)

    def decoded(self, x: Tensor, memory: Tensor, places: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm1(x), places)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(memory), places)
        return x + self.mlp(self.norm3(x))


class Patches(nn.Module):
    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens, and the place of each (row, column)."""
        x = self.proj(images)
        rows, columns = (torch.arange(side) for side in x.shape[-2:])
        return x.flatten(2).transpose(1, 2), torch.cartesian_prod(rows, columns)


def norm6(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, eps=1e-6)


class CroCoNet(nn.Module):
    """naver/croco, v1 ("cosine") and v2 ("RoPE100")."""

    def __init__(
        self,
        img_size: Any = 224,
        patch_size: int = 16,
        mask_ratio: float = 0.9,
        enc_embed_dim: int = 768,
        enc_depth: int = 12,
        enc_num_heads: int = 12,
        dec_embed_dim: int = 512,
        dec_depth: int = 8,
        dec_num_heads: int = 16,
        pos_embed: str = "cosine",
    ) -> None:
        super().__init__()
        sides = (img_size, img_size) if isinstance(img_size, int) else img_size
        count = (sides[0] // patch_size) * (sides[1] // patch_size)
        rope = None
        if pos_embed == "cosine":
            self.register_buffer("enc_pos_embed", torch.zeros(count, enc_embed_dim))
            self.register_buffer("dec_pos_embed", torch.zeros(count, dec_embed_dim))
        else:
            self.enc_pos_embed = self.dec_pos_embed = None
            rope = Rope(float(pos_embed.removeprefix("RoPE")))
        self.rope = rope
        self.dec_heads = dec_num_heads
        self.patch_embed = Patches(patch_size, enc_embed_dim)
        self.enc_blocks = nn.ModuleList(
            Block(enc_embed_dim, enc_num_heads, rope, norm6) for _ in range(enc_depth)
        )
        self.enc_norm = norm6(enc_embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dec_embed_dim))
        self.decoder_embed = nn.Linear(enc_embed_dim, dec_embed_dim)
        self.dec_blocks = nn.ModuleList(
            DecoderBlock(dec_embed_dim, dec_num_heads, rope, norm6) for _ in range(dec_depth)
        )
        self.dec_norm = norm6(dec_embed_dim)
        self._set_prediction_head(dec_embed_dim, patch_size)

    def _set_prediction_head(self, width: int, patch: int) -> None:
        self.prediction_head = nn.Linear(width, 3 * patch * patch)

    def features(self, images: Tensor) -> Tensor:
        """What its encoder makes of a whole image."""
        x, places = self.patch_embed(images)
        if self.enc_pos_embed is not None:
            x = x + self.enc_pos_embed
        for block in self.enc_blocks:
            x = block(x, places)
        return self.enc_norm(x)

    def completed(self, images: Tensor, other: Tensor) -> Tensor:
        """What its decoder makes of two whole images."""
        _, places = self.patch_embed(images)
        x = self.decoder_embed(self.features(images))
        memory = self.decoder_embed(self.features(other))
        if self.dec_pos_embed is not None:
            x = x + self.dec_pos_embed
            memory = memory + self.dec_pos_embed
        for block in self.dec_blocks:
            assert isinstance(block, DecoderBlock)
            x = block.decoded(x, memory, places)
        return self.dec_norm(x)


class AsymmetricCroCo3DStereo(CroCoNet):
    """naver/dust3r: no prediction of pixels, a second decoder that starts as a copy, heads."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        assert self.enc_pos_embed is None, "it has no place for tables of positions"
        width = self.dec_norm.normalized_shape[0]
        self.dec_blocks2 = nn.ModuleList(
            DecoderBlock(width, self.dec_heads, self.rope, norm6) for _ in self.dec_blocks
        )
        self.downstream_head1 = nn.Linear(width, 8)
        self.downstream_head2 = nn.Linear(width, 8)

    def _set_prediction_head(self, width: int, patch: int) -> None:
        pass

    def load_state_dict(  # type: ignore[override]
        self, weights: Any, *words: Any, **named: Any
    ) -> Any:
        """Where the second decoder is missing, the first one's weights are its start."""
        twins = {}
        if not any(key.startswith("dec_blocks2") for key in weights):
            twins = {
                f"dec_blocks2{key.removeprefix('dec_blocks')}": value
                for key, value in weights.items()
                if key.startswith("dec_blocks")
            }
        self.loaded = super().load_state_dict(dict(weights) | twins, *words, **named)
        return self.loaded


class MaskedAutoencoderViT(nn.Module):
    """facebookresearch/mae."""

    def __init__(
        self,
        img_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 1024,
        depth: int = 24,
        num_heads: int = 16,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        norm_layer: Any = nn.LayerNorm,
        norm_pix_loss: bool = False,
    ) -> None:
        super().__init__()
        count = (img_size // patch_size) ** 2
        self.norm_pix_loss = norm_pix_loss
        self.patch_embed = Patches(patch_size, embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, count + 1, embed_dim))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, None, norm_layer) for _ in range(depth)
        )
        self.norm = norm_layer(embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_embed_dim))
        self.decoder_embed = nn.Linear(embed_dim, decoder_embed_dim)
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, count + 1, decoder_embed_dim))
        self.decoder_blocks = nn.ModuleList(
            Block(decoder_embed_dim, decoder_num_heads, None, norm_layer)
            for _ in range(decoder_depth)
        )
        self.decoder_norm = norm_layer(decoder_embed_dim)
        self.decoder_pred = nn.Linear(decoder_embed_dim, 3 * patch_size**2)

    def features(self, images: Tensor) -> Tensor:
        """Nothing hidden, the class token first."""
        x = self.patch_embed(images)[0] + self.pos_embed[:, 1:]
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        x = torch.cat([first, x], dim=1)
        for block in self.blocks:
            x = block(x, None)
        return self.norm(x)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make these projects importable under their own names."""
    for package, module, content in (
        ("models", "croco", CroCoNet),
        ("dust3r", "model", AsymmetricCroCo3DStereo),
    ):
        parent = types.ModuleType(package)
        child = types.ModuleType(f"{package}.{module}")
        setattr(child, content.__name__, content)
        setattr(parent, module, child)
        monkeypatch.setitem(sys.modules, package, parent)
        monkeypatch.setitem(sys.modules, child.__name__, child)
    mae = types.ModuleType("models_mae")
    mae.MaskedAutoencoderViT = MaskedAutoencoderViT  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "models_mae", mae)
