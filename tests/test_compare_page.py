"""docs/compare.md, followed to the letter: its runs in a workspace of toy pairs, and each of its
commands."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

import mimic
from mimic import cli
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from tests.support import toy_runs

pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = "docs/compare.md"


@pytest.fixture
def root(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's runs, of toy size."""
    toy_runs.write_workspace(tmp_path, repository)
    space = Workspace(tmp_path)
    rows = pq.read_table(space.manifest("toy"))
    held_out = pc.equal(rows["split"], "validation")
    few = pa.concat_tables([rows.filter(held_out), rows.filter(pc.invert(held_out)).slice(0, 10)])
    for name, chosen in (("small", few), ("large", rows)):
        pq.write_table(chosen, space.manifest(name))
    raw = yaml.safe_load((tmp_path / "params.yaml").read_text())
    (said,) = re.findall(r"```yaml\n(.*?)```", (repository / PAGE).read_text(), re.S)
    raw["runs"] = yaml.safe_load(said)["runs"]
    for run in raw["runs"].values():
        run["steps"] = min(run["steps"], 6)
    raw["datasets"] |= dict.fromkeys(("small", "large"), raw["datasets"]["toy"])
    raw["pretrain"] = {"croco-tiny": raw["pretrain"]["croco"]}
    more = {"dataset": "large", "pairs": 4, "features_of": "random", "tracked_by": "models/random"}
    raw["evaluate"] = {"reconstruction": raw["evaluate"]["reconstruction"] | more}
    raw["table"] |= {"runs": [*raw["runs"]], "tasks": ["reconstruction"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_page_runs(root: Path, repository: Path) -> None:
    said: dict[str, str] = {}
    for block in re.findall(r"```\n(mimic .*?)```", (repository / PAGE).read_text(), re.S):
        for command in block.splitlines():
            done = CliRunner().invoke(cli.app, command.split()[1:], catch_exceptions=False)
            assert done.exit_code == 0, f"{command}: {done.output}"
            said[command] = done.stdout
    assert len(said) == 11
    assert "± " in said["mimic compare"]
    assert said["mimic compare"].count("(n = 3)") == 3
    by_data = said["mimic compare --by dataset"].splitlines()
    assert by_data[0].startswith("reconstruction: large - small (croco-large - croco-small): loss ")
    assert "n = 3 + 3 seeds, paired, the same test items, lower is better)" in by_data[0]
    found = json.loads(said["mimic compare --by dataset --by steps --json"])
    assert len(found["comparisons"]) >= 2
    assert all(len(one["a"]["seeds"]) == 3 for one in found["comparisons"])
    mimic.load_encoder("models/croco-large/seed-1")
    with pytest.raises(BadInput, match="holds an encoder a seed .*seed-0, seed-1, seed-2"):
        mimic.load_encoder("models/croco-large")
    assert len(Workspace(root).encoders("random")) == 3
    report = CliRunner().invoke(cli.app, ["report"], catch_exceptions=False)
    assert report.exit_code == 0
    page = (root / "report/index.html").read_text()
    assert "Runs against each other" in page
    assert "3 encoders" in page
    assert by_data[0].partition("):")[0] in page
