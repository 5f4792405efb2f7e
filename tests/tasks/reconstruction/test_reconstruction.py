"""Reconstruction of held-out pairs: masks, losses and distances against a computation of their own,
and FID only on the real weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mimic import evaluate, report
from mimic.commands import compare
from mimic.errors import BadInput
from mimic.infra.storage import file_digest
from mimic.models import Masking, ViTSize, build
from mimic.models.encoder import normalise
from mimic.models.inception import FidInception
from mimic.models.layers import initialise
from mimic.pairs.images import PairImages, read_manifest
from mimic.params import load_params
from mimic.tasks import run_task
from mimic.tasks.api import Result
from mimic.tasks.checks import check
from mimic.tasks.metrics.frechet import frechet_distance
from mimic.tasks.reconstruction import measure
from mimic.tasks.reconstruction.config import ReconstructionTask
from mimic.tasks.reconstruction.measure import NOT_RUN, hiding_noise
from mimic.training.checkpoint import load_encoder, load_model
from tests.support import toy_pairs
from tests.support.miniatures import as_subject, folders_in

SIZES: dict[str, Any] = {
    "patch_px": 8,
    "width": 24,
    "depth": 2,
    "heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "norm_eps": 1e-6,
}
GRID, PX = 4, 8


def publish(
    folder: Path,
    objective: str = "croco",
    norm_pix: bool = True,
    class_token: bool = False,
    mask_ratio: float = 0.9,
) -> Path:
    """A model of random weights, its predictions spread enough to be seen."""
    shape: dict[str, Any] = {**SIZES, "class_token": class_token, "positions": "sincos"}
    masking: dict[str, Any] = {"mask_ratio": mask_ratio, "visible_rounding": "up"}
    model = build(
        objective, ViTSize(**shape, size_px=(32, 32)), Masking(**masking, norm_pix=norm_pix)
    )
    initialise(model, torch.Generator().manual_seed(len(folder.name)))
    folder.mkdir(parents=True)
    save_file(model.encoder.state_dict(), folder / "encoder.safetensors")
    save_file(model.state_dict(), folder / "model.safetensors")
    card = {
        "model": {**shape, "size_px": [32, 32]},
        "objective": objective,
        **masking,
        "norm_pix_loss": norm_pix,
        "dataset": "mimic-3m",
    }
    (folder / "card.json").write_text(
        json.dumps({**card, "run": folder.name, "steps": 7, "versions": {}})
    )
    return folder


@pytest.fixture
def task() -> ReconstructionTask:
    shared = {
        "dataset": "toy",
        "tracked_by": Path("models/judge"),
        "samples": 3,
        "seed": 5,
        "preset": "standard",
        "split": "validation",
    }
    masking: dict[str, Any] = {
        "mask_ratio": 0.75,
        "visible_rounding": "down",
        "paste_visible": True,
    }
    own = {
        "task": "reconstruction",
        "pairs": 6,
        "batch": 4,
        "inception": None,
        "features_of": "judge",
    }
    return ReconstructionTask.model_validate({**shared, **masking, **own})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight held-out pairs, and the encoder that judges."""
    toy_pairs.write_dataset(tmp_path, "toy", pairs=10, size_px=32, seed=0, validation=8)
    publish(tmp_path / "models/judge", class_token=True)
    return tmp_path


@pytest.fixture
def run(root: Path) -> Callable[..., Result]:
    def measured(task: ReconstructionTask, name: str, **how: Any) -> Result:
        folder = root / "models" / name
        folder = folder if folder.exists() else publish(folder, **how)
        return run_task(task, as_subject(None, folder), folders_in(root))

    return measured


