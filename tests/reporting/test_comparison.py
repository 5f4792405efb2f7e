"""`mimic compare --by`: which runs are compared, with what said of them, in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mimic.cli import app
from mimic.commands import compare as command
from mimic.errors import BadInput
from mimic.infra.storage import Workspace, write_json
from mimic.params import Params, load_params
from mimic.reporting.compared import comparison_words
from mimic.reporting.compared.comparison import Contrast, compare
from mimic.tasks.item_files import write_items

ITEMS = 60
RECIPE = {"mask_ratio": 0.9, "batch": 8, "model": {"width": 32}}
CARD = {
    **{"recipe": "croco-tiny", "objective": "croco", "dataset": "small", "steps": 90},
    **{"manifest_digest": "a" * 64, "model": {"width": 32}, "versions": {"mimic": "1"}},
    "parts": {"loop": 1},
}


class World:
    """A workspace with published cards and results, and nothing else."""

    def __init__(self, root: Path, repository: Path) -> None:
        self.root = root
        self.space = Workspace(root)
        self.params = load_params(repository / "params.yaml")
        self.runs: list[str] = []
        self.rng = np.random.default_rng(0)
        self.hard = self.rng.normal(0, 0.2, ITEMS)  # what every run finds hard

    def run(
        self, name: str, mean: float, seeds: int = 3, spread: float = 0.002, **about: Any
    ) -> None:
        """Cards and a result; `seeds` 0 = a single encoder with the seed in `about`."""
        self.runs.append(name)
        recipe = RECIPE | about.pop("recipe_values", {})
        measured = about.pop("measured", {})
        card = CARD | {"sections": {"recipe": recipe, "run": {}}} | about
        names = [f"{name}/seed-{seed}" for seed in range(seeds)] or [name]
        values = []
        items = {}
        for seed, encoder in enumerate(names):
            write_json(self.space.model(encoder) / "card.json", {"seed": seed, **card})
            level = mean + spread * (seed - 1) * (1 if len(self.runs) % 2 else -1)
            one = level + self.hard + self.rng.normal(0, 0.01, ITEMS)
            items[f"seed-{seed}" if seeds else "only"] = one
            values.append(float(one.mean()))
        result: dict[str, Any] = {
            **{"name": "delta1", "headline": "delta1", "higher_is_better": True, "metrics": {}},
            **{"value": float(np.mean(values)), "protocol": "one line", "test_size": ITEMS},
            **{"run": name, "task": "depth", "section": {"steps": 30}, "data_digest": "d"},
            **{"standard_error": 0.02, "checkpoint": None, "parts": {"task": 1}},
            "versions": {"mimic": "1"},
        }
        if seeds:
            each = [
                {"run_seed": seed, "value": value, "encoder": names[seed], "checkpoint": "c"}
                for seed, value in enumerate(values)
            ]
            result |= {"seeds": each, "n": seeds, "sd": float(np.std(values, ddof=1))}
        write_json(self.space.metrics(name, "depth"), result | measured)
        path = self.space.items(name, "depth")
        path.parent.mkdir(parents=True)
        write_items(path, items)

    def asked(self) -> Params:
        table = self.params.table.model_copy(update={"runs": tuple(self.runs), "tasks": ("depth",)})
        return self.params.model_copy(update={"table": table})

    def by(self, *factors: str) -> list[Contrast]:
        return compare(self.asked(), self.space, factors).comparisons

    def lines(self, *factors: str) -> list[str]:
        compared = compare(self.asked(), self.space, factors)
        return [*map(comparison_words.line, compared.comparisons), *compared.apart]


@pytest.fixture
def world(tmp_path: Path, repository: Path) -> World:
    return World(tmp_path, repository)


def test_a_clear_difference_is_shown_with_its_interval(world: World) -> None:
    world.run("small", 0.5)
    world.run("large", 0.6, dataset="large", manifest_digest="b" * 64)
    (one,) = world.by("dataset")
    assert one.difference.interval is not None
    low, high = one.difference.interval
    assert low < 0.1 < high
    assert one.better == "large"
    assert one.also == {}
    (line,) = world.lines("dataset")
    assert line.startswith("depth: large - small (large - small): delta1 +0.1")
    assert "n = 3 + 3 seeds, paired, the same test items): shown, large is better" in line


def test_where_lower_is_better_the_other_one_wins(world: World) -> None:
    lower = {"higher_is_better": False}
    world.run("small", 0.5, measured=lower)
    world.run("large", 0.6, dataset="large", measured=lower)
    (one,) = world.by("dataset")
    assert one.better == "small"
    assert "lower is better): shown, small is better" in world.lines("dataset")[0]


def test_a_small_difference_is_not_shown(world: World) -> None:
    world.run("small", 0.5, spread=0.1)
    world.run("large", 0.55, spread=0.1, dataset="large")
    (line,) = world.lines("dataset")
    assert line.endswith("): not shown")


def test_single_seeds_show_nothing_but_of_themselves(world: World) -> None:
    world.run("small", 0.5, seeds=0)
    world.run("large", 0.6, seeds=0, dataset="large")
    (one,) = world.by("dataset")
    assert one.better is None
    (line,) = world.lines("dataset")
    assert "n = 1 + 1, seeds: not known, the same test items" in line
    assert line.endswith("shown of these encoders only")


def test_runs_that_differ_in_their_seed_alone_are_seeds_of_one_setting(world: World) -> None:
    world.run("a", 0.5, seeds=0, seed=0)
    world.run("b", 0.501, seeds=0, seed=1)
    world.run("large", 0.6, dataset="large")
    (one,) = world.by("dataset")
    assert one.a.runs == ("a", "b")
    assert sorted(one.sample_a.values) == [0, 1]
    assert "n = 3 + 2 seeds" in world.lines("dataset")[0]
    assert len(world.by("run")) == 3  # by name nothing is put together


def test_pairs_are_those_that_differ_least_and_the_rest_is_said(world: World) -> None:
    world.run("croco-s", 0.5)
    world.run("croco-l", 0.6, dataset="large")
    world.run("mae-s", 0.5, objective="mae", recipe_values={"mask_ratio": 0.75})
    world.run("mae-l", 0.6, objective="mae", dataset="large", recipe_values={"mask_ratio": 0.75})
    by_data = [(one.a.name, one.b.name, one.also) for one in world.by("dataset")]
    assert by_data == [("croco-s", "croco-l", {}), ("mae-s", "mae-l", {})]
    by_objective = [(one.a.name, one.b.name) for one in world.by("objective")]
    assert by_objective == [("croco-s", "mae-s"), ("croco-l", "mae-l")]
    assert "differs in recipe.mask_ratio 0.75 / 0.9, too" in world.lines("objective")[0]
    assert len(world.by("objective", "dataset", "run")) == 6  # each pair once


def test_the_random_encoder_is_compared_by_objective_and_steps(world: World) -> None:
    world.run("random", 0.3, steps=0)
    world.run("mine", 0.6)
    (one,) = world.by("objective")
    assert {one.label(one.a), one.label(one.b)} == {"random", "croco"}
    assert list(one.also) == ["steps"]
    assert world.by("dataset") == []
    assert [one.label(one.a) for one in world.by("steps")] == ["0"]


def test_start_weights_are_a_setting(world: World) -> None:
    world.run("fresh", 0.5)
    init = {"name": "mae-in", "sha256": "e" * 64}
    world.run("own", 0.6, init=init)
    (one,) = world.by("init")
    assert (one.label(one.a), one.label(one.b)) == ("none", "mae-in")
    assert one.also == {}
    assert one.better == "own"


@pytest.mark.parametrize(
    ("measured", "why"),
    [
        ({"protocol": "another"}, "another protocol"),
        ({"data_digest": "other"}, "another test data"),
        ({"parts": {"task": 2}}, "another code"),
        ({"section": {"steps": 60}}, "another settings"),
    ],
)
def test_results_that_cannot_be_compared_are_named(
    world: World, measured: dict[str, Any], why: str
) -> None:
    world.run("small", 0.5)
    world.run("large", 0.6, dataset="large")
    world.run("odd", 0.7, dataset="odd", measured=measured)
    *_, last = world.lines("dataset")
    assert last == f"not comparable: depth of odd, measured with {why}"
    assert len(world.by("dataset")) == 1


def test_many_comparisons_ask_for_more(world: World) -> None:
    """What alone would be shown is not, beside many others: Holm's procedure."""
    world.run("small", 0.5, spread=0.02)
    world.run("large", 0.6, spread=0.02, dataset="large")
    (alone,) = world.by("dataset")
    assert alone.difference.p is not None
    assert 0.005 < alone.difference.p < 0.05
    assert alone.holds
    for number in range(6):
        world.run(f"other-{number}", 0.5 + 0.0001 * number, spread=0.02, dataset=f"other-{number}")
    many = world.by("dataset")
    assert len(many) == 28
    again = next(one for one in many if (one.a.name, one.b.name) == ("small", "large"))
    assert again.difference == alone.difference
    assert not again.holds


