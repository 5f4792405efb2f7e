"""What the field writes around weights is read and said; what would compute something else is
refused."""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    IJepaModel,
    ViTConfig,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTModel,
    ViTMSNModel,
)
from typer.testing import CliRunner

from mimic.cli import app
from mimic.commands.hand_out.export_weights import export_weights
from mimic.commands.import_card import import_notes
from mimic.commands.import_weights import import_weights
from mimic.errors import BadInput
from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD
from mimic.models.layers import sincos_table
from mimic.training.checkpoint import load_encoder, load_model
from mimic.training.imported.self_description import constructor
from tests.commands.test_weights import CROCO_SIZES, IMAGES, NOTHING, SIDE, WIDTH, foreign

TIMM = foreign("timm")
BARE: dict[str, Any] = {key: value for key, value in TIMM.items() if not key.startswith("head.")}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in BARE.items()}


def imported(
    folder: Path, content: Any, said: Any = NOTHING
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The card and the weights of a file with this content."""
    torch.save(content, folder / "f.pth")
    card = import_weights(folder / "f.pth", folder / "models/theirs", said)
    return card, load_file(folder / "models/theirs/encoder.safetensors")


def refusal(folder: Path, content: Any, said: Any = NOTHING) -> str:
    torch.save(content, folder / "f.pth")
    with pytest.raises(BadInput) as refused:
        import_weights(folder / "f.pth", folder / "models/theirs", said)
    assert not (folder / "models").exists()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.pth"
    torch.save({"model": TIMM}, path)
    data = bytearray(path.read_bytes())
    place = data.index(TIMM["blocks.1.mlp.fc1.weight"].numpy().tobytes()[:64]) + 4001
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadInput, match="damaged: the checksum of .* does not fit"):
        import_weights(path, tmp_path / "models/theirs", NOTHING)


AROUND: list[tuple[Any, str | None]] = [
    ({"model": prefixed("_orig_mod.")}, "model"),
    ({"model": prefixed("module._orig_mod.")}, "model"),
    ({"state_dict": prefixed("_orig_mod.module.")}, "state_dict"),
    ({"state_dict": prefixed("backbone.")}, "state_dict"),
    ({"state_dict": prefixed("model.encoder."), "pytorch-lightning_version": "2.1"}, "state_dict"),
    (
        {"state_dict": prefixed("model.encoder.") | {"model.head.weight": torch.zeros(3, WIDTH)}},
        "state_dict",
    ),
    ({"model": prefixed("encoder.")}, "model"),
    ({"model_state_dict": prefixed("")}, "model_state_dict"),
    ({"net": prefixed(""), "epoch": 3}, "net"),
    (prefixed("net."), None),
]


@pytest.mark.parametrize(("content", "taken"), AROUND)
def test_what_stands_around_names_is_taken_off(
    tmp_path: Path, content: Any, taken: str | None
) -> None:
    card, weights = imported(tmp_path, content)
    assert card["imported"]["taken"] == taken
    assert weights.keys() == BARE.keys()
    assert all(torch.equal(weights[key], BARE[key]) for key in BARE)


def test_of_two_sets_of_weights_one_is_taken_and_said(tmp_path: Path) -> None:
    other = {f"module.backbone.{key}": value + 1 for key, value in BARE.items()}
    content = {
        "student": other,
        "teacher": prefixed("backbone."),
        "optimizer": {"state": {}},
        "epoch": 9,
    }
    card, weights = imported(tmp_path, content)
    lines = import_notes(card["imported"])
    assert torch.equal(weights["norm.weight"], BARE["norm.weight"])
    assert card["imported"]["epoch"] == 9
    assert "imported: the weights under 'teacher'" in lines
    assert "not imported: the weights under 'student'; --key student imports them" in lines
    assert "ignored, not weights of the model: optimizer" in lines
    _, weights = imported(tmp_path, content, dataclasses.replace(NOTHING, key="student"))
    assert torch.equal(weights["norm.weight"], BARE["norm.weight"] + 1)
    for ema in ("state_dict_ema", "model_ema"):
        card, _ = imported(tmp_path, {"model": BARE, ema: other})
        assert card["imported"]["other_weights"] == [ema]


def test_key_and_prefix_reach_the_rest(tmp_path: Path) -> None:
    content = {"run": {"nets": {**prefixed("image_tower."), "text_tower.weight": torch.zeros(2)}}}
    assert "nothing under --key run.mets; its entries: run" in refusal(
        tmp_path, content, dataclasses.replace(NOTHING, key="run.mets")
    )
    said = dataclasses.replace(NOTHING, key="run.nets")
    assert "say --key or --prefix" in refusal(tmp_path, content, said)
    assert "no key begins with --prefix tower." in refusal(
        tmp_path, content, dataclasses.replace(said, prefix="tower.")
    )
    card, weights = imported(tmp_path, content, dataclasses.replace(said, prefix="image_tower."))
    assert weights.keys() == BARE.keys()
    assert card["imported"]["left_out"] == ["text_tower.weight"]
    (tmp_path / "x").mkdir()
    assert refusal(tmp_path / "x", {"model": {"encoder": BARE}}).endswith("say --key model.encoder")


def test_buffers_of_a_head_are_left_out_and_said(tmp_path: Path) -> None:
    head = {
        "head.0.running_mean": torch.zeros(WIDTH),
        "head.0.num_batches_tracked": torch.tensor(5),
    }
    card, _ = imported(tmp_path, {"model": BARE | head})
    assert card["imported"]["left_out"] == sorted(head)


def test_shards(tmp_path: Path) -> None:
    names = sorted(BARE)
    parts = {"m-1.safetensors": names[:9], "m-2.safetensors": names[9:]}
    for name, keys in parts.items():
        save_file({key: BARE[key] for key in keys}, tmp_path / name)
    where = {key: name for name, keys in parts.items() for key in keys}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
    for given in (tmp_path, index):
        card = import_weights(given, tmp_path / "models/theirs", NOTHING)
        assert sorted(card["imported"]["shards"]) == sorted(parts)
        assert load_file(tmp_path / "models/theirs/encoder.safetensors").keys() == BARE.keys()
    index.write_text(json.dumps({"weight_map": where | {names[0]: "m-2.safetensors"}}))
    with pytest.raises(BadInput, match="holds other weights than"):
        import_weights(index, tmp_path / "models/other", NOTHING)
    index.write_text(json.dumps({"weight_map": {names[0]: "../../etc/passwd"}}))
    with pytest.raises(BadInput, match="outside of its folder; refused"):
        import_weights(index, tmp_path / "models/other", NOTHING)


@pytest.mark.parametrize(("older", "normalised"), [(False, True), (True, False)])
def test_hugging_faces_mae(tmp_path: Path, older: bool, normalised: bool) -> None:
    """Tokens and loss are those of transformers' own model."""
    torch.manual_seed(1)
    config = ViTMAEConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=SIDE,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=128,
        norm_pix_loss=normalised,
        mask_ratio=0.5,
    )
    model = ViTMAEForPreTraining(config).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path / "hub")
    write_pixels(tmp_path / "hub")
    path = tmp_path / "hub/model.safetensors"
    if older:
        weights = {
            key.replace("decoder_encoder.layer", "decoder_layers"): v
            for key, v in load_file(path).items()
        }
        save_file(weights, path)
    card = import_weights(tmp_path / "hub", tmp_path / "models/hf", NOTHING)
    assert (card["imported"]["dialect"], card["objective"], card["model"]["heads"]) == (
        "vit_mae",
        "mae",
        4,
    )
    assert (card["mask_ratio"], card["norm_pix_loss"], card["imported"]["assumed"]) == (
        0.5,
        normalised,
        [],
    )
    noise = torch.rand(2, 16, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        wanted = model(IMAGES, noise=noise)
        loss, _, mask = load_model(tmp_path / "models/hf")(IMAGES[:, None], noise)
        tokens = load_encoder(tmp_path / "models/hf")[0](IMAGES)
        model.vit.embeddings.config.mask_ratio = 0.0
        order = torch.arange(16).float().expand(2, -1)
        features = model.vit(IMAGES, noise=order).last_hidden_state
    torch.testing.assert_close(mask, wanted.mask)
    torch.testing.assert_close(loss, wanted.loss, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens, features, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------- numbers of the file


def write_pixels(folder: Path, **other: Any) -> None:
    """preprocessor_config.json, with ImageNet's statistics but for what is said."""
    stated = {"do_normalize": True, "do_rescale": True, "rescale_factor": 1 / 255}
    stated |= {"image_mean": list(IMAGE_MEAN), "image_std": list(IMAGE_STD)} | other
    given = {name: value for name, value in stated.items() if value is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(given))


def hugging_face(folder: Path) -> None:
    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=SIDE,
    )
    torch.manual_seed(1)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)