def by_hand(
    task: ReconstructionTask, root: Path, folder: Path
) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Loss of each pair, true views and made views, patch by patch in numpy; only the prediction is
    the model's."""
    rows = read_manifest(root / "data/manifests/toy.parquet", "validation")
    model, made, losses = load_model(folder), [], []
    model.visible = 4
    images = PairImages(rows, root, (32, 32))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    truth = []
    for key in chosen(task, root):
        pair = images.pairs(np.flatnonzero(images.keys == key))
        noise = hiding_noise([key], GRID * GRID, task.seed)
        with torch.no_grad():
            _, prediction, mask = model(normalise(pair)[:, : model.views], noise)
        hidden = set(np.argsort(noise[0].numpy())[4:])
        assert hidden == set(np.flatnonzero(mask[0].numpy()))
        view = (pair[0, 0].numpy() / 255 - mean) / std
        canvas, errors = np.array(pair[0, 0].numpy(), dtype=np.float64) / 255, []
        for patch in range(GRID * GRID):
            box = np.s_[
                patch // GRID * PX : patch // GRID * PX + PX,
                patch % GRID * PX : patch % GRID * PX + PX,
            ]
            middle, spread = view[box].mean(), np.sqrt(view[box].var(ddof=1) + 1e-6)
            answer = prediction[0, patch].numpy().reshape(PX, PX, 3)
            pixels = answer * spread + middle if model.norm_pix else answer
            if patch in hidden:
                errors.append(np.mean(((pixels - view[box]) / spread) ** 2))
            if patch in hidden or not task.paste_visible:
                canvas[box] = pixels * std + mean
        losses.append(float(np.mean(errors)))
        truth.append(pair[0, 0].numpy())
        made.append((canvas.clip(0, 1) * 255).round().astype(np.uint8))
    return losses, np.stack(truth), np.stack(made)


def chosen(task: ReconstructionTask, root: Path) -> list[str]:
    return list(measure._sample_pairs(task, root / "data/manifests/toy.parquet")["key"])


def shown_to_extractors(
    task: ReconstructionTask, root: Path, folder: Path
) -> tuple[np.ndarray, np.ndarray]:
    """True and made views uint8[pairs, h, w, 3], as the distances are computed of."""
    shown: list[np.ndarray] = []

    def extract(images: torch.Tensor) -> torch.Tensor:
        shown.append(images.numpy().copy())
        return torch.zeros(len(images), 1)

    model = load_model(folder)
    model.visible = 4
    rows = measure._sample_pairs(task, root / "data/manifests/toy.parquet")
    measure._look(task, model, rows, folders_in(root), {"own": extract})
    return np.concatenate(shown[::2]), np.concatenate(shown[1::2])


def frechet_by_hand(first: np.ndarray, second: np.ndarray) -> float:
    """Means and covariances, the root of whose product is taken by its eigenvalues."""
    a, b = (np.cov(part, rowvar=False) for part in (first, second))
    roots = np.sqrt(np.clip(np.linalg.eigvals(a @ b).real, 0, None)).sum()
    apart = np.sum((first.mean(axis=0) - second.mean(axis=0)) ** 2)
    return float(apart + np.trace(a) + np.trace(b) - 2 * roots)


def kernel_by_hand(first: np.ndarray, second: np.ndarray) -> float:
    """Means of (x.y / d + 1)^3 within the sets, each with the others, and across them."""

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        pairs = [(x, y) for i, x in enumerate(a) for j, y in enumerate(b) if not (same and i == j)]
        return float(np.mean([(x @ y / len(x) + 1) ** 3 for x, y in pairs]))

    return mean(first, first, True) + mean(second, second, True) - 2 * mean(first, second, False)


