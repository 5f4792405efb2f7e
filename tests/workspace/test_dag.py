"""`mimic dag`: DVC's graph, one line a kind of stage."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from mimic.commands.workspace import dag
from mimic.errors import BadInput

COLUMNS = 100


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return dag.text(repository)


def test_the_stages_stand_in_their_order_in_few_columns(text: str) -> None:
    rows = [line.split(maxsplit=2) for line in text.splitlines()[1:]]
    assert max(map(len, text.splitlines())) <= COLUMNS
    order = [row[0] for row in rows]
    paper = ["synthesize", "ingest", "mine", "assemble", "pretrain", "prepare", "evaluate"]
    assert [name for name in order if name in paper] == paper
    assert order[-1] == "report"
    waits = {row[0]: row[2] if len(row) > 2 else "" for row in rows}
    assert waits["pretrain"] == "recipe, assemble"
    assert waits["report"] == "evaluate"  # all others follow from that
    counts = {row[0]: int(row[1]) for row in rows}
    assert (counts["pretrain"], counts["evaluate"], counts["report"]) == (4, 16, 1)


def test_the_drawing_in_the_documents_is_the_graph(repository: Path) -> None:
    page = (repository / "docs/architecture.md").read_text()
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", page, re.S)
    assert drawn == dag.mermaid(repository) + "\n", "put what `mimic dag --mermaid` prints there"


def test_an_edge_is_left_out_only_where_a_longer_way_leads() -> None:
    graph = {"a": set(), "b": {"a"}, "c": {"a", "b"}, "d": {"a"}}
    assert dag._reduced(graph) == {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"a"}}


def test_a_folder_without_stages_is_one_line(tmp_path: Path, repository: Path) -> None:
    shutil.copytree(
        repository / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("tmp", "cache")
    )
    (tmp_path / "dvc.yaml").write_text("stages: {a: {cmd: [}}")
    with pytest.raises(BadInput, match="DVC cannot read the stages"):
        dag.text(tmp_path)
