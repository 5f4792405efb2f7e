"""The Python interface, on footage made on the spot: mined, pretrained, and its features read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import mimic
from mimic import assemble, pretrain
from mimic.commands.hand_out.export_weights import export_weights
from mimic.infra import storage
from mimic.pairs.select import held_out
from mimic.params import load_params
from mimic.training.checkpoint import read_card
from tests.support import footage


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> mimic.MinedPairs:
    """Pairs of a video and of a folder of photos: overlaps of 1 - 80 / 224, and of less."""
    folder = tmp_path_factory.mktemp("own")
    footage.video(folder / "walk.mp4", footage.pan(0, 6, 80), fps=1)
    footage.folder(folder / "photos", footage.pan(1, 4, 80), "IMG_{}.jpg")
    return mimic.mine_pairs([folder / "walk.mp4", folder / "photos"], out=folder / "pairs")


@pytest.fixture(scope="module")
def model(mined: mimic.MinedPairs) -> Path:
    return mimic.pretrain_encoder(
        mined.folder, out=mined.folder.parent / "work", recipe="croco-tiny", steps=2
    )


def test_mined_pairs_are_counted(mined: mimic.MinedPairs) -> None:
    assert (mined.candidates, mined.kept, mined.skipped) == (5 + 6, 5 + 3, {})
    assert sum(mined.outcomes.values()) == mined.candidates
    assert mined.outcomes["kept"] == mined.kept
    again = mimic.mine_pairs([mined.folder.parent / "walk.mp4"], out=mined.folder.parent / "one")
    assert again.kept == 5


def test_what_could_not_be_read_is_in_the_result(mined: mimic.MinedPairs, tmp_path: Path) -> None:
    walk = (mined.folder.parent / "walk.mp4").read_bytes()
    (tmp_path / "broken.mp4").write_bytes(walk[: len(walk) // 2])
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 64)).save(tmp_path / f"photos/{number}.png")
    (tmp_path / "photos/torn.png").write_bytes((tmp_path / "photos/0.png").read_bytes()[:40])
    paths = [tmp_path / "broken.mp4", tmp_path / "photos"]
    found = mimic.mine_pairs(paths, out=tmp_path / "pairs")
    named = {**found.skipped, **found.damaged, **found.failed}
    assert [Path(name).name for name in named] == ["broken.mp4"]
    [views] = found.unreadable_views.values()
    assert list(views) == ["torn.png"]


def test_options_are_those_of_the_command(mined: mimic.MinedPairs, tmp_path: Path) -> None:
    video = mined.folder.parent / "walk.mp4"
    assert mimic.mine_pairs(video, out=tmp_path / "far", spacing_s=2.0).candidates < 5
    with pytest.raises(mimic.BadInput, match="no option named 'spacing'; known: spacing_s"):
        mimic.mine_pairs(video, out=tmp_path / "x", spacing=2.0)
    with pytest.raises(mimic.BadInput, match="no such file or folder"):
        mimic.mine_pairs(tmp_path / "nothing.mp4", out=tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_pretrained_encoder_gives_the_features_that_timm_gives(
    model: Path, tmp_path: Path
) -> None:
    card = read_card(model)
    assert (card["objective"], card["steps"], card["dataset"]) == ("croco", 2, "own")
    size = card["model"]["size_px"][0]
    picture = footage.plane(7)[:, :size][:size]
    assert cv2.imwrite(str(tmp_path / "a.png"), picture[..., ::-1])
    encoder = mimic.load_encoder(model)
    features = mimic.extract_features(encoder, [tmp_path / "a.png", picture, footage.plane(8)])
    assert features.dtype == np.float32
    assert features.shape == (3, (size // card["model"]["patch_px"]) ** 2, card["model"]["width"])
    np.testing.assert_array_equal(features[0], features[1])

    vit = timm.models.VisionTransformer(**card["timm"]["kwargs"])
    vit.load_state_dict(load_file(model / "encoder.safetensors"), strict=True)
    mean, std = (np.array(values) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = torch.from_numpy(((picture / 255 - mean) / std).transpose(2, 0, 1)[None]).float()
    with torch.inference_mode():
        theirs = vit.eval().forward_features(images)[0].numpy()
    np.testing.assert_allclose(features[1], theirs, atol=2e-4)


def test_features_do_not_depend_on_the_batch(model: Path) -> None:
    encoder = mimic.load_encoder(model)
    images = [footage.plane(seed)[:, :300] for seed in range(5)]
    at_once = mimic.extract_features(encoder, images)
    in_parts = mimic.extract_features(encoder, images, batch=2)
    np.testing.assert_allclose(at_once, in_parts, atol=1e-5)
    with pytest.raises(mimic.BadInput, match="an array is float64 300x400x3; give uint8 RGB"):
        mimic.extract_features(encoder, [np.zeros((300, 400, 3))])


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_of_no_image_is_refused(model: Path, batch: int) -> None:
    encoder = mimic.load_encoder(model)
    with pytest.raises(mimic.BadInput, match=f"batch {batch}: must be 1 or more"):
        mimic.extract_features(encoder, [np.zeros((8, 8, 3), np.uint8)], batch=batch)


def test_a_finished_training_is_not_trained_again(mined: mimic.MinedPairs, model: Path) -> None:
    """The same call gives the same bytes, whether it trains again or not."""
    before = (model / "encoder.safetensors").read_bytes()
    work = mined.folder.parent / "work"
    numbers: dict[str, Any] = {"steps": np.int64(2), "seed": np.int64(0)}
    again = mimic.pretrain_encoder([mined.folder], out=work, recipe="croco-tiny", **numbers)
    assert again == model
    assert (model / "encoder.safetensors").read_bytes() == before
    assert not (mined.folder.parent / "work" / "mlflow.db").exists()


def _drawn_for_validation(pairs: Path, out: Path) -> tuple[Path, str]:
    """A copy of pairs of one clip, and its source's name, which is drawn for validation: names
    decide."""
    rows = pd.read_parquet(pairs)
    (clip,) = set(rows["source"] + "/" + rows["clip"])
    for number in range(100):
        folder = out / f"pairs-{number}"
        source = f"own-{folder.name}-{storage.fingerprint(str(folder.resolve()))[:8]}"
        if held_out(source, [clip], 0.2).all():
            return Path(shutil.copytree(pairs, folder)), source
    raise AssertionError("no name of a hundred was drawn")


def test_an_only_clip_is_trained_on_though_it_was_drawn_for_validation(
    mined: mimic.MinedPairs, tmp_path: Path
) -> None:
    one = mimic.mine_pairs([mined.folder.parent / "walk.mp4"], out=tmp_path / "one")
    folder, source = _drawn_for_validation(one.folder, tmp_path)
    out = tmp_path / "work"
    made = mimic.pretrain_encoder(folder, out=out, recipe="croco-tiny", steps=1)
    assert (made / "encoder.safetensors").exists()
    dataset = yaml.safe_load((out / "params.yaml").read_text())["datasets"]["own"]
    assert list(dataset["sources"]) == [source]
    assert dataset["validation"] == 0
    splits = json.loads((out / "metrics/assemble/own.json").read_text())["splits"]
    assert splits == {"train": one.kept, "validation": 0, "test": 0}


def test_a_dataset_of_one_clip_says_how_to_train_on_it(
    mined: mimic.MinedPairs, tmp_path: Path
) -> None:
    """As a stage of params.yaml, where nobody changes what it says."""
    one = mimic.mine_pairs([mined.folder.parent / "walk.mp4"], out=tmp_path / "one")
    folder, _ = _drawn_for_validation(one.folder, tmp_path)
    out = tmp_path / "work"
    mimic.pretrain_encoder(folder, out=out, recipe="croco-tiny", steps=0)
    file = out / "params.yaml"
    file.write_text(file.read_text().replace("validation: 0\n", "validation: 0.2\n"))
    params = load_params(file)
    assemble.main(params, out, "own")
    with pytest.raises(mimic.BadInput) as caught:
        pretrain.main(params, out, "croco-tiny")
    assert "no pair in its train split" in str(caught.value)
    assert "set datasets.own.validation: 0 in params.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_input_is_one_clear_line(mined: mimic.MinedPairs, tmp_path: Path) -> None:
    with pytest.raises(mimic.BadInput, match=r"runs\.crocoo\.recipe: .*'crocoo'; did you mean"):
        mimic.pretrain_encoder(mined.folder, out=tmp_path, recipe="crocoo", steps=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(mimic.BadInput, match="holds no pair shards"):
        mimic.pretrain_encoder(
            tmp_path / "empty", out=tmp_path / "work", recipe="croco-tiny", steps=1
        )
    with pytest.raises(mimic.BadInput, match="no path is given"):
        mimic.mine_pairs([], out=tmp_path / "work")
    half: Any = 0.5
    with pytest.raises(mimic.BadInput, match=r"seed=0\.5 is no whole number"):
        mimic.pretrain_encoder(mined.folder, tmp_path, recipe="croco-tiny", steps=1, seed=half)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/params.yaml").write_text("sources: {}\n")
    with pytest.raises(mimic.BadInput, match="is a workspace of yours; name a new folder"):
        mimic.pretrain_encoder(mined.folder, out=tmp_path / "mine", recipe="croco-tiny", steps=1)
    assert (tmp_path / "mine/params.yaml").read_text() == "sources: {}\n"


def test_it_starts_from_a_model_or_from_a_file_of_another_project(
    mined: mimic.MinedPairs, model: Path, tmp_path: Path
) -> None:
    """After no step the features are those of the model; of the file, too."""
    file = tmp_path / "theirs.pth"
    export_weights(model, "croco", file)
    images = [np.full((70, 90, 3), value, np.uint8) for value in (10, 200)]
    there = mimic.extract_features(mimic.load_encoder(model), images)
    for init in (model, file):
        out = tmp_path / init.stem
        made = mimic.pretrain_encoder(
            mined.folder, out=out, recipe="croco-tiny", steps=0, init=init
        )
        assert made == out / "models/croco-tiny"
        assert np.array_equal(mimic.extract_features(mimic.load_encoder(made), images), there)
        begun = json.loads((made / "card.json").read_text())["init"]
        assert begun["name"].startswith(f"start-{init.stem}-")
        assert (begun["file"] or {}).get("name") == (file.name if init is file else None)
        assert begun["class_token"] == "none"
    with pytest.raises(mimic.BadInput, match="no-such.pth"):
        mimic.pretrain_encoder(
            mined.folder, out=tmp_path / "w", recipe="croco-tiny", steps=0, init="no-such.pth"
        )


def test_what_was_pretrained_is_a_workspace(model: Path) -> None:
    """Every command works in it; the random encoder is a run of it, as of any other."""
    params = load_params(model.parent.parent / "params.yaml")
    assert list(params.runs) == ["croco-tiny", "random"]
    assert params.runs["croco-tiny"].steps == 2
    assert list(params.datasets["own"].sources) == list(params.sources)


def test_importing_mimic_loads_nothing() -> None:
    code = "import sys, mimic; dir(mimic); print({'numpy', 'torch', 'pydantic'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        mimic.nothing  # noqa: B018


def test_the_example_in_the_readme_runs(repository: Path, tmp_path: Path) -> None:
    """As it stands there, in a folder that holds what it names."""
    blocks = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.S)
    example = next(block for block in blocks if "mine_pairs" in block)
    assert len(example.splitlines()) <= 15
    footage.video(tmp_path / "walk.mp4", footage.pan(0, 6, 80), fps=1)
    photos = footage.folder(tmp_path / "photos", footage.pan(1, 4, 80), "IMG_{}.jpg")
    (tmp_path / "example.py").write_text(example.replace("steps=2000", "steps=1"))
    done = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "8 of 11" in done.stdout
    assert "(4, 64, 128)" in done.stdout
    assert len(list(photos.glob("*.jpg"))) == 4


def test_the_quickstart_script_runs(repository: Path, tmp_path: Path) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80), "IMG_{}.jpg")
    script = (repository / "examples/quickstart.py").read_text()
    (tmp_path / "quickstart.py").write_text(script.replace("STEPS = 200", "STEPS = 1"))
    done = subprocess.run(
        [sys.executable, "quickstart.py", "photos"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "features (2, 64, 128)" in done.stdout
