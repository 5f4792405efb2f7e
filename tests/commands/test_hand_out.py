"""An export in a colleague's hands: the lines that are printed are executed as they are, by the
project that reads the file, and the features are ours."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from mimic.cli import app
from mimic.commands.hand_out.export_weights import export_weights
from mimic.commands.import_weights import import_weights
from mimic.errors import BadInput
from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD
from mimic.training.checkpoint import load_encoder, load_model, write_weights
from mimic.training.encoder_folder import write_card
from mimic.training.imported.foreign import ImportOverrides
from tests.commands.test_weights import IMAGES, NOTHING, publish
from tests.support import other_projects

KINDS = [("sincos", False), ("sincos", True), ("rope", False), ("rope", True)]
SIZES = [(224, 224), (160, 320), (96, 64)]
# (format, objective, class token, positions) of what each project can read
READ = [
    *(("timm", "croco", token, positions) for positions, token in KINDS),
    *(("hub", "croco", token, positions) for positions, token in KINDS),
    ("mae", "mae", True, "sincos"),
    ("mae", "croco", True, "sincos"),
    ("croco", "croco", False, "sincos"),
    ("croco", "croco", False, "rope"),
    ("croco", "mae", False, "sincos"),
    ("dust3r", "croco", False, "rope"),
    ("dust3r", "mae", False, "rope"),
]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and the other projects on the path of imports."""
    other_projects.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scattered(folder: Path) -> None:
    """Other numbers in a published model, small as those of a trained one, none of them zero: a
    weight in the wrong place shows."""
    draw = torch.Generator().manual_seed(5)
    for name in ("encoder", "model"):
        weights = load_file(folder / f"{name}.safetensors")
        for key, value in weights.items():
            if not key.endswith("pos_embed"):
                noise = 0.02 * torch.randn(value.shape, generator=draw)
                weights[key] = noise + (value == 1).float()
        write_weights(weights, folder / f"{name}.safetensors", {})
    whole = load_file(folder / "model.safetensors")
    encoder = {
        key.removeprefix("encoder."): value
        for key, value in whole.items()
        if key.startswith("encoder.")
    }
    write_weights(encoder, folder / "encoder.safetensors", {})


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def exported(form: str, out: str, *words: object) -> list[str]:
    """The lines that the command printed for loading what it wrote."""
    done = run("export-weights", "ours", "--format", form, "--out", out, *words)
    assert done.exit_code == 0, done.output
    told, lines = done.output.split(f"{out}; to load it:\n\n")
    assert "Traceback" not in told
    return lines.splitlines()


def loaded(lines: list[str]) -> dict[str, Any]:
    """What these lines, and nothing else, leave behind."""
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)
    return names


