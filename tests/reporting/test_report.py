"""The report: every section, self-contained, the same bytes twice, safe against odd names, honest
about what is missing or too small."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mimic import report
from mimic.commands import compare
from mimic.errors import BadInput
from mimic.infra.conditions import OF_ANOTHER
from mimic.infra.storage import Workspace, write_json
from mimic.params import Params, load_params
from mimic.reporting import charts, pictures
from mimic.reporting.columns import NOT_RUN, ResultCell, table_columns
from mimic.reporting.results import read_result, read_table, result_of
from mimic.reporting.tables import tables
from mimic.reporting.verdict import conclude, number
from tests.support.published import (
    files_below,
    publish_everything,
    publish_pairs,
    publish_result,
    texture,
)

ODD = '<b>odd & "quoted"</b>\'s clip'
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """What the tests ask of a page: tags close in order, which ids and references there are, the
    text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, attributes)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._note(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> at {self.getpos()}"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def _note(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in {
                "src",
                "href",
                "srcset",
                "xlink:href",
                "data",
                "poster",
                "action",
                "background",
            }:
                self.references.append(value)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


@pytest.fixture(scope="module")
def full(params: Params, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("full")
    publish_everything(params, root, clip=ODD)
    report.main(params, root)
    return root


@pytest.fixture(scope="module")
def html(full: Path) -> str:
    return (full / "report" / "index.html").read_text()


# ---------------------------------------------------------------------------- the page


def test_every_section_is_there(params: Params, html: str) -> None:
    page = Page(html)
    assert {"results", "paper", "pairs", "pretraining", "samples", "runs"} <= set(page.ids)
    for name in [*params.table.runs, *params.table.tasks, *params.sources, *params.datasets]:
        assert name in page.text
    assert page.text.count("overlap 0.") == params.report.pairs * len(params.sources)
    assert "What these numbers show, and what they cannot" in page.text
    ours = re.sub(
        r"Beside the paper.*?cannot be compared\.", "", page.text
    )  # nobody runs all of the paper on a laptop
    assert ours != page.text
    assert NOT_RUN not in ours


def test_it_is_well_formed(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert len(set(page.ids)) == len(page.ids)
    assert {reference[1:] for reference in page.references if reference.startswith("#")} <= set(
        page.ids
    )


def test_it_asks_for_nothing_outside(html: str, full: Path) -> None:
    page = Page(html)
    beside = {path.name for path in (full / "report").iterdir()}
    outside = [
        reference[:80]
        for reference in page.references
        if not reference.startswith(("#", "data:")) and reference not in beside
    ]
    assert outside == []
    assert "script" not in page.tags
    assert "iframe" not in page.tags
    assert "url(" not in html
    assert "@import" not in html
    assert "//" not in page.text


def test_equal_files_make_equal_bytes(params: Params, full: Path) -> None:
    before = files_below(full / "report")
    report.main(params, full)
    assert files_below(full / "report") == before
    pages = (f"source-{number}-{name}.html" for number, name in enumerate(params.sources))
    top = {".mimic.json", "index.html", "figure.png", *pages}
    assert {name for name in before if "/" not in name} == top
    tables = set(before) - top
    assert {name.partition("/")[0] for name in tables} == {"summary", "plots"}
    assert str(full).encode() not in before["index.html"]


def test_values_along_pretraining_are_drawn(params: Params, full: Path, tmp_path: Path) -> None:
    root = tmp_path / "swept"
    shutil.copytree(full, root)
    sweep = [
        {"steps": step, "value": 0.1 + step / 1000, "standard_error": None}
        for step in (45, 90, 180)
    ]
    publish_result(params, root, "croco-3m", "depth", 0.28, sweep=sweep)
    report.main(params, root)
    page = (root / "report" / "index.html").read_text()
    assert "Value of depth by pretraining step" in page
    assert "Value of correspondence by pretraining step" not in page


def test_a_clip_cannot_write_markup(html: str) -> None:
    assert "<b>odd" not in html
    assert "&lt;b&gt;odd &amp; &#34;quoted&#34;&lt;/b&gt;" in html


def test_an_empty_workspace_is_a_page_full_of_not_run(
    params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.main(params, tmp_path)
    page = Page((tmp_path / "report" / "index.html").read_text())
    assert page.text.count(NOT_RUN) > len(params.table.runs) * len(params.table.tasks)
    assert "No encoder has been pretrained yet" in page.text
    assert page.open == []
    assert not (tmp_path / "report" / "figure.png").exists()


@pytest.mark.parametrize("gone", ["metrics", "models", "samples", "data/pairs", "data/manifests"])
def test_any_part_may_be_missing(params: Params, full: Path, tmp_path: Path, gone: str) -> None:
    shutil.copytree(
        full,
        tmp_path / "workspace",
        copy_function=lambda source, target: Path(target).hardlink_to(source),
    )
    shutil.rmtree(tmp_path / "workspace" / gone)
    report.main(params, tmp_path / "workspace")
    page = Page((tmp_path / "workspace" / "report" / "index.html").read_text())
    assert page.open == []
    assert NOT_RUN in page.text


def test_a_single_missing_measurement_is_one_cell(params: Params, tmp_path: Path) -> None:
    run, other, task = params.table.runs[0], params.table.runs[1], params.table.tasks[0]
    publish_result(params, tmp_path, run, task, 0.25)
    table = table_columns(read_table(params, Workspace(tmp_path)))
    assert table[0].cells[0] == ResultCell(
        "0.250", best=False, level=False
    )  # nothing to be better than
    publish_result(params, tmp_path, other, task, 0.75)
    table = table_columns(read_table(params, Workspace(tmp_path)))
    assert [cell and cell.best for cell in table[0].cells[:3]] == [False, False, None]


@pytest.mark.parametrize(("spread", "best"), [(0.01, True), (0.3, False)])
def test_a_best_value_is_marked_where_seeds_show_it(
    params: Params, tmp_path: Path, spread: float, best: bool
) -> None:
    run, other, task = params.table.runs[0], params.table.runs[1], params.table.tasks[0]
    for name, mean, sign in ((run, 0.25, 1), (other, 0.75, -1)):
        values = [mean - sign * spread, mean, mean + sign * spread / 2]
        seeds = [
            {"run_seed": seed, "value": value, "encoder": f"{name}/seed-{seed}", "checkpoint": "c"}
            for seed, value in enumerate(values)
        ]
        about = {"seeds": seeds, "sd": float(np.std(values, ddof=1)), "n": 3}
        about |= {"standard_error": 0.001, "checkpoint": None}
        publish_result(params, tmp_path, name, task, float(np.mean(values)), **about)
    rows = read_table(params, Workspace(tmp_path))
    cells = table_columns(rows)[0].cells
    assert [cell and cell.best for cell in cells[:3]] == [False, best, None]
    assert [cell and cell.level for cell in cells[:3]] == [not best, not best, None]
    text = cells[1] and cells[1].text
    assert (
        text
        == f"{number(float(np.mean(values)))} ± {number(float(np.std(values, ddof=1)))} (n = 3)"
    )
    assert rows[1].summary()["by_seed"][task] == dict(enumerate(values))
    shown = " ".join(conclude(rows, {}).tasks[task])
    assert "of seeds and" in shown
    assert ("better than random by more than" in shown) is best
    assert "a sign" not in shown


@pytest.mark.parametrize(
    ("measured", "what"),
    [
        ({"data_digest": "other"}, "test data"),
        ({"section": {"steps": 60}}, "settings"),
        ({"protocol": "another"}, "protocol"),
        ({"parts": {"task": 2}}, "code"),
    ],
)
def test_no_winner_among_results_that_cannot_be_compared(
    params: Params,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    measured: dict[str, Any],
    what: str,
) -> None:
    random, first, second, *_ = params.table.runs
    task = params.table.tasks[0]
    seeds = [
        {"run_seed": seed, "value": 0.0, "encoder": "e", "checkpoint": "c"} for seed in range(3)
    ]
    for run, value, more in ((random, 0.5, {}), (first, 0.9, measured), (second, 0.5, {})):
        about = {"seeds": [{**one, "value": value} for one in seeds], "sd": 0.001, "n": 3, **more}
        publish_result(params, tmp_path, run, task, value, standard_error=0.001, **about)
    rows = read_table(params, Workspace(tmp_path))
    column = table_columns(rows)[0]
    assert column.apart == {first: what}
    assert not any(cell.best or cell.level for cell in column.cells if cell)
    said = f"not comparable: {task} of {first}, measured with another {what}"
    compare.print_results(params, tmp_path, as_json=False)
    assert said in capsys.readouterr().out
    text = " ".join(conclude(rows, {}).tasks[task])
    assert f"{first} is not compared with random initialisation" in text
    assert f"{first} better" not in text
    assert f"{second} +0.000" in text


def test_a_damaged_file_is_one_clear_line(params: Params, tmp_path: Path) -> None:
    path = Workspace(tmp_path).metrics(params.table.runs[0], params.table.tasks[0])
    path.parent.mkdir(parents=True)
    for text in ("{", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(BadInput, match=path.name):
            report.main(params, tmp_path)


def test_compare_prints_rows(
    params: Params, full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare.print_results(params, full, as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["run"] for row in rows] == list(params.table.runs)
    assert set(rows[0]) >= {"run", "dataset", "digest", "objective", "steps", "values"}
    assert all(isinstance(value, float) for row in rows for value in row["values"].values())
    compare.print_results(params, tmp_path, as_json=True)
    assert all(
        value is None
        for row in json.loads(capsys.readouterr().out)
        for value in row["values"].values()
    )
    compare.print_results(params, tmp_path, as_json=False)
    out = capsys.readouterr().out
    assert out.count(NOT_RUN) == len(params.table.runs) * len(params.table.tasks)
    assert all(run in out for run in params.table.runs)


def test_no_cell_of_a_wide_table_is_cut_off(
    params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tasks that have no room stand in a table below, and the star is not the first to go."""
    for task in params.table.tasks:
        for run in params.table.runs:
            seeds = [
                {"run_seed": seed, "value": 0.7, "encoder": "e", "checkpoint": "c"}
                for seed in range(3)
            ]
            publish_result(params, tmp_path, run, task, 0.7, seeds=seeds, sd=0.0123, n=3)
    compare.print_results(params, tmp_path, as_json=False)
    out = capsys.readouterr().out
    assert "…" not in out
    values = len(params.table.runs) * len(params.table.tasks)
    assert out.count("0.700 ± 0.012 (n = 3)") == values
    tables = out.count(params.table.runs[0])
    assert tables > 1
    assert max(map(len, out.splitlines()[: tables * (len(params.table.runs) + 2)])) <= 160


def test_json_says_what_the_table_says(
    params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random, first, *_ = params.table.runs
    task, other, *_ = params.table.tasks
    publish_result(params, tmp_path, random, task, 0.5, standard_error=0.01)
    publish_result(params, tmp_path, first, task, 0.9, standard_error=0.01, protocol="another")
    compare.print_results(params, tmp_path, as_json=True)
    rows = {row["run"]: row for row in json.loads(capsys.readouterr().out)}
    said = rows[first]["measured"][task]
    assert said["measured_with_another"] == "protocol"
    assert rows[random]["measured"][task]["measured_with_another"] is None
    assert (said["protocol"], said["standard_error"]) == ("another", 0.01)
    assert not said["best"]
    assert not said["level_with_best"]
    assert rows[first]["measured"][other] is None


def test_pictures_and_small_tables_hold_what_can_be_compared(
    params: Params, tmp_path: Path
) -> None:
    random, first, second, *_ = params.table.runs
    task = params.table.tasks[0]
    for run, value, digest in ((random, 0.5, "a"), (first, 0.91, "b"), (second, 0.6, "a")):
        publish_result(params, tmp_path, run, task, value, data_digest=digest)
    (path,) = (name for name in tables(params, Workspace(tmp_path)) if name.startswith("summary/"))
    assert set(json.loads(tables(params, Workspace(tmp_path))[path])) == {random, second}
    report.main(params, tmp_path)
    page = (tmp_path / "report/index.html").read_text()
    chart = page[page.index(f"Values of {task} by run") :]
    chart = chart[: chart.index("</svg>")]
    assert second in chart
    assert first not in chart


def test_the_digest_of_a_replaced_encoder_is_not_the_runs(params: Params, tmp_path: Path) -> None:
    run = params.table.runs[1]
    earlier, later, *_ = params.table.tasks
    card = {"steps": 9, "objective": "mae", "weights": {"encoder.safetensors": "new"}}
    write_json(tmp_path / "models" / run / "card.json", card)
    publish_result(params, tmp_path, run, earlier, 0.5, checkpoint="old")
    row = read_table(params, Workspace(tmp_path))[1]
    assert row.checkpoint is None
    publish_result(params, tmp_path, run, later, 0.5, checkpoint="new")
    row = read_table(params, Workspace(tmp_path))[1]
    assert row.checkpoint == "new"


# ---------------------------------------------------------------------------- what may be concluded


def verdict_of(params: Params, root: Path, values: dict[str, float], **more: Any) -> str:
    task = params.table.tasks[0]
    for run, value in values.items():
        publish_result(params, root, run, task, value, **more)
    return " ".join(conclude(read_table(params, Workspace(root)), {}).tasks[task])


def test_differences_within_noise_are_said_to_be_so(params: Params, tmp_path: Path) -> None:
    random, *others = params.table.runs
    text = verdict_of(params, tmp_path, {random: 0.50, **dict.fromkeys(others, 0.55)}, test_size=32)
    assert "larger than the noise of 32 test items allows" in text
    assert "no effect of pretraining is shown" in text
    assert "better" not in text


def test_nothing_is_compared_with_a_result_of_an_encoder_that_is_gone(
    params: Params, tmp_path: Path
) -> None:
    random, first, *_ = params.table.runs
    card = tmp_path / "models" / random / "card.json"
    write_json(card, {"steps": 0, "weights": {"encoder.safetensors": "new"}})
    text = verdict_of(params, tmp_path, {random: 0.5, first: 0.9}, test_size=10_000)
    assert f"The result of {random} is of another checkpoint than models/ holds" in text
    assert "better" not in text
    assert "Random initialisation scores" not in text
    summary = tables(params, Workspace(tmp_path))
    values = [value for name, value in summary.items() if name.startswith("summary/")]
    assert [list(json.loads(value)) for value in values] == [[first]]


def test_an_encoder_that_was_replaced_under_another_name_is_noticed(tmp_path: Path) -> None:
    """A run that has several seeds now, or one again."""
    workspace = Workspace(tmp_path)
    about = {"name": "delta1", "higher_is_better": True, "value": 0.5}
    seeds = [{"encoder": f"r/seed-{k}", "run_seed": k, "value": 0.5} for k in (0, 1)]
    old = [one | {"checkpoint": f"old {k}"} for k, one in enumerate(seeds)]

    def marked(result: dict[str, Any], held: dict[str, str]) -> bool:
        shutil.rmtree(tmp_path / "models", ignore_errors=True)
        for name, digest in held.items():
            card = {"weights": {"encoder.safetensors": digest}}
            write_json(tmp_path / "models" / name / "card.json", card)
            (tmp_path / "models" / name / "encoder.safetensors").touch()
        write_json(workspace.metrics("r", "depth"), about | result)
        found = result_of(workspace, "r", "depth")
        return bool(found and found.raw.get(OF_ANOTHER))

    one = {"run": "r", "checkpoint": "old 0"}
    assert marked(one, {"r/seed-0": "new", "r/seed-1": "newer"})
    assert marked({"seeds": old}, {"r": "new"})
    assert marked({"seeds": old}, {"r/seed-0": "old 0"}), "one that is gone counts, too"
    assert not marked({"seeds": old}, {"r/seed-0": "old 0", "r/seed-1": "old 1"})
    assert not marked({"seeds": old}, {"r/seed-0": "old 0", "r/seed-1": "old 1", "r/seed-2": "x"})
    assert not marked(one, {"r": "old 0"})
    assert not marked(one, {})


def test_each_result_is_held_against_the_floor_of_its_own_grid(
    params: Params, tmp_path: Path
) -> None:
    first, second, *_ = params.table.runs
    task = "correspondence"
    for run, value, floor in ((first, 0.10, 0.05), (second, 0.12, 0.20)):
        metrics = {"exact": value, "chance": {"exact": 0.01}, "same_place": {"exact": floor}}
        publish_result(params, tmp_path, run, task, value, metrics=metrics)
    text = " ".join(conclude(read_table(params, Workspace(tmp_path)), {}).tasks[task])
    assert f"where {first} is measured: a blind guess scores 0.010" in text
    assert "always answering the same position scores 0.200" in text
    assert f"{second} does not beat the latter" in text
    assert f"{first} does not beat" not in text


def test_every_gain_stands_beside_its_own_interval(params: Params, tmp_path: Path) -> None:
    """Two gains above their own intervals of 95 %, which three together do not show."""
    random, first, second, *_ = params.table.runs
    task = params.table.tasks[0]
    for run, value in ((random, 0.5), (first, 0.56), (second, 0.56)):
        publish_result(params, tmp_path, run, task, value, standard_error=0.02)
    text = " ".join(conclude(read_table(params, Workspace(tmp_path)), {}).tasks[task])
    assert f"{first} +0.060 ± 0.055 and {second} +0.060 ± 0.055" in text
    assert "No difference is larger than the noise of 32 test items allows, by Holm's" in text


def test_a_clear_difference_is_a_sign_not_a_proof(params: Params, tmp_path: Path) -> None:
    random, first, second, *_ = params.table.runs
    text = verdict_of(params, tmp_path, {random: 0.5, first: 0.6, second: 0.4}, test_size=10_000)
    assert f"{first} better and {second} worse than random" in text
    assert "a sign, not a proof" in text


def test_an_encoder_is_held_against_a_random_one_of_its_size(
    params: Params, tmp_path: Path
) -> None:
    """A larger one is better untrained, too; and a random one is no gain of pretraining."""
    task = params.table.tasks[0]
    sizes = {"random-s": 384, "random-b": 768, "small": 384, "base": 768, "huge": 1280}
    values = dict(zip(sizes, (0.5, 0.6, 0.5, 0.6, 0.9), strict=True))
    rows = []
    for run, width in sizes.items():
        publish_result(params, tmp_path, params.table.runs[1], task, values[run], test_size=10_000)
        row = read_table(params, Workspace(tmp_path))[1]
        card = {"model": {"width": width, "depth": 12, "patch_px": 16}}
        objective = None if run.startswith("random") else "croco"
        rows.append(dataclasses.replace(row, run=run, objective=objective, card=card))
    text = " ".join(conclude(rows, {}).tasks[task])
    assert "Random initialisation (random-s) scores 0.500; against it, small +0.000" in text
    assert "Random initialisation (random-b) scores 0.600; against it, base +0.000" in text
    assert "huge is not compared with random initialisation: no random encoder of its size" in text
    assert "better" not in text


def test_what_was_run_counts_encoders_and_the_longest_of_them(
    params: Params, tmp_path: Path
) -> None:
    row = dataclasses.replace(read_table(params, Workspace(tmp_path))[1], card={"steps": 1})
    wide = dataclasses.replace(row, run="wide", steps=100, batch=64, seeds=(0, 1, 2))
    long = dataclasses.replace(row, run="long", steps=400, batch=8, seeds=(0,))
    done = " ".join(conclude([wide, long], {}).done)
    assert "4 encoders were pretrained, each for at most 400 steps and 6,400 pairs." in done


def test_lower_may_be_better(params: Params, tmp_path: Path) -> None:
    random, first, *_ = params.table.runs
    text = verdict_of(
        params, tmp_path, {random: 0.5, first: 0.4}, higher_is_better=False, standard_error=0.001
    )
    assert f"{first} +0.100" in text
    assert f"{first} better than random" in text
    unknown = verdict_of(params, tmp_path, {random: 0.5, first: 0.4}, higher_is_better=False)
    assert "no difference is claimed" in unknown


def test_nothing_is_compared_with_nothing(params: Params, tmp_path: Path) -> None:
    random, first, *_ = params.table.runs
    assert "nothing to compare" in verdict_of(params, tmp_path / "a", {first: 0.5})
    assert "nothing to compare" in verdict_of(params, tmp_path / "b", {random: 0.5})


def test_the_noise_bound_is_that_of_a_score_between_0_and_1(params: Params, tmp_path: Path) -> None:
    run, task = params.table.runs[0], params.table.tasks[0]
    publish_result(params, tmp_path, run, task, 0.2, test_size=100)
    result = read_result(Workspace(tmp_path).metrics(run, task))
    assert result is not None
    assert result.error == pytest.approx(math.sqrt(0.2 * 0.8 / 100))
    # No sample of scores in [0, 1] spreads more than the bound, and zeros and ones reach it.
    scores = np.repeat([0.0, 1.0], [80, 20])
    assert result.error == pytest.approx(scores.std() / 10)
    stated = dataclasses.replace(result, raw={"standard_error": 0.01})
    assert stated.error == 0.01
    # AP is pooled over people, whom images hold in crowds: its spread may be larger
    assert dataclasses.replace(result, name="AP").error is None


# ---------------------------------------------------------------------------- drawings


def test_ticks_are_round_and_inside() -> None:
    assert charts.ticks(0, 80, 5) == [0, 20, 40, 60, 80]
    assert charts.ticks(0.83, 0.99, 4) == pytest.approx([0.85, 0.9, 0.95])
    assert charts.ticks(1, 1, 4) == [1]


def test_labels_never_touch() -> None:
    placed = charts.spread({"a": 50, "b": 51, "c": 99, "d": 99}, 15, 0, 100)
    heights = sorted(placed.values())
    assert all(after - before >= 15 for before, after in itertools.pairwise(heights))
    assert heights[-1] <= 100


def test_a_long_log_is_averaged_and_non_finite_values_left_out() -> None:
    chart = charts.line_chart(
        {"run": [(step, 1.0) for step in range(10_000)] + [(10_000, math.nan)], "short": [(0, 1.0)]}
    )
    assert chart is not None
    assert [line.name for line in chart.lines] == ["run"]
    assert chart.lines[0].path.count("L") < charts.POINTS_MAX
    assert "nan" not in chart.lines[0].path
    assert charts.line_chart({"short": [(0, 1.0)]}) is None


def test_histogram_bars_are_as_tall_as_their_counts() -> None:
    drawn = charts.histogram([0, 0.25, 0.5, 1], [1, 4, 2])
    assert drawn is not None
    assert [round(bar.height / drawn.bars[1].height, 2) for bar in drawn.bars] == [0.25, 1, 0.5]
    assert charts.histogram([0, 1], [0]) is None


def test_matched_patches_share_a_colour_and_the_rest_is_dark() -> None:
    grey = np.full((32, 32, 3), 100, np.uint8)
    a, b = pictures.matched_patches(grey, grey, np.array([3, -1, -1, -1]))
    assert (a[4, 4] == b[20, 20]).all()
    assert a[4, 4].std() > 5
    assert (a[20, 20] == 35).all()
    assert (b[4, 4] == 35).all()
    assert len({tuple(colour) for colour in pictures.patch_colours(14).tolist()}) == 196


def test_photographs_shrink_and_stay_recognisable() -> None:
    photograph = texture(0, 256)
    kind, data = pictures.smaller(cv2.imencode(".png", photograph)[1].tobytes(), 88)
    assert kind == "image/jpeg"
    back = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(back.astype(int) - photograph).mean() < 5


def test_the_figure_shows_four_panels_or_two(params: Params, full: Path, tmp_path: Path) -> None:
    data = (full / "report" / "figure.png").read_bytes()
    four = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert four.shape[2] == 4
    assert len(data) < 400_000
    publish_pairs(tmp_path, next(iter(params.sources)), ["only"], 2)
    report.main(params, tmp_path)
    two = cv2.imread(str(tmp_path / "report" / "figure.png"))
    assert two.shape[1] == pytest.approx(four.shape[1] / 2, abs=pictures.GAP_PX)


@pytest.mark.parametrize("stated", [{"headline": "exact"}, {}])
def test_a_floor_is_of_the_headline_whatever_other_metric_is_equal(
    tmp_path: Path, stated: dict[str, str]
) -> None:
    """Files from before the headline was stated are read by what they call their value."""
    metrics = {
        "within_1": 0.5,
        "exact": 0.5,
        "chance": {"within_1": 0.04, "exact": 0.005},
        "same_place": {"within_1": 0.2, "exact": 0.1},
    }
    result = {"value": 0.5, "name": "recall", "higher_is_better": True, "metrics": metrics}
    path = tmp_path / "correspondence.json"
    path.write_text(json.dumps(result | stated))
    found = read_result(path)
    assert found is not None
    assert found.floors == {"chance": 0.005, "same_place": 0.1}
