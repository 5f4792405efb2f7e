"""The lines of Python that load an export, as they are printed and as they stand in a model card.

Each is complete: it needs the project that reads the file, and nothing of this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimic.models import ViTSize
from mimic.models.formats import timm_config
from mimic.models.formats.checkpoint_formats import Written
from mimic.training.checkpoint import network_of


def loading_lines(form: Written, card: Mapping[str, Any], location: Path | str) -> list[str]:
    """Lines that leave a variable `model`, or `weights` where the other project builds its model
    from a configuration file.

    Args:
        card: of the model.
        location: of the export.
    """
    path = str(location)
    match form:
        case "hub":
            return [
                "import timm",
                f"model = timm.create_model({'local-dir:' + path!r}, pretrained=True).eval()",
                "transform = timm.data.create_transform(**timm.data.resolve_model_data_config("
                "model))",
            ]
        case "timm":
            return _timm(card["model"], path)
        case "mae":
            return _mae(card, path)
        case "croco":
            return _croco("models.croco", "CroCoNet", card, path)
        case "dust3r":
            return _croco("dust3r.model", "AsymmetricCroCo3DStereo", card, path)
        case _:
            return ["import torch", f'weights = torch.load({path!r}, weights_only=True)["model"]']


def _timm(model: Mapping[str, Any], path: str) -> list[str]:
    # timm's own loader goes by the ending of the name, which is the user's choice
    last = f"model.load_state_dict(safetensors.torch.load_file({path!r}))"
    if "timm" in model:
        words = {"num_classes": 0, "dynamic_img_size": True, "img_size": list(model["size_px"])}
        constructor = f"timm.create_model({model['timm']!r}, {_written(words)})"
        return ["import safetensors.torch, timm", f"model = {constructor}.eval()", last]
    size = ViTSize.of_card(model)
    arguments = _written(timm_config.class_kwargs(size))
    imports = ["import safetensors.torch, timm"]
    if size.norm_eps != timm_config.NORM_EPS:
        imports = ["import functools, safetensors.torch, timm, torch"]
        arguments += f", norm_layer={_norm(size)}"
    name = f"timm.models.{timm_config.CLASSES[size.positions]}"
    return [*imports, f"model = {name}({arguments}).eval()", last]


def _norm(size: ViTSize) -> str:
    return f"functools.partial(torch.nn.LayerNorm, eps={size.norm_eps!r})"


def _mae(card: Mapping[str, Any], path: str) -> list[str]:
    """facebookresearch/mae; a decoder with cross-attention, MIMIC's, it does not have."""
    size = ViTSize.of_card(card["model"])
    has_decoder = bool(size.decoder_width) and network_of(card) == "mae"
    words: dict[str, Any] = {
        "img_size": size.size_px[0] if size.size_px[0] == size.size_px[1] else list(size.size_px),
        "patch_size": size.patch_px,
        "embed_dim": size.width,
        "depth": size.depth,
        "num_heads": size.heads,
    }
    if has_decoder:
        words |= {
            "decoder_embed_dim": size.decoder_width,
            "decoder_depth": size.decoder_depth,
            "decoder_num_heads": size.decoder_heads,
            "norm_pix_loss": bool(card.get("norm_pix_loss", True)),
        }
    strict = "" if has_decoder else ", strict=False"
    return [
        "import functools, torch, models_mae",
        f"model = models_mae.MaskedAutoencoderViT({_written(words)}, norm_layer={_norm(size)})",
        f'model.load_state_dict(torch.load({path!r}, weights_only=True)["model"]{strict})',
    ]


def _croco(module: str, name: str, card: Mapping[str, Any], path: str) -> list[str]:
    """naver/croco and naver/dust3r, each in its own folder."""
    has_decoder = name == "CroCoNet" and _has_cross_decoder(card)
    strict = "" if has_decoder else ", strict=False"
    return [
        f"import torch, {module}",
        f"file = torch.load({path!r}, weights_only=True)",
        f'model = {module}.{name}(**file["croco_kwargs"])',
        f'model.load_state_dict(file["model"]{strict})',
    ]


def _has_cross_decoder(card: Mapping[str, Any]) -> bool:
    return bool(card["model"].get("decoder_width")) and network_of(card) == "croco"


def _written(words: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in words.items())