def test_json_holds_what_a_figure_needs(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.run("small", 0.5)
    world.run("large", 0.6, dataset="large")
    command.print_differences(world.asked(), world.root, ["dataset"], as_json=True)
    found = json.loads(capsys.readouterr().out)
    (one,) = found["comparisons"]
    assert found["level"] == 0.95
    assert one["a"]["n"] == 3
    assert list(one["a"]["seeds"]) == ["0", "1", "2"]
    assert one["b"]["mean"] - one["a"]["mean"] == pytest.approx(one["difference"])
    assert one["interval"][0] < one["difference"] < one["interval"][1]
    assert one["a"]["sd"] == pytest.approx(np.std(list(one["a"]["seeds"].values()), ddof=1))
    assert one["shown"] is True
    assert one["over"] == dict.fromkeys(["seeds", "seeds_paired", "items", "items_paired"], True)
    command.print_differences(world.asked(), world.root, ["dataset"], as_json=False)
    out = capsys.readouterr().out.splitlines()
    assert out[0] == one["text"]


def test_an_unknown_setting_is_one_line(world: World) -> None:
    with pytest.raises(BadInput, match=r"--by colour: expected one of init, dataset, objective"):
        compare(world.asked(), world.space, ["colour"])


def test_nothing_to_compare_is_said(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    command.print_differences(world.asked(), world.root, ["dataset"], as_json=False)
    assert "nothing to compare by dataset" in capsys.readouterr().out


def test_a_run_that_was_trained_anew_since_it_was_measured_is_named(world: World) -> None:
    """Its card says the new steps, its result is that of the encoder before."""
    world.run("small", 0.5, weights={"encoder.safetensors": "c"})
    world.run("large", 0.6, dataset="large", weights={"encoder.safetensors": "c"})
    world.run("again", 0.7, dataset="other", steps=60, weights={"encoder.safetensors": "new"})
    *_, last = world.lines("dataset")
    why = "measured with another checkpoint than models/ holds"
    assert last == f"not comparable: depth of again, {why}"


def test_two_tables_at_once_are_refused(repository: Path) -> None:
    words = ["compare", "--paper", "--by", "dataset", "--params", str(repository / "params.yaml")]
    done = CliRunner().invoke(app, words)
    with pytest.raises(BadInput, match="--paper and --by are two tables"):
        raise done.exception or AssertionError(done.output)
