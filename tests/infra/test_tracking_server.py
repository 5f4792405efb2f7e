"""A real MLflow server: what a browser shows of the experiment, what the registry hands out, and
two workspaces beside each other. The password in its address is nowhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest
import timm
import torch

from mimic.commands.hand_out.registered import pack
from mimic.infra import tracking
from mimic.infra.tracking.identity import identity_of
from mimic.training.checkpoint import load_encoder
from tests.support.browser import browsing
from tests.support.tracked_results import (
    TOLD,
    client_of,
    mlflow_server,
    pictures,
    publish_all,
    publish_evaluation,
    publish_pretraining,
    publish_seeds,
    search,
    with_weights,
)

pytestmark = pytest.mark.server
PASSWORD = "s3cret-w0rd"
ADE = {
    "kind": "segmentation",
    "name": "mIoU",
    "section": {"data": "data/raw/ADEChallengeData2016"},
}
# What the charts on the page draw, as plotly was told.
CHARTS = """
Array.from(document.querySelectorAll(".js-plotly-plot")).map(chart =>
  chart.data.map(one => ({type: one.type, names: Array.from(one.y), values: Array.from(one.x)})))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder) as page:
        yield page, folder


@pytest.fixture
def server(served: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    """Its page; results go there, by an address with a password."""
    page, _ = served
    monkeypatch.setenv("MLFLOW_TRACKING_URI", page.replace("//", f"//bob:{PASSWORD}@"))
    return page


def compared(root: Path) -> Path:
    """Two datasets, a task each of two kinds, two seeds."""
    for run, shift in (("croco-1m", 0.0), ("croco-3m", 0.1)):
        publish_seeds(root, run, "depth", (0.4 + shift, 0.5 + shift))
        publish_seeds(root, run, "segmentation", (0.2 + shift, 0.3 + shift), **ADE)
    return root


def told(prefix: str) -> tracking.TrackingContext:
    where = TOLD.tracking.model_copy(update={"experiment_prefix": prefix})
    return tracking.TrackingContext(**{**vars(TOLD), "tracking": where})


def test_the_chart_view_is_the_comparison(
    server: str,
    served: tuple[str, Path],
    tmp_path: Path,
    require_program: Callable[[str], str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    chromium = require_program("chromium")
    workspace = compared(tmp_path / "workspace")
    summary = tracking.mirror_all(told("charts"), workspace)
    assert summary.where.startswith(f"{server}/#/experiments/")
    bars = {"croco-1m (mimic-1m, 2 seeds)", "croco-3m (mimic-3m, 2 seeds)"}
    with browsing(chromium, tmp_path / "profile") as browser:
        browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=1800,
            height=1300,
            deviceScaleFactor=1,
            mobile=False,
        )
        shown = browser.open(summary.where, "nyuv2/delta1", "ade20k/miou", *bars, patience_s=120)
        drawn: list[Any] = []
        until = time.monotonic() + 240
        while len(drawn) < 2 and time.monotonic() < until:
            time.sleep(0.3)
            drawn = browser.evaluate(CHARTS)
        browser.picture(pictures(tmp_path) / "mlflow-charts.png")
    for other in ("train/loss", "rms", "averages", "system/", "best_block"):
        assert other not in shown, "only what runs are compared by"
    assert len(drawn) == 2, "one chart a task"
    for chart in drawn:
        names = [name for one in chart for name in one["names"]]
        assert {one["type"] for one in chart} == {"bar"}
        assert len(names) == 2, "one bar a dataset"
    values = [value for chart in drawn for one in chart for value in one["values"]]
    assert sorted(values) == pytest.approx([0.25, 0.35, 0.45, 0.55])

    said = "".join(capfd.readouterr())
    assert PASSWORD not in said + summary.where + summary.best
    assert "View run" not in said
    kept = [path for path in served[1].rglob("*") if path.is_file()]
    assert len(kept) > 10
    assert [path for path in kept if PASSWORD.encode() in path.read_bytes()] == []


def test_two_workspaces_leave_each_other_alone(server: str, tmp_path: Path) -> None:
    """Runs of one name, measured on other images."""
    about = told("shared")
    ours, theirs = (publish_all(tmp_path / name) for name in ("ours", "theirs"))
    publish_evaluation(theirs, "croco-3m", 0.353, data_digest="0ther" * 3)
    for root in (ours, theirs, ours):
        tracking.mirror_all(about, root)
    client = client_of(server)
    assert tracking.mirror_all(about, theirs).new == 0
    client_runs = client.search_runs(
        [client.get_experiment_by_name("shared").experiment_id], "tags.current = 'true'"
    )
    assert len(client_runs) == 2 * 9, "nobody took anything from the other"
    for root, value, digest in ((ours, 0.6, "da7a" * 4), (theirs, 0.353, "0ther" * 3)):
        query = f"tags.workspace = '{identity_of(root).workspace}' and tags.`mimic.level` = 'run'"
        run = search(client, query, "shared")["croco-3m (mimic-3m, 1 seed)"]
        assert run.data.metrics == {"nyuv2/delta1": value}
        assert run.data.tags["data.depth"] == f"nyuv2@{digest}"


def test_the_registry_hands_out_encoders_without_pickles(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    about = told("encoders")
    for seed, (run, value) in enumerate({"croco-1m": 0.5, "croco-3m": 0.6}.items()):
        with_weights(publish_pretraining(tmp_path, run, seed), seed)
        publish_evaluation(tmp_path, run, value)
    name = f"encoders-{identity_of(tmp_path).workspace}"
    summary = tracking.mirror_all(about, tmp_path, pack)
    assert summary.encoders == 2
    assert summary.best == (
        f"models:/{name}@best is croco-3m (highest delta1 of depth, mean over seeds, of 2 runs)"
    )
    assert tracking.mirror_all(about, tmp_path, pack).encoders == 0

    import mlflow

    encoder, _ = load_encoder(tmp_path / "models/croco-3m")
    images = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        wanted = encoder(images)
        loaded = mlflow.pytorch.load_model(f"models:/{name}@best")
        assert torch.allclose(loaded(images), wanted, atol=1e-6)
        folder = mlflow.artifacts.download_artifacts(f"models:/{name}@croco-3m")
        theirs: Any = timm.create_model(f"local-dir:{folder}/timm", pretrained=True).eval()
        assert torch.allclose(theirs.forward_features(images), wanted, atol=1e-5)

    with_weights(publish_pretraining(tmp_path, "croco-1m", 7), 7)
    publish_evaluation(tmp_path, "croco-1m", 0.9)
    again = tracking.mirror_all(about, tmp_path, pack)
    assert again.encoders == 1
    assert "is croco-1m" in again.best
    client = client_of(server)
    assert str(client.get_model_version_by_alias(name, "best").version) == "3"
    publish_evaluation(tmp_path, "croco-1m", 0.9, protocol="another")
    said = tracking.mirror_all(about, tmp_path, pack).best
    assert re.search("none: depth of croco-.m was measured with another protocol", said)
    (model,) = client.search_registered_models(f"name = '{name}'")
    assert "best" not in model.aliases, "it would lead to what is the best by no rule"
    assert "best.rule" not in model.tags
    assert set(model.aliases) == {"croco-1m", "croco-3m"}


def test_registered_weights_of_an_embedded_store_are_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = publish_pretraining(tmp_path, "croco-1m")
    with_weights(folder, 0)
    shutil.rmtree(tmp_path / "metrics", ignore_errors=True)
    summary = tracking.mirror_all(TOLD, tmp_path, pack)
    assert summary.encoders == 1
    assert summary.best == "none: no run has a result on depth yet"
    (weights,) = (tmp_path / "mlruns").rglob("model.safetensors")
    assert weights.samefile(folder / "encoder.safetensors")


@pytest.mark.parametrize("move", ["moved", "copied"])
def test_an_embedded_store_goes_with_its_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: str
) -> None:
    """Registered encoders load from where they are now, and nothing is written where they were."""
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "first place"
    with_weights(publish_pretraining(root, "croco-1m"), 0)
    publish_evaluation(root, "croco-1m", 0.5)
    tracking.mirror_all(TOLD, root, pack)
    there = tmp_path / "second place"
    if move == "moved":
        root.rename(there)
    else:
        shutil.copytree(root, there, symlinks=True)
    before = {path for path in root.rglob("*") if path.is_file()}
    with_weights(publish_pretraining(there, "croco-3m", 1), 1)
    assert tracking.mirror_all(TOLD, there, pack).encoders >= 1
    assert {path for path in root.rglob("*") if path.is_file()} == before
    uri = f"sqlite:///{there / 'mlflow.db'}"
    client = client_of(uri)
    addresses = [
        run.info.artifact_uri
        for run in client.search_runs([one.experiment_id for one in client.search_experiments()])
    ]
    assert len(addresses) > 2
    assert all(address.startswith((there / "mlruns").as_uri()) for address in addresses)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    for model in client.search_registered_models():
        for alias in model.aliases:
            folder = mlflow.artifacts.download_artifacts(f"models:/{model.name}@{alias}")
            assert Path(folder).is_relative_to(there)


@pytest.mark.parametrize("lost", ["its run", "its files"])
def test_an_encoder_whose_version_cannot_be_loaded_is_registered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """`mlflow gc` removes deleted runs with their files, and leaves the versions made of them."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with_weights(publish_pretraining(tmp_path, "croco-1m"), 0)
    publish_evaluation(tmp_path, "croco-1m", 0.5)
    assert tracking.mirror_all(TOLD, tmp_path, pack).encoders == 1
    assert tracking.mirror_all(TOLD, tmp_path, pack).encoders == 0
    client = client_of(uri)
    (name,) = (model.name for model in client.search_registered_models())
    (first,) = client.search_model_versions(f"name = '{name}'")
    if lost == "its run":
        client.delete_run(first.run_id)
        command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri]
        subprocess.run(
            command, check=True, env=os.environ | {"MLFLOW_TRACKING_URI": uri}, cwd=tmp_path
        )
    else:
        shutil.rmtree(unquote(urlparse(first.source).path))
    assert tracking.mirror_all(TOLD, tmp_path, pack).encoders == 1
    assert tracking.mirror_all(TOLD, tmp_path, pack).encoders == 0
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    import mlflow

    for alias in ("croco-1m", "best"):
        assert client.get_model_version_by_alias(name, alias).version == 2
        folder = mlflow.artifacts.download_artifacts(f"models:/{name}@{alias}")
        assert list(Path(folder).rglob("*.safetensors"))
