"""README's table of the demo, made from the demo's own results.

Run `python -m benchmarks.readme` in a workspace where `make demo` has run: it prints the table;
`--write` puts it into README.md, `--check` says whether README's numbers are those of this demo,
within TOLERANCE (exit status 1 when they are not). Published numbers come from
reporting/published.json, all others from metrics/<run>/<task>.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.reporting import paper, results
from mimic.reporting.results import SavedResult

BEGIN = "<!-- demo: python -m benchmarks.readme --write -->"
END = "<!-- /demo -->"
BASE = "random"
RUN = "croco-3m"
# Two processors round differently, and training carries that on; what the demo generates, and the
# views that it mines, are the same with AVX2 (docs/recipes.md, "What is equal where").
TOLERANCE = 0.02
DEPTH = "{metrics[train_size]} train, {test_size} test images"
HEADER = ("task", "paper", BASE, RUN, "demo's data")


@dataclass(frozen=True)
class Row:
    """A line of the table: which task, and which published column stands beside it."""

    label: str
    task: str
    published: str | None  # a column of published.json
    frozen: bool | None  # of the published row
    data: str  # filled with the result's JSON


@dataclass(frozen=True)
class NotRun:
    """A line for a task that the demo does not measure."""

    label: str
    published: str
    task: str


ROWS = (
    Row(
        "view completion, loss ↓",
        "reconstruction",
        "loss",
        None,
        "{test_size} pairs; patch means {metrics[flat_loss]:.3f}",
    ),
    Row("NYUv2 depth, δ1 ↑", "depth", "depth", False, DEPTH),
    Row("the same, frozen encoder", "depth-frozen", "depth", True, DEPTH),
    Row(
        "patch matching, recall ↑",
        "correspondence",
        None,
        None,
        "{test_size} pairs; chance {metrics[chance][exact]:.3f}",
    ),
)
NOT_RUN = (
    NotRun("ADE20K, mIoU ↑", "segmentation", "segmentation"),
    NotRun("COCO keypoints, AP ↑", "pose_ap", "pose"),
    NotRun("Taskonomy normals, L1 ↓", "normals", "taskonomy"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path(), help="the workspace")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="put the table into README.md")
    action.add_argument(
        "--check", action="store_true", help="compare README.md's numbers with the demo's"
    )
    asked = parser.parse_args()
    try:
        made = table(asked.root)
    except BadInput as problem:
        parser.error(str(problem))
    page = Path("README.md")
    if asked.write:
        page.write_text(written(page.read_text(encoding="utf-8"), made), encoding="utf-8")
    elif asked.check:
        wrong = differences(page.read_text(encoding="utf-8"), made)
        print("\n".join(wrong) or f"README's numbers are this demo's, within {TOLERANCE}")
        sys.exit(bool(wrong))
    else:
        print(made)


def table(root: Path) -> str:
    """The Markdown table; BadInput where the demo has not run."""
    rows = [_row(root, row) for row in ROWS]
    rows += [
        (row.label, _published(row.published, False), "not run", "not run", f"`{row.task}`")
        for row in NOT_RUN
    ]
    lines = [HEADER, ("---",) * len(HEADER), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(root: Path, row: Row) -> tuple[str, ...]:
    before, after = (_result(root, run, row.task) for run in (BASE, RUN))
    noise = "" if after.error is None else f" ± {after.error:.3f}"
    published = "–" if row.published is None else _published(row.published, row.frozen)
    return (
        row.label,
        published,
        f"{before.value:.3f}",
        f"{after.value:.3f}{noise}",
        row.data.format_map(after.raw),
    )


def _result(root: Path, run: str, task: str) -> SavedResult:
    found = results.read_result(Workspace(root).metrics(run, task))
    if found is None:
        raise BadInput(f"{Workspace(root).metrics(run, task)}: not there; run make demo first")
    return found


def _published(column: str, frozen: bool | None) -> str:
    """The paper's number for CroCo on MIMIC-3M, as it is printed there."""
    path = Path(paper.__file__).with_name("published.json")
    tables = json.loads(path.read_text(encoding="utf-8"))["tables"]
    wanted = ("croco", "mimic-3m", frozen)
    for row in (row for one in tables for row in one["rows"]):
        if (row["objective"], row["dataset"], row["frozen"]) == wanted and column in row["values"]:
            return str(row["values"][column])
    raise KeyError(column)


def written(page: str, made: str) -> str:
    """The page with its table replaced."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"README.md: no lines {BEGIN} and {END} to put the table between")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


def differences(page: str, made: str) -> list[str]:
    """What README says otherwise: numbers beyond the tolerance, or other words."""
    stands = page.partition(BEGIN)[2].partition(END)[0].strip()
    wrong = []
    for ours, theirs in zip(made.splitlines(), stands.splitlines(), strict=False):
        if _words(ours) != _words(theirs):
            wrong.append(f"README says {theirs!r}, the demo {ours!r}")
            continue
        far = [
            (a, b)
            for a, b in zip(_numbers(theirs), _numbers(ours), strict=True)
            if abs(a - b) > TOLERANCE
        ]
        wrong += [f"README says {a} where the demo gives {b}: {theirs}" for a, b in far]
    if len(made.splitlines()) != len(stands.splitlines()):
        wrong.append(
            "README's table has other lines than the demo's; python -m benchmarks.readme --write"
        )
    return wrong


NUMBER = re.compile(r"\d+\.\d+")


def _words(line: str) -> str:
    return NUMBER.sub("#", line)


def _numbers(line: str) -> list[float]:
    return [float(number) for number in NUMBER.findall(line)]


if __name__ == "__main__":
    main()
