"""Every command and every YAML of docs/licences.md, and the command of "Look before you train",
run."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import yaml
from typer.testing import CliRunner

from mimic import cli
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.pairs.schema import MANIFEST
from mimic.pairs.write import write_table
from mimic.params import load_params
from mimic.reporting.look import PAGE
from tests.commands.test_weights import foreign
from tests.support import footage, published


def _blocks(text: str, kind: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M)
    return [block for found, block in fenced if found == kind]


def _commands(text: str) -> list[str]:
    return [line for block in _blocks(text, "") for line in block.splitlines()]


@pytest.fixture
def workspace(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset mimic-1m with pairs of HM3D, videos, and an MAE checkpoint."""
    shutil.copy(repository / "params.yaml", tmp_path)
    rows = published.publish_pairs(tmp_path, "rooms", ["a.mp4", "b.mp4"], 2)
    table = pa.Table.from_pylist([row | {"licence": "HM3D"} for row in rows], schema=MANIFEST)
    write_table(table, Workspace(tmp_path).manifest("mimic-1m"))
    footage.video(tmp_path / "videos/walk.mp4", footage.pan(0, 4, 80), fps=1)
    torch.save({"model": foreign("mae")}, tmp_path / "mae.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_on_licences_runs(workspace: Path, repository: Path) -> None:
    commands = _commands((repository / "docs/licences.md").read_text())
    assert len(commands) >= 7
    outputs: dict[str, str] = {}
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "mimic"
        done = CliRunner().invoke(cli.app, words)
        assert done.exit_code == 0, (command, done.output, done.exception)
        outputs[command] = done.output
    assert "may be used commercially: no (weights mae-in" in outputs["mimic licences mae-in"]
    assert "source rooms: HM3D" in outputs["mimic licences mimic-1m"]
    assert (workspace / "for-me/README.md").exists()
    assert (workspace / "mined" / PAGE).exists()


def test_every_yaml_of_the_page_is_valid(workspace: Path, repository: Path) -> None:
    blocks = _blocks((repository / "docs/licences.md").read_text(), "yaml")
    raw: dict[str, Any] = yaml.safe_load((workspace / "params.yaml").read_text())
    declared, asked = map(yaml.safe_load, blocks)
    raw["licences"] = declared["licences"]
    raw["sources"] |= declared["sources"]
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    load_params(workspace / "params.yaml")
    for section, entries in asked.items():
        for name, entry in entries.items():
            raw[section][name] |= entry
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(BadInput, match="mimic-1m.*permissive is asked for, but source phone is"):
        load_params(workspace / "params.yaml")
    raw["sources"]["phone"]["licence"] = "own"
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    load_params(workspace / "params.yaml")


def test_the_command_of_look_before_you_train_runs(workspace: Path, repository: Path) -> None:
    text = (repository / "docs/mining.md").read_text()
    section = text.split("## Look before you train")[1].split("\n## ")[0]
    (command,) = _commands(section)
    done = CliRunner().invoke(cli.app, shlex.split(command)[1:])
    assert done.exit_code == 0, done.output
    address = done.output.splitlines()[-1].removeprefix("look at them: ")
    assert address == (workspace / "mined" / PAGE).resolve().as_uri()
