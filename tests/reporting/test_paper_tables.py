"""The paper's tables: our value in the right cell, in the paper's unit, and never passed off as
comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mimic import report
from mimic.commands import compare
from mimic.infra.storage import Workspace, write_json
from mimic.params import Params, load_params
from mimic.reporting import paper


@pytest.fixture
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def publish(root: Path, run: str, task: str, **said: Any) -> None:
    record = {
        "value": 0.5,
        "name": "delta1",
        "higher_is_better": True,
        "metrics": {"delta1": 0.5, "rmse": 1.0},
        "preset": "published",
        "overrides": {},
        "steps": 100,
        "run": run,
        "task": task,
        "objective": "croco",
        "dataset": "mimic-3m",
        "test_size": 654,
    }
    write_json(Workspace(root).metrics(run, task), record | said)


def cells(
    tables: list[paper.PaperTable], name: str
) -> dict[tuple[str, str, bool | None], paper.PaperCell]:
    """First column of a table."""
    (table,) = [table for table in tables if table.name == name]
    return {(row.objective, row.dataset, row.frozen): row.cells[0] for row in table.rows}


def test_every_published_number_is_there(params: Params, tmp_path: Path) -> None:
    tables = paper.tables(params, Workspace(tmp_path))
    assert [table.name for table in tables] == ["Table 1", "Table 2a", "Table 2b", "Table 3"]
    counts = [
        sum(cell.published is not None for row in table.rows for cell in row.cells)
        for table in tables
    ]
    assert counts == [31, 12, 5, 4]
    assert all(table.empty for table in tables)
    first = cells(tables, "Table 1")
    assert first["croco", "mimic-3m", False].published == 91.79
    assert first["mae", "mimic-3m", True].published == 80.65
    for row in tables[1].rows:  # what two tables print is the same number
        again = first.get((row.objective, row.dataset, row.frozen))
        assert again is None or again.published == row.cells[0].published


# A second transcription of the papers' tables: objective, frozen, dataset, then the numbers in the
# order of the columns (None: blank).
PUBLISHED = {
    "Table 1": """
        mae   no  imagenet-1k  79.60 46.10 59.20 74.9  80.4
        mae   yes mimic-3m     80.65 29.05 68.97 -     -
        mae   no  mv-habitat   79.00 40.30 59.76 -     -
        mae   no  mimic-3m     85.32 40.54 58.72 69.13 75.22
        croco yes mv-habitat   85.20 -     64.58 -     -
        croco yes mimic-3m     85.81 30.25 61.70 -     -
        croco no  mv-habitat   85.60 40.60 54.13 66.5  73.2
        croco no  mimic-3m     91.79 42.18 53.02 72.8  78.4
    """,
    "Table 2a": """
        croco yes mimic-1m     82.67 27.47 67.23
        croco yes mimic-3m     85.81 30.25 61.70
        croco no  mimic-1m     89.46 38.45 57.12
        croco no  mimic-3m     91.79 42.18 53.02
    """,
    "Table 2b": """
        mae   yes imagenet-1k  67.45
        mae   yes mv-habitat   32.50
        croco yes mv-habitat   37.00
        mae   yes mimic-3m     39.86
        croco yes mimic-3m     39.64
    """,
    "Table 3": """
        croco -   mv-habitat   0.357 85.77
        croco -   mimic-3m     0.292 73.12
    """,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_are_the_papers(name: str, params: Params, tmp_path: Path) -> None:
    (table,) = [table for table in paper.tables(params, Workspace(tmp_path)) if table.name == name]
    frozen = {None: "-", True: "yes", False: "no"}
    found = [
        [
            row.objective,
            frozen[row.frozen],
            row.dataset,
            *("-" if cell.published is None else cell.published for cell in row.cells),
        ]
        for row in table.rows
    ]
    wanted = [line.split() for line in PUBLISHED[name].strip().splitlines()]
    assert found == [
        [*line[:3], *(cell if cell == "-" else float(cell) for cell in line[3:])] for line in wanted
    ]


def test_ours_stands_in_its_cell_only(params: Params, tmp_path: Path) -> None:
    publish(tmp_path, "croco-3m", "depth")
    publish(tmp_path, "croco-3m", "depth-frozen", metrics={"delta1": 0.4})
    publish(
        tmp_path,
        "mae-3m",
        "depth",
        objective="mae",
        preset="standard",
        overrides={"steps": 3, "batch": 1},
        standard_error=0.01,
    )
    publish(tmp_path, "random", "depth", steps=0)
    publish(tmp_path, "elsewhere", "depth", dataset="other")
    first = cells(paper.tables(params, Workspace(tmp_path)), "Table 1")
    found = {
        place: [(ours.run, ours.value, ours.differs) for ours in cell.ours]
        for place, cell in first.items()
        if cell.ours
    }
    assert found == {
        ("croco", "mimic-3m", False): [("croco-3m", 50.0, "")],
        ("croco", "mimic-3m", True): [("croco-3m", 40.0, "")],
        ("mae", "mimic-3m", False): [("mae-3m", 50.0, "preset standard, 2 settings changed")],
    }
    assert first["mae", "mimic-3m", False].ours[0].error == pytest.approx(1.0)
    assert (
        first["croco", "mimic-3m", False].ours[0].error is None
    )  # not stated, and no bound is made up


def test_an_encoder_unlike_the_papers_says_so(params: Params, tmp_path: Path) -> None:
    """It stands in the cell of its objective and data, and not as the same thing."""
    publish(tmp_path, "croco-3m", "depth")
    card = {"model": {"width": 384, "depth": 12, "patch_px": 16}, "init": {"name": "mae-in"}}
    write_json(tmp_path / "models/croco-3m/card.json", card)
    first = cells(paper.tables(params, Workspace(tmp_path)), "Table 1")
    (ours,) = first["croco", "mimic-3m", False].ours
    assert ours.differs == "started from mae-in, width 384 instead of 768"


def test_few_shots_are_curves(params: Params, tmp_path: Path) -> None:
    by_k = {str(k): {"mean": k / 100, "std": 0.01, "values": [k / 100] * 5} for k in (80, 10, 20)}
    publish(tmp_path, "croco-3m", "depth-few-shot", metrics={"by_k": by_k})
    publish(tmp_path, "croco-3m", "knn", metrics={"by_k": {"5": 0.3}})  # neighbours, not images
    curves = paper.few_shot_curves(params, Workspace(tmp_path))
    assert curves == {"depth-few-shot": {"croco-3m": [(10, 0.1), (20, 0.2), (80, 0.8)]}}
    report.main(params, tmp_path)
    assert (
        "Value of depth-few-shot by number of labelled images"
        in (tmp_path / "report/index.html").read_text()
    )


def test_in_the_terminal(
    params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, "croco-3m", "depth")
    publish(tmp_path, "mae-3m", "depth", objective="mae", preset="standard")
    compare.print_paper_tables(params, tmp_path, as_json=False)
    printed = capsys.readouterr().out
    assert "91.79 / 50 " in printed
    assert "85.32 / 50*" in printed
    assert "73.12 / not run" in printed
    compare.print_paper_tables(params, tmp_path, as_json=True)
    assert (
        json.loads(capsys.readouterr().out)[0]["rows"][-1]["cells"][0]["ours"][0]["value"] == 50.0
    )


def test_a_result_stands_where_it_was_measured_whatever_params_say_now(
    params: Params, tmp_path: Path
) -> None:
    """And is marked where its encoder was trained anew since."""
    stated = {"task": "depth", "freeze": "none"}
    publish(tmp_path, "croco-3m", "depth-frozen", section=stated, checkpoint="old")
    card = Workspace(tmp_path).model("croco-3m") / "card.json"
    write_json(card, {"weights": {"encoder.safetensors": "new"}})
    found = cells(paper.tables(params, Workspace(tmp_path)), "Table 1")
    assert found["croco", "mimic-3m", True].ours == ()
    (ours,) = found["croco", "mimic-3m", False].ours
    assert ours.differs == "of an encoder that is replaced"
