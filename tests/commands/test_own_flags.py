"""What is said on the command line of `mimic pairs` reaches the number of that name, and files of
any name come through whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from mimic import config
from mimic.cli import app
from mimic.commands.own import own_data, own_options
from mimic.params import load_params
from tests.support import footage
from tests.support.command import run_mimic

FLAGS: dict[str, Any] = {
    "spacing_s": 2.0,
    "crop_bottom": 0.25,
    "up": "z",
    "group_max": 7,
    "island_radius_min_m": 3.5,
    "texture_max_px": 512,
    "licence": "CC0-1.0",
}


def test_every_flag_is_handed_over_under_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[own_options.Options] = []

    def pairs(*arguments: Any, **_: Any) -> bool:
        handed.append(arguments[3])
        return True

    monkeypatch.setattr(own_data, "pairs", pairs)
    words = [word for name, value in FLAGS.items() for word in (own_options.flag(name), str(value))]
    done = CliRunner().invoke(app, ["pairs", "walk.mp4", "--out", "out", *words])
    assert done.exit_code == 0, done.output
    assert [vars(options) for options in handed] == [FLAGS]


def test_every_option_changes_each_kind_that_has_such_a_number(repository: Path) -> None:
    params = load_params(repository / "params.yaml")
    changed = own_options.sections(params, own_options.Options(**FLAGS))
    as_they_were = own_options.sections(params, own_options.Options())
    for kind, names in (
        (config.Videos, {"spacing_s", "crop_bottom", "licence"}),
        (config.Images, {"group_max", "licence"}),
        (config.Scenes, {"up", "island_radius_min_m", "texture_max_px", "licence"}),
    ):
        assert names == set(FLAGS) & set(kind.model_fields)
        for name in names:
            assert getattr(changed[kind], name) == FLAGS[name]
            assert getattr(as_they_were[kind], name) != FLAGS[name]


def test_spaces_of_any_alphabet_in_a_name_stop_nothing(tmp_path: Path) -> None:
    """As macOS writes them before PM, and Japanese between two words."""
    footage.folder(tmp_path / "旅行\u3000写真", footage.pan(1, 3, 80), "{}.png")
    footage.folder(tmp_path / "mac", footage.pan(2, 3, 80), "Screenshot at {}.01.11\u202fPM.png")
    footage.video(tmp_path / "a\u00a0b\u202fc.mp4", footage.pan(3, 4, 80), fps=1)
    (tmp_path / "named").mkdir()
    footage.video(tmp_path / "named/e\u0301 👩\u200d🚀.mp4", footage.pan(4, 4, 80), fps=1)
    paths = ["旅行\u3000写真", "mac", "a\u00a0b\u202fc.mp4", "named"]
    done = run_mimic(tmp_path, "pairs", *paths, "--out", "out\u202f1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["skipped"], result["damaged"], result["failed"]) == ({}, {}, {})
    assert (result["clips"], result["kept"]) == (4, 2 + 2 + 3 + 3)
    rows = pd.read_parquet(tmp_path / "out\u202f1")
    assert {"a\u00a0b\u202fc.mp4", "e\u0301 👩\u200d🚀.mp4"} <= set(rows["clip"])
    assert "Screenshot at 1.01.11\u202fPM.png" in set(rows["frame_a"])
