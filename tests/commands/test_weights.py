"""Checkpoints of the field, written here from their published key names: read whole, equal in
features, back again; or refused."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from mimic import report
from mimic.cli import app
from mimic.commands import compare
from mimic.commands.hand_out.export_weights import export_weights
from mimic.commands.import_weights import import_weights
from mimic.errors import BadInput
from mimic.models import Masking, ViTSize, build
from mimic.models.layers import initialise
from mimic.models.objectives.croco import CrossViewCompletion
from mimic.params import load_params
from mimic.training.checkpoint import load_encoder, load_model, write_weights
from mimic.training.imported.foreign import HEADS, ImportOverrides
from tests.support.published import publish_result

WIDTH, DEPTH, PATCH, SIDE = 192, 2, 16, 64  # 3 heads of 64; decoder 512 wide, 16 heads, one block
MASKING_KEYS = ("mask_ratio", "visible_rounding", "norm_pix_loss")
NOTHING = ImportOverrides(None, None, None, None, None)


CROCO_SIZES = {"enc_embed_dim": WIDTH, "enc_depth": DEPTH, "dec_depth": 1}  # of `foreign`


def block(name: str, width: int, cross: bool = False) -> dict[str, torch.Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "norm1": (width,),
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
    }
    if cross:
        shapes |= {"norm_y": (width,), "norm3": (width,)}
        shapes |= {
            f"cross_attn.{part}": (width, width) for part in ("projq", "projk", "projv", "proj")
        }
    shapes |= {"norm2": (width,), "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    return {f"{name}.{key}.weight": shape for key, shape in shapes.items()} | {
        f"{name}.{k}.bias": s[:1] for k, s in shapes.items()
    }  # type: ignore[return-value]


def foreign(dialect: str) -> dict[str, torch.Tensor]:
    """Random weights under the names and shapes that the published files have."""
    patches, pixels = (SIDE // PATCH) ** 2, 3 * PATCH**2
    shapes: dict[str, Any] = {
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
    }
    enc, dec = (
        ("enc_blocks", "dec_blocks")
        if dialect.startswith("croco")
        else ("blocks", "decoder_blocks")
    )
    if dialect == "mimic":
        dec = "decoder_blocks_croco"
    for number in range(DEPTH):
        shapes |= block(f"{enc}.{number}", WIDTH)
    if dialect.startswith("croco"):
        shapes |= {"enc_norm.weight": (WIDTH,), "enc_norm.bias": (WIDTH,)}
        names = ("dec_norm", "prediction_head")
        if dialect == "croco-v1":
            shapes |= {"enc_pos_embed": (patches, WIDTH), "dec_pos_embed": (patches, 512)}
    else:
        shapes |= {
            "cls_token": (1, 1, WIDTH),
            "pos_embed": (1, patches + 1, WIDTH),
            "norm.weight": (WIDTH,),
            "norm.bias": (WIDTH,),
        }
        names = ("decoder_norm", "decoder_pred")
        if dialect in ("mae", "mimic"):
            shapes |= {"decoder_pos_embed": (1, patches + 1, 512)}
    if dialect == "timm":
        shapes |= {"head.weight": (10, WIDTH), "head.bias": (10,)}
    else:
        shapes |= {
            "mask_token": (1, 1, 512),
            "decoder_embed.weight": (512, WIDTH),
            "decoder_embed.bias": (512,),
        }
        shapes |= block(f"{dec}.0", 512, cross=dialect != "mae")
        shapes |= {
            f"{names[0]}.weight": (512,),
            f"{names[0]}.bias": (512,),
            f"{names[1]}.weight": (pixels, 512),
            f"{names[1]}.bias": (pixels,),
        }
    draw = torch.Generator().manual_seed(len(dialect))
    return {key: 0.05 * torch.randn(shape, generator=draw) for key, shape in shapes.items()}


def saved(folder: Path, dialect: str) -> Path:
    """As its authors save it: MAE and CroCo leave their arguments in the file, CroCo v2 what it is
    built with."""
    content: dict[str, Any] = {
        "model": foreign(dialect),
        "args": argparse.Namespace(lr=1.5e-4, model="vit"),
        "epoch": 399,
    }
    if dialect == "croco-v2":
        content["croco_kwargs"] = {
            **CROCO_SIZES,
            "img_size": (SIDE, SIDE),
            "enc_num_heads": 3,
            "dec_num_heads": 16,
            "pos_embed": "RoPE100",
        }
    path = folder / f"{dialect}.{'safetensors' if dialect == 'timm' else 'pth'}"
    if dialect == "timm":
        save_file(content["model"], path)
    else:
        torch.save(content, path)
    return path


def plain_timm(state: dict[str, torch.Tensor], class_token: bool) -> Any:
    pooling = {"global_pool": "token"} if class_token else {"global_pool": "avg", "fc_norm": False}
    made = timm.models.VisionTransformer(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=3,
        num_classes=0,
        class_token=class_token,
        **pooling,
    )
    made.load_state_dict(state, strict=True)
    return made.eval()


IMAGES = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("dialect", ["timm", "mae", "mimic", "croco-v1"])
def test_features_are_those_of_timm(tmp_path: Path, dialect: str) -> None:
    card = import_weights(saved(tmp_path, dialect), tmp_path / "models/theirs", NOTHING)
    encoder, read = load_encoder(tmp_path / "models/theirs")
    assert read == json.loads(json.dumps(card))
    assert card["imported"]["dialect"] == dialect.partition("-")[0]
    state = foreign(dialect)
    kept = {
        key: value
        for key, value in state.items()
        if not key.startswith(("decoder", "mask_token", "head", "dec_", "prediction"))
    }
    if dialect == "croco-v1":
        kept = {
            key.removeprefix("enc_"): value[None] if key == "enc_pos_embed" else value
            for key, value in kept.items()
        }
    with torch.inference_mode():
        expected = plain_timm(kept, dialect != "croco-v1").forward_features(IMAGES)
        torch.testing.assert_close(encoder(IMAGES), expected, atol=1e-5, rtol=1e-5)
    assert card["imported"]["left_out"] == (
        ["head.bias", "head.weight"] if dialect == "timm" else []
    )
    assert card["imported"]["epoch"] == (None if dialect == "timm" else 399)


@pytest.mark.parametrize(
    ("dialect", "visible"), [("mae", 4), ("mimic", 1), ("croco-v1", 2), ("croco-v2", 2)]
)
def test_the_decoder_comes_along(tmp_path: Path, dialect: str, visible: int) -> None:
    """Every number of the file is in the model that computes with it."""
    import_weights(saved(tmp_path, dialect), tmp_path / "theirs", NOTHING)
    model = load_model(tmp_path / "theirs")
    assert model.visible == visible
    assert type(model).__name__ == (
        "MaskedAutoencoder" if dialect == "mae" else "CrossViewCompletion"
    )
    sums = sorted(float(value.sum()) for value in foreign(dialect).values())
    assert sorted(float(value.sum()) for value in model.state_dict().values()) == pytest.approx(
        sums
    )
    images = IMAGES[:, None] if dialect == "mae" else torch.stack([IMAGES, IMAGES.flip(0)], dim=1)
    loss, prediction, _ = model(images, torch.rand(2, 16))
    assert torch.isfinite(loss)
    assert prediction.shape == (2, 16, 3 * PATCH**2)


def publish(
    folder: Path,
    objective: str,
    class_token: bool,
    positions: str,
    decoder_heads: int = 16,
    **masked: Any,
) -> None:
    """A model of ours."""
    sizes: dict[str, Any] = {
        "patch_px": PATCH,
        "width": WIDTH,
        "depth": DEPTH,
        "heads": 3,
        "decoder_width": 512,
        "decoder_depth": 1,
        "decoder_heads": decoder_heads,
    }
    sizes |= {
        "class_token": class_token,
        "positions": positions,
        "norm_eps": 1e-6,
        "size_px": (SIDE, SIDE),
    }
    masking: dict[str, Any] = {"mask_ratio": 0.9, "visible_rounding": "up"}
    masking |= {"norm_pix_loss": True} | masked
    ratio, rounding, norm_pix = (masking[name] for name in MASKING_KEYS)
    masks = Masking(mask_ratio=ratio, visible_rounding=rounding, norm_pix=norm_pix)
    model = build(objective, ViTSize(**sizes), masks)
    initialise(model, torch.Generator().manual_seed(3))
    folder.mkdir(parents=True)
    write_weights(model.encoder.state_dict(), folder / "encoder.safetensors", {})
    write_weights(model.state_dict(), folder / "model.safetensors", {})
    card = {
        "objective": objective,
        "model": sizes | {"size_px": [SIDE, SIDE]},
        **masking,
        "steps": 5,
    }
    (folder / "card.json").write_text(json.dumps(card))


WHOLE = [
    ("croco", "croco", False, "sincos"),
    ("croco", "croco", False, "rope"),
    ("mae", "mae", True, "sincos"),
    ("mae", "croco", True, "sincos"),
]


@pytest.mark.parametrize(("form", "objective", "class_token", "positions"), WHOLE)
def test_there_and_back(
    tmp_path: Path, form: Any, objective: str, class_token: bool, positions: str
) -> None:
    publish(tmp_path / "ours", objective, class_token, positions)
    lines = export_weights(tmp_path / "ours", form, tmp_path / "file.pth")
    assert ["DUSt3R and MASt3R need RoPE" in line for line in lines] == [True] * (
        form == "croco" and positions == "sincos"
    )
    with pytest.raises(BadInput, match=r"file\.pth: is there already"):
        export_weights(tmp_path / "ours", form, tmp_path / "file.pth")
    import_weights(tmp_path / "file.pth", tmp_path / "back", NOTHING)
    for name in ("encoder.safetensors", "model.safetensors"):
        before, after = load_file(tmp_path / "ours" / name), load_file(tmp_path / "back" / name)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    assert load_encoder(tmp_path / "back")[1]["objective"] == objective
    if objective == "croco" and not class_token:
        assert (
            torch.load(tmp_path / "file.pth", weights_only=True)["croco_kwargs"]["enc_num_heads"]
            == 3
        )


@pytest.mark.parametrize(("form", "objective", "class_token", "positions"), WHOLE)
def test_unusual_numbers_of_a_decoder_come_back(
    tmp_path: Path, form: Any, objective: str, class_token: bool, positions: str
) -> None:
    """That all tensors fit says nothing of them."""
    unusual = {"mask_ratio": 0.6, "visible_rounding": "down", "norm_pix_loss": False}
    publish(tmp_path / "ours", objective, class_token, positions, decoder_heads=4, **unusual)
    export_weights(tmp_path / "ours", form, tmp_path / "file.pth")
    card = import_weights(tmp_path / "file.pth", tmp_path / "back", NOTHING)
    assert {name: card[name] for name in unusual} == unusual
    assert card["model"]["decoder_heads"] == 4
    assert card["imported"]["assumed"] == []


def test_a_published_model_is_imported_by_its_folder(tmp_path: Path) -> None:
    """Its encoder; the decoder that lies beside it is told of."""
    publish(tmp_path / "ours", "croco", False, "sincos")
    card = import_weights(tmp_path / "ours", tmp_path / "models/again", NOTHING)
    assert card["model"]["heads"] == 3
    assert card["imported"]["left_out"] == [
        "model.safetensors (the decoder it was pretrained with)"
    ]
    before, after = (
        load_file(tmp_path / name / "encoder.safetensors") for name in ("ours", "models/again")
    )
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_whatever_an_import_is_called_its_decoder_is_run_as_its_file_says(tmp_path: Path) -> None:
    """`--objective` is for the tables."""
    torch.save({"model": foreign("croco-v1")}, tmp_path / "f.pth")
    for label in ("croco-v2", "siamese", None):
        said = ImportOverrides(None, None, None, label, None)
        card = import_weights(tmp_path / "f.pth", tmp_path / f"models/{label}", said)
        assert card["objective"] == (label or "croco")
        assert type(load_model(tmp_path / f"models/{label}")) is CrossViewCompletion
        export_weights(tmp_path / f"models/{label}", "croco", tmp_path / f"{label}.pth")
        written = torch.load(tmp_path / f"{label}.pth", weights_only=True)
        assert any(key.startswith("dec_blocks") for key in written["model"])


def test_a_decoder_that_runs_in_another_order_is_left_out(tmp_path: Path) -> None:
    """A siamese decoder has the names of CroCo's, whose code would run it as another model."""
    publish(tmp_path / "ours", "siamese", False, "sincos")
    lines = export_weights(tmp_path / "ours", "croco", tmp_path / "file.pth")
    assert "this format has no decoder: it was left out" in lines
    written = torch.load(tmp_path / "file.pth", weights_only=True)
    assert not any("dec" in key for key in written["model"])
    assert "dec_depth" not in written["croco_kwargs"]