@pytest.mark.parametrize("paste", [True, False])
@pytest.mark.parametrize(
    "how", [{}, {"objective": "mae", "class_token": True}, {"norm_pix": False}], ids=str
)
def test_numbers_by_hand(
    task: ReconstructionTask,
    root: Path,
    run: Callable[..., Result],
    how: dict[str, Any],
    paste: bool,
) -> None:
    task = task.model_copy(update={"paste_visible": paste})
    found = run(task, "subject", **how)
    losses, truth, made = by_hand(task, root, root / "models/subject")
    assert found.test_size == len(losses) == 6
    assert found.value == found.metrics["loss"]
    assert not found.higher_is_better
    assert found.value == pytest.approx(np.mean(losses), rel=1e-4)
    assert found.metrics["standard_error"] == pytest.approx(
        np.std(losses, ddof=1) / np.sqrt(6), rel=1e-3
    )
    assert found.metrics["flat_loss"] == pytest.approx(
        191 / 192, rel=1e-3
    )  # unbiased deviation of 192 numbers

    judge, _ = load_encoder(root / "models/judge")
    shown = shown_to_extractors(task, root, root / "models/subject")
    np.testing.assert_array_equal(shown[0], truth)
    off = np.abs(shown[1].astype(int) - made)
    assert off.max() <= 1
    assert (off > 0).mean() < 0.01  # rounding in another order
    with torch.no_grad():
        features = [
            judge.tokens(normalise(torch.from_numpy(views)))[1].mean(dim=1).double().numpy()
            for views in shown
        ]
    assert found.metrics["frechet_own"] == pytest.approx(frechet_by_hand(*features), rel=1e-3)
    assert found.metrics["kernel_own"] == pytest.approx(kernel_by_hand(*features), rel=1e-3)
    assert found.metrics["features"]["model"] == "judge"
    assert found.metrics["masking"]["visible"] == 4
    error = (
        np.square((made.astype(float) - truth) / 255).mean(axis=(1, 2, 3)) * 16 / 12
    )  # pasted patches are right
    if paste:
        assert found.metrics["pixel_mse"] == pytest.approx(error.mean(), rel=1e-2)
        assert found.metrics["PSNR_dB"] == pytest.approx(np.mean(-10 * np.log10(error)), rel=1e-2)


def test_every_model_is_shown_the_same_patches(
    task: ReconstructionTask, run: Callable[..., Result]
) -> None:
    """Whatever was shown in training: 2 of 16 patches to one model, 8 to the other."""
    one, other = (
        run(task, "one"),
        run(task, "other", objective="mae", class_token=True, mask_ratio=0.5),
    )
    for first, second in zip(one.pictures, other.pictures, strict=True):
        strips = [np.split(picture.image, 4, axis=1) for picture in (first, second)]
        for panel in (0, 1, 3):  # view a, what is shown, view b
            assert (strips[0][panel] == strips[1][panel]).all()
        assert (strips[0][2] != strips[1][2]).any()
    assert [result.metrics["masking"]["visible_in_training"] for result in (one, other)] == [2, 8]
    assert one.metrics == run(task, "one").metrics
    assert one.metrics == run(task.model_copy(update={"batch": 1}), "one").metrics | {
        name: pytest.approx(value, rel=1e-4)
        for name, value in one.metrics.items()
        if isinstance(value, float)
    }


def test_a_mask_follows_from_seed_and_key_alone() -> None:
    both = hiding_noise(["a", "b"], 16, 0)
    assert (hiding_noise(["b"], 16, 0)[0] == both[1]).all()
    assert (both[0] != both[1]).any()
    assert (hiding_noise(["a"], 16, 1)[0] != both[0]).any()


