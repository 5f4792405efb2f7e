"""What lies in or beside a file of weights and says how its model is built: croco_kwargs, args,
config.json."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import safetensors

from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD
from mimic.models.formats import timm_config
from mimic.training.imported.safe_load import files_of

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
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # names that config.json is about
ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt")
PIXELS = "preprocessor_config.json"
UNSAID_PIXELS = "pixels"  # key: what was assumed of them
HUGGING_FACE_EPS = 1e-12  # default of its configurations of vision transformers
HALVES = [0.5, 0.5, 0.5]
OURS = f"{list(IMAGE_MEAN)} and {list(IMAGE_STD)}"
OUR_NAMES = {
    "depth": "enc_depth",
    "width": "enc_embed_dim",
    "patch_px": "patch_size",
    "decoder_depth": "dec_depth",
    "decoder_width": "dec_embed_dim",
    "heads": "enc_num_heads",
    "size_px": "img_size",
    "norm_eps": "norm_eps",
    "decoder_heads": "dec_num_heads",
    "mask_ratio": "mask_ratio",
    "norm_pix_loss": "norm_pix_loss",
    "visible_rounding": "visible_rounding",
}
# Of MAE's models by name: the width and the blocks of their encoders.
MAE_NAME = re.compile(r"mae_vit_(base|large|huge)_patch(\d+)(?:_.*)?")
MAE_SIZES = {"base": (768, 12), "large": (1024, 24), "huge": (1280, 32)}
TRAINED_WITH = ("norm_pix_loss", "mask_ratio", "input_size")  # of MAE's arguments
NAMES_SAID = {  # ours to those of Hugging Face's config.json
    "img_size": "image_size",
    "patch_size": "patch_size",
    "enc_depth": "num_hidden_layers",
    "enc_embed_dim": "hidden_size",
    "dec_depth": "decoder_num_hidden_layers",
    "dec_embed_dim": "decoder_hidden_size",
    "enc_num_heads": "num_attention_heads",
    "dec_num_heads": "decoder_num_attention_heads",
    "mask_ratio": "mask_ratio",
    "norm_pix_loss": "norm_pix_loss",
    "norm_eps": "layer_norm_eps",
}


def beside(path: Path) -> dict[str, Any]:
    """config.json of Hugging Face beside the weights, if there is one of a transformer: of ViT,
    ViT-MAE, ViT-MSN, I-JEPA, or another whose weights have the names of those.

    Raises:
        ValueError: it describes a model that is computed in another way, or other pixel statistics.
    """
    folder = path if path.is_dir() else path.parent
    config = _json(folder / "config.json")
    if "num_attention_heads" not in config:
        return _alone(folder)
    if config.get("hidden_act", "gelu") != "gelu":
        raise ValueError(
            f"config.json says hidden_act {config['hidden_act']}; only gelu is computed here"
        )
    stated = {ours: config[theirs] for ours, theirs in NAMES_SAID.items() if theirs in config}
    if (folder / PIXELS).exists():
        _require_pixels(_json(folder / PIXELS))
        return stated
    return stated | {UNSAID_PIXELS: f"ImageNet's pixel statistics, as there is no {PIXELS}"}


def _alone(folder: Path) -> dict[str, Any]:
    """What is assumed of weights without their config.json."""
    eps = f"layer norms of epsilon {HUGGING_FACE_EPS:g}, as transformers builds them"
    if (folder / PIXELS).exists():
        _require_pixels(_json(folder / PIXELS))
        return {"norm_eps": HUGGING_FACE_EPS, UNSAID_PIXELS: f"{eps}, as there is no config.json"}
    return {
        "norm_eps": HUGGING_FACE_EPS,
        UNSAID_PIXELS: f"ImageNet's pixel statistics and {eps}, as there are no {PIXELS} and "
        "config.json",
    }


def _require_pixels(pixels: Mapping[str, Any]) -> None:
    """
    Raises:
        ValueError: the model was trained on pixels of other statistics than plain models get here.
    """
    if not pixels.get("do_normalize", True):
        raise ValueError(f"{PIXELS} says do_normalize false, and plain models here get {OURS}")
    scale = pixels.get("rescale_factor", 1 / 255) if pixels.get("do_rescale", True) else 1.0
    if not isinstance(scale, int | float) or abs(scale * 255 - 1) > 0.001:
        raise ValueError(f"{PIXELS} scales pixels by {scale}; only 1/255 is computed here")
    for name, ours in (("image_mean", IMAGE_MEAN), ("image_std", IMAGE_STD)):
        theirs = pixels.get(name, HALVES)  # of a processor of ViT that does not say
        if not _is_alike(theirs, ours):
            raise ValueError(
                f"{PIXELS} says {name} {theirs}, and plain models here get {list(ours)}; import "
                "timm's twin of it with --timm NAME"
            )


def _is_alike(theirs: Any, ours: tuple[float, ...]) -> bool:
    """Whether these are the same statistics of pixels."""
    return isinstance(theirs, list) and [round(float(value), 3) for value in theirs] == [
        round(value, 3) for value in ours
    ]


def beside_timm(path: Path) -> dict[str, Any]:
    """What config.json beside weights for timm says, or the file of weights itself: the number of
    heads, the image size, and of rotary positions their frequency, if they are CroCo's.

    Raises:
        ValueError: it says that pixels have other statistics, or that another code computes it.
    """
    config, unread = _timm_config(path)
    _require_timm_pixels(config)
    if "model_args" not in config and (ours := _our_card(path)):
        return _of_ours(ours)
    if inside := {} if path.is_dir() or "model_args" in config else _stated_inside(path, "timm"):
        config = inside
    stated = timm_config.stated_by_config(config)
    if "model_args" in config and "norm_eps" in config:
        stated["norm_eps"] = config["norm_eps"]
    if inside:  # our export, which `export-weights` writes for our pixels
        return stated
    pixels = _timm_pixels(config)
    if "input_size" in pixels:
        stated["input_size"] = pixels["input_size"]
    if not {"mean", "std"} <= pixels.keys():
        stated[UNSAID_PIXELS] = (
            f"ImageNet's pixel statistics{unread} (many weights of timm have others: --timm NAME)"
        )
    return stated


def _timm_config(path: Path) -> tuple[dict[str, Any], str]:
    """config.json beside weights for timm, if it is about them; otherwise empty, with why it was
    not read where there is one."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir() or path.name in WEIGHTS:
        return _json(folder / "config.json"), ""
    mine = {file.name for file in files_of(path)}
    if {file.name for file in folder.iterdir() if file.suffix in ENDINGS} <= mine:
        return _json(folder / "config.json"), ""
    if not _timm_pixels(_json(folder / "config.json")):
        return {}, ""
    return {}, ", as config.json was not read: it lies beside other weights, too"


