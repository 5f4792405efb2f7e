"""The family as a whole: the papers' sizes, timm's weights, and what the forward pass may and may
not depend on."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from mimic.models import OBJECTIVES, Masking, ViTSize, build
from mimic.models.encoder import Encoder, denormalise, normalise
from mimic.models.layers import initialise
from mimic.models.objectives.base import Pretraining

BASE: dict[str, Any] = {
    "size_px": (224, 224),
    "patch_px": 16,
    "width": 768,
    "depth": 12,
    "heads": 12,
    "decoder_width": 512,
    "decoder_depth": 8,
    "decoder_heads": 16,
    "class_token": False,
    "positions": "sincos",
    "norm_eps": 1e-6,
    "attention": "auto",
    "mask_ratio": 0.9,
    "visible_rounding": "up",
    "norm_pix": True,
}
TINY: dict[str, Any] = BASE | {
    "size_px": (32, 48),
    "patch_px": 8,
    "width": 48,
    "depth": 3,
    "heads": 3,
    "decoder_width": 32,
    "decoder_depth": 2,
    "decoder_heads": 2,
}
MIMIC = {"class_token": True, "visible_rounding": "down"}
ROPE: dict[str, Any] = {
    "positions": "rope",
    "decoder_width": 768,
    "decoder_depth": 12,
    "decoder_heads": 12,
}


def build_model(objective: str, numbers: dict[str, Any]) -> Pretraining:
    """A model from sizes and masking in one table."""
    sizes = {name: numbers[name] for name in numbers if name in ViTSize.__dataclass_fields__}
    masking = {name: numbers[name] for name in numbers if name in Masking.__dataclass_fields__}
    return build(objective, ViTSize(**sizes), Masking(**masking), attention=numbers["attention"])


def tiny(objective: str, **numbers: Any) -> Pretraining:
    model = build_model(objective, TINY | {"mask_ratio": 0.75} | numbers)
    initialise(model, torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize(
    ("objective", "numbers", "total_m", "trainable_m", "visible"),
    [
        (
            "mae",
            {"class_token": True, "mask_ratio": 0.75, "visible_rounding": "down"},
            111.91,
            111.66,
            49,
        ),
        ("croco", {}, 120.33, 120.08, 20),  # CroCo's tables are buffers: 120.08 M parameters
        ("croco", MIMIC, 120.33, 120.08, 19),
        ("croco", ROPE, 200.27, 200.27, 20),
    ],
    ids=["mae", "croco-v1", "mimic", "croco-v2"],
)
def test_sizes_of_the_papers(
    objective: Any, numbers: dict[str, Any], total_m: float, trainable_m: float, visible: int
) -> None:
    with torch.device("meta"):
        model = build_model(objective, BASE | numbers)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(total_m, abs=0.005)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6 == pytest.approx(
        trainable_m, abs=0.005
    )
    assert model.visible == visible


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_table_says_what_the_model_is(objective: str) -> None:
    numbers = TINY | {"mask_ratio": 0.75}
    model = build_model(objective, numbers)
    assert OBJECTIVES[objective].name == objective
    assert OBJECTIVES[objective].views == model.views
    assert model.decoder.cross == (model.views == 2)
    loss, prediction, mask = model(torch.randn(2, model.views, 3, 32, 48), torch.rand(2, 24))
    assert torch.isfinite(loss)
    assert prediction.shape == (2, 24, 3 * 8 * 8)
    assert mask.sum(1).tolist() == [24 - model.visible] * 2


def test_an_unknown_objective_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"objective 'simclr' is none of mae, croco"):
        build_model("simclr", TINY)


@pytest.mark.parametrize("room", ["models", "config", "sources", "params", "cli", "flows", "mine"])
def test_a_command_that_computes_nothing_waits_for_no_torch(room: str) -> None:
    """It takes seconds to import, and a command of mimic is called by the hundred."""
    check = f"import sys, mimic.{room}; sys.exit('torch' in sys.modules and 'imports torch')"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_sizes_go_through_a_card_unchanged() -> None:
    rope = ViTSize(
        size_px=(32, 48),
        patch_px=8,
        width=48,
        depth=3,
        heads=3,
        class_token=False,
        positions="rope",
        norm_eps=1e-6,
        rope_base=50.0,
    )
    assert ViTSize.of_card(rope.as_card()) == rope
    assert "decoder_width" not in rope.as_card()
    whole = build_model("croco", TINY).encoder
    assert (rope.grid, rope.patches) == (whole.grid, 24)
    with pytest.raises(ValueError, match="'model' lacks patch_px, heads"):
        ViTSize.of_card({k: v for k, v in rope.as_card().items() if k not in ("patch_px", "heads")})


def test_vit_large_of_the_papers() -> None:
    with torch.device("meta"):
        model = build_model("croco", BASE | ROPE | {"width": 1024, "depth": 24, "heads": 16})
    assert sum(p.numel() for p in model.encoder.parameters()) / 1e6 == pytest.approx(303.1, abs=0.1)


@pytest.mark.parametrize("class_token", [True, False])
@pytest.mark.parametrize("size_px", [(64, 64), (32, 48)])
def test_timm_loads_the_encoder_and_gives_equal_features(
    class_token: bool, size_px: tuple[int, int]
) -> None:
    import timm  # slow; only here

    encoder = tiny("mae", size_px=size_px, class_token=class_token).encoder
    vit = timm.models.VisionTransformer(
        img_size=size_px,
        patch_size=8,
        embed_dim=48,
        depth=3,
        num_heads=3,
        num_classes=0,
        class_token=class_token,
        global_pool="token" if class_token else "avg",
        fc_norm=False,
    ).eval()
    assert list(vit.state_dict()) == list(encoder.state_dict())
    vit.load_state_dict(encoder.state_dict(), strict=True)
    images = torch.randn(2, 3, *size_px)
    assert torch.allclose(encoder(images), vit.forward_features(images), atol=1e-5)
    blocks = [0, 2]
    for ours, theirs in zip(
        encoder.intermediates(images, blocks),
        vit.get_intermediate_layers(images, blocks, reshape=True),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_timm_is_not_needed() -> None:
    import subprocess
    import sys

    check = (
        "import sys, mimic.models, mimic.pretrain; assert not {'timm', 'torchvision'} & "
        "set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)


@pytest.mark.parametrize(
    "numbers",
    [{}, MIMIC, {"positions": "rope"}, {"positions": "rope", "class_token": True}],
    ids=str,
)
def test_encoding_a_part_in_any_order_is_encoding_those_patches(numbers: dict[str, Any]) -> None:
    """With all patches kept, shuffled, tokens come out shuffled and otherwise equal: positions
    travel with their patches."""
    encoder = tiny("croco", **numbers).encoder
    images = torch.randn(2, 3, 32, 48)
    order = torch.stack([torch.randperm(24), torch.randperm(24)])
    first = int(encoder.class_token)
    whole, part = encoder(images), encoder(images, order)
    assert torch.allclose(
        part[:, first:], whole[:, first:].gather(1, order[..., None].expand(-1, -1, 48)), atol=1e-5
    )
    assert torch.allclose(part[:, :first], whole[:, :first], atol=1e-5)


@pytest.mark.parametrize("numbers", [{}, MIMIC, {"positions": "rope"}], ids=["v1", "mimic", "v2"])
def test_the_prediction_sees_view_b_and_the_visible_patches_only(numbers: dict[str, Any]) -> None:
    model = tiny("croco", **numbers)
    images, noise = torch.randn(1, 2, 3, 32, 48), torch.rand(1, 24)
    loss, prediction, mask = model(images, noise)
    assert mask.sum() == 24 - model.visible
    hidden = int(mask[0].nonzero()[0])
    visible = int((1 - mask[0]).nonzero()[0])

    def changed(view: int, patch: int) -> torch.Tensor:
        other = images.clone()
        row, column = divmod(patch, 6)
        other[:, view, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] += 1
        return (model(other, noise)[1] - prediction).abs().max()

    assert changed(0, hidden) == 0
    assert changed(0, visible) > 1e-5
    assert changed(1, hidden) > 1e-5
    loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_mae_does_not_see_another_view() -> None:
    model = tiny("mae", class_token=True)
    images, noise = torch.randn(3, 1, 3, 32, 48), torch.rand(3, 24)
    together = model(images, noise)[1]
    assert torch.allclose(together[1:2], model(images[1:2], noise[1:2])[1], atol=1e-5)


def test_same_noise_same_loss_and_precisions_agree() -> None:
    model = tiny("croco")
    images, noise = torch.randn(2, 2, 3, 32, 48), torch.rand(2, 24)
    loss = model(images, noise)[0]
    assert torch.equal(loss, model(images, noise)[0])
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images, noise)[0]
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(loss.item(), rel=0.02)


@pytest.mark.parametrize("positions", ["sincos", "rope"])
def test_another_image_size_works(positions: str) -> None:
    encoder = tiny("croco", positions=positions, class_token=True).encoder
    assert isinstance(encoder, Encoder)
    classes, patches = encoder.tokens(torch.randn(2, 3, 64, 40))
    assert classes is not None
    assert classes.shape == (2, 48)
    assert patches.shape == (2, 40, 48)
    assert [m.shape for m in encoder.intermediates(torch.randn(2, 3, 64, 40), [2, 0])] == [
        (2, 48, 8, 5)
    ] * 2
    with pytest.raises(ValueError, match="does not divide"):
        encoder(torch.randn(1, 3, 30, 40))


def test_normalise_is_imagenet_and_undone_exactly() -> None:
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    result = normalise(images)
    assert result.shape == (2, 3, 4, 5)
    assert result[1, 2, 3, 4].item() == pytest.approx(
        (images[1, 3, 4, 2].item() / 255 - 0.406) / 0.225, abs=1e-5
    )
    assert torch.equal(denormalise(result), images)