def test_without_weights_every_file_and_table_says_so(
    root: Path, repository: Path, task: ReconstructionTask, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(root / "models/croco-3m")
    params = load_params(repository / "params.yaml")
    tracking = params.tracking.model_copy(update={"uri": None})
    params = params.model_copy(update={"evaluate": {"reconstruction": task}, "tracking": tracking})
    evaluate.main(params, root, "croco-3m", "reconstruction")
    found = json.loads((root / "metrics/croco-3m/reconstruction.json").read_text())
    assert found["metrics"]["FID"] == found["metrics"]["KID"] == NOT_RUN == "not run: weights"
    assert NOT_RUN in found["protocol"]
    assert found["metrics"]["frechet_own"] > 0
    assert found["standard_error"] > 0
    assert found["kind"] == "reconstruction"
    assert found["overrides"] == {"mask_ratio": 0.75, "pairs": 6, "split": "validation"}
    assert len(list((root / "samples/croco-3m/reconstruction").glob("*.png"))) == 3

    compare.print_paper_tables(params, root, as_json=False)
    assert "73.12 / not run: weights" in capsys.readouterr().out
    compare.print_paper_tables(params, root, as_json=True)
    (table,) = [
        table for table in json.loads(capsys.readouterr().out) if table["name"] == "Table 3"
    ]
    values = [[ours["value"] for ours in cell["ours"]] for cell in table["rows"][1]["cells"]]
    assert values == [[found["value"]], [NOT_RUN]]
    params = params.model_copy(
        update={"table": params.table.model_copy(update={"tasks": ("reconstruction",)})}
    )
    report.main(params, root)
    assert "not run: weights</small>" in (root / "report/index.html").read_text()


def test_with_weights(
    root: Path,
    task: ReconstructionTask,
    run: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The published file is not here: random weights of its layout, without the counters that old
    files lack, take its place."""
    torch.manual_seed(0)
    state = {
        key: value
        for key, value in FidInception().state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    torch.save(state, root / "inception.pth")
    task = task.model_copy(update={"inception": Path("inception.pth"), "pairs": 3, "batch": 3})
    with pytest.raises(BadInput, match="the published weights have 6726825d"):
        run(task, "subject")
    monkeypatch.setattr(measure, "INCEPTION_SHA256", file_digest(root / "inception.pth"))
    found = run(task, "subject")
    assert (
        found.metrics["inception"]
        == check(task, root)["inception"]
        == file_digest(root / "inception.pth")
    )
    network = measure.load_inception(root / "inception.pth")
    assert not network.training
    shown = shown_to_extractors(task, root, root / "models/subject")
    with torch.no_grad():
        inputs = [measure.as_input(torch.from_numpy(views)) for views in shown]
        features = [network(views).double().numpy() for views in inputs]
    assert features[0].shape == (3, 2048)
    assert found.metrics["FID"] == pytest.approx(frechet_distance(*features), rel=1e-3)
    assert found.metrics["KID"] == pytest.approx(kernel_by_hand(*features), rel=1e-3, abs=1e-9)
    torch.save(
        {key: value for key, value in state.items() if not key.startswith("fc.")},
        root / "inception.pth",
    )
    monkeypatch.setattr(measure, "INCEPTION_SHA256", file_digest(root / "inception.pth"))
    with pytest.raises(BadInput, match="2 missing"):
        run(task, "subject")


def test_the_data_are_checked_first(root: Path, task: ReconstructionTask) -> None:
    found = check(task, root)
    assert found["splits"] == {"validation": 6}
    assert found["inception"] is None
    assert str(root) not in json.dumps(found)
    assert found["features_of"] == {
        "model": "judge",
        "sha256": file_digest(root / "models/judge/encoder.safetensors"),
    }


def test_of_a_run_with_seeds_the_first_judges(
    root: Path, task: ReconstructionTask, run: Callable[..., Result]
) -> None:
    """The lowest number, not the first name; and a seed may be named."""
    for seed in (10, 2):
        publish(root / f"models/judges/seed-{seed}", class_token=True)
    digests = {
        seed: file_digest(root / f"models/judges/seed-{seed}/encoder.safetensors")
        for seed in (2, 10)
    }
    assert digests[2] != digests[10]
    for named, seed in (("judges", 2), ("judges/seed-10", 10)):
        asked = task.model_copy(update={"features_of": named})
        expected = {"model": f"judges/seed-{seed}", "sha256": digests[seed]}
        assert check(asked, root)["features_of"] == expected
        features = run(asked, "subject").metrics["features"]
        assert {key: features[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            {"pairs": 500},
            "8 pairs in its validation split, 500 asked for: 492 short; lower pairs, or raise "
            "datasets.toy.validation",
        ),
        ({"split": "test"}, "no pair in its test split"),
        ({"inception": Path("nowhere.pth")}, "nowhere.pth: no such file; get pt_inception"),
        ({"features_of": "nobody"}, "models/nobody"),
    ],
)
def test_what_is_missing_is_one_line(
    root: Path,
    task: ReconstructionTask,
    run: Callable[..., Result],
    change: dict[str, Any],
    complaint: str,
) -> None:
    task = task.model_copy(update=change)
    for go in (lambda: check(task, root), lambda: run(task, "subject")):
        with pytest.raises(BadInput, match=complaint) as caught:
            go()
        assert "\n" not in str(caught.value)


def test_models_that_cannot_reconstruct(
    root: Path, task: ReconstructionTask, run: Callable[..., Result]
) -> None:
    with pytest.raises(BadInput, match="leaves 0 of 16 patches visible"):
        run(task.model_copy(update={"mask_ratio": 0.99}), "subject")
    (root / "models/subject/model.safetensors").unlink()
    with pytest.raises(BadInput, match="holds an encoder only"):
        run(task, "subject")
