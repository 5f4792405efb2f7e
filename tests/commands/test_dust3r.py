"""Checkpoints of DUSt3R and MASt3R, written here from their keys and what lies beside them: the
encoder and the first decoder come in, and what is left out is said."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mimic.commands.import_card import import_notes
from mimic.commands.import_weights import import_weights
from mimic.errors import BadInput
from mimic.models.encoder import normalise
from mimic.models.inheritance import inherit
from mimic.tasks.api import EvalModel
from mimic.tasks.reconstruction import measure
from mimic.training import start
from mimic.training.checkpoint import load_encoder, load_model
from mimic.training.imported.foreign import ImportOverrides
from mimic.training.imported.self_description import constructor
from tests.commands.test_weights import NOTHING
from tests.support.other_projects import AsymmetricCroCo3DStereo

SIZES: dict[str, Any] = {
    "img_size": (96, 64),
    "enc_embed_dim": 96,
    "enc_depth": 2,
    "enc_num_heads": 4,
    "dec_embed_dim": 64,
    "dec_depth": 2,
    "dec_num_heads": 2,
    "pos_embed": "RoPE50",
}
HEADS = "output_mode='pts3d', head_type='linear', depth_mode=('exp', -inf, inf)"
WORDS = ", ".join(f"{key}={value!r}" for key, value in SIZES.items())
DUST3R = f"AsymmetricCroCo3DStereo({HEADS}, conf_mode=('exp', 1, inf), {WORDS})"
MAST3R = f"AsymmetricMASt3R({HEADS}, two_confs=True, desc_conf_mode=('exp', 0, inf), {WORDS})"


@pytest.fixture(scope="module")
def theirs() -> AsymmetricCroCo3DStereo:
    torch.manual_seed(4)
    model = AsymmetricCroCo3DStereo(**SIZES).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """The same images as DUSt3R normalises them, and as they are normalised here."""
    draw = torch.Generator().manual_seed(2)
    pixels = torch.randint(0, 256, (2, 96, 64, 3), dtype=torch.uint8, generator=draw)
    return (pixels / 255 - 0.5).movedim(-1, 1) / 0.5, normalise(pixels)


@pytest.mark.parametrize("written", [DUST3R, MAST3R])
def test_a_checkpoint_comes_in(
    tmp_path: Path, theirs: AsymmetricCroCo3DStereo, written: str
) -> None:
    content = {
        "model": theirs.state_dict(),
        "args": argparse.Namespace(model=written, lr=1e-4),
        "optimizer": {"state": {}},
        "epoch": 50,
    }
    torch.save(content, tmp_path / "f.pth")
    card = import_weights(tmp_path / "f.pth", tmp_path / "models/theirs", NOTHING)
    assert card["imported"]["dialect"] == "dust3r"
    assert card["model"]["rope_base"] == 50.0
    assert card["model"]["size_px"] == [96, 64]
    told = "\n".join(import_notes(card["imported"]))
    assert "dec_blocks2.* (48 tensors)" in told
    assert "downstream_head1.* (2 tensors)" in told
    assert "not in the file, and zero: decoder.pred.weight, decoder.pred.bias" in told
    encoder, _ = load_encoder(tmp_path / "models/theirs")
    model = load_model(tmp_path / "models/theirs")
    given, ours = pictures()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(ours), theirs.features(given), atol=1e-5, rtol=0)
        tokens, other = encoder(ours), encoder(ours.flip(0))
        found = model.decoder.stages(tokens, other, (6, 4))[-1]
        wanted = theirs.completed(given, given.flip(0))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_run_starts_from_it_with_a_prediction_of_its_own(
    tmp_path: Path, theirs: AsymmetricCroCo3DStereo
) -> None:
    """Zeros that stand where the file has nothing are no start."""
    content = {"model": theirs.state_dict(), "croco_kwargs": SIZES, "epoch": 1}
    torch.save(content, tmp_path / "f.pth")
    import_weights(tmp_path / "f.pth", tmp_path / "models/theirs", NOTHING)
    folder = tmp_path / "models/theirs"
    ancestor = start.read(start.find("theirs", folder, optimizer=False))
    model = load_model(folder)
    for parameter in model.parameters():
        torch.nn.init.ones_(parameter)
    found = inherit(model, "croco", ancestor.size, ancestor)
    assert sorted(found.fresh) == ["decoder.pred.bias", "decoder.pred.weight"]
    assert found.decoder is None
    assert model.decoder.pred.weight.min() == 1


def test_weights_from_the_hub_come_in(tmp_path: Path, theirs: AsymmetricCroCo3DStereo) -> None:
    """A folder with config.json, as the hub's own method of saving writes it."""
    folder = tmp_path / "dust3r"
    folder.mkdir()
    save_file(theirs.state_dict(), folder / "model.safetensors")
    config = SIZES | {"img_size": [96, 64], "head_type": "linear", "landscape_only": False}
    (folder / "config.json").write_text(json.dumps(config))
    card = import_weights(folder, tmp_path / "models/theirs", NOTHING)
    assert card["model"]["heads"] == 4
    assert card["model"]["decoder_heads"] == 2
    assert card["model"]["rope_base"] == 50.0


