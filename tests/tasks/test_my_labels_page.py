"""docs/my-labels.md: its entries of params.yaml and each of its commands, on folders as the page
describes them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from mimic import cli
from mimic.params import resolve_params
from tests.support.own_labels import photo, write_folder
from tests.tasks.segmentation.test_own_masks import mask
from tests.tasks.test_evaluate import _publish

PAGE = "docs/my-labels.md"


@pytest.fixture
def root(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with an encoder and three folders."""
    raw = resolve_params(repository / "params.yaml").full()
    (said,) = re.findall(r"```yaml\n(.*?)```", (repository / PAGE).read_text(), re.S)
    raw["evaluate"] = yaml.safe_load(said)["evaluate"]
    raw["evaluate"]["my-depth"] |= {"steps": 4}
    raw["table"] = {**raw["table"], "tasks": ["my-depth"]}
    raw["tracking"]["uri"] = None
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    write_folder(tmp_path / "labels/depth")
    for number in range(30):
        places = [
            (f"classes/{'day' if number % 2 else 'night'}/{number}.webp", photo(number)),
            (f"masks/images/{number}.jpg", photo(number, 40, 48)),
            (f"masks/labels/{number}.png", mask(number)),
        ]
        for place, picture in places:
            path = tmp_path / "labels" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    _publish(tmp_path / "models/croco-1m")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_runs(root: Path, repository: Path) -> None:
    said = {}
    for block in re.findall(r"```\n(mimic .*?)```", (repository / PAGE).read_text(), re.S):
        for command in block.splitlines():
            done = CliRunner().invoke(cli.app, command.split()[1:], catch_exceptions=False)
            assert done.exit_code == 0, f"{command}: {done.output}"
            said[command] = done.stdout
    assert len(said) == 4
    assert "my-depth: median depth 2.55 m: taken as millimetres" in said["mimic prepare my-depth"]
    assert "my-classes: classes: 2 (day, night)" in said["mimic prepare my-classes"]
    assert "my-masks: classes: 3 by the masks' numbers" in said["mimic prepare my-masks"]
    result = json.loads((root / "metrics/croco-1m/my-depth.json").read_text())
    assert "own data depth (depth in millimetres" in result["protocol"]
    assert len(result["data_digest"]) > 8


def test_the_result_follows_the_labels(root: Path) -> None:
    """Another depth in a file of the same length is other data."""
    digests = []
    for shift in (0, 1):
        write_folder(root / "labels/depth", depth="depth/{}.npy".format)
        for place in (root / "labels/depth/depth").glob("*.png"):
            place.unlink()
        if shift:
            path = root / "labels/depth/depth/000.npy"
            path.write_bytes(path.read_bytes()[:-4] + b"\x00\x00\x00\x40")
        done = CliRunner().invoke(cli.app, ["prepare", "my-depth"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        digests.append(json.loads((root / "data/tasks/my-depth.json").read_text())["digest"])
    assert digests[0] != digests[1]
