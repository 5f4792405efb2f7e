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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.params import Params, load_params
from mimic.reporting import paper, results
from mimic.reporting.results import SavedResult

BEGIN = "<!-- demo: python -m benchmarks.readme --write -->"
END = "<!-- /demo -->"
BASE, RUN = "random", "croco-3m"
# Two processors round differently, and training carries that on; what the demo generates, mines and
# assembles is the same everywhere.
TOLERANCE = 0.02
HEADER = (
    "what",
    "paper (MIMIC-3M)",
    "at paper scale",
    f"laptop demo: {BASE} → {RUN}",
    "protocol of the demo",
)


@dataclass(frozen=True)
class Row:
    """A line of the table: which task, which published columns stand beside it, and what to say of
    the protocol."""

    label: str
    task: str
    published: tuple[str, ...]
    frozen: bool | None
    also: str  # measured besides, but not by the demo
    protocol: str  # filled with the result's JSON


ROWS = (
    Row(
        "completing hidden patches, loss ↓; FID",
        "reconstruction",
        ("loss", "fid"),
        None,
        "; FID not run: weights",
        "{test_size} held-out pairs, {metrics[masking][visible]} of {metrics[masking][patches]} "
        "patches visible; "
        "each patch's mean would give {metrics[flat_loss]:.3f}",
    ),
    Row(
        "NYUv2 depth, fine-tuned, δ1",
        "depth",
        ("depth",),
        False,
        "",
        "`{preset}`, {metrics[train_size]} train / {test_size} test images, {steps} steps at "
        "{size} px",
    ),
    Row(
        "NYUv2 depth, frozen, δ1", "depth-frozen", ("depth",), True, "", "the same, encoder frozen"
    ),
    Row(
        "patch-match recall",
        "correspondence",
        (),
        None,
        "",
        "{test_size} held-out pairs, last block; no training; chance {metrics[chance][exact]:.3f}",
    ),
)
NOT_RUN = (
    "ADE20K mIoU, COCO pose AP, Taskonomy normals L1",
    ("segmentation", "pose_ap", "normals"),
    "`mimic evaluate RUN segmentation`, ...",
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
        made = table(load_params(asked.root / "params.yaml"), asked.root)
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


def table(params: Params, root: Path) -> str:
    """The Markdown table; BadInput where the demo has not run."""
    rows = [_row(params, root, row) for row in ROWS]
    label, columns, how = NOT_RUN
    rows.append((label, _published(columns, False), "not run", "not run", how))
    lines = [HEADER, ("---",) * len(HEADER), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _row(params: Params, root: Path, row: Row) -> Sequence[str]:
    before, after = (_result(root, run, row.task) for run in (BASE, RUN))
    section: Any = params.evaluate[row.task]
    said = {
        **after.raw,
        "steps": getattr(section, "steps", None),
        "size": getattr(section, "size_px", None),
    }
    noise = "" if after.error is None else f" ± {after.error:.3f}"
    numbers = f"{before.value:.3f} → {after.value:.3f}{noise}{row.also}"
    published = _published(row.published, row.frozen)
    return (
        row.label,
        published,
        "not run" if row.published else "–",
        numbers,
        row.protocol.format_map(said),
    )


def _result(root: Path, run: str, task: str) -> SavedResult:
    found = results.read_result(Workspace(root).metrics(run, task))
    if found is None:
        raise BadInput(f"{Workspace(root).metrics(run, task)}: not there; run make demo first")
    return found


def _published(columns: Sequence[str], frozen: bool | None) -> str:
    """The papers' numbers for CroCo on MIMIC-3M, as they print them."""
    tables = json.loads(
        Path(paper.__file__).with_name("published.json").read_text(encoding="utf-8")
    )["tables"]
    rows = [row for one in tables for row in one["rows"]]
    cells = []
    for column in columns:
        matching = (
            row["values"]
            for row in rows
            if (row["objective"], row["dataset"], row["frozen"]) == ("croco", "mimic-3m", frozen)
        )
        cells.append(next(str(values[column]) for values in matching if column in values))
    return "; ".join(cells) or "–"


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
