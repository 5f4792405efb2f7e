"""Shards: the same promises on this machine and on SLURM."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from mimic import config
from mimic.infra.cluster import ItemsFailed, map_items
from tests.slurm.conftest import Sandbox
from tests.support import REPOSITORY, cluster_work
from tests.support.toy_project import wait_until


def _items(folder: Path, *behaviours: str) -> list[tuple[str, str, int]]:
    return [(str(folder), behaviour, number) for number, behaviour in enumerate(behaviours)]


def _mapped(
    function: Callable[[Any], Any], items: list[Any], settings: config.Cluster, folder: Path
) -> Generator[Any, None, None]:
    return map_items(function, items, settings.mine, settings, _describe, folder)


def _describe(item: tuple[str, str, int]) -> str:
    return f"item {item[2]}"


def _tries(folder: Path, number: int) -> int:
    return len((folder / f"tries-{number}").read_text().splitlines())


@pytest.mark.slurm
def test_flaky_and_killed_items_are_tried_again_and_a_poisoned_one_is_named(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    items = _items(tmp_path, "good", "flaky", "poisoned", "killed", "good", "good", "good")
    with pytest.raises(ItemsFailed, match=r"1 item\(s\) failed") as info:
        list(
            _mapped(
                cluster_work.mine,
                items,
                cluster("slurm", items_per_job=3),
                tmp_path / "map",
            )
        )
    assert list(info.value.failed) == ["item 2"]
    assert "KeyError: 'always bad 2'" in str(info.value)
    assert "cluster_work.py" in str(info.value)
    assert [_tries(tmp_path, number) for number in range(7)] == [1, 2, 2, 2, 1, 1, 1]
    assert not (tmp_path / "item-2.json").exists()
    mended = [(str(tmp_path), "good", 2)]
    assert [
        result["number"]
        for result in _mapped(cluster_work.mine, mended, cluster("slurm"), tmp_path / "map")
    ] == [2]
    assert not (tmp_path / "map").exists()


@pytest.mark.slurm
def test_a_retry_asks_for_more_memory(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    items = _items(tmp_path, "good", "flaky")
    first, second = _mapped(
        cluster_work.mine,
        items,
        cluster("slurm", retry_mem_growth=2.0),
        tmp_path / "map",
    )
    assert (first["memory_mb"], second["memory_mb"]) == (512, 1024)


@pytest.mark.slurm
def test_an_exception_of_the_driver_cancels_what_runs(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    items = _items(tmp_path, "good", "endless", "endless")
    results = _mapped(cluster_work.mine, items, cluster("slurm", items_per_job=1), tmp_path / "map")
    assert next(results)["number"] == 0
    with pytest.raises(RuntimeError, match="a bug of the stage"):
        results.throw(RuntimeError("a bug of the stage"))
    name = next((tmp_path / "map").glob("mimic-map-*")).name
    deadline = time.monotonic() + 120
    while slurm("squeue", "--noheader", "--me", f"--name={name}"):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def map_slowly(folder: Path, settings: config.Cluster) -> list[dict]:
    return list(_mapped(cluster_work.mine, _items(folder, *["slow"] * 4), settings, folder / "map"))


_DRIVER = """
import pathlib, sys
from tests.slurm import test_slurm_shards
settings = test_slurm_shards.config.Cluster.model_validate_json(sys.argv[2])
test_slurm_shards.map_slowly(pathlib.Path(sys.argv[1]), settings)
"""


@pytest.mark.slurm
def test_a_later_driver_takes_over_what_a_killed_one_left(
    slurm: Sandbox, cluster: Callable[..., config.Cluster], tmp_path: Path
) -> None:
    settings = cluster("slurm", items_per_job=2)
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER, str(tmp_path), settings.model_dump_json()], cwd=REPOSITORY
    )
    try:
        wait_until(lambda: list(tmp_path.glob("tries-*")), 60, "the driver's first item")
    finally:
        driver.kill()
        driver.wait()
    assert [result["number"] for result in map_slowly(tmp_path, settings)] == [0, 1, 2, 3]
    assert [_tries(tmp_path, number) for number in range(4)] == [1, 1, 1, 1]
