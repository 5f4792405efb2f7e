from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mimic import cli
from mimic.commands.plan_mining import measured_rates
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.params import load_params
from tests.support import published


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """rooms has been mined: 8 pairs of 2 clips, 4 seconds each; one line of the log is a shard done
    twice, one was cut off."""
    root = tmp_path_factory.mktemp("workspace")
    shutil.copy(repository / "params.yaml", root)
    published.publish_pairs(root, "rooms", ["a.glb", "b.glb"], 4)
    lines = [
        {"shard": f"shard-{n:05}", "seconds": seconds, "clips": 1, "kept": 4}
        for n, seconds in ((0, 99.0), (0, 4.0), (1, 4.0))
    ]
    log = root / "runs/mine/rooms/0123/log.jsonl"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"shard": "shard-0')
    return root


def _plan(root: Path, *more: str) -> dict:
    done = CliRunner().invoke(
        cli.app, ["plan", "mimic-1m", "--params", str(root / "params.yaml"), "--json", *more]
    )
    assert done.exit_code == 0, done.exception
    return json.loads(done.stdout)


def test_a_plan_is_the_measured_rate_times_the_recipe(mined: Path, tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text(
        json.dumps(
            {"videos": {"seconds_per_pair": 0.5, "bytes_per_pair": 1000, "clips_per_pair": 0.02}}
        )
    )
    found = _plan(mined, "--rates", str(rates))
    rooms = found["sources"]["rooms"]
    count = load_params(mined / "params.yaml").datasets["mimic-1m"].sources["rooms"]
    assert (rooms["pairs"], rooms["rate_of"]) == (count, "rooms")
    assert rooms["core_days"] == pytest.approx(count * 1.0 / 86400)
    assert rooms["files"] == 2 * round(count * 0.25)
    folder = storage.Workspace(mined).pairs("rooms")
    assert rooms["bytes"] == pytest.approx(
        count / 8 * sum(file.stat().st_size for file in folder.iterdir()), rel=1e-3
    )
    assert found["sources"]["phone"] == {
        "rate_of": "videos",
        "pairs": None,
        "core_days": None,
        "bytes": None,
        "files": None,
    }
    assert found["total"]["pairs"] == count
    assert "phone" in found["unknown"]
    assert "rooms" not in found["unknown"]
    rates.write_text(json.dumps(found))
    assert _plan(mined, "--rates", str(rates))["total"] == found["total"]


def test_a_shard_that_was_killed_in_between_says_nothing_of_the_time(
    mined: Path, tmp_path: Path
) -> None:
    """Its time is that of its last process, its pairs are those of all; nor does one say anything
    that waited for another process to mine it."""
    root = Path(shutil.copytree(mined, tmp_path / "workspace"))
    log = root / "runs/mine/rooms/0123/log.jsonl"
    lines = [
        {"shard": "shard-00001", "seconds": 0.5, "clips": 1, "kept": 4, "taken_over": 90},
        {"shard": "shard-00002", "seconds": 0.0, "clips": 1, "kept": 4, "taken_over": 0},
    ]
    log.write_text(log.read_text() + "\n" + "".join(json.dumps(line) + "\n" for line in lines))
    rate = measured_rates(load_params(root / "params.yaml"), storage.Workspace(root))["rooms"]
    assert rate.seconds_per_pair == pytest.approx(1.0)


def test_the_table_names_what_was_not_measured(mined: Path, tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    rates.write_text(
        json.dumps(
            {"videos": {"seconds_per_pair": 0.5, "bytes_per_pair": 1000, "clips_per_pair": 0.02}}
        )
    )
    done = CliRunner().invoke(
        cli.app, ["plan", "mimic-1m", "--params", str(mined / "params.yaml"), "--rates", str(rates)]
    )
    assert "phone: not measured; the rate is that of videos" in done.stdout


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        (None, r"no rate for phone \(reader videos\); known: rooms"),
        ("not json", "not a file of rates"),
        ('{"videos": {"seconds_per_pair": 0}}', "not a file of rates"),
        ("[1]", "not a file of rates"),
    ],
)
def test_what_is_wrong_is_named(
    mined: Path, tmp_path: Path, rates: str | None, message: str
) -> None:
    more = []
    if rates is not None:
        (tmp_path / "rates.json").write_text(rates)
        more = ["--rates", str(tmp_path / "rates.json")]
    done = CliRunner().invoke(
        cli.app, ["plan", "mimic-1m", "--params", str(mined / "params.yaml"), *more]
    )
    with pytest.raises(type(done.exception), match=message):
        raise done.exception


def test_rates_that_are_a_folder_are_one_line(mined: Path, tmp_path: Path) -> None:
    words = ["plan", "mimic-1m", "--params", str(mined / "params.yaml"), "--rates", str(tmp_path)]
    done = CliRunner().invoke(cli.app, words)
    with pytest.raises(BadInput, match=r"--rates .*: cannot be read \(Is a directory\)"):
        raise done.exception


def test_a_dataset_may_be_called_pretrain(mined: Path) -> None:
    path = mined / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["datasets"]["pretrain"] = raw["datasets"]["mimic-1m"]
    raw["datasets"]["pretrain"]["sources"] = {"rooms": 8}
    path.write_text(yaml.safe_dump(raw))
    done = CliRunner().invoke(cli.app, ["plan", "pretrain", "--params", str(path), "--json"])
    assert json.loads(done.stdout)["dataset"] == "pretrain"
    done = CliRunner().invoke(cli.app, ["plan", "--pretrain", "--params", str(path)])
    assert "no run was trained in this workspace yet" in str(done.exception)


def test_a_plan_of_nothing_is_refused(mined: Path) -> None:
    done = CliRunner().invoke(cli.app, ["plan", "--params", str(mined / "params.yaml")])
    assert "name a dataset" in str(done.exception)


def test_a_total_without_some_sources_says_so(
    mined: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    root = Path(shutil.copytree(mined, tmp_path / "workspace"))
    shutil.copy(repository / "params.yaml", root)
    rates = tmp_path / "rates.json"
    rate = {"seconds_per_pair": 0.5, "bytes_per_pair": 1000, "clips_per_pair": 0.02}
    rates.write_text(json.dumps({"videos": rate, "images": rate}))
    words = ["plan", "mimic-1m", "--params", str(root / "params.yaml"), "--rates", str(rates)]
    shown = CliRunner().invoke(cli.app, words).output
    assert "at least 0.00 days on" in shown
    (line,) = (line for line in shown.splitlines() if "not counted" in line)
    assert line.startswith("phone: ")
    text = (root / "params.yaml").read_text()
    alone = tmp_path / "params.yaml"
    alone.write_text(text.replace("sources: {rooms: 60, phone: null}", "sources: {phone: null}"))
    assert alone.read_text() != text
    words[words.index("--params") + 1] = str(alone)
    shown = CliRunner().invoke(cli.app, words).output
    assert "days on" not in shown
    found = json.loads(CliRunner().invoke(cli.app, [*words, "--json"]).stdout)
    assert found["total"]["days"] is None
    assert found["unknown"] == ["phone"]