@pytest.mark.parametrize("class_token", [True, False])
def test_timm_reads_ours(tmp_path: Path, class_token: bool) -> None:
    publish(tmp_path / "ours", "croco", class_token, "sincos")
    assert export_weights(tmp_path / "ours", "timm", tmp_path / "ours.safetensors") == [
        "this format has no decoder: it was left out"
    ]
    encoder, _ = load_encoder(tmp_path / "ours")
    with torch.inference_mode():
        theirs = plain_timm(load_file(tmp_path / "ours.safetensors"), class_token).forward_features(
            IMAGES
        )
        torch.testing.assert_close(theirs, encoder(IMAGES), atol=1e-5, rtol=1e-5)
    import_weights(tmp_path / "ours.safetensors", tmp_path / "back", NOTHING)
    assert load_encoder(tmp_path / "back")[0].state_dict().keys() == encoder.state_dict().keys()


def test_multimae_and_vitpose(tmp_path: Path) -> None:
    """Shapes and sums that their loaders rely on; the position of the class token goes where they
    look for it."""
    publish(tmp_path / "ours", "mae", True, "sincos")
    ours = load_encoder(tmp_path / "ours")[0].state_dict()
    lines = export_weights(tmp_path / "ours", "multimae", tmp_path / "m.pth")
    model = torch.load(tmp_path / "m.pth", weights_only=True)["model"]
    assert model["input_adapters.rgb.pos_emb"].shape == (
        1,
        WIDTH,
        4,
        4,
    )
    assert "final norm" in " ".join(lines)
    assert torch.equal(
        model["input_adapters.rgb.pos_emb"][0, :, 1, 2], ours["pos_embed"][0, 1 + 1 * 4 + 2]
    )
    assert torch.equal(model["global_tokens"], ours["cls_token"] + ours["pos_embed"][:, :1])
    assert torch.equal(model["encoder.1.mlp.fc2.bias"], ours["blocks.1.mlp.fc2.bias"])
    assert not any("norm." in k[:5] for k in model)
    export_weights(tmp_path / "ours", "vitpose", tmp_path / "v.pth")
    pose = torch.load(tmp_path / "v.pth", weights_only=True)["model"]
    assert pose["pos_embed"].shape == (1, 1 + 16 * 12, WIDTH)
    assert "cls_token" not in pose
    assert torch.equal(pose["last_norm.weight"], ours["norm.weight"])


