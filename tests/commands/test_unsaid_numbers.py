"""Numbers of a model that a foreign file does not state, or states wrongly: assumed aloud, or
refused."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BeitConfig,
    BeitModel,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from mimic.commands.hand_out.export_weights import export_weights
from mimic.commands.import_weights import import_weights
from mimic.models.formats.checkpoint_formats import Written
from mimic.models.layers import sincos_table
from tests.commands.test_foreign_weights import BARE, imported, refusal
from tests.commands.test_weights import CROCO_SIZES, NOTHING, SIDE, WIDTH, foreign

SQUARE = "a square grid of 4 x 4 patches, as it holds 16 positions and does not say how they lie"


def squares(card: dict[str, Any]) -> list[str]:
    return [line for line in card["imported"]["assumed"] if line.startswith("a square grid")]


def test_a_learned_table_is_a_square_by_assumption(tmp_path: Path) -> None:
    """It may be one of 2 x 8 patches."""
    card, _ = imported(tmp_path, BARE)
    assert card["model"]["size_px"] == [64, 64]
    assert squares(card) == [f"{SQUARE} (--size-px)"]
    card, _ = imported(tmp_path, BARE, dataclasses.replace(NOTHING, size_px=(32, 128)))
    assert card["model"]["size_px"] == [32, 128]
    assert squares(card) == []


@pytest.mark.parametrize(
    ("input_size", "size_px"), [(64, [64, 64]), ([3, 32, 128], [32, 128]), ([3, 64, 64], [64, 64])]
)
def test_a_size_that_the_training_states_is_no_assumption(
    tmp_path: Path, input_size: Any, size_px: list[int]
) -> None:
    args = argparse.Namespace(input_size=input_size)
    card, _ = imported(tmp_path, {"model": BARE, "args": args})
    assert (card["model"]["size_px"], squares(card)) == (size_px, [])


@pytest.mark.parametrize("input_size", [224, -64, "64", [3], [], [-32, -128], [3, 64.0, 64]])
def test_a_size_that_does_not_fit_is_not_taken(tmp_path: Path, input_size: Any) -> None:
    args = argparse.Namespace(input_size=input_size)
    card, _ = imported(tmp_path, {"model": BARE, "args": args})
    assert (card["model"]["size_px"], len(squares(card))) == ([64, 64], 1)


def test_a_fixed_table_is_no_assumption(tmp_path: Path) -> None:
    table = {"pos_embed": sincos_table((2, 8), WIDTH, class_token=True)}
    card, _ = imported(tmp_path, BARE | table)
    assert (card["model"]["size_px"], squares(card)) == ([32, 128], [])


@pytest.mark.parametrize("size_px", [(-64, -64), (0, 0), (24, 96), (64, -64)])
@pytest.mark.parametrize("dialect", ["timm", "croco-v2"])
def test_sides_that_are_no_multiples_of_the_patch_are_refused(
    tmp_path: Path, dialect: str, size_px: tuple[int, int]
) -> None:
    """Their product may be that of the patches all the same."""
    said = dataclasses.replace(NOTHING, size_px=size_px)
    line = refusal(tmp_path, foreign(dialect), said)
    height, width = size_px
    assert f"--size-px {height} {width}: height and width have to be positive multiples" in line


PIXELS = "ImageNet's pixel statistics"
HALVES = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": {"mean": [0.5] * 3}}


def pixels(card: dict[str, Any]) -> list[str]:
    return [line for line in card["imported"]["assumed"] if line.startswith(PIXELS)]


def test_pixels_of_plain_weights_of_timm_are_assumed_aloud(tmp_path: Path) -> None:
    """Those of AugReg were trained with 0.5."""
    card, _ = imported(tmp_path, BARE)
    assert pixels(card) == [f"{PIXELS} (many weights of timm have others: --timm NAME)"]


def test_pixels_that_the_form_of_a_file_determines_are_no_assumption(tmp_path: Path) -> None:
    """MAE's and MoCo-v3's encoders have fixed tables; CroCo and MAE's decoder have own names."""
    table = {"pos_embed": sincos_table((4, 4), WIDTH, class_token=True)}
    contents = [BARE | table, foreign("mae"), foreign("croco-v1")]
    assert [pixels(imported(tmp_path, content)[0]) for content in contents] == [[], [], []]


def test_pixels_of_our_exports_are_no_assumption(tmp_path: Path) -> None:
    imported(tmp_path, BARE)
    ours = tmp_path / "models/theirs"
    written: dict[Written, str] = {"timm": "a.safetensors", "mae": "a.pth"}
    for form, file in written.items():
        export_weights(ours, form, tmp_path / file)
        card = import_weights(tmp_path / file, tmp_path / "models/back", NOTHING)
        assert card["imported"]["assumed"] == []


def test_a_config_beside_the_only_weights_of_a_folder_is_about_them(tmp_path: Path) -> None:
    """Whatever the file is called; among others it is not, and that is said."""
    (tmp_path / "config.json").write_text(json.dumps(HALVES))
    assert "says mean [0.5, 0.5, 0.5] of pixels" in refusal(tmp_path, BARE)
    torch.save(BARE, tmp_path / "other.pth")
    card, _ = imported(tmp_path, BARE)
    assert "as config.json was not read: it lies beside other weights, too" in pixels(card)[0]
    (tmp_path / "config.json").write_text("{}")
    card, _ = imported(tmp_path, BARE)
    assert "config.json" not in pixels(card)[0]


