"""Models of timm by their name: the same features as timm's own, in every task that needs an
encoder alone."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from mimic.commands import import_weights
from mimic.errors import BadInput
from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD, normalise
from mimic.models.formats.timm_vit import TimmEncoder
from mimic.tasks.engine.encoder_with_head import EncoderWithHead
from mimic.training.checkpoint import load_encoder
from mimic.training.imported.foreign import ImportOverrides
from mimic.training.optim import layer_decay_groups

NAMES = [
    "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_base_patch16_clip_224",
    "vit_small_patch16_dinov3",  # rotary: places within -1..1, registers
    "vit_small_patch16_rope_224",  # of CroCo's frequencies, rows and columns interleaved
    "vit_small_patch16_rope_mixed_ape_224",  # learned frequencies beside a table
    "eva02_tiny_patch14_224",  # gated MLP, queries and values with their own biases
    "vit_medium_patch16_rope_reg1_gap_256",  # no class token, no final norm
]


# Pretrained by masking, with a norm on every token that timm builds behind the pooling.
POOLED = ("eva02_tiny_patch14_224",)


def said(size_px: tuple[int, int] | None = None) -> ImportOverrides:
    return ImportOverrides(size_px, None, None, None, "some-images")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randint(
        0, 255, (2, 56, 112, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def shrunk(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """timm's model with two blocks, under its own name: the structure is what differs between them,
    not the depth."""
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *args, **kwargs: create(*args, depth=2, **kwargs)
    )
    torch.manual_seed(0)
    made = create(name, depth=2, num_classes=7, dynamic_img_size=True).eval()
    for parameter in made.parameters():
        torch.nn.init.trunc_normal_(parameter, std=0.05)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_of_timm(
    name: str, tmp_path: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shrunk(name, monkeypatch)
    save_file(made.state_dict(), tmp_path / "file.safetensors")
    card = import_weights.import_timm(
        name, tmp_path / "file.safetensors", tmp_path / "models/other", said()
    )
    assert card["model"]["timm"] == name
    assert card["imported"]["file"] == "file.safetensors"
    encoder, _ = load_encoder(tmp_path / "models/other")
    pixels = images[:, :, :56] if encoder.patch_px == 14 else images[:, :48, :96]
    config: Any = made.pretrained_cfg
    theirs = (pixels / 255 - torch.tensor(config["mean"])) / torch.tensor(config["std"])
    ours = normalise(pixels)
    with torch.inference_mode():
        wanted = made.forward_features(theirs.movedim(-1, 1))
        if name in POOLED:
            wanted = made.fc_norm(wanted)
        first, patches = encoder.tokens(ours)
        raw = made.forward_intermediates(theirs.movedim(-1, 1), [0, 1], intermediates_only=True)
        found = encoder.intermediates(ours, (1, 0))
    torch.testing.assert_close(patches, wanted[:, made.num_prefix_tokens :], atol=2e-4, rtol=2e-4)
    assert (first is None) == (made.cls_token is None)
    if first is not None:
        torch.testing.assert_close(first, wanted[:, 0], atol=2e-4, rtol=2e-4)
    for block, place in ((0, 1), (1, 0)):
        torch.testing.assert_close(found[place], raw[block], atol=2e-4, rtol=2e-4)


def test_the_last_norm_of_eva_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    shrunk(POOLED[0], monkeypatch)
    encoder = TimmEncoder(POOLED[0], (56, 56), pretrained=False)
    for parameter in encoder.parameters():
        torch.nn.init.trunc_normal_(parameter, std=0.5)
    pixels = torch.randn(1, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    read = EncoderWithHead(encoder, torch.nn.Identity(), (1,), "none", 0.0, norm=True)
    with torch.inference_mode():
        (level,) = read.features(pixels)
        tokens = encoder.tokens(pixels)[1]
    torch.testing.assert_close(level.flatten(2).movedim(1, 2), tokens, atol=1e-4, rtol=1e-4)
    trained = {name for name, one in read.named_parameters() if one.requires_grad}
    assert "encoder.fc_norm.weight" in trained
    raw = EncoderWithHead(encoder, torch.nn.Identity(), (1,), "none", 0.0)
    trained = {name for name, one in raw.named_parameters() if one.requires_grad}
    assert "encoder.fc_norm.weight" not in trained


def test_other_statistics_are_brought_to_the_models_own() -> None:
    encoder = TimmEncoder("vit_tiny_patch16_224", None, pretrained=False)
    config: Any = encoder._timm.pretrained_cfg
    mean, std = config["mean"], config["std"]
    assert mean != IMAGE_MEAN
    assert std != IMAGE_STD
    black = normalise(torch.zeros(1, 16, 16, 3, dtype=torch.uint8))
    torch.testing.assert_close(
        encoder._pixels(black)[0, :, 0, 0], -torch.tensor(mean) / torch.tensor(std)
    )


def test_it_is_trained_frozen_and_copied_like_ours(
    monkeypatch: pytest.MonkeyPatch, images: torch.Tensor
) -> None:
    shrunk(NAMES[1], monkeypatch)
    encoder = TimmEncoder(NAMES[1], (56, 56), pretrained=False)
    model = EncoderWithHead(encoder, torch.nn.Identity(), (1,), "none", 0.1)
    scales = {group["lr_scale"] for group in layer_decay_groups(model, 0.05, 0.5)}
    assert scales == {
        0.5**power for power in (1, 2, 3)
    }  # blocks 1 and 0, and the embedding; the head has no weights
    twin = copy.deepcopy(model).eval()
    pixels = normalise(images[:, :, :56])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert not torch.equal(twin(pixels)[0], model.eval()(pixels)[0])
    twin(pixels)[0].sum().backward()
    frozen = EncoderWithHead(encoder, torch.nn.Linear(1, 1), (1,), "encoder", 0.1)
    assert [name for name, parameter in frozen.named_parameters() if parameter.requires_grad] == [
        "head.weight",
        "head.bias",
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("resnet18", r": 'resnet18' is a ResNet; dense tasks read timm's Vision"),
        ("vit_tiny_patch_of_mine", r"timm cannot make 'vit_tiny_patch_of_mine' \(Unknown model "),
        ("beit_base_patch16_224", r": 'beit_base_patch16_224' is a Beit; dense tasks read"),
    ],
)
def test_what_is_no_plain_grid_of_patches_is_refused(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=why) as info:
        import_weights.import_timm(
            name, tmp_path / "nothing.pth", tmp_path / "models/other", said()
        )
    assert "\n" not in str(info.value)
    assert not (tmp_path / "models").exists()


def test_another_models_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file(shrunk(NAMES[0], monkeypatch).state_dict(), tmp_path / "tiny.safetensors")
    with pytest.raises(BadInput, match="patches are of 16 x 16 px, those of the model of 14"):
        import_weights.import_timm(
            NAMES[1], tmp_path / "tiny.safetensors", tmp_path / "models/other", said()
        )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BadInput, match="cannot be fetched"):
        import_weights.import_timm(NAMES[0], None, tmp_path / "models/other", said())
    assert not (tmp_path / "models").exists()


def of_dinov3(made: Any, biases: float) -> dict[str, torch.Tensor]:
    """A file as DINOv3's authors publish it, of timm's model."""
    names = (("gamma_1", "ls1.gamma"), ("gamma_2", "ls2.gamma"), ("reg_token", "storage_tokens"))
    file = {}
    for key, value in made.state_dict().items():
        for theirs, original in names:
            key = key.replace(theirs, original)
        if not key.endswith(("q_bias", "v_bias")):
            file[key] = value
    for block, width in ((0, made.embed_dim), (1, made.embed_dim)):
        file[f"blocks.{block}.attn.qkv.bias"] = torch.full((3 * width,), biases)
        file[f"blocks.{block}.attn.qkv.bias_mask"] = torch.ones(3 * width)
    return file | {"mask_token": torch.ones(1, made.embed_dim)}


@pytest.mark.parametrize(
    ("name", "biases", "fits"),
    [
        ("vit_small_patch16_dinov3", 0.0, True),
        ("vit_small_patch16_dinov3", 0.1, False),  # timm drops them with no word
        ("vit_small_patch16_dinov3_qkvb", 0.1, True),
    ],
)
def test_what_timm_would_leave_out_is_refused(
    name: str, biases: float, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = shrunk(name, monkeypatch)
    save_file(of_dinov3(made, biases), tmp_path / "file.safetensors")
    files = (tmp_path / "file.safetensors", tmp_path / "models/other")
    if fits:
        import_weights.import_timm(name, *files, said())
        encoder, _ = load_encoder(files[1])
        if biases:
            assert float(encoder.state_dict()["blocks.1.attn.v_bias"][0]) == pytest.approx(biases)
        return
    with pytest.raises(
        BadInput, match=r"no place for 2 tensors.*blocks\.0\.attn\.qkv\.bias.*_qkvb"
    ):
        import_weights.import_timm(name, *files, said())
    assert not files[1].exists()


@pytest.mark.parametrize("tag", ["augreg_in21k", "dino"])
def test_pixels_of_a_folder_are_those_of_the_named_model(
    tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of one architecture were trained on pixels of several statistics."""
    name = "vit_small_patch16_224"
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(shrunk(name, monkeypatch).state_dict(), folder / "model.safetensors")
    pixels = {"mean": list(IMAGE_MEAN), "std": list(IMAGE_STD)}
    config = {"architecture": name, "pretrained_cfg": pixels}
    (folder / "config.json").write_text(json.dumps(config))
    out = tmp_path / "models/other"
    if tag == "dino":
        import_weights.import_timm(f"{name}.dino", folder, out, said())
        return
    with pytest.raises(BadInput, match=f"mean .0.485.* gets .0.5.* to the name: {name}.TAG"):
        import_weights.import_timm(f"{name}.{tag}", folder, out, said())


def test_patches_of_another_size_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """timm would resample their weights with no word."""
    save_file(
        shrunk("vit_small_patch32_224", monkeypatch).state_dict(), tmp_path / "file.safetensors"
    )
    with pytest.raises(BadInput, match="patches are of 32 x 32 px, those of the model of 16"):
        import_weights.import_timm(
            "vit_small_patch16_224",
            tmp_path / "file.safetensors",
            tmp_path / "models/other",
            said(),
        )
