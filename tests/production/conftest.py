"""One lab for all tests of this folder: every server real, one night that a schedule started."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.slurm.conftest import PROGRAMS, Sandbox
from tests.support import small_pipeline
from tests.support.installation import Installation, cluster_of, installed
from tests.support.object_store import find_server
from tests.support.servers import missing_of_postgres
from tests.support.toy_project import wait_until

IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
EVERY_S = 15  # the schedule


@dataclass(frozen=True)
class Night:
    """What the first scheduled run left behind."""

    lab: Installation
    run: str
    results: dict[str, str]  # digests, by name
    shards: str  # the address of a bucket with the mined shards
    seconds: float


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Skips where a component is missing, with its name; fails in CI."""
    missing = [*missing_of_postgres(), *_missing_of_slurm()]
    missing += [name for name in ("chromium", "git") if shutil.which(name) is None]
    program = find_server()
    if program is None:
        missing.append("rclone")
    if missing:
        reason = f"not a whole lab: no {', '.join(missing)}"
        pytest.fail(f"{reason} (required in CI)") if IN_CI else pytest.skip(reason)
    before = dict(os.environ)
    sandbox = Sandbox(Path(tempfile.mkdtemp(prefix="mimic-slurm-")))
    root = small_pipeline.make_pipeline(tmp_path_factory.mktemp("lab") / "workspace")
    folder = tmp_path_factory.mktemp("servers")
    small_pipeline.on_slurm(root, None, folder / "shards")
    small_pipeline.commit(root, "Heavy stages are jobs")
    try:
        sandbox.up()
        with installed(root, folder, str(program), cluster_of()) as found:
            found.sandbox = sandbox
            with found.command_lines.watched():
                yield found
    finally:
        sandbox.down()
        os.environ.clear()
        os.environ.update(before)


def _missing_of_slurm() -> list[str]:
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return missing + ([] if os.geteuid() == 0 else ["root, for SLURM"])


@pytest.fixture(scope="session")
def night(lab: Installation) -> Night:
    """The schedule is on until its first run has ended."""
    started = time.monotonic()
    lab.deploy(everything=EVERY_S)
    wait_until(lambda: lab.runs("everything", "RUNNING"), 90, "the schedule to start a run")
    (first, *_) = lab.runs("everything", "RUNNING")
    lab.switch_on("everything", False)
    state = lab.wait_for(first["id"])
    took = time.monotonic() - started
    assert state["type"] == "COMPLETED", "\n".join([state["message"] or "", *lab.logs(first["id"])])
    shards = lab.s3.store.bucket("shards")
    shutil.copytree(lab.root / "data/pairs", lab.s3.store.folder / "shards/data/pairs")
    print(f"the first night took {took:.0f} s")
    return Night(lab, first["id"], small_pipeline.results(lab.root), shards, took)


@pytest.fixture(scope="session")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Where a picture of a page goes: MIMIC_TEST_PICTURES keeps them."""
    kept = os.environ.get("MIMIC_TEST_PICTURES")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("pictures")

    def path(name: str) -> Path:
        return folder / f"{name}.png"

    return path