@pytest.mark.parametrize("kind", [ViTMSNModel, IJepaModel])
def test_the_config_of_other_plain_transformers_is_followed(tmp_path: Path, kind: Any) -> None:
    """Heads and epsilon are those that config.json says, with a class token or without."""
    size: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    more: dict[str, Any] = {"intermediate_size": 192, "image_size": SIDE, "layer_norm_eps": 0.01}
    torch.manual_seed(1)
    model = kind(kind.config_class(**size, **more)).eval()
    model.save_pretrained(tmp_path / "hub")
    write_pixels(tmp_path / "hub")
    card = import_weights(tmp_path / "hub", tmp_path / "models/hf", NOTHING)
    assert (card["model"]["heads"], card["imported"]["assumed"]) == (4, [])
    with torch.inference_mode():
        tokens = load_encoder(tmp_path / "models/hf")[0](IMAGES)
        features = model(IMAGES).last_hidden_state
    torch.testing.assert_close(tokens, features, atol=1e-4, rtol=1e-4)


def test_pixels_that_nobody_speaks_of_are_said_to_be_imagenets(tmp_path: Path) -> None:
    hugging_face(tmp_path / "hub")
    card = import_weights(tmp_path / "hub", tmp_path / "models/hf", NOTHING)
    assert card["imported"]["assumed"] == [
        "ImageNet's pixel statistics, as there is no preprocessor_config.json"
    ]
    write_pixels(tmp_path / "hub")
    card = import_weights(tmp_path / "hub", tmp_path / "models/hf", NOTHING)
    assert card["imported"]["assumed"] == []


