from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from mimic import config
from mimic.infra.cluster import ItemsFailed, map_items
from mimic.params import load_params
from tests.support.worker_items import work


@pytest.fixture(scope="module")
def cluster(repository: Path) -> config.Cluster:
    return load_params(repository / "params.yaml").cluster.model_copy(
        update={"workers": 2, "executor": "local"}
    )


def _items(folder: Path, *behaviours: str) -> list[tuple[str, int, str]]:
    return [(str(folder), number, behaviour) for number, behaviour in enumerate(behaviours)]


def _describe(item: tuple[str, int, str]) -> str:
    return f"shard {item[1]}"


def test_results_come_in_the_order_of_the_items_and_a_dead_worker_is_given_another_try(
    tmp_path: Path, cluster: config.Cluster
) -> None:
    items = _items(tmp_path, "slow", "good", "dies once", "good", "slow", "good")
    assert list(map_items(work, items, cluster.mine, cluster, _describe)) == [
        (number, 1) for number in range(6)
    ]


def test_a_worker_that_dies_twice_is_named_and_the_others_are_done(
    tmp_path: Path, cluster: config.Cluster
) -> None:
    results = map_items(
        work, _items(tmp_path, "good", "dies", "good", "slow"), cluster.mine, cluster, _describe
    )
    done = []

    def take_all() -> None:
        for result in results:
            done.append(result)

    with pytest.raises(
        ItemsFailed,
        match=r"a worker process died twice on shard 1: killed, most likely for want of memory",
    ) as caught:
        take_all()
    assert [number for number, _ in done] == [0, 2, 3]
    assert list(caught.value.failed) == ["shard 1"]


def test_an_error_in_a_worker_arrives_as_it_was(tmp_path: Path, cluster: config.Cluster) -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        list(
            map_items(work, _items(tmp_path, "full disk", "good"), cluster.mine, cluster, _describe)
        )
    assert (caught.value.errno, caught.value.filename) == (28, "shard")


@pytest.mark.parametrize("behaviour", ["full disk", "dies"])
def test_a_map_that_fails_leaves_nothing_running(
    tmp_path: Path, cluster: config.Cluster, behaviour: str
) -> None:
    """Neither a process nor a thread of the pool: at the end of the program it would trip over its
    closed pipes, and Python would print that below the one line that says what failed."""
    threads = set(threading.enumerate())
    items = _items(tmp_path, "slow", behaviour, "slow", "slow")
    with pytest.raises((OSError, ItemsFailed)):
        list(map_items(work, items, cluster.mine, cluster, _describe))
    assert set(threading.enumerate()) == threads
    assert multiprocessing.active_children() == []


def test_nothing_to_do_starts_nothing(cluster: config.Cluster) -> None:
    assert list(map_items(work, [], cluster.mine, cluster, _describe)) == []
