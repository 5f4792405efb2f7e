"""Scenes mined through habitat-sim's worker, driven by its stand-in."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic import config, sources
from mimic.errors import BadInput
from mimic.geometry.overlap import Outcome
from mimic.mining import driver, loop, shard_job
from mimic.params import load_here_or_packaged, load_params
from mimic.scenes import habitat
from mimic.sources.base import Unreadable
from tests.support import HABITAT_STAND_IN
from tests.support.truth import BASE

LOCAL: dict[str, Any] = {"command": (sys.executable,)}


@pytest.fixture
def section(
    repository: Path, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> config.Scenes:
    monkeypatch.setenv("PYTHONPATH", str(HABITAT_STAND_IN))
    scene = tmp_path / "scenes/room.glb"
    scene.parent.mkdir()
    shutil.copy(real_data / "scenes3d/simple_room.glb", scene)
    walk = load_params(repository / "params.yaml").sources["rooms"].model_dump()
    return config.Scenes.model_validate(
        {
            **walk,
            **BASE,
            "root": scene.parent,
            "engine": "habitat",
            "up": "z",
            "positions": 1,
            "island_radius_min_m": 1.0,
        }
    )


def _open(
    section: config.Scenes, gpu_device_id: int = -1, timeout_s: float = 60.0
) -> sources.Source:
    runtime = config.HabitatRuntime(**LOCAL, gpu_device_id=gpu_device_id, timeout_s=timeout_s)
    return sources.open_source("rooms", section, Path(), 224, runtime)


def _mine(section: config.Scenes, log: Path, runtime: config.HabitatRuntime) -> None:
    params = load_here_or_packaged(None)
    clips = _open(section).clips()
    todo = shard_job.jobs("rooms", section, params.mine, Path(), clips, log.parent, habitat=runtime)
    local = params.cluster.model_copy(update={"executor": "local"})
    driver.run(todo, local, "mine rooms", log)


def test_rings_are_rendered_over_the_pipe_with_poses(section: config.Scenes) -> None:
    source = _open(section)
    for group in source.groups("room.glb", np.random.default_rng(0)):
        assert len(group.views) == 24
        assert len(group.pairs) == 8 * 16
        image = group.views[0].read()
        assert image.shape == (224, 224, 3)
        assert image.std() > 0
        assert group.views[0].pose is not None
        assert group.views[0].pose.shape == (4, 4)
        break
    else:
        pytest.fail("no group")


@pytest.mark.parametrize("size", [0, 12, 500])
def test_a_damaged_scene_starts_no_worker(
    section: config.Scenes, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting habitat-sim takes seconds, and its message would name no reason."""

    def start(*_: object) -> None:
        pytest.fail("a worker was started")

    monkeypatch.setattr(habitat, "Worker", start)
    path = section.root / "room.glb"
    path.write_bytes(path.read_bytes()[:size])
    source = _open(section)
    assert source.describe("room.glb")["error"]
    with pytest.raises(Unreadable, match=r"room\.glb: ") as caught:
        list(source.groups("room.glb", np.random.default_rng(0)))
    assert "\n" not in str(caught.value)


def test_a_machine_on_which_every_scene_is_slow_ends_the_mining(
    section: config.Scenes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the empty stage opens in time, so no scene is to blame, and none is logged."""
    monkeypatch.setenv("STAND_IN_LOADS_FOR_S", "60")
    log = tmp_path / "log.jsonl"
    with pytest.raises(BadInput, match="engine habitat: .* took longer than 3 s") as caught:
        _mine(section, log, config.HabitatRuntime(**LOCAL, gpu_device_id=-1, timeout_s=3.0))
    assert "\n" not in str(caught.value)
    assert log.read_text() == ""


def test_a_machine_that_renders_nothing_stops_the_mining(section: config.Scenes) -> None:
    with pytest.raises(
        BadInput, match=r"engine habitat: .*status 1.*unable to find CUDA device 0.*mimic doctor"
    ):
        list(_open(section, gpu_device_id=0).groups("room.glb", np.random.default_rng(0)))


def test_a_wrong_gpu_ends_the_mining_at_the_first_scene(
    section: config.Scenes, tmp_path: Path
) -> None:
    """Six scenes, one line, and nobody waits for the other five to fail as well."""
    for number in range(5):
        shutil.copy(section.root / "room.glb", section.root / f"room-{number}.glb")
    log = tmp_path / "log.jsonl"
    with pytest.raises(
        BadInput, match="engine habitat: .*unable to find CUDA device 0 among 1 EGL devices"
    ):
        _mine(section, log, config.HabitatRuntime(**LOCAL, gpu_device_id=0, timeout_s=60))
    assert log.read_text() == ""


def test_a_scene_that_kills_habitat_while_it_is_mined_is_named(section: config.Scenes) -> None:
    """The worker dies at the first picture: all that depends on it is unreadable, with the reason,
    and nothing is a program's failure."""
    shutil.move(section.root / "room.glb", section.root / "crash-render.glb")
    source = _open(section)
    mine = load_here_or_packaged(None).mine
    stats = loop.MiningStats()
    pairs = list(loop.mine_clip(source, "crash-render.glb", shard_job.rule_of(mine), 0.0, 0, stats))
    stats.check(len(pairs))
    assert not pairs
    assert stats.outcomes[Outcome.UNREADABLE] == stats.candidates > 0
    assert not stats.failed


def test_a_scene_that_habitat_cannot_open_is_counted(section: config.Scenes) -> None:
    shutil.copy(
        section.root / "room.glb", section.root / "slow.glb"
    )  # the stand-in hangs in scenes of this name
    with pytest.raises(Unreadable, match=r"slow\.glb: .*took longer than 12 s"):
        list(_open(section, timeout_s=12.0).groups("slow.glb", np.random.default_rng(0)))


def test_without_the_section_it_is_one_line(section: config.Scenes) -> None:
    source = sources.open_source("rooms", section, Path(), 224, None)
    with pytest.raises(BadInput, match="needs the section `habitat`"):
        list(source.groups("room.glb", np.random.default_rng(0)))