def test_a_file_without_its_config_is_assumed_to_be_built_as_transformers_builds_it(
    tmp_path: Path,
) -> None:
    """And pixels that a file beside it speaks of are those of the weights all the same."""
    hugging_face(tmp_path / "hub")
    (tmp_path / "hub/config.json").unlink()
    said = dataclasses.replace(NOTHING, heads=4, size_px=(SIDE, SIDE))
    card = import_weights(tmp_path / "hub/model.safetensors", tmp_path / "models/hf", said)
    assert card["model"]["norm_eps"] == 1e-12
    assert card["imported"]["assumed"] == [
        "ImageNet's pixel statistics and layer norms of epsilon 1e-12, as transformers builds "
        "them, as there are no preprocessor_config.json and config.json"
    ]
    write_pixels(tmp_path / "hub", image_mean=[0.5, 0.5, 0.5])
    with pytest.raises(BadInput, match="says image_mean"):
        import_weights(tmp_path / "hub/model.safetensors", tmp_path / "models/hf", said)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"image_mean": [0.5, 0.5, 0.5]}, "says image_mean"),
        ({"image_mean": None}, "says image_mean .0.5, 0.5, 0.5."),  # its processor's default
        ({"image_std": None}, "says image_std .0.5, 0.5, 0.5."),
        ({"do_normalize": False}, "says do_normalize false"),
        ({"rescale_factor": 1 / 127.5}, "scales pixels by 0.0078"),
        ({"do_rescale": False}, "scales pixels by 1.0"),
    ],
)
def test_other_pixels_than_plain_models_get_are_refused(
    tmp_path: Path, other: dict[str, Any], why: str
) -> None:
    hugging_face(tmp_path / "hub")
    write_pixels(tmp_path / "hub", **other)
    with pytest.raises(BadInput, match=why):
        import_weights(tmp_path / "hub", tmp_path / "models/hf", NOTHING)


@pytest.mark.parametrize("mean", [0.5, 0.485])
def test_pixels_that_timms_config_speaks_of_are_those_of_the_weights(
    tmp_path: Path, mean: float
) -> None:
    folder = tmp_path / "hub"
    folder.mkdir()
    save_file(
        {key: value.contiguous() for key, value in BARE.items()}, folder / "model.safetensors"
    )
    pixels = {"mean": [mean, 0.456, 0.406], "std": list(IMAGE_STD)}
    config = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": pixels}
    (folder / "config.json").write_text(json.dumps(config))
    if mean == 0.485:
        assert import_weights(folder, tmp_path / "models/theirs", NOTHING)
        return
    torch.save(dict(BARE), folder / "pytorch_model.bin")
    for file in (folder / "model.safetensors", folder / "pytorch_model.bin", folder):
        with pytest.raises(BadInput, match="of pixels, .* say --timm vit_tiny_patch16_224 with"):
            import_weights(file, tmp_path / "models/theirs", NOTHING)


