"""Verdicts of the study: what the interval says, in the direction that the claim names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import study, study_figure, study_results
from mimic.params import load_params


def cell(values: list[float], higher_is_better: bool = True) -> dict[str, Any]:
    mean = sum(values) / len(values)
    seeds = [{"run_seed": seed, "value": value} for seed, value in enumerate(values)]
    return {
        "value": mean,
        "sd": 0.01,
        "higher_is_better": higher_is_better,
        "standard_error": 0.001,
        "seeds": seeds,
    }


def keep(study_folder: Path, name: str, result: dict[str, Any]) -> None:
    path = study_folder / "cells" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"key": "", "commit": "", "result": result}))


def verdicts(study_folder: Path) -> dict[tuple[str, str], str]:
    lines = study_results.decided(study_folder)
    return {(line.claim.name, line.task): line.verdict for line in lines}


def test_nothing_is_decided_of_what_was_not_run(tmp_path: Path) -> None:
    keep(tmp_path, "croco/depth", cell([0.5, 0.5, 0.5]))
    assert set(verdicts(tmp_path).values()) == {"not run"}


def test_verdicts_follow_the_interval_and_the_direction_of_the_metric(tmp_path: Path) -> None:
    keep(tmp_path, "random/depth", cell([0.45, 0.46, 0.44]))
    keep(tmp_path, "croco/depth", cell([0.48, 0.489, 0.472]))
    keep(tmp_path, "mae/depth", cell([0.45, 0.51, 0.48]))
    keep(tmp_path, "croco-short/depth", cell([0.58, 0.589, 0.572]))
    keep(tmp_path, "random/stereo", cell([4.0, 4.1, 4.2], higher_is_better=False))
    keep(tmp_path, "croco/stereo", cell([3.0, 3.1, 3.2], higher_is_better=False))
    found = verdicts(tmp_path)
    assert found["a", "depth"] == "supported"
    assert found["b", "depth"] == "not decided"
    assert found["d", "depth"] == "refuted"
    assert found["3", "stereo"] == "supported"
    assert found["c", "depth"] == "not run"
    page = study_results.page(study_results.decided(tmp_path))
    assert "| random 0.450 ± 0.010 | croco 0.480 ± 0.010 | +0.030 ± 0.004 | supported |" in page
    rows = study_results.summary(study_results.decided(tmp_path)).replace("\u00a0", " ")
    assert "| pretraining beats random weights | depth 0.480 (+0.030 ± 0.004) |  |  |" in rows
    assert "| more steps beat fewer |  |  | depth 0.480 (-0.100 ± " in rows
    assert "more pairs" not in rows


@pytest.mark.parametrize(
    ("gains", "verdict"), [([0.1, 0.11, 0.1], "supported"), ([0.1, -0.1, 0.0], "not decided")]
)
def test_a_gain_is_held_against_none(tmp_path: Path, gains: list[float], verdict: str) -> None:
    seeds = {
        f"croco/seed-{n}": {"gain": gain, "standard_error": 0.01} for n, gain in enumerate(gains)
    }
    result = {"gain": sum(gains) / 3, "sd": 0.01, "n": 3, "seeds": seeds}
    keep(tmp_path, "croco/second-view", result)
    assert verdicts(tmp_path)["1", "second-view"] == verdict


def test_a_frozen_head_that_learned_nothing_is_named(tmp_path: Path) -> None:
    keep(tmp_path, "random/depth-frozen", cell([0.40, 0.41, 0.40]))
    keep(tmp_path, "croco/depth-frozen", cell([0.385, 0.45, 0.46]))
    page = study_results.page(study_results.decided(tmp_path))
    assert "* a, `depth-frozen`: a head learned nothing." in page


def test_the_claims_are_those_of_the_page_and_of_the_profile(repository: Path) -> None:
    cells = study.cells_of(load_params(repository / "profiles/study.yaml"))
    page = (repository / "docs/study/claims.md").read_text()
    for claim in study_results.CLAIMS:
        assert f"| {claim.name} | " in page
        for run in filter(None, (claim.better, claim.worse)):
            assert {f"{run}/{task}" for task in claim.tasks} <= set(cells)
    assert all(f"| {name} | {says} | not run" in page for name, says in study_results.OPEN.items())


def test_the_table_is_put_between_its_lines(tmp_path: Path) -> None:
    lines = study_results.decided(tmp_path)
    readme = f"above\n{study_results.BEGIN}\nold\n{study_results.END}\nbelow\n"
    made = study_results.put_into(readme, lines)
    assert made.startswith("above\n")
    assert made.endswith("\nbelow\n")
    assert "old" not in made
    assert study_results.put_into(made, lines) == made
    with pytest.raises(SystemExit, match="no lines"):
        study_results.put_into("nothing", lines)


def test_the_figure_shows_what_was_run_and_is_the_same_file_again(tmp_path: Path) -> None:
    keep(tmp_path, "random/depth", cell([0.45, 0.46, 0.44]))
    keep(tmp_path, "croco/depth", cell([0.48, 0.489, 0.472]))
    log = tmp_path / "logs/croco/seed-0.jsonl"
    log.parent.mkdir(parents=True)
    steps = range(20, 200, 20)
    log.write_text("".join(f'{{"step": {step}, "loss": {10 / step}}}\n' for step in steps))
    lines = study_results.decided(tmp_path)
    drawn = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for path in drawn:
        study_figure.draw(lines, tmp_path / "logs", path)
    text = drawn[0].read_text()
    assert "a: croco, depth<" in text
    assert "supported" in text
    assert "depth-frozen" not in text
    assert drawn[1].read_text() == text


def test_readme_and_page_say_what_the_kept_cells_say(repository: Path) -> None:
    lines = study_results.decided(study_results.STUDY)
    readme = (repository / "README.md").read_text()
    assert study_results.put_into(readme, lines) == readme
    assert (study_results.STUDY / "results.md").read_text() == study_results.page(lines)


def test_the_kept_cells_were_run_with_the_kept_parameters_by_the_code_named() -> None:
    params = load_params(study_results.STUDY / "params.yaml")
    said = (study_results.STUDY / "claims.md").read_text().partition("**Code.**")[2]
    versions = set()
    for path in (study_results.STUDY / "cells").glob("*/*.json"):
        kept = json.loads(path.read_text())
        assert kept["key"] == study.key_of(params, path.parent.name, path.stem), path
        assert f"`{kept['commit']}`" in said, path
        if path.stem != study.SECOND_VIEW:
            versions.add(json.dumps([kept["result"]["versions"], kept["result"]["parts"]]))
    assert len(versions) == 1
