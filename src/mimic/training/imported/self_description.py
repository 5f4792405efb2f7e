"""What lies in or beside a file of weights and says how its model is built: croco_kwargs, args,
config.json."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD
from mimic.models.formats import timm_config

CROCO = {  # defaults of CroCoNet, in the order of its arguments
    "img_size": 224,
    "patch_size": 16,
    "mask_ratio": 0.9,
    "enc_embed_dim": 768,
    "enc_depth": 12,
    "enc_num_heads": 12,
    "dec_embed_dim": 512,
    "dec_depth": 8,
    "dec_num_heads": 16,
    "mlp_ratio": 4,
    "norm_layer": None,
    "norm_im2_in_dec": True,
    "pos_embed": "cosine",
}
CROCO_NET = "CroCoNet"
# DUSt3R and MASt3R take CroCo's arguments by name, and others beside them.
NAMED = (CROCO_NET, "AsymmetricCroCo3DStereo", "AsymmetricMASt3R")
WEIGHTS = "model.safetensors"
NAMES_SAID = {  # ours to those of Hugging Face's config.json
    "img_size": "image_size",
    "enc_num_heads": "num_attention_heads",
    "dec_num_heads": "decoder_num_attention_heads",
    "mask_ratio": "mask_ratio",
    "norm_pix_loss": "norm_pix_loss",
    "norm_eps": "layer_norm_eps",
}


def beside(path: Path) -> dict[str, Any]:
    """config.json of Hugging Face beside the weights, if there is one of a plain ViT or ViT-MAE.

    Raises:
        ValueError: it describes a model that is computed in another way, or other pixel statistics.
    """
    folder = path if path.is_dir() else path.parent
    config = _json(folder / "config.json")
    if config.get("model_type") not in ("vit", "vit_mae"):
        return {}
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(
            f"config.json says hidden_act {config['hidden_act']}; only gelu is computed here"
        )
    pixels = _json(folder / "preprocessor_config.json")
    for name, ours in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD)):
        theirs = pixels.get(name, list(ours))
        if not isinstance(theirs, list) or [round(float(value), 3) for value in theirs] != [
            round(v, 3) for v in ours
        ]:
            raise ValueError(
                f"preprocessor_config.json says {name} {theirs}, and plain models here get "
                f"{list(ours)};"
                " import timm's twin of it with --timm NAME"
            )
    return {ours: config[theirs] for ours, theirs in NAMES_SAID.items() if theirs in config}


def beside_timm(path: Path) -> dict[str, Any]:
    """What config.json beside weights for timm says, or the file of weights itself: the number of
    heads, the image size, and of rotary positions their frequency, if they are CroCo's."""
    folder = path if path.is_dir() else path.parent
    config = _json(folder / "config.json") if path.is_dir() or path.name == WEIGHTS else {}
    if "model_args" not in config and not path.is_dir():
        config = _stated_inside(path)
    stated = timm_config.stated_by_config(config)
    return stated | ({"norm_eps": config["norm_eps"]} if stated and "norm_eps" in config else {})


def _stated_inside(path: Path) -> dict[str, Any]:
    """What our exports state in the head of a .safetensors file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            stated = json.loads((file.metadata() or {}).get("timm", "{}"))
    except (OSError, ValueError, RecursionError, safetensors.SafetensorError):
        return {}  # no such file; what is wrong with it, reading its weights has said
    return stated if isinstance(stated, dict) else {}


def beside_croco(path: Path) -> dict[str, Any]:
    """config.json beside weights that were saved through the hub's own methods: the arguments of
    DUSt3R or MASt3R."""
    config = _json((path if path.is_dir() else path.parent) / "config.json")
    return config if "enc_embed_dim" in config else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        raise ValueError(
            f"{path.name} beside it cannot be read as JSON; mend or remove it"
        ) from None
    return content if isinstance(content, dict) else {}


def stated_by(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers under CroCo's names, out of croco_kwargs, of args, or of Hugging Face's config.

    Raises:
        ValueError: they are no plain arguments, or of a decoder that ours does not have.
    """
    args = facts.get("args")
    args = args if isinstance(args, dict) else {}
    stated = {
        key: args[key] for key in ("norm_pix_loss", "mask_ratio") if args.get(key) is not None
    }
    called = args.get("model")
    if facts.get("croco_kwargs") is not None:
        kwargs = facts["croco_kwargs"]
        if not isinstance(kwargs, dict):
            raise ValueError(f"croco_kwargs is {type(kwargs).__name__}, not named arguments")
        stated |= CROCO | kwargs
    elif isinstance(called, str) and called.strip().startswith(tuple(f"{name}(" for name in NAMED)):
        stated |= CROCO | constructor(called)
    if not stated.get("norm_im2_in_dec", True):
        raise ValueError(
            "its decoder does not normalise the second view (norm_im2_in_dec=False), which ours "
            "does"
        )
    return stated | dict(facts.get("config", {}))


def constructor(text: str) -> dict[str, Any]:
    """CroCo's arguments in a written call of CroCoNet, or of DUSt3R's or MASt3R's model. Read as
    syntax, never run.

    Raises:
        ValueError: no such call, or an argument that is no plain value.
    """
    wrong = f"args.model is {text[:80]!r}, no plain call of {', '.join(NAMED)}"
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ValueError(wrong) from None
    if (
        not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or call.func.id not in NAMED
    ):
        raise ValueError(wrong)
    if len(call.args) > len(CROCO) or any(keyword.arg is None for keyword in call.keywords):
        raise ValueError(wrong)
    if call.args and call.func.id != CROCO_NET:
        raise ValueError(wrong)
    given = dict(zip(CROCO, call.args, strict=False)) | {
        str(word.arg): word.value for word in call.keywords
    }
    if call.func.id != CROCO_NET:
        given = {key: value for key, value in given.items() if key in CROCO}
    try:
        return {key: ast.literal_eval(value) for key, value in given.items() if key != "norm_layer"}
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise ValueError(wrong) from None
