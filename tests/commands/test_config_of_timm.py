"""The arguments in a config.json for timm are followed, or refused by their names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.models import VisionTransformer

from mimic.commands.import_weights import import_weights
from mimic.errors import BadInput
from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD
from mimic.training.checkpoint import load_encoder
from tests.commands.test_weights import NOTHING

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 192, "depth": 2}
SIZES |= {"num_heads": 3, "num_classes": 0}
NAME = "vit_tiny_patch16_224"


def hub(folder: Path, model: VisionTransformer, args: dict[str, Any], name: str = NAME) -> Path:
    """A folder as `timm.models.push_to_hf_hub` writes it."""
    folder.mkdir()
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors"
    )
    pixels = {"mean": list(IMAGE_MEAN), "std": list(IMAGE_STD)}
    config = {"architecture": name, "model_args": args, "pretrained_cfg": pixels}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("other", [{"num_heads": 6}, {"img_size": [16, 64]}])
@pytest.mark.parametrize("name", [NAME, "vit_base_patch16_224"])
def test_arguments_are_followed_whatever_the_model_is_called(
    tmp_path: Path, other: dict[str, Any], name: str
) -> None:
    """Heads and grid leave no trace in the weights."""
    args = SIZES | other
    torch.manual_seed(0)
    model = VisionTransformer(**args).eval()
    card = import_weights(hub(tmp_path / "hub", model, args, name), tmp_path / "models/m", NOTHING)
    assert card["imported"]["assumed"] == []
    images = torch.randn(1, 3, *(args["img_size"] if "img_size" in other else (32, 32)))
    with torch.inference_mode():
        features = load_encoder(tmp_path / "models/m")[0](images)
        torch.testing.assert_close(features, model.forward_features(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("act_layer", "quick_gelu"),
        ("act_layer", "gelu_tanh"),
        ("norm_layer", "rmsnorm"),
        ("no_embed_class", True),
        ("use_rot_pos_emb", True),
        ("attn_layer", "diff"),
        ("new_argument", 3),
    ],
)
def test_arguments_that_compute_something_else_are_refused_by_name(
    tmp_path: Path, key: str, value: Any
) -> None:
    folder = hub(tmp_path / "hub", VisionTransformer(**SIZES), SIZES | {key: value})
    with pytest.raises(BadInput, match=f"model_args says {key} {value}, which changes") as refused:
        import_weights(folder, tmp_path / "models/m", NOTHING)
    assert "\n" not in str(refused.value)


def test_arguments_of_training_and_the_head_pass(tmp_path: Path) -> None:
    args = SIZES | {"drop_rate": 0.1, "drop_path_rate": 0.2, "global_pool": "token"}
    args |= {"act_layer": None, "norm_layer": "layernorm", "attn_layer": None}
    folder = hub(tmp_path / "hub", VisionTransformer(**SIZES), args)
    assert import_weights(folder, tmp_path / "models/m", NOTHING)["model"]["heads"] == 3
