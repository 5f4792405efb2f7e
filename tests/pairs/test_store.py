"""Shards from a store: any number of processes, a bounded folder, nothing half-fetched ever
read."""

from __future__ import annotations

import functools
import http.server
import multiprocessing
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.pairs import remote as module
from mimic.pairs.images import PairImages, read_manifest
from mimic.pairs.remote import ShardStore
from tests.support import toy_pairs
from tests.support.object_store import ObjectStore

SIZE = 1000


def content(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    for number in range(8):
        path = tmp_path / "remote" / "rooms" / f"shard-{number}.tar"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(number))
    return tmp_path / "remote"


class Handler(http.server.SimpleHTTPRequestHandler):
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def web(remote: Path) -> Iterator[str]:
    Handler.asked = []
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(remote))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def copies(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.tar"))


@pytest.mark.parametrize("kind", ["file", "memory", "http"])
def test_any_address_and_fetched_once(tmp_path: Path, remote: Path, web: str, kind: str) -> None:
    url = {"file": f"file://{remote}", "memory": "memory://bucket/pairs", "http": web}[kind]
    if kind == "memory":
        fsspec.filesystem("memory").pipe("/bucket/pairs/rooms/shard-3.tar", content(3))
    shards = ShardStore(url + "/", tmp_path / "cache", 10 * SIZE)
    for offset, size in ((0, 10), (500, 500), (0, SIZE)):
        assert shards.read("rooms/shard-3.tar", offset, size) == content(3)[offset : offset + size]
    assert copies(tmp_path / "cache") == ["shard-3.tar"]
    if kind == "http":
        assert Handler.asked.count("/rooms/shard-3.tar") == 1
    with pytest.raises(
        BadInput, match=r"shard-9\.tar: (no such shard in the store|cannot be fetched)"
    ):
        shards.read("rooms/shard-9.tar", 0, 1)


def test_a_bucket_found_by_the_environment_alone(
    tmp_path: Path, s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    url = s3_server.bucket("shards")
    fsspec.filesystem("s3").pipe("shards/pairs/rooms/shard-3.tar", content(3))
    shards = ShardStore(f"{url}/pairs", tmp_path / "cache", 10 * SIZE)
    assert shards.read("rooms/shard-3.tar", 500, 500) == content(3)[500:]
    with pytest.raises(BadInput, match=r"shard-9\.tar: no such shard in the store"):
        shards.read("rooms/shard-9.tar", 0, 1)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "somebody-else")
    fsspec.filesystem("s3").clear_instance_cache()
    refused = ShardStore(f"{url}/pairs", tmp_path / "other", 10 * SIZE)
    with pytest.raises(BadInput, match=r"cannot be fetched \(Forbidden\)"):
        refused.read("rooms/shard-3.tar", 0, 1)
    fsspec.filesystem("s3").clear_instance_cache()


def test_the_least_recently_used_make_room(tmp_path: Path, remote: Path) -> None:
    shards = ShardStore(f"file://{remote}", tmp_path / "cache", 3 * SIZE)
    for age, number in enumerate((0, 1, 2)):
        path = shards.local(f"rooms/shard-{number}.tar")
        os.utime(path, (age, age))
    shards.local("rooms/shard-0.tar")  # used again
    shards.local("rooms/shard-5.tar")
    assert copies(tmp_path / "cache") == ["shard-0.tar", "shard-2.tar", "shard-5.tar"]
    tiny = ShardStore(f"file://{remote}", tmp_path / "cache", 1)
    assert tiny.read("rooms/shard-6.tar", 0, SIZE) == content(6)
    assert copies(tmp_path / "cache") == ["shard-6.tar"]


def test_what_others_keep_in_the_folder_is_neither_counted_nor_removed(
    tmp_path: Path, remote: Path
) -> None:
    """However old and large, and whatever its suffix: a cache may be pointed at a folder that holds
    other things."""
    mine = [
        tmp_path / "cache" / name
        for name in ("thesis.tex", "rooms/shard-0.tar", "rooms/.x.part", "deep/er/photo.jpg")
    ]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"mine" * SIZE)
        os.utime(path, (0, 0))
    shards = ShardStore(f"file://{remote}", tmp_path / "cache", 2 * SIZE)
    for number in (1, 2, 3):
        assert shards.read(f"rooms/shard-{number}.tar", 0, SIZE) == content(number)
    assert all(path.read_bytes() == b"mine" * SIZE for path in mine)
    assert copies(tmp_path / "cache") == ["shard-0.tar", "shard-2.tar", "shard-3.tar"]


