from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.scenes import axes
from mimic.scenes.axes import DefaultUp, Up

Y_UP = {"up": [0, 1, 0], "front": [0, 0, -1]}
Z_UP = {"up": [0, 0, 1], "front": [0, 1, 0]}


def beside(folder: Path, said: dict | str | None) -> Path:
    """A scene (which nobody opens) with a stage_config.json beside it, or without."""
    scene = folder / "room.glb"
    if said is not None:
        axes.config_of(scene).write_text(said if isinstance(said, str) else json.dumps(said))
    return scene


@pytest.mark.parametrize(
    ("up", "default_up", "said", "note", "habitat_agrees"),
    [
        ("auto", "y", None, "y is up, as glTF 2.0 says (`up: z` says otherwise)", False),
        ("auto", "z", None, "z is up, as scans of this kind are (`up: y` says otherwise)", True),
        ("auto", "z", Y_UP, "y is up, as its stage_config.json says", True),
        ("auto", "y", Z_UP, "z is up, as its stage_config.json says", True),
        ("auto", "y", {"up": [0, 0, 1]}, "z is up, as its stage_config.json says", False),
        (
            "auto",
            "y",
            {"units_to_meters": 0.01},
            "y is up, as glTF 2.0 says (`up: z` says otherwise)",
            False,
        ),
        (
            "auto",
            "z",
            {"up": [-1, 0, 0], "front": [0, 0, 1]},
            "-x is up, as its stage_config.json says",
            True,
        ),
        (
            "auto",
            "z",
            {"up": [0.6, 0.8, 0], "front": [0, 0, 1]},
            "[0.6, 0.8, 0] is up, as its stage_config.json says",
            True,
        ),
        ("y", "z", None, "y is up, as `up: y` says", False),
        ("z", "y", None, "z is up, as `up: z` says", True),
        ("z", "y", Y_UP, "z is up, as `up: z` says", False),
    ],
)
def test_who_says_which_axis_is_up(
    tmp_path: Path,
    up: Up,
    default_up: DefaultUp,
    said: dict | None,
    note: str,
    habitat_agrees: bool,
) -> None:
    found = axes.resolve(beside(tmp_path, said), up, default_up)
    assert found.note == note
    assert found.habitat_agrees is habitat_agrees
    units = (said or {}).get("units_to_meters", 1.0)
    np.testing.assert_allclose(found.world_from_file @ found.up, [0, units, 0], atol=1e-12)
    np.testing.assert_allclose(found.world_from_file @ found.front, [0, 0, -units], atol=1e-12)
    assert np.linalg.det(found.world_from_file) > 0  # turned, not mirrored


@pytest.mark.parametrize(
    "said",
    [
        {"up": [0, 1, 0], "front": [0, 1, 0]},
        {"up": [0, 2, 0], "front": [0, 0, -1]},
        {"up": "y"},
        {"up": [0, 1]},
        {"up": None},
        {"units_to_meters": 0},
        {"units_to_meters": [1]},
        {"scale": [1, 2]},
        {"scale": [1, 1, float("nan")]},
        {"units_to_meters": 10**400},
    ],
)
def test_axes_that_make_no_sense_are_one_line(tmp_path: Path, said: dict) -> None:
    with pytest.raises(
        BadInput, match=r"^\S+room\.stage_config\.json: `up` and `front` must be .*none of them 0$"
    ):
        axes.resolve(beside(tmp_path, said), "auto", "y")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "not readable as JSON"),
        ("[]", "holds no JSON object"),
        pytest.param("[" * 100_000, "not readable as JSON", id="nested without end"),
    ],
)
def test_what_is_no_configuration_is_one_line(tmp_path: Path, said: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        axes.resolve(beside(tmp_path, said), "y", "y")


def test_a_byte_order_mark_before_the_configuration_is_no_damage(tmp_path: Path) -> None:
    assert axes.resolve(beside(tmp_path, "\ufeff" + json.dumps(Z_UP)), "auto", "y").up == (0, 0, 1)
