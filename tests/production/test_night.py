"""A night of a lab, with nothing but real servers: a schedule starts the whole pipeline, and people
find what came of it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.production.conftest import Night
from tests.support import small_pipeline
from tests.support.browser import Browser, browsing
from tests.support.toy_project import wait_until

pytestmark = [pytest.mark.server, pytest.mark.slurm, pytest.mark.timeout(1200)]
STAGES = {
    *("synthesize@phone", "ingest@phone", "mine@phone", "assemble@mimic-1m"),
    *("recipe@random", "recipe@croco", "pretrain@random", "pretrain@croco"),
    "prepare@reconstruction",
    *("evaluate@random-reconstruction", "evaluate@croco-reconstruction", "report"),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    chromium = str(shutil.which("chromium"))
    with browsing(chromium, tmp_path_factory.mktemp("browser") / "profile") as found:
        yield found


def test_a_schedule_ran_the_whole_pipeline(night: Night) -> None:
    lab = night.lab
    (run,) = [one for one in lab.runs("everything") if one["id"] == night.run]
    assert run["auto_scheduled"]
    tasks = lab.tasks(night.run)
    assert {name.partition(" ")[0] for name in tasks} == STAGES
    assert set(tasks.values()) == {"Completed"}
    encoders = {name for name in night.results if name.endswith("encoder.safetensors")}
    assert encoders == {
        "models/random/encoder.safetensors",
        *(f"models/croco/seed-{seed}/encoder.safetensors" for seed in small_pipeline.SEEDS),
    }
    jobs = subprocess.run(
        ["sacct", "--noheader", "--parsable2", "--allocations", "--format=JobName,State"],
        env=lab.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(jobs) >= 3, jobs  # the shards, and both seeds
    assert {line.partition("|")[2] for line in jobs} == {"COMPLETED"}


def test_the_comparison_is_found_in_prefect(
    night: Night, browser: Browser, picture: Callable[[str], Path]
) -> None:
    page = night.lab.prefect.page
    (run,) = [one for one in night.lab.runs("everything") if one["id"] == night.run]
    browser.open(f"{page}/runs", run["name"])
    browser.open(f"{page}/runs/flow-run/{night.run}", run["name"], "Artifacts")
    browser.click("Artifacts")
    browser.wait("mimic compare")  # the description of the table
    browser.picture(picture("prefect-run"))
    (table,) = night.lab.ask(
        "/artifacts/filter",
        artifacts={"key": {"any_": ["results"]}},
        flow_runs={"id": {"any_": [night.run]}},
    )
    seen = browser.open(f"{page}/artifacts/artifact/{table['id']}", "croco", "random")
    browser.picture(picture("prefect-results"))
    assert "reconstruction" in seen


def test_the_comparison_is_found_in_mlflow(
    night: Night, browser: Browser, picture: Callable[[str], Path]
) -> None:
    lab = night.lab
    where = lab.run("mimic", "track").strip()
    assert where.startswith("0 new, "), where
    assert "; 0 encoders registered; best: " in where, "the flow run registers them"
    address = where.rpartition("; ")[2]
    assert address.startswith(lab.mlflow.page)
    browser.open(address, "croco", "random")
    browser.picture(picture("mlflow-comparison"))
    (link,) = lab.ask(
        "/artifacts/filter",
        artifacts={"key": {"any_": ["mlflow"]}},
        flow_runs={"id": {"any_": [night.run]}},
    )
    assert f"]({address})" in link["data"], "the run in Prefect leads to the same page"
    runs = lab.mlflow_runs()
    assert {run["status"] for run in runs} == {"FINISHED"}
    keys = [(run["mimic.key"], run["mimic.fingerprint"]) for run in runs]
    assert len(keys) == len(set(keys)), "a result is there twice"


def test_the_report_opens(night: Night, browser: Browser, picture: Callable[[str], Path]) -> None:
    seen = browser.open((night.lab.root / "report/index.html").as_uri(), "croco", "random")
    browser.picture(picture("report"))
    assert "reconstruction" in seen


def test_a_second_night_does_nothing(night: Night) -> None:
    lab = night.lab
    said = lab.run("dvc", "repro")
    assert "Running stage" not in said
    state = lab.wait_for(lab.start_run("everything"))
    assert (state["name"], state["message"]) == ("Completed", f"{len(STAGES)} unchanged")
    assert small_pipeline.results(lab.root) == night.results


def test_a_clone_elsewhere_pulls_every_number_and_trains_from_the_store(
    night: Night, tmp_path: Path
) -> None:
    """And the cluster, which has the manifest but no image, gives the same weights, although the
    store is away when it asks."""
    lab = night.lab
    lab.run("dvc", "remote", "add", "--force", "--default", "lab", lab.s3.store.bucket("dvc"))
    small_pipeline.commit(lab.root, "A night")
    lab.run("dvc", "push", "--quiet")
    clone = tmp_path / "clone"
    lab.run("git", "clone", "--quiet", str(lab.root), str(clone))
    lab.run("dvc", "pull", "--quiet", cwd=clone)
    assert small_pipeline.results(clone) == night.results
    assert "Running stage" not in lab.run("dvc", "repro", cwd=clone)
    shutil.rmtree(clone / "data/pairs")
    shutil.rmtree(clone / "models/croco")
    small_pipeline.on_slurm(clone, night.shards, tmp_path / "cache")
    lab.s3.kill()
    training = lab.background("mimic", "pretrain", "croco", cwd=clone)
    wait_until(lambda: list((tmp_path / "cache").rglob("*.lock")), 120, "a job to ask for a shard")
    time.sleep(1)
    lab.s3.start()
    said, _ = training.communicate()
    assert training.returncode == 0, said
    assert small_pipeline.results(clone) == night.results
    assert list((tmp_path / "cache").rglob("*.tar")), "the images came from somewhere else"
