"""Transformer layers of the MAE and CroCo family: positions, attention, blocks. Names follow
timm's, so weights do too."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mimic.models.spec import ROPE_BASE, ViTSize

MLP_RATIO = 4  # of every model of the family, tiny to ViT-L
KERNELS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
BACKENDS = ("auto", "sdpa", "manual", *KERNELS)


# Of a table that went through bfloat16, whose step below 1 is 2^-8; grids differ by more than 0.1.
TABLE_TOLERANCE = 5e-3


def sincos_table(grid: tuple[int, int], width: int, *, class_token: bool) -> Float[Tensor, "1 t c"]:
    """Fixed 2-D sine-cosine positions (MAE): the first half of the channels encodes the column, the
    second the row.

    Args:
        grid: patches per column and per row, (h, w).
        width: channels, a multiple of 4.
        class_token: put a row of zeros first.

    Raises:
        ValueError: 4 does not divide the width.
    """
    if width % 4:
        raise ValueError(f"sine-cosine positions need a width that 4 divides, not {width}")
    frequency = 1.0 / 10000.0 ** (np.arange(width // 4) / (width / 4))
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    parts = [
        wave(coordinate[:, None] * frequency)
        for coordinate in (column, row)
        for wave in (np.sin, np.cos)
    ]
    table = np.concatenate(parts, axis=1).astype(np.float32)
    if class_token:
        table = np.concatenate([np.zeros((1, width), np.float32), table])
    return torch.tensor(table)[None]


def fixed_positions(size: ViTSize, width: int) -> nn.Parameter | None:
    """The table that tokens of `width` channels start with; None for rotary positions.

    A parameter without gradient: it is saved, resampled and, if a fine-tuning wants it, trained.
    """
    if size.positions != "sincos":
        return None
    table = sincos_table(size.grid, width, class_token=size.class_token)
    return nn.Parameter(table, requires_grad=False)


def resample_positions(
    positions: Float[Tensor, "1 n c"], grid: tuple[int, int], target: tuple[int, int]
) -> Float[Tensor, "1 m c"]:
    """Patch positions of one grid (h, w) interpolated to another: bicubic, no antialiasing, in
    fp32."""
    if grid == target:
        return positions
    image = positions.float().reshape(1, *grid, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, target, mode="bicubic", antialias=False, align_corners=False)
    return image.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)


def rope_table(
    grid: tuple[int, int],
    head_width: int,
    device: torch.device,
    *,
    class_token: bool,
    base: float = ROPE_BASE,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "2 1 t d"]:
    """Cosines and sines of the 2-D rotary positions of CroCo v2.

    The first half of a head turns with the row, the second with the column. Within a half of d
    channels, channels k and k + d/2 form a plane that turns by place * base ** (-2k / d). The class
    token, if there is one, is not turned.

    Args:
        dtype: of the tokens; the table is never coarser than fp32.

    Raises:
        ValueError: 4 does not divide the head width.
    """
    if head_width % 4:
        raise ValueError(f"rotary positions need a head width that 4 divides, not {head_width}")
    half = head_width // 2
    fine = torch.promote_types(dtype, torch.float32)
    frequency = base ** (-torch.arange(0, half, 2, device=device, dtype=fine) / half)
    index = torch.arange(grid[0] * grid[1], device=device)
    turns = [
        torch.outer(coordinate.to(fine), frequency)
        for coordinate in (index // grid[1], index % grid[1])
    ]
    angle = torch.cat([turns[0], turns[0], turns[1], turns[1]], dim=1)
    if class_token:
        angle = F.pad(angle, (0, 0, 1, 0))
    return torch.stack([angle.cos(), angle.sin()])[:, None]


def rotate(
    x: Float[Tensor, "b heads t d"], rope: Float[Tensor, "2 b1 t d"]
) -> Float[Tensor, "b heads t d"]:
    """Turn queries or keys by their rotary positions."""
    cosine, sine = rope[:, :, None]
    row_1, row_2, column_1, column_2 = x.chunk(4, dim=-1)
    turned = torch.cat([-row_2, row_1, -column_2, column_1], dim=-1)
    return (x * cosine + turned * sine).to(x.dtype)


def gather(tokens: Float[Tensor, "... n c"], index: Int[Tensor, "b k"]) -> Float[Tensor, "... k c"]:
    """tokens[..., b, index[b], :]; a batch of one is shared by all rows of `index`."""
    tokens = tokens.expand(*tokens.shape[:-3], len(index), -1, -1)
    return tokens.gather(-2, index[..., None].expand(*tokens.shape[:-2], -1, tokens.shape[-1]))


def attend(
    q: Float[Tensor, "b heads t d"],
    k: Float[Tensor, "b heads s d"],
    v: Float[Tensor, "b heads s d"],
    backend: str,
) -> Float[Tensor, "b heads t d"]:
    """Scaled dot-product attention.

    Args:
        backend: "sdpa" is torch's fused kernel, "manual" two matrix products and a softmax. "auto"
            takes manual for bf16 on a CPU, where sdpa's backward is slower (measured once, with
            AVX512-BF16), and sdpa everywhere else. A name of KERNELS is that kernel of sdpa and no
            other; torch raises RuntimeError where it cannot run.
    """
    if backend == "manual" or (
        backend == "auto" and q.device.type == "cpu" and q.dtype == torch.bfloat16
    ):
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        return weights.softmax(dim=-1).to(v.dtype) @ v
    if backend in KERNELS:
        with sdpa_kernel(KERNELS[backend]):
            return F.scaled_dot_product_attention(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int, backend: str) -> None:
        super().__init__()
        self.heads = heads
        self.backend = backend
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b t c"], rope: Float[Tensor, "2 b1 t d"] | None
    ) -> Float[Tensor, "b t c"]:
        """Tokens, t of them, attend to each other.

        Args:
            rope: cosines and sines of each token's place (`rope_table`), for all items or for each;
                None: positions were added to the tokens.
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if rope is not None:
            q = rotate(q, rope)
            k = rotate(k, rope)
        return self.proj(attend(q, k, v, self.backend).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another; three projections with bias, as in
    CroCo."""

    def __init__(self, width: int, heads: int, backend: str) -> None:
        super().__init__()
        self.heads = heads
        self.backend = backend
        self.projq = nn.Linear(width, width)
        self.projk = nn.Linear(width, width)
        self.projv = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        memory: Float[Tensor, "b s c"],
        rope: Float[Tensor, "2 b1 t d"] | None,
        memory_rope: Float[Tensor, "2 b1 s d"] | None,
    ) -> Float[Tensor, "b t c"]:
        """Tokens of one sequence attend to the s of the other.

        Args:
            rope, memory_rope: of the places of each sequence; both None where positions were added.
        """
        q, k = self._asked(x, memory, rope, memory_rope)
        v = self.projv(memory).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.proj(attend(q, k, v, self.backend).transpose(1, 2).flatten(2))

    def weights(
        self,
        x: Float[Tensor, "b t c"],
        memory: Float[Tensor, "b s c"],
        rope: Float[Tensor, "2 b1 t d"] | None,
        memory_rope: Float[Tensor, "2 b1 s d"] | None,
    ) -> Float[Tensor, "b heads t s"]:
        """How much each token attends to each of the memory; rows sum to 1."""
        q, k = self._asked(x, memory, rope, memory_rope)
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)

    def _asked(
        self, x: Tensor, memory: Tensor, rope: Tensor | None, memory_rope: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Queries and keys, turned."""
        q, k = (
            project(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project, tokens in ((self.projq, x), (self.projk, memory))
        )
        if rope is not None and memory_rope is not None:
            q = rotate(q, rope)
            k = rotate(k, memory_rope)
        return q, k


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t c"]:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Pre-norm transformer block; weights named as timm's."""

    def __init__(self, width: int, heads: int, norm_eps: float, backend: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads, backend)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width)

    def forward(
        self, x: Float[Tensor, "b t c"], rope: Float[Tensor, "2 b1 t d"] | None
    ) -> Float[Tensor, "b t c"]:
        """Attention, then the MLP, each after its norm and added to its input."""
        x = x + self.attn(self.norm1(x), rope)
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """Decoder block of CroCo: self-attention, attention to the other view, MLP. The memory is
    normalised here and never updated."""

    def __init__(self, width: int, heads: int, norm_eps: float, backend: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads, backend)
        self.norm_y = nn.LayerNorm(width, eps=norm_eps)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.cross_attn = CrossAttention(width, heads, backend)
        self.norm3 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        memory: Float[Tensor, "b s c"],
        rope: Float[Tensor, "2 1 t d"] | None,
    ) -> Float[Tensor, "b t c"]:
        """Both views lie on the same grid, so `rope` serves the queries and the memory."""
        x = x + self.attn(self.norm1(x), rope)
        x = x + self.cross_attn(self.norm2(x), self.norm_y(memory), rope, rope)
        return x + self.mlp(self.norm3(x))

    def cross_weights(
        self,
        x: Float[Tensor, "b t c"],
        memory: Float[Tensor, "b s c"],
        rope: Float[Tensor, "2 1 t d"] | None,
    ) -> Float[Tensor, "b heads t s"]:
        """How much each token of the first view attends to each of the other inside this block."""
        x = x + self.attn(self.norm1(x), rope)
        return self.cross_attn.weights(self.norm2(x), self.norm_y(memory), rope, rope)


class PatchEmbed(nn.Module):
    """Linear embedding of non-overlapping patches; the weight has the shape of timm's
    convolution."""

    def __init__(self, patch_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_px, stride=patch_px)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n c"]:
        return self.proj(images).flatten(2).transpose(1, 2)


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Random initial weights of MAE and CroCo: Xavier-uniform matrices, N(0, 0.02) tokens, zero
    biases, unit norms.

    The bias of the patch projection is uniform within 1 / sqrt(inputs): the official code sets
    those of linear layers only, and leaves this one as torch makes it. Fixed positions are left
    alone. The result depends only on the generator and the order of the modules.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.data.flatten(1), generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        for name, parameter in module.named_parameters(recurse=False):
            if name in ("cls_token", "mask_token"):
                nn.init.normal_(parameter, std=0.02, generator=generator)
    # After all others, so that their draws are those of earlier versions.
    for module in model.modules():
        if isinstance(module, PatchEmbed) and module.proj.bias is not None:
            bound = module.proj.weight[0].numel() ** -0.5
            nn.init.uniform_(module.proj.bias, -bound, bound, generator=generator)
