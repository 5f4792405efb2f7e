"""How timm builds an encoder of ours, as numbers: arguments of its classes, and the config.json of
a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` reads.

timm has no name for an arbitrary width or depth; a name of its own with all arguments stated makes
any. Fixed tables of positions are its VisionTransformer's; rotary ones (CroCo v2) are its Eva's,
whose queries and keys have their channels in another order (`timm_rope`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD
from mimic.models.layers import MLP_RATIO
from mimic.models.spec import ROPE_BASE, ViTSize

NORM_EPS = 1e-6  # of timm's layer norms; a config.json cannot state another
CLASSES = {"sincos": "VisionTransformer", "rope": "Eva"}
# Names whose models have nothing but what their arguments state. The rotary ones that timm has
# under a name of ViT also scale their layers, and `transformers` of Hugging Face drops the argument
# that switches this off.
ARCHITECTURES = {"sincos": "vit_base_patch16_224", "rope": "eva_giant_patch14_224"}
# What makes timm's Eva turn queries and keys as CroCo v2 does: places counted from 0, rows first,
# the two channels of a plane half of the channels apart.
TURNS: dict[str, Any] = {
    "attn_type": "rope",
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "rope_type": "cat",
    "rope_grid_indexing": "ij",
    "rope_rotate_half": True,
}


def plain_kwargs(size: ViTSize) -> dict[str, Any] | None:
    """Arguments of timm's VisionTransformer whose weights are our encoder's, key by key; None where
    it has no twin (rotary positions, another epsilon)."""
    if size.positions != "sincos" or size.norm_eps != NORM_EPS:
        return None
    return _sizes(size) | {"fc_norm": False}


def class_kwargs(size: ViTSize) -> dict[str, Any]:
    """Arguments of the class that `CLASSES` names, without the epsilon of its layer norms."""
    if size.positions == "sincos":
        return _sizes(size) | {"fc_norm": False, "dynamic_img_size": True}
    return (
        _sizes(size)
        | TURNS
        | {
            "rope_temperature": size.rope_base,
            "use_fc_norm": False,
            "use_post_transformer_norm": True,
            "dynamic_img_size": True,
        }
    )


def _sizes(size: ViTSize) -> dict[str, Any]:
    return {
        "img_size": list(size.size_px),
        "patch_size": size.patch_px,
        "embed_dim": size.width,
        "depth": size.depth,
        "num_heads": size.heads,
        "num_classes": 0,
        "class_token": size.class_token,
        "global_pool": "token" if size.class_token else "avg",
    }


def folder_config(size: ViTSize) -> dict[str, Any]:
    """config.json of a folder for timm.

    Raises:
        ValueError: layer norms of another epsilon, which features depend on.
    """
    if size.norm_eps != NORM_EPS:
        raise ValueError(
            f"its layer norms have an epsilon of {size.norm_eps:g}, which config.json cannot tell "
            "timm; use --format timm"
        )
    args = class_kwargs(size) | {"mlp_ratio": MLP_RATIO}
    frame = folder_frame(ARCHITECTURES[size.positions], size.size_px, size.width)
    del args["num_classes"]
    return frame | {"global_pool": args["global_pool"], "model_args": args}


def folder_frame(name: str, size_px: tuple[int, int], width: int) -> dict[str, Any]:
    """config.json without "model_args": a model of timm's, without a head, for images that are
    normalised as everywhere here."""
    return {
        "architecture": name,
        "num_classes": 0,
        "num_features": width,
        "pretrained_cfg": {
            "tag": "mimic",
            "input_size": [3, *size_px],
            "fixed_input_size": False,
            "pool_size": None,
            "interpolation": "bicubic",
            "crop_pct": 1.0,
            "crop_mode": "center",
            "mean": list(IMAGE_MEAN),
            "std": list(IMAGE_STD),
            "num_classes": 0,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def stated_by_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a config.json for timm says of a plain encoder, under CroCo's names of numbers. Empty
    where it is no such file, or of a model that timm has to compute.

    Args:
        config: with "model_args", as `folder_config` writes it.
    """
    args = config.get("model_args")
    if not isinstance(args, Mapping) or config.get("architecture") not in ARCHITECTURES.values():
        return {}
    numbers = {"enc_num_heads": args.get("num_heads"), "img_size": args.get("img_size")}
    stated = {key: value for key, value in numbers.items() if value is not None}
    if all(args.get(key) == value for key, value in TURNS.items()):
        stated["pos_embed"] = f"RoPE{float(args.get('rope_temperature', ROPE_BASE))!r}"
    return stated
