"""Every benchmark runs, on little: what docs and README quote can be printed again. How fast
anything is, is measured by hand."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks import mutations, workload
from mimic import synthesize
from mimic.params import load_params

MODULES = sorted(
    path.stem for path in Path(mutations.__file__).parent.glob("*.py") if path.stem != "__init__"
)


@pytest.mark.parametrize("name", MODULES)
def test_a_benchmark_imports(name: str) -> None:
    assert importlib.import_module(f"benchmarks.{name}").__doc__


def printed(repository: Path, module: str, *arguments: str) -> dict:
    """What a benchmark prints with --json, run as its docstring says."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--json"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def made_nyu(repository: Path, tmp_path: Path) -> Path:
    """Six labelled views of flats in NYUv2's layout."""
    params = load_params(repository / "params.yaml")
    flat = params.synthesize.nyu.flat.model_copy(update={"texture_px": 64})
    few = params.synthesize.nyu.model_copy(
        update={"flat": flat, "scenes": 2, "train": 4, "test": 2}
    )
    everything = params.synthesize.model_copy(update={"nyu": few})
    synthesize.main(params.model_copy(update={"synthesize": everything}), tmp_path, "nyu")
    return tmp_path / "data/raw/nyu"


def test_millions_of_rows_rehearsed_with_thousands(repository: Path) -> None:
    found = printed(repository, "assemble", "--rows", "4000")
    assert found["seconds"] > 0
    assert found["peak_mb"] > 0
    assert found["open_and_read_ms"] > 0


def test_features_of_seeds(repository: Path, made_nyu: Path) -> None:
    """Five seeds encode no image twice."""
    found = printed(repository, "probes", str(made_nyu), "--shots", "2")
    images = found["images_encoded"]
    assert images["five seeds again"] == 0 < images["five seeds"] <= images["one pass"]


@pytest.mark.long
@pytest.mark.timeout(1800)  # a server, and some thirty commands
def test_what_operating_costs(repository: Path) -> None:
    """No goal is asserted: how fast anything is, is measured by hand."""
    found = printed(repository, "operations", "--rehearse")
    assert found["stages"] > 20
    for name in ("no-op repro, CPU s", "one stage, CPU s", "flow, s a stage"):
        assert found[name] > 0
    for tracker in ("file", "server"):
        # What one result costs is a difference of two runs: of so few it may be noise.
        assert found[f"mirror, {tracker}, results"] >= 2
        assert isinstance(found[f"mirror, {tracker}, wall s a result"], float)
        assert found[f"mirror, {tracker}, all there, CPU s"] > 0


def test_scaling_and_memory_of_the_mine_stage(tmp_path: Path) -> None:
    memory = workload.memory(tmp_path / "memory", seconds=8, clips=1, factor=2)
    assert set(memory["memory_peaks_mb"]) == {
        "short_video",
        "long_video",
        "few_clips",
        "many_clips",
    }
    assert min(memory["memory_peaks_mb"].values()) > 50
    workload.write_video(tmp_path / "raw/0.mp4", seconds=8, seed=0)
    spent = workload.in_processes(workload.mine_one, tmp_path, 1, "alone")
    assert spent[0][0] > 0


def test_small_clips_cost_little(repository: Path) -> None:
    """Clips without pairs leave no file of their own (those of the whole are its numbers, its log,
    and the page of rejected pairs with its pictures), and do not wait for the disk one by one."""
    found = printed(repository, "small_clips", "--folders", "130")
    assert found["files"] == 4
    assert found["fsyncs"] < 70


def test_decoding_finds_the_same_frames(real_data: Path, repository: Path) -> None:
    code = "import json; from benchmarks import decoding; print(json.dumps(decoding.measure()))"
    environment = {**os.environ, "MIMIC_TEST_DATA": str(real_data)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["frames"] == 20
    assert found["largest_mean_difference"] < 3


# ---------------------------------------------------------------- deliberate faults


def test_every_deliberate_fault_applies(repository: Path) -> None:
    faults = mutations.read_faults()
    assert len(faults) >= 58
    assert [fault.name for fault in faults if not mutations.applies(repository, fault)] == []
    named = {
        path.partition("::")[0]
        for fault in faults
        for path in fault.tests
        if path.startswith("tests/")
    }
    assert [path for path in sorted(named) if not (repository / path).exists()] == []


@pytest.fixture
def two_files(tmp_path: Path) -> Path:
    """A repository of one module and its tests."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src/one.py").write_text("def double(x):\n    return 2 * x\n\n\nUNUSED = 1\n")
    (tmp_path / "test_one.py").write_text(
        "from one import double\n\n\ndef test_double():\n    assert double(2) == 4\n"
    )
    (tmp_path / "test_red.py").write_text("def test_red():\n    assert False\n")
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_a_journal_keeps_verdicts_on_the_same_files_only(two_files: Path) -> None:
    journal = two_files / "verdicts.jsonl"
    fault = mutations.Fault("killed", "src/one.py", "2 * x", "3 * x", ("test_one.py",))
    other = mutations.Fault("survives", "src/one.py", "UNUSED = 1", "UNUSED = 2", fault.tests)
    (first,) = mutations.try_all(two_files, [fault], 1, journal)
    with journal.open("a") as file:
        file.write('{"files": "cut sh')
    journal.write_text(journal.read_text().replace(f": {first.seconds}", ": 1234.5") + "\n")
    (two_files / "test_red.py").write_text("something else\n")
    again = mutations.try_all(two_files, [fault, other], 1, journal)
    assert [one.verdict for one in again] == ["killed", "SURVIVED"]
    assert again[0].seconds == 1234.5  # read, not tried again
    (two_files / "test_one.py").write_text("def test_nothing():\n    pass\n")
    (changed,) = mutations.try_all(two_files, [fault], 1, journal)
    assert changed.verdict == "SURVIVED"
    lines = journal.read_text()
    journal.write_text(lines.replace('"SURVIVED"', '"tests fail without it"'))  # no verdict
    (tried,) = mutations.try_all(two_files, [fault], 1, journal)
    assert tried.verdict == "SURVIVED"


@pytest.mark.long
def test_a_fault_is_killed_survives_or_does_not_apply(two_files: Path) -> None:
    said = {
        "killed": ("2 * x", "3 * x", "test_one.py"),
        "survives": ("UNUSED = 1", "UNUSED = 2", "test_one.py"),
        "gone": ("4 * x", "5 * x", "test_one.py"),
        "broken": ("return 2 * x", "return (", "test_one.py"),
        "no tests": ("2 * x", "3 * x", "test_none.py"),
        "red": ("2 * x", "3 * x", "test_red.py"),
    }
    faults = {
        name: {"file": "src/one.py", "old": old, "new": new, "tests": tests}
        for name, (old, new, tests) in said.items()
    }
    (two_files / "faults.yaml").write_text(yaml.safe_dump(faults))
    found = {
        one.fault.name: one.verdict
        for one in mutations.try_all(two_files, mutations.read_faults(two_files / "faults.yaml"), 1)
    }
    assert found == {
        "killed": "killed",
        "survives": "SURVIVED",
        "gone": "does not apply",
        "broken": "tests do not run",
        "no tests": "tests fail without it",
        "red": "tests fail without it",
    }