KWARGS: dict[str, Any] = CROCO_SIZES | {
    "img_size": SIDE,
    "enc_num_heads": 3,
    "pos_embed": "RoPE100",
}


@pytest.mark.parametrize("name", ["enc_depth", "dec_depth", "enc_embed_dim", "dec_embed_dim"])
@pytest.mark.parametrize("how", ["kwargs", "call"])
def test_sizes_that_are_stated_are_those_of_the_weights(
    tmp_path: Path, name: str, how: str
) -> None:
    """As of a file whose last blocks are missing."""
    odd = KWARGS | {name: KWARGS.get(name, 512) + 2}
    call = f"CroCoNet({', '.join(f'{key}={value!r}' for key, value in odd.items())})"
    content: dict[str, Any] = {"model": foreign("croco-v2")}
    content |= (
        {"croco_kwargs": odd} if how == "kwargs" else {"args": argparse.Namespace(model=call)}
    )
    said = refusal(tmp_path, content)
    assert f"{name} {odd[name]}) and its weights ({odd[name] - 2}) differ" in said


def test_a_name_of_maes_states_its_sizes(tmp_path: Path) -> None:
    content = {"model": foreign("mae"), "args": argparse.Namespace(model="mae_vit_base_patch16")}
    assert "enc_depth 12) and its weights (2) differ" in refusal(tmp_path, content)


def test_an_encoder_alone_states_no_decoder(tmp_path: Path) -> None:
    weights = {
        key: value
        for key, value in foreign("croco-v2").items()
        if key.startswith(("enc_", "patch_embed"))
    }
    kwargs = KWARGS | {"dec_depth": 8}
    card, _ = imported(tmp_path, {"model": weights, "croco_kwargs": kwargs})
    assert card["model"]["depth"] == 2
    assert not [line for line in card["imported"]["assumed"] if "statistics" in line]


def test_two_decoders_in_one_file_are_not_mixed(tmp_path: Path) -> None:
    weights = foreign("mimic") | {
        key.replace("_croco", ""): value + 1 for key, value in foreign("mimic").items()
    }
    said = refusal(tmp_path, {"model": weights})
    assert "decoder_blocks_croco.0." in said
    assert "two decoders in one file; keep one" in said


@pytest.mark.parametrize("said", [True, False])
def test_positions_of_a_class_token_and_patches_may_be_a_square(tmp_path: Path, said: bool) -> None:
    """1 + 3 x 5 are 4 x 4."""
    draw = torch.Generator().manual_seed(0)
    table = {"pos_embed": torch.randn(1, 16, WIDTH, generator=draw)}
    size = dataclasses.replace(NOTHING, size_px=(48, 80))
    if said:
        card, _ = imported(tmp_path, BARE | table, size)
        assert card["model"]["size_px"] == [48, 80]
    else:
        assert "its class token has no position" in refusal(tmp_path, BARE | table)
        square = dataclasses.replace(NOTHING, size_px=(64, 64))
        assert "its class token has no position" in refusal(tmp_path, BARE | table, square)
    fixed = {"pos_embed": sincos_table((3, 5), WIDTH, class_token=True)}
    card, _ = imported(tmp_path, BARE | fixed)
    assert card["model"]["size_px"] == [48, 80]


@pytest.mark.parametrize(("arch", "heads"), [("vit_small", 12), ("vit_small_patch16", 6)])
def test_heads_of_mocos_small_model(tmp_path: Path, arch: str, heads: int) -> None:
    """Its code keeps the name beside the weights; all others of this width have 6."""
    draw = torch.Generator().manual_seed(0)
    wide = {
        key: torch.randn([{WIDTH: 384}.get(side, side) for side in value.shape], generator=draw)
        for key, value in BARE.items()
    }
    for key in wide:
        factor = 3 if "qkv" in key else 4 if "fc1" in key else 1
        shape = [384 * factor, *wide[key].shape[1:]] if factor > 1 else list(wide[key].shape)
        wide[key] = torch.randn(shape, generator=draw)
        if "fc2.weight" in key:
            wide[key] = torch.randn(384, 4 * 384, generator=draw)
    wide["pos_embed"] = sincos_table((4, 4), 384, class_token=True)
    content = {"state_dict": {f"module.base_encoder.{k}": v for k, v in wide.items()}, "arch": arch}
    prefix = dataclasses.replace(NOTHING, prefix="module.base_encoder.")
    card, _ = imported(tmp_path, content, prefix)
    assert card["model"]["heads"] == heads


PLAIN: dict[str, Any] = {
    "hidden_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 64,
}


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (lambda: DeiTModel(DeiTConfig(**PLAIN)), "a distillation token (DeiT)"),
        (lambda: BeitModel(BeitConfig(**PLAIN)), "a scale of each layer"),
        (lambda: Dinov2Model(Dinov2Config(**PLAIN, patch_size=16)), "a scale of each layer"),
        (
            lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**PLAIN, patch_size=16)),
            "register tokens",
        ),
    ],
)
def test_what_a_plain_transformer_lacks_is_named(
    tmp_path: Path, model: Callable[[], torch.nn.Module], named: str
) -> None:
    said = refusal(tmp_path, model().state_dict())
    assert f"it has {named}" in said
    assert "say --timm NAME" in said