def test_what_would_change_features_is_refused(tmp_path: Path) -> None:
    publish(tmp_path / "v1", "croco", False, "sincos")
    publish(tmp_path / "v2", "croco", False, "rope")
    publish(tmp_path / "mimic", "croco", True, "sincos")
    for name, form, why in (
        ("v1", "mae", "class token.*--format croco"),
        ("v1", "dust3r", "RoPE"),
        ("mimic", "dust3r", "no class token"),
        ("v2", "multimae", "rotary"),
        ("v2", "vitpose", "rotary"),
        ("mimic", "croco", "--format mae"),
    ):
        with pytest.raises(BadInput, match=why):
            export_weights(tmp_path / name, form, tmp_path / "file")  # type: ignore[arg-type]
        assert not (tmp_path / "file").exists()
    assert "build MultiMAE with num_global_tokens=0" in " ".join(
        export_weights(tmp_path / "v1", "multimae", tmp_path / "file")
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            lambda w: w.pop("enc_blocks.1.attn.qkv.bias"),
            r"1 missing \(encoder\.blocks\.1\.attn\.qkv\.bias\); nothing was imported",
        ),
        (lambda w: w.update(surprise=torch.zeros(1)), r"1 unexpected \(encoder\.surprise\)"),
        (
            lambda w: w.update({"enc_norm.bias": torch.zeros(7)}),
            r"of another shape \(norm\.bias \[7\] for \[192\]\)",
        ),
        (
            lambda w: w.update({"enc_norm.bias": torch.full((WIDTH,), torch.nan)}),
            "enc_norm.bias holds values that are not finite",
        ),
        (
            lambda w: w.update({"enc_norm.bias": torch.zeros(WIDTH, dtype=torch.int32)}),
            "not plain floating-point",
        ),
        (
            lambda w: w.update({"patch_embed.proj.weight": torch.zeros(WIDTH, 3, 16)}),
            "patches are read by weights of shape",
        ),
        (
            lambda w: w.update({"enc_pos_embed": torch.zeros(15, WIDTH)}),
            "15 positions are no square of patches; say --size-px",
        ),
        (
            lambda w: w.clear(),
            "'model' is dict, not a tensor; expected a state_dict, or one under 'model'$",
        ),
    ],
)
def test_a_partial_fit_is_refused(tmp_path: Path, change: Callable[[dict], Any], why: str) -> None:
    state = foreign("croco-v1")
    change(state)
    torch.save({"model": state}, tmp_path / "f.pth")
    with pytest.raises(BadInput, match=why):
        import_weights(tmp_path / "f.pth", tmp_path / "out", NOTHING)
    assert not (tmp_path / "out").exists()


