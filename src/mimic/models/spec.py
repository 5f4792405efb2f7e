"""What a model is built from, as numbers: read from params.yaml, a card, or a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Positions = Literal["sincos", "rope"]
Rounding = Literal["down", "up"]
ROPE_BASE = 100.0  # CroCo v2
REQUIRED = (
    *("size_px", "patch_px", "width", "depth", "heads"),
    *("class_token", "positions", "norm_eps"),
)
DECODER = ("decoder_width", "decoder_depth", "decoder_heads")
# Numbers of an encoder without which its weights would compute something else.
ENCODER = ("patch_px", "width", "depth", "heads", "positions", "norm_eps")


@dataclass(frozen=True, kw_only=True)
class ViTSize:
    """Sizes of a vision transformer encoder and of the decoder that only pretraining uses.

    Args:
        size_px: height and width of the images it is trained at; patch_px divides both.
        patch_px: side of a square patch.
        width, depth, heads: channels, blocks, attention heads of the encoder.
        class_token: with one (MAE, MIMIC) or without (CroCo).
        positions: "sincos" adds a fixed table to the patches; "rope" turns queries and keys
            instead (CroCo v2).
        norm_eps: epsilon of every layer norm.
        decoder_width, decoder_depth, decoder_heads: 0 = there is no decoder.
        rope_base: of rotary positions, see `layers.rope_table`.
    """

    size_px: tuple[int, int]
    patch_px: int
    width: int
    depth: int
    heads: int
    class_token: bool
    positions: Positions
    norm_eps: float
    decoder_width: int = 0
    decoder_depth: int = 0
    decoder_heads: int = 0
    rope_base: float = ROPE_BASE

    @classmethod
    def of_card(cls, model: Mapping[str, Any]) -> ViTSize:
        """From `model` of a card. Cards of earlier versions do not tell the only base there was.

        Raises:
            ValueError: a size is missing.
        """
        known = {name: model[name] for name in cls.__dataclass_fields__ if name in model}
        missing = [name for name in REQUIRED if name not in known]
        if missing:
            raise ValueError(f"'model' lacks {', '.join(missing)}")
        height, width = known["size_px"]
        return cls(**known | {"size_px": (height, width)})

    def as_card(self) -> dict[str, Any]:
        """`model` of a card: JSON-able, without what this model does not have."""
        sizes = asdict(self) | {"size_px": list(self.size_px)}
        if self.positions != "rope":
            del sizes["rope_base"]
        if not self.decoder_width:
            sizes = {name: value for name, value in sizes.items() if name not in DECODER}
        return sizes

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across; raises ValueError as `patch_grid` does."""
        return patch_grid(self.size_px, self.patch_px)

    @property
    def patches(self) -> int:
        return self.grid[0] * self.grid[1]


def encoder_differences(source: ViTSize, target: ViTSize) -> dict[str, tuple[Any, Any]]:
    """Numbers that keep the weights of one encoder from being another's: (there, here) by key."""
    keys = list(ENCODER)
    if source.positions == target.positions == "rope":
        keys.append("rope_base")
    pairs = {key: (getattr(source, key), getattr(target, key)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def patch_grid(size_px: tuple[int, int], patch_px: int) -> tuple[int, int]:
    """Patches down and across an image of this height and width.

    Raises:
        ValueError: patch_px does not divide the size.
    """
    height, width = size_px
    if height % patch_px or width % patch_px:
        raise ValueError(
            f"a patch of {patch_px} px does not divide an image of {height} x {width} px"
        )
    return height // patch_px, width // patch_px


@dataclass(frozen=True, kw_only=True)
class Masking:
    """What an objective hides of a view, and how it measures what is predicted there.

    Args:
        mask_ratio: share of the patches that is hidden.
        visible_rounding: see `visible_count`.
        norm_pix: predict pixels normalised within their patch.
        matching: weight of the loss on matched patches (`matching.matching_loss`), 0 = only pixels
            count.
        temperature: of that loss.
    """

    mask_ratio: float
    visible_rounding: Rounding
    norm_pix: bool
    matching: float = 0.0
    temperature: float = 1.0


def visible_count(patches: int, mask_ratio: float, rounding: Rounding) -> int:
    """Patches left visible, in the references' own arithmetic.

    "down": int(n * (1 - ratio)): MAE 49 and MIMIC 19 of 196. "up": n - int(ratio * n): CroCo 20 of
    196.

    Raises:
        ValueError: it leaves no patch visible, or none hidden.
    """
    count = (
        int(patches * (1 - mask_ratio))
        if rounding == "down"
        else patches - int(mask_ratio * patches)
    )
    if not 1 <= count < patches:
        shown = f"mask_ratio {mask_ratio} leaves {count} of {patches} patches visible"
        raise ValueError(f"{shown}; it must show at least one and hide at least one")
    return count