def test_a_model_of_ours_is_taken_by_what_it_says_of_itself(tmp_path: Path) -> None:
    """Its file, its folder and its export for MAE's code; a width of 192 has 3 heads elsewhere."""
    said = dataclasses.replace(NOTHING, heads=4)
    imported(tmp_path, BARE | {}, said)
    first = tmp_path / "models/theirs"
    own, card = load_encoder(first)
    export_weights(first, "mae", tmp_path / "mae.pth")
    for number, path in enumerate((first, first / "encoder.safetensors", tmp_path / "mae.pth")):
        again = tmp_path / f"models/again-{number}"
        assert import_weights(path, again, NOTHING)["imported"]["assumed"] == []
        other, _ = load_encoder(again)
        assert other.heads == card["model"]["heads"] == 4
        with torch.inference_mode():
            assert (other(IMAGES) == own(IMAGES)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_few_bits_are_read(tmp_path: Path, dtype: torch.dtype) -> None:
    few = {key: value.to(dtype) for key, value in BARE.items()}
    _, weights = imported(tmp_path, few, dataclasses.replace(NOTHING, heads=4))
    assert (weights["norm.weight"] == few["norm.weight"].float()).all()


def test_the_rope_base_of_the_file_is_kept(tmp_path: Path) -> None:
    kwargs = CROCO_SIZES | {"img_size": (SIDE, SIDE), "enc_num_heads": 3, "pos_embed": "RoPE50"}
    strong = {
        key: 20 * value if "norm1" in key or "qkv" in key else value
        for key, value in foreign("croco-v2").items()
    }
    card, _ = imported(tmp_path, {"model": strong, "croco_kwargs": kwargs})
    assert card["model"]["rope_base"] == 50
    encoder, _ = load_encoder(tmp_path / "models/theirs")
    with torch.inference_mode():
        kept = encoder(IMAGES)
        encoder.rope_base = 100.0
        assert (kept - encoder(IMAGES)).abs().max() > 1e-3
    model = load_model(tmp_path / "models/theirs")
    assert (model.encoder.rope_base, model.decoder.rope_base) == (50, 50)
    export_weights(tmp_path / "models/theirs", "croco", tmp_path / "back.pth")
    assert (
        torch.load(tmp_path / "back.pth", weights_only=True)["croco_kwargs"]["pos_embed"]
        == "RoPE50"
    )


@pytest.mark.parametrize("pos_embed", ["cosine", "RoPE", "RoPE-3", "RoPEnan", "learned", 7])
def test_positions_that_cannot_be_are_refused(tmp_path: Path, pos_embed: Any) -> None:
    kwargs = {"img_size": SIDE, "enc_num_heads": 3, "pos_embed": pos_embed}
    assert "os" in refusal(tmp_path, {"model": foreign("croco-v2"), "croco_kwargs": kwargs})


def test_arguments_in_the_call_are_read_and_never_run(tmp_path: Path) -> None:
    call = (
        f"CroCoNet(img_size=({SIDE}, {SIDE}), enc_num_heads=6, dec_num_heads=8, mask_ratio=0.8, "
        f"pos_embed='RoPE100', {', '.join(f'{key}={value}' for key, value in CROCO_SIZES.items())})"
    )
    content = {
        "model": foreign("croco-v2"),
        "args": argparse.Namespace(model=call, norm_pix_loss=0),
    }
    card, _ = imported(tmp_path, content)
    assert (card["model"]["heads"], card["model"]["decoder_heads"]) == (6, 8)
    assert (card["mask_ratio"], card["norm_pix_loss"], card["imported"]["assumed"]) == (
        0.8,
        False,
        [],
    )
    assert (
        constructor(
            "CroCoNet(224, 16, mask_ratio=0.9, norm_layer=partial(nn.LayerNorm, eps=1e-6))"
        )["patch_size"]
        == 16
    )
    marker = tmp_path / "ran"
    for evil in (
        f"CroCoNet(img_size=open({str(marker)!r}, 'w'))",
        "CroCoNet(**x)",
        "CroCoNet(1)(2)",
        "CroCoNet(",
    ):
        with pytest.raises(ValueError, match="no plain call of CroCoNet"):
            constructor(evil)
    assert not marker.exists()


def test_silent_croco_kwargs_mean_the_official_defaults(tmp_path: Path) -> None:
    content = {"model": foreign("croco-v2"), "croco_kwargs": CROCO_SIZES | {"pos_embed": "RoPE100"}}
    card, _ = imported(tmp_path, content)
    assert (card["model"]["size_px"], card["model"]["heads"], card["mask_ratio"]) == (
        [224, 224],
        12,
        0.9,
    )


def test_what_the_file_says_of_its_training_is_kept(tmp_path: Path) -> None:
    args = argparse.Namespace(norm_pix_loss=False, mask_ratio=0.5)
    card, _ = imported(tmp_path, {"model": foreign("mae"), "args": args})
    assert (card["mask_ratio"], card["norm_pix_loss"]) == (0.5, False)
    card, _ = imported(tmp_path, {"model": foreign("mae")})
    assert card["norm_pix_loss"] is True
    assert any("--norm-pix-loss" in line for line in card["imported"]["assumed"])
    said = dataclasses.replace(NOTHING, norm_pix_loss=False, mask_ratio=0.25)
    card, _ = imported(tmp_path, {"model": foreign("mae")}, said)
    assert (card["mask_ratio"], card["norm_pix_loss"]) == (0.25, False)


@pytest.mark.parametrize("heads", [5, -3, 0])
def test_heads_that_cannot_be_are_refused(tmp_path: Path, heads: int) -> None:
    why = f"--heads {heads} attention heads, which do not divide a width of {WIDTH}"
    assert why in refusal(tmp_path, BARE, dataclasses.replace(NOTHING, heads=heads))
    assert "--decoder-heads" in refusal(
        tmp_path, foreign("mae"), dataclasses.replace(NOTHING, decoder_heads=heads)
    )


def test_a_fixed_table_tells_its_grid(tmp_path: Path) -> None:
    table = {"pos_embed": sincos_table((8, 2), WIDTH, class_token=True)}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        stored = {key: value.to(dtype) for key, value in (BARE | table).items()}
        card, _ = imported(tmp_path, stored)
        assert card["model"]["size_px"] == [128, 32]
    square = BARE | {"pos_embed": sincos_table((4, 4), WIDTH, class_token=True)}
    (tmp_path / "x").mkdir()
    for content, size in ((square, (128, 32)), (BARE | table, (32, 128))):
        line = refusal(tmp_path / "x", content, dataclasses.replace(NOTHING, size_px=size))
        assert "its table of positions is that of --size-px" in line
    line = refusal(tmp_path / "x", BARE, dataclasses.replace(NOTHING, size_px=(SIDE, 2 * SIDE)))
    assert "not the 16 patches" in line


CHANGES: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda w: w.update({"blocks.0.ls1.gamma": torch.ones(WIDTH)}), "say --timm NAME"),
    (lambda w: w.pop("blocks.0.attn.qkv.bias"), "say --timm NAME"),
    (
        lambda w: w.update({"pos_embed": torch.zeros(1, 16, WIDTH)}),
        "class token has no position.*--timm NAME",
    ),
    (
        lambda w: w.update({f"fc_norm.{k}": w.pop(f"norm.{k}") for k in ("weight", "bias")}),
        "fine-tuned with global pooling",
    ),
]