def test_what_a_killed_process_left_is_not_read_and_goes(tmp_path: Path, remote: Path) -> None:
    left = tmp_path / "cache/rooms/.shard-1.tar.99999.part"
    left.parent.mkdir(parents=True)
    left.write_bytes(content(1)[:100])
    left.with_name(".shard-1.tar.lock").touch()
    shards = ShardStore(f"file://{remote}", tmp_path / "cache", 10 * SIZE)
    assert shards.read("rooms/shard-1.tar", 0, SIZE) == content(1)
    assert left.exists()  # it may be somebody's still
    os.utime(left, (0, 0))
    shards.local("rooms/shard-2.tar")
    assert not left.exists()


def test_a_store_that_sends_less_than_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    memory = fsspec.filesystem("memory")
    memory.pipe("/cut/shard.tar", content(0))
    monkeypatch.setattr(
        type(memory), "get_file", lambda self, remote, local, **_: Path(local).write_bytes(b"few")
    )
    with pytest.raises(
        BadInput, match=r"memory://cut/shard\.tar: cannot be fetched \(3 bytes came of 1000\)"
    ):
        ShardStore("memory://cut", tmp_path / "cache", SIZE).local("shard.tar")
    assert copies(tmp_path / "cache") == []
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_a_store_nobody_answers_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    for url in ("http://127.0.0.1:9", "nosuch://bucket"):
        with pytest.raises(BadInput) as refused:
            ShardStore(url, tmp_path / "cache", SIZE).local("shard.tar")
        assert url.split(":")[0] in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_password_in_the_address_is_not_printed(
    tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a shard that is not there, of a store that does not answer, of one that nobody knows."""
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    there = web.replace("//", "//me:s3cret@")
    for url in (there, "http://me:s3cret@127.0.0.1:9", "nosuch://me:s3cret@bucket"):
        with pytest.raises(BadInput) as refused:
            ShardStore(url, tmp_path / "cache", SIZE).local("none.tar")
        assert "s3cret" not in str(refused.value)
        assert url.rpartition("@")[2] in str(refused.value)


def _hammer(url: str, folder: str, seed: int) -> int:
    shards = ShardStore(url, Path(folder), 3 * SIZE)
    draw = random.Random(seed)
    for _ in range(60):
        number, offset = draw.randrange(8), draw.randrange(SIZE - 20)
        assert (
            shards.read(f"rooms/shard-{number}.tar", offset, 20)
            == content(number)[offset : offset + 20]
        )
    return seed


def test_processes_share_a_folder_that_is_too_small(tmp_path: Path, remote: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        work = [(f"file://{remote}", str(tmp_path / "cache"), seed) for seed in range(3)]
        assert pool.starmap(_hammer, work) == [0, 1, 2]
    assert len(copies(tmp_path / "cache")) <= 3 + 2  # three processes may each be putting one in


def test_a_workspace_without_images_trains_from_the_store(tmp_path: Path) -> None:
    path = toy_pairs.write_dataset(tmp_path / "full", "toy", pairs=4, size_px=32, seed=0)
    rows = read_manifest(path, "train")
    expected = PairImages(rows, tmp_path / "full", None).pairs(np.arange(len(rows)))
    shards = ShardStore(f"file://{tmp_path / 'full'}", tmp_path / "bare/runs/shards", 10**9)
    found = PairImages(rows, tmp_path / "bare", None, shards).pairs(np.arange(len(rows)))
    assert np.array_equal(found, expected)
    PairImages(
        rows, tmp_path / "full", None, ShardStore("nosuch://bucket", tmp_path / "none", 1)
    ).pairs(np.arange(1))  # all is here
    with pytest.raises(BadInput, match="no such shard"):
        PairImages(rows, tmp_path / "bare", None).pairs(np.arange(1))