@pytest.mark.parametrize("said_by", ["call", "config.json", "nobody"])
def test_an_encoder_alone_gets_the_pixels_it_was_trained_on(
    tmp_path: Path, theirs: AsymmetricCroCo3DStereo, said_by: str
) -> None:
    """Its keys are CroCo's, whose pixels are ImageNet's."""
    weights = {
        key: value
        for key, value in theirs.state_dict().items()
        if key.startswith(("enc_", "patch_embed"))
    }
    folder = tmp_path / "theirs"
    folder.mkdir()
    if said_by == "call":
        content = {"model": weights, "args": argparse.Namespace(model=DUST3R)}
        torch.save(content, folder / "f.pth")
    else:
        save_file(weights, folder / "model.safetensors")
    if said_by == "config.json":
        config = SIZES | {"img_size": [96, 64], "head_type": "linear"}
        (folder / "config.json").write_text(json.dumps(config))
    path = folder if said_by == "config.json" else next(folder.iterdir())
    said = NOTHING if said_by != "nobody" else ImportOverrides((96, 64), 4, None, None, None)
    card = import_weights(path, tmp_path / "models/theirs", said)
    aloud = [line for line in card["imported"]["assumed"] if "DUSt3R or MASt3R has others" in line]
    assert len(aloud) == (said_by == "nobody")
    if said_by == "nobody":
        return
    encoder, _ = load_encoder(tmp_path / "models/theirs")
    given, ours = pictures()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(ours), theirs.features(given), atol=1e-5, rtol=0)


def test_what_nobody_tells_is_asked_for(tmp_path: Path, theirs: AsymmetricCroCo3DStereo) -> None:
    torch.save({"model": theirs.state_dict()}, tmp_path / "f.pth")
    with pytest.raises(BadInput, match="--size-px"):
        import_weights(tmp_path / "f.pth", tmp_path / "models/theirs", NOTHING)
    said = ImportOverrides((96, 64), 4, 2, None, None, rope_base=50.0)
    card = import_weights(tmp_path / "f.pth", tmp_path / "models/theirs", said)
    assert card["model"]["rope_base"] == 50.0


def test_its_call_is_read_and_not_run() -> None:
    told = constructor(MAST3R)
    assert told == SIZES
    for hostile in (
        "AsymmetricMASt3R(*[1])",
        "AsymmetricMASt3R(**x)",
        "AsymmetricCroCo3DStereo('pts3d')",
        "AsymmetricCroCo3DStereo(enc_depth=__import__('os').getpid())",
    ):
        with pytest.raises(ValueError, match="no plain call"):
            constructor(hostile)


def test_pixels_it_cannot_predict_are_not_measured(
    tmp_path: Path, theirs: AsymmetricCroCo3DStereo
) -> None:
    torch.save(
        {"model": theirs.state_dict(), "croco_kwargs": SIZES, "epoch": 1}, tmp_path / "f.pth"
    )
    card = import_weights(tmp_path / "f.pth", tmp_path / "models/theirs", NOTHING)
    encoder, _ = load_encoder(tmp_path / "models/theirs")
    subject = EvalModel(encoder, torch.device("cpu"), card, tmp_path / "models/theirs", "0" * 64)
    with pytest.raises(BadInput, match="predicts no pixels"):
        measure.run(None, subject, None)