def test_what_a_file_does_not_tell_is_asked_for(tmp_path: Path) -> None:
    torch.save(foreign("croco-v2"), tmp_path / "bare.pth")  # no croco_kwargs: self-trained
    with pytest.raises(BadInput, match="say --size-px"):
        import_weights(tmp_path / "bare.pth", tmp_path / "out", NOTHING)
    card = import_weights(
        tmp_path / "bare.pth",
        tmp_path / "out",
        ImportOverrides((SIDE, SIDE), 6, None, "croco-v2", "theirs"),
    )
    assert card["model"]["heads"] == 6
    assert card["objective"] == "croco-v2"
    assert card["dataset"] == "theirs"
    narrow = {
        key: value[..., :1] if value.ndim > 1 else value for key, value in foreign("timm").items()
    }
    torch.save(
        {**narrow, "patch_embed.proj.weight": torch.zeros(100, 3, 16, 16)}, tmp_path / "odd.pth"
    )
    with pytest.raises(BadInput, match="width 100 do not tell .* --heads"):
        import_weights(tmp_path / "odd.pth", tmp_path / "out2", NOTHING)


# ---------------------------------------------------------------------------- hostile files


class Attack:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def hostile(folder: Path, marker: Path) -> dict[str, bytes]:
    def written(content: Any, **how: Any) -> bytes:
        torch.save(content, folder / "scratch", **how)
        return (folder / "scratch").read_bytes()

    whole = written({"model": foreign("croco-v1")})
    attack = written({"model": foreign("timm"), "args": Attack(marker)})
    files = {
        "empty": b"",
        "text": b"hello",
        "truncated": whole[: len(whole) // 2],
        "no directory": whole[:-200],
        "pickle": pickle.dumps(Attack(marker)),
        "pickle, legacy": written({"model": Attack(marker)}, _use_new_zipfile_serialization=False),
        "pickle in zip": attack,
        "list": written([1, 2]),
        "names without weights": written({"model": {"blocks.0.norm1.weight": "text"}}),
        "lying safetensors": struct.pack("<Q", 2**40) + b'{"a":{}}',
        "safetensors beyond its end": struct.pack("<Q", 60)
        + b'{"a":{"dtype":"F32","shape":[9999],"data_offsets":[0,39996]}}   ',
    }
    for name, member, how in (
        ("climbs", "../../evil/data.pkl", zipfile.ZIP_STORED),
        ("bomb", "archive/data.pkl", zipfile.ZIP_DEFLATED),
    ):
        with zipfile.ZipFile(folder / "scratch.zip", "w", how) as archive:
            archive.writestr(member, bytes(50_000_000 if name == "bomb" else 10))
        files[name] = (folder / "scratch.zip").read_bytes()
    return files


def test_hostile_files_are_refused_and_nothing_runs(tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    for name, data in hostile(tmp_path, marker).items():
        path = tmp_path / "given.pth"
        path.write_bytes(data)
        with pytest.raises(BadInput) as refused:
            import_weights(path, tmp_path / "out", NOTHING)
        line = str(refused.value)
        assert str(path) in line, name
        assert "\n" not in line, name
        assert len(line) < 400, name
        assert ("nothing in it was executed" in line) == name.startswith("pickle"), (name, line)
        assert not marker.exists(), name
        assert not (tmp_path / "out").exists(), name
    for path in (tmp_path, tmp_path / "missing.pth"):
        with pytest.raises(BadInput, match="cannot be read"):
            import_weights(path, tmp_path / "out", NOTHING)


SMALLEST = {
    "blocks.0.norm1.weight": torch.ones(4),
    "patch_embed.proj.weight": torch.ones(4, 3, 2, 2),
}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    st.sampled_from(["zip", "legacy", "safetensors"]),
)
def test_random_damage_is_one_line(tmp_path: Path, hits: list[tuple[int, int]], form: str) -> None:
    path = tmp_path / "given.pth"
    if form == "safetensors":
        save_file(SMALLEST, path)
    else:
        torch.save({"model": SMALLEST}, path, _use_new_zipfile_serialization=form == "zip")
    data = bytearray(path.read_bytes())
    for place, value in hits:
        data[place % len(data)] = value
    path.write_bytes(data)
    with pytest.raises(BadInput) as refused:  # even undamaged it is no whole encoder
        import_weights(path, tmp_path / "out", NOTHING)
    assert "\n" not in str(refused.value)


# ---------------------------------------------------------------------------- on the command line


def test_commands(tmp_path: Path, repository: Path) -> None:
    run = CliRunner().invoke
    done = run(
        app,
        [
            "import-weights",
            str(saved(tmp_path, "mae")),
            "--out",
            str(tmp_path / "models/mae-in"),
            "--dataset",
            "imagenet-1k",
        ],
    )
    assert done.exit_code == 0
    assert "encoder and decoder of a mae file, 2 blocks of 192, 64x64 px" in done.output
    (tmp_path / "params.yaml").write_text((repository / "params.yaml").read_text())
    out = tmp_path / "out.pth"
    done = run(
        app,
        [
            "export-weights",
            "mae-in",
            "--format",
            "mae",
            "--out",
            str(out),
            "--params",
            str(tmp_path / "params.yaml"),
        ],
    )
    assert done.exit_code == 0
    assert torch.load(out, weights_only=True)["model"].keys() == foreign("mae").keys()


def test_an_imported_encoder_may_be_a_row(repository: Path, tmp_path: Path) -> None:
    text = (repository / "params.yaml").read_text()
    path = tmp_path / "params.yaml"
    path.write_text(text.replace("  runs: [random,", "  runs: [mae-in, random,"))
    with pytest.raises(BadInput, match="'mae-in' does not exist"):
        load_params(path)
    path.write_text(path.read_text().replace("imported: []", "imported: [mae-in]"))
    assert load_params(path).imported == ("mae-in",)
    path.write_text(text.replace("imported: []", "imported: [random]"))
    with pytest.raises(BadInput, match="random is also the name of a run"):
        load_params(path)


def test_the_report_shows_it_beside_our_runs(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        (repository / "params.yaml")
        .read_text()
        .replace("  runs: [random,", "  runs: [mae-in, random,")
    )
    (tmp_path / "params.yaml").write_text(text.replace("imported: []", "imported: [mae-in]"))
    params = load_params(tmp_path / "params.yaml")
    import_weights(
        saved(tmp_path, "mae"),
        tmp_path / "models/mae-in",
        ImportOverrides(None, None, None, None, "imagenet-1k"),
    )
    said = {"objective": "mae", "dataset": "imagenet-1k", "steps": None}
    publish_result(params, tmp_path, "mae-in", "depth", 0.4, metrics={"delta1": 0.4}, **said)
    report.main(params, tmp_path)
    page = (tmp_path / "report/index.html").read_text()
    assert "imported from mae.pth (mae, sha256" in page
    assert "imagenet-1k" in page
    compare.print_results(params, tmp_path, as_json=True)
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["run"], row["objective"], row["steps"], row["values"]["depth"]) == (
        "mae-in",
        "mae",
        None,
        0.4,
    )
    compare.print_paper_tables(params, tmp_path, as_json=False)
    assert "79.6 / 40" in capsys.readouterr().out