def _timm_pixels(config: Mapping[str, Any]) -> Mapping[str, Any]:
    pixels = config.get("pretrained_cfg")
    return pixels if isinstance(pixels, Mapping) else {}


def require_pixels_of(model: Mapping[str, Any], path: Path) -> None:
    """
    Args:
        model: what timm says of a model of its own: "mean", "std".
        path: a folder for timm, or a file.

    Raises:
        ValueError: config.json beside the weights says that they were trained on other pixels.
    """
    config, _ = _timm_config(path)
    pixels = _timm_pixels(config)
    for name in ("mean", "std"):
        if name in pixels and not _is_alike(pixels[name], model[name]):
            raise ValueError(
                f"config.json says {name} {pixels[name]} of pixels, and timm's model of that name "
                f"gets {list(model[name])}; add the tag of the weights to the name: "
                f"{config.get('architecture', 'NAME')}.TAG"
            )


def _require_timm_pixels(config: Mapping[str, Any]) -> None:
    pixels = _timm_pixels(config)
    for name, ours in (("mean", IMAGE_MEAN), ("std", IMAGE_STD)):
        if name in pixels and not _is_alike(pixels[name], ours):
            architecture = config.get("architecture", "NAME")
            raise ValueError(
                f"config.json says {name} {pixels[name]} of pixels, and plain models here get "
                f"{list(ours)}; say --timm {architecture} with the tag of its weights"
            )


def _our_card(path: Path) -> dict[str, Any]:
    """Of a model in models/, or of its file of weights; empty of other files, and of our exports
    for timm, whose channels lie as timm's."""
    if path.is_dir():
        card = _json(path / "card.json")
    else:
        card = {} if _stated_inside(path, "timm") else _stated_inside(path, "mimic")
    return card if isinstance(card.get("model"), dict) else {}


def _of_ours(card: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of a card under CroCo's names.

    Raises:
        ValueError: the file does not hold what those names are of.
    """
    model = card["model"]
    if "timm" in model:
        raise ValueError(f"timm computes this model; say --timm {model['timm']}")
    if model.get("positions") == "rope":
        raise ValueError(
            "an encoder of mimic's own with rotary positions, whose channels lie otherwise than "
            "timm's: bring it here with mimic export-weights NAME --format timm"
        )
    return {theirs: model[ours] for ours, theirs in OUR_NAMES.items() if ours in model}


def _stated_inside(path: Path, what: str) -> dict[str, Any]:
    """What our files state in the head of a .safetensors file."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            stated = json.loads((file.metadata() or {}).get(what, "{}"))
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
    stated = {key: args[key] for key in TRAINED_WITH if args.get(key) is not None}
    called = args.get("model")
    if facts.get("croco_kwargs") is not None:
        kwargs = facts["croco_kwargs"]
        if not isinstance(kwargs, dict):
            raise ValueError(f"croco_kwargs is {type(kwargs).__name__}, not named arguments")
        stated |= CROCO | kwargs
    elif _is_call(called, NAMED):
        stated |= CROCO | constructor(called)
    elif isinstance(called, str) and (match := MAE_NAME.fullmatch(called)):
        width, depth = MAE_SIZES[match[1]]
        stated |= {"enc_embed_dim": width, "enc_depth": depth, "patch_size": int(match[2])}
    ours = facts.get("mimic")  # of our exports, whose readers' arguments do not state all
    if isinstance(ours, dict):
        stated |= {theirs: ours[name] for name, theirs in OUR_NAMES.items() if name in ours}
    if not stated.get("norm_im2_in_dec", True):
        raise ValueError(
            "its decoder does not normalise the second view (norm_im2_in_dec=False), which ours "
            "does"
        )
    stated |= dict(facts.get("config", {}))
    if isinstance(ours, dict):  # we train on ImageNet's statistics
        stated.pop(UNSAID_PIXELS, None)
    return stated


def is_of_dust3r(facts: Mapping[str, Any], path: Path) -> bool:
    """Whether the call of the model, or config.json beside the weights, is of DUSt3R or MASt3R: an
    encoder alone has CroCo's keys, and is given other pixels."""
    args = facts.get("args")
    if isinstance(args, dict) and _is_call(args.get("model"), NAMED[1:]):
        return True
    return path.is_dir() and "head_type" in beside_croco(path)


def _is_call(text: Any, names: Sequence[str]) -> TypeGuard[str]:
    return isinstance(text, str) and text.strip().startswith(tuple(f"{name}(" for name in names))


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
