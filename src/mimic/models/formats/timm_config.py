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
# Arguments of timm's classes that the weights show (parts that a plain encoder lacks have keys of
# their own, and sizes have shapes), and those that only training and the head know.
SHOWN_BY_WEIGHTS = """
    patch_size in_chans embed_dim depth mlp_ratio class_token reg_tokens num_reg_tokens qkv_bias
    qkv_fused qk_norm proj_bias init_values attn_only_layer_scale num_kv_heads swiglu_mlp
    swiglu_align_to scale_mlp scale_attn_inner scale_attn_norm scale_mlp_norm pre_norm final_norm
    fc_norm use_pre_transformer_norm use_post_transformer_norm use_fc_norm use_abs_pos_emb
"""
WITHOUT_EFFECT = """
    num_classes global_pool pool_include_prefix attn_pool_num_heads attn_pool_mlp_ratio
    head_init_scale drop_rate pos_drop_rate patch_drop_rate proj_drop_rate attn_drop_rate
    drop_path_rate weight_init fix_init dynamic_img_size dynamic_img_pad strict_img_size
    rope_shift_coords rope_jitter_coords rope_rescale_coords device dtype
"""
# Of the others one value each is what a plain encoder computes; it may also be null.
COMPUTED: dict[str, Any] = {
    "act_layer": "gelu",
    "norm_layer": "layernorm",  # of timm, whose epsilon is NORM_EPS
    "pos_embed": "learn",
    "no_embed_class": False,
    "use_post_norm": False,
    "use_rot_pos_emb": False,
}
NUMBERS = {  # CroCo's names and those of timm's classes
    "enc_num_heads": "num_heads",
    "img_size": "img_size",
    "enc_depth": "depth",
    "enc_embed_dim": "embed_dim",
    "patch_size": "patch_size",
}
ROTARY: dict[str, Any] = {"rope_grid_offset": 0.0, "rope_mrope_section": None}


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
    where it states no arguments.

    Args:
        config: with "model_args", as `folder_config` writes it.

    Raises:
        ValueError: by an argument, it computes something else.
    """
    args = config.get("model_args")
    if not isinstance(args, Mapping):
        return {}
    numbers = {ours: args.get(theirs) for ours, theirs in NUMBERS.items()}
    stated = {key: value for key, value in numbers.items() if value is not None}
    rotary = all(args.get(key) == value for key, value in TURNS.items())
    if rotary:
        stated["pos_embed"] = f"RoPE{_base(args.get('rope_temperature', ROPE_BASE))!r}"
    _require_computed(args, COMPUTED | (TURNS | ROTARY if rotary else {}))
    return stated


def _base(stated: Any) -> float:
    if not isinstance(stated, int | float):
        raise ValueError(f"model_args says rope_temperature {str(stated)[:20]!r}, no number")
    return float(stated)


def _require_computed(args: Mapping[str, Any], computed: Mapping[str, Any]) -> None:
    """Refuse an argument that the weights do not show and that no encoder here takes."""
    any_value = {"num_heads", "img_size", *SHOWN_BY_WEIGHTS.split(), *WITHOUT_EFFECT.split()}
    if computed["use_rot_pos_emb"]:
        any_value |= {"rope_temperature"}
    else:  # the others are of rotary positions, which it has not
        any_value |= {"rope_temperature", "ref_feat_shape"} | TURNS.keys() | ROTARY.keys()
        any_value -= computed.keys()
    for key, value in args.items():
        if key in any_value or value is None or (key in computed and value == computed[key]):
            continue
        known = f"; only {computed[key]} is computed here" if key in computed else ""
        raise ValueError(
            f"model_args says {str(key)[:40]} {str(value)[:40]}, which changes what the model "
            f"computes{known}"
        )
