"""`mimic licences`: what is known, and what may be done with a dataset or a model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from rich.table import Table
from rich.text import Text

from mimic import licences
from mimic.commands import printed
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.licences import QUESTIONS, Licence
from mimic.params import Params, terms

HEADS = ("redistribute", "commercial", "derivatives", "same terms")  # of QUESTIONS


def main(params: Params, root: Path, name: str | None, as_json: bool) -> None:
    """Print a table: of all licences and sources, or of the parts of one dataset or model.

    Raises:
        BadInput: nothing has this name.
    """
    if name is None:
        _print_known(params, as_json)
        return
    parts = _parts(params, Workspace(root), name)
    card = {"licences": licences.combine(parts)}
    if as_json:
        print(json.dumps(card["licences"], indent=2))
        return
    _print_table("part", ((what, licence.name, licence) for what, licence in parts))
    for line in licences.summary(card):
        print(line)


def _parts(params: Params, space: Workspace, name: str) -> terms.Parts:
    """What something is made of: a model's card goes first, then a manifest, then what params.yaml
    says of a run or dataset that is not made yet."""
    if space.encoders(name):
        return terms.of_model(params, space, name)
    if name in params.datasets:
        if space.manifest(name).exists():
            return terms.of_manifest(params, space.manifest(name))
        return terms.of_sources(params, params.datasets[name].sources)
    if name in params.runs:
        return terms.learnt_from(params, name)
    known = ", ".join([*params.datasets, *params.runs, *params.imported])
    raise BadInput(f"licences: no dataset, run or model is called {name!r}; known: {known}")


def _print_known(params: Params, as_json: bool) -> None:
    known = licences.known() | terms.own(params.licences)
    if as_json:
        print(json.dumps({name: vars(licence) for name, licence in known.items()}, indent=2))
        return
    _print_table("licence", ((name, one.stated_by, one) for name, one in known.items()))
    for what, licence in terms.of_sources(params, params.sources):
        print(f"{what}: {licence.name}")


def _print_table(head: str, rows: Iterable[tuple[str, str, Licence]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    listed = list(rows)
    table.add_column(head, no_wrap=True)
    for question in HEADS:
        table.add_column(question, no_wrap=True)
    table.add_column("stated by" if head == "licence" else "licence")
    for name, beside, licence in listed:
        answers = (licence.answer(question) for question in QUESTIONS)
        table.add_row(Text(name), *answers, Text(beside))
    printed.print_whole(printed.console(), table)