def features(model: Any, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        if hasattr(model, "forward_features"):
            return model.forward_features(images)
        return model.eval().features(images)


def ours(folder: Path, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return load_encoder(folder)[0](images)


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference, relative to the largest number. In fp32, features of either project
    are 1e-6 off those in fp64."""
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize(("form", "objective", "class_token", "positions"), READ)
def test_the_printed_lines_load_it(
    workspace: Path, form: str, objective: str, class_token: bool, positions: str
) -> None:
    publish(workspace / "models/ours", objective, class_token, positions)
    scattered(workspace / "models/ours")
    found = features(loaded(exported(form, "given"))["model"], IMAGES)
    exact = form in ("timm", "hub") and positions == "sincos"
    wanted = ours(workspace / "models/ours", IMAGES)
    assert apart(found, wanted) <= (0.0 if exact else 1e-6)


@pytest.mark.parametrize("form", ["multimae", "vitpose"])
def test_the_printed_lines_read_weights(workspace: Path, form: str) -> None:
    publish(workspace / "models/ours", "mae", True, "sincos")
    assert len(loaded(exported(form, "given"))["weights"]) > 20


@pytest.mark.parametrize("form", ["timm", "hub"])
@pytest.mark.parametrize("class_token", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_rotary_features_are_timms_at_any_size(
    workspace: Path, form: str, class_token: bool, size: tuple[int, int]
) -> None:
    publish(workspace / "models/ours", "croco", class_token, "rope")
    scattered(workspace / "models/ours")
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    model = loaded(exported(form, "given"))["model"]
    wanted = ours(workspace / "models/ours", images)
    assert apart(features(model, images), wanted) < 1e-6
    last = model.forward_intermediates(images, [1], intermediates_only=True)[0]
    with torch.inference_mode():
        maps = load_encoder(workspace / "models/ours")[0].intermediates(images, [1])[0]
    assert apart(last, maps) < 1e-6
    turned = images.transpose(2, 3)
    assert size == (224, 224) or (features(model, turned) - wanted).abs().max() > 1e-3


def test_another_base_of_the_rotary_frequency(workspace: Path) -> None:
    publish(workspace / "models/ours", "croco", False, "rope")
    scattered(workspace / "models/ours")
    at_100 = ours(workspace / "models/ours", IMAGES)
    card = json.loads((workspace / "models/ours/card.json").read_text())
    card["model"]["rope_base"] = 10.0
    (workspace / "models/ours/card.json").write_text(json.dumps(card))
    wanted = ours(workspace / "models/ours", IMAGES)
    assert (at_100 - wanted).abs().max() > 1e-4
    for form in ("timm", "hub", "croco", "dust3r"):
        found = features(loaded(exported(form, form))["model"], IMAGES)
        assert apart(found, wanted) < 1e-6


def test_another_epsilon_is_told_or_refused(workspace: Path) -> None:
    publish(workspace / "models/ours", "mae", True, "sincos")
    card = json.loads((workspace / "models/ours/card.json").read_text())
    card["model"]["norm_eps"] = 0.1
    (workspace / "models/ours/card.json").write_text(json.dumps(card))
    wanted = ours(workspace / "models/ours", IMAGES)
    assert (features(loaded(exported("timm", "given"))["model"], IMAGES) - wanted).abs().max() == 0
    for form in ("hub", "mae", "multimae", "vitpose"):
        done = run("export-weights", "ours", "--format", form, "--out", "no")
        assert "epsilon of 0.1" in str(done.exception)
        assert not (workspace / "no").exists()


# ---------------------------------------------------------------------------- the folder


def test_a_folder_for_the_hub(workspace: Path) -> None:
    publish(workspace / "models/ours", "croco", False, "sincos")
    exported("hub", "given")
    assert sorted(path.name for path in (workspace / "given").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    model: Any = timm.create_model("local-dir:given", pretrained=True)
    pixels = timm.data.resolve_model_data_config(model)
    assert tuple(pixels["mean"]) == IMAGE_MEAN
    assert tuple(pixels["std"]) == IMAGE_STD
    assert tuple(pixels["input_size"]) == (3, 64, 64)
    assert model.num_classes == 0
    assert model(IMAGES).shape == (2, 192)
    classifier: Any = timm.create_model("local-dir:given", pretrained=True, num_classes=7)
    assert classifier(IMAGES).shape == (2, 7)
    torch.testing.assert_close(
        classifier.forward_features(IMAGES), model.forward_features(IMAGES), atol=0, rtol=0
    )
    done = run("export-weights", "ours", "--format", "hub", "--out", "given")
    assert "given: holds" in str(done.exception)


@pytest.mark.parametrize(("positions", "class_token"), KINDS)
def test_transformers_reads_the_folder(workspace: Path, positions: str, class_token: bool) -> None:
    """Hugging Face's own library, by its wrapper of timm's models."""
    publish(workspace / "models/ours", "croco", class_token, positions)
    scattered(workspace / "models/ours")
    exported("hub", "given")
    model = transformers.AutoModel.from_pretrained("./given").eval()
    with torch.inference_mode():
        found = model(IMAGES).last_hidden_state
    assert apart(found, ours(workspace / "models/ours", IMAGES)) < 1e-6
    pixels = transformers.AutoImageProcessor.from_pretrained("./given")
    assert tuple(pixels.data_config["mean"]) == IMAGE_MEAN


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_others_may_read_it(workspace: Path, mask: int) -> None:
    publish(workspace / "models/ours", "croco", False, "rope")
    publish(workspace / "models/token", "mae", True, "sincos")
    before = os.umask(mask)
    try:
        for form in ("timm", "croco", "dust3r", "hub"):
            exported(form, form)
        for form in ("mae", "multimae", "vitpose"):
            assert run("export-weights", "token", "--format", form, "--out", form).exit_code == 0
        import_weights(workspace / "croco", workspace / "models/back", NOTHING)
    finally:
        os.umask(before)
    places = [workspace / form for form in ("timm", "croco", "dust3r", "mae", "hub")]
    places += [workspace / "models/back", *(workspace / "hub").iterdir()]
    places += (workspace / "models/back").iterdir()
    for path in places:
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_a_folder_where_a_file_is_asked_is_one_line(workspace: Path) -> None:
    publish(workspace / "models/ours", "mae", True, "sincos")
    (workspace / "there").mkdir()
    with pytest.raises(BadInput, match="there: is there already; name a new file in this folder"):
        export_weights(workspace / "models/ours", "timm", workspace / "there")
    assert list((workspace / "there").iterdir()) == []
    (workspace / "file").write_text("mine")
    done = run("export-weights", "ours", "--format", "hub", "--out", "file")
    assert "file" in str(done.exception)
    assert (workspace / "file").read_text() == "mine"


def test_one_of_several_seeds(workspace: Path) -> None:
    publish(workspace / "models/ours/seed-1", "mae", True, "sincos")
    done = run("export-weights", "ours/seed-1", "--format", "timm")
    assert done.exit_code == 0, done.output
    assert (workspace / "ours-seed-1-timm.safetensors").exists()
    done = run("export-weights", "ours", "--format", "timm")
    assert "ours holds 1 seeds; name one, such as ours/seed-1" in str(done.exception)
    done = run("export-weights", "ours/seed-2", "--format", "timm")
    assert "no card.json" in str(done.exception)


@pytest.mark.parametrize("name", ["encoder.safetensors", "model.safetensors"])
def test_weights_that_changed_since_they_were_written_are_not_handed_on(
    workspace: Path, name: str
) -> None:
    """One number is another: nothing but the sha256 of the card tells."""
    folder = workspace / "models/ours"
    publish(folder, "croco", False, "sincos")
    write_card(folder, json.loads((folder / "card.json").read_text()))
    exported("croco", "before")
    path = folder / name
    path.write_bytes(path.read_bytes()[:-1] + b"\x40")
    done = run("export-weights", "ours", "--format", "timm", "--out", "after")
    assert f"{name}: its sha256 is not that of card.json" in str(done.exception)
    assert not (workspace / "after").exists()


@pytest.mark.parametrize("given", ["models/ours", "models/ours/encoder.safetensors"])
def test_weights_that_changed_since_they_were_written_are_not_imported(
    workspace: Path, given: str
) -> None:
    folder = workspace / "models/ours"
    publish(folder, "croco", False, "sincos")
    write_card(folder, json.loads((folder / "card.json").read_text()))
    path = folder / "encoder.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x40")
    with pytest.raises(BadInput, match=r"its sha256 is not that of card\.json"):
        import_weights(workspace / given, workspace / "models/again", NOTHING)


# ---------------------------------------------------------------------------- and back


@pytest.mark.parametrize("form", ["timm", "hub"])
@pytest.mark.parametrize(("positions", "class_token"), KINDS)
def test_what_timm_reads_comes_back(
    workspace: Path, form: str, positions: str, class_token: bool
) -> None:
    """Rotary queries and keys return to our order; base, heads and size are told by the export."""
    publish(workspace / "models/ours", "croco", class_token, positions)
    scattered(workspace / "models/ours")
    exported(form, "given")
    import_weights(workspace / "given", workspace / "models/back", NOTHING)
    before = load_file(workspace / "models/ours/encoder.safetensors")
    after = load_file(workspace / "models/back/encoder.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_rotary_weights_in_an_untold_order_are_refused(workspace: Path) -> None:
    publish(workspace / "models/ours", "croco", False, "rope")
    exported("timm", "given")
    torch.save({"model": load_file(workspace / "given")}, workspace / "bare.pth")
    said = ImportOverrides((64, 64), 3, None, None, None)
    with pytest.raises(BadInput, match="in which order its rotary channels lie"):
        import_weights(workspace / "bare.pth", workspace / "models/back", said)


def test_dust3r_takes_every_weight(workspace: Path) -> None:
    """Nothing is left over, nothing is missing but its own heads, and both of its decoders start
    from ours."""
    publish(workspace / "models/ours", "croco", False, "rope")
    scattered(workspace / "models/ours")
    model = loaded(exported("dust3r", "given"))["model"]
    assert model.loaded.unexpected_keys == []
    assert {key.split(".")[0] for key in model.loaded.missing_keys} == {
        "downstream_head1",
        "downstream_head2",
    }
    whole = load_model(workspace / "models/ours").eval()
    with torch.inference_mode():
        tokens, other = whole.encoder(IMAGES), whole.encoder(IMAGES.flip(0))
        wanted = whole.decoder.stages(tokens, other, (4, 4))[-1]
        found = model.eval().completed(IMAGES, IMAGES.flip(0))
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)
    for one, two in zip(model.dec_blocks.parameters(), model.dec_blocks2.parameters(), strict=True):
        assert torch.equal(one, two)


def test_dust3r_needs_rotary_positions(workspace: Path) -> None:
    publish(workspace / "models/ours", "croco", False, "sincos")
    done = run("export-weights", "ours", "--format", "dust3r", "--out", "no")
    assert "RoPE" in str(done.exception)
    assert "positions: rope" in str(done.exception)
    assert "\n" not in str(done.exception)
    assert not (workspace / "no").exists()