@pytest.mark.parametrize(("change", "why"), CHANGES)
def test_refusals_name_the_remedy(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], why: str
) -> None:
    state = dict(BARE)
    change(state)
    torch.save(state, tmp_path / "f.pth")
    with pytest.raises(BadInput, match=why):
        import_weights(tmp_path / "f.pth", tmp_path / "models/theirs", NOTHING)


def test_what_is_no_file_of_weights_is_called_by_its_name(tmp_path: Path) -> None:
    inner = tmp_path / "inner.pth"
    torch.save(BARE, inner)
    with tarfile.open(tmp_path / "tar", "w") as archive:
        archive.add(inner)
    files = {
        "a web page": b"\n<!DOCTYPE html><html>Quota exceeded</html>",
        "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n"
        b"oid sha256:abc\nsize 3\n",
        "a gzip archive": gzip.compress(b"weights"),
        "a tar archive": (tmp_path / "tar").read_bytes(),
        "an empty file": b"",
    }
    for what, data in files.items():
        inner.write_bytes(data)
        with pytest.raises(BadInput, match=what):
            import_weights(inner, tmp_path / "models/theirs", NOTHING)
    torch.save({"model": BARE, "config": Path("/x")}, inner)
    with pytest.raises(BadInput, match="save its weights alone"):
        import_weights(inner, tmp_path / "models/theirs", NOTHING)


def test_the_command_says_what_it_took(tmp_path: Path) -> None:
    torch.save(
        {"model": foreign("mae"), "optimizer": {"state": {}}, "model_ema": BARE}, tmp_path / "f.pth"
    )
    done = CliRunner().invoke(
        app, ["import-weights", str(tmp_path / "f.pth"), "--out", str(tmp_path / "models/m")]
    )
    assert done.exit_code == 0, done.output
    for line in (
        "imported: the weights under 'model'",
        "--key model_ema imports them",
        "optimizer",
        "mask ratio 0.75, as published",
    ):
        assert line in done.output