def test_no_width_of_the_field_is_guessed_wrong() -> None:
    """Heads of the models that were published."""
    published = {
        "vit_tiny": (192, 3),
        "vit_small": (384, 6),
        "vit_base": (768, 12),
        "vit_large": (1024, 16),
        "vit_huge": (1280, 16),
    }
    assert dict(published.values()).items() <= HEADS.items()
    assert 512 not in HEADS, "timm's vit_medium has 8, MAE's decoder 16: it must be said"


def test_the_licence_of_an_import_is_what_the_user_says(tmp_path: Path, repository: Path) -> None:
    weights = tmp_path / "official.pth"
    torch.save({"model": foreign("mae")}, weights)
    out = tmp_path / "models/mae-in"
    base = ["import-weights", str(weights), "--out", str(out)]
    silent = CliRunner().invoke(app, base)
    assert silent.exit_code == 0, silent.output
    assert "licence: not stated, so never taken for permissive" in silent.output
    said = CliRunner().invoke(app, [*base, "--licence", "cc by-nc 4.0"])
    assert said.exit_code == 0, said.output
    assert "may be used commercially: no (weights mae-in: CC-BY-NC-4.0)" in said.output
    card = json.loads((out / "card.json").read_text())
    assert card["licences"]["because"]["commercial"] == ["weights mae-in"]
    wrong = CliRunner().invoke(app, [*base, "--licence", "CC-BY-NC-5"])
    assert isinstance(wrong.exception, BadInput)
    assert "did you mean CC-BY-NC-4.0" in str(wrong.exception)


@pytest.mark.parametrize(
    "words",
    [
        ("--heads", "12"),
        ("--mask-ratio", "0.75"),
        ("--rope-base", "100"),
        ("--no-norm-pix-loss",),
        ("--key", "model"),
        ("--prefix", "encoder."),
    ],
)
def test_what_timm_says_itself_is_not_taken_from_the_command_line(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["import-weights", "--timm", "vit_tiny_patch16_224", "--out", str(out), *words]
    )
    with pytest.raises(BadInput, match="not with --timm, which says it itself"):
        raise done.exception or AssertionError(done.output)
    assert not out.exists()
