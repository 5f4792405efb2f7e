"""Clips that show one place lie on one side of the split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimic import config
from mimic.pairs import select
from mimic.params import Params, load_params
from tests.test_assemble import _assemble, _dataset, _shard


@pytest.fixture(scope="module")
def paper(repository: Path) -> Params:
    return load_params(repository / "profiles/paper.yaml")


@pytest.mark.parametrize(
    ("source", "clips", "apart"),
    [
        (
            "scannet",
            [
                "scans/scene0011_00/scene0011_00.sens",
                "scans/scene0011_01",
                "scans_test/scene0011_02",
            ],
            "scans/scene0012_00",
        ),
        (
            "demon",
            ["traindata/a.h5/mit_lab-0000126", "traindata/b.h5/mit_lab-0000300_0000310"],
            "traindata/a.h5/mit_hall-0000126",
        ),
        (
            "demon",
            ["traindata/sun3d_train_00001"],
            "traindata/sun3d_train_00002",
        ),  # converted: nothing is known
        ("streetview", ["dataset_aligned/0002", "dataset_unaligned/0002"], "dataset_aligned/0003"),
        ("mannequin", ["x/trims/1.mp4", "x/trims/2.mp4"], "y/trims/1.mp4"),
        (
            "habitat-scannet",
            ["scene0000_00/scene0000_00.glb", "scene0000_01/scene0000_01.glb"],
            "scene0001_00/scene0001_00.glb",
        ),
        ("co3d", ["toybus/110_13051_23361"], "toybus/110_13051_23362"),
        (
            "arkitscenes",
            ["raw/Training/40753679/40753679.mov"],
            "raw/Training/40753686/40753686.mov",
        ),
    ],
)
def test_names_tell_the_place(paper: Params, source: str, clips: list[str], apart: str) -> None:
    section = paper.sources[source]
    (place,) = {section.scene_group(clip) for clip in clips}
    assert place
    assert place != section.scene_group(apart)


def test_scans_of_a_room_are_on_one_side_and_tested_on_together(
    paper: Params, tmp_path: Path
) -> None:
    scans = [f"scans/scene{room:04}_{scan:02}" for room in range(40) for scan in range(3)]
    for number, scan in enumerate(scans):
        _shard(tmp_path, "scannet", number, [scan], 2)
    test = config.TestPairs(sources={"scannet": 6}, clips=0.1)
    table = _assemble(
        paper,
        tmp_path,
        small=_dataset(scannet=None, validation=0.2, test=test, near_duplicate_bits=None),
    )["small"]
    sides: dict[str, set[str]] = {}
    for clip, split in zip(table["clip"].to_pylist(), table["split"].to_pylist(), strict=True):
        sides.setdefault(clip[: -len("_00")], set()).add(split)
    assert all(len(found) == 1 for found in sides.values())
    assert {split for found in sides.values() for split in found} == {"train", "validation", "test"}


@pytest.mark.parametrize("rooms", [2, 5])
def test_where_chance_takes_no_place_one_whole_place_is_held_out(rooms: int) -> None:
    places = [f"room{number}" for number in range(rooms) for _ in range(3)]
    held = select.held_out("rooms", places, 1e-9)
    assert held.sum() == 3
    assert len(set(np.array(places)[held])) == 1
    assert not select.held_out(
        "rooms", ["room0"] * 3, 1e-9
    ).any()  # one place: all of it is trained on
