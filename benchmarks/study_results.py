"""What the study gave: a verdict for each claim of docs/study/claims.md, from the kept cells.

Run `python -m benchmarks.study_results`: it prints the page; `--write` puts it into
docs/study/results.md, with a figure, and a row a claim into README.md. A claim is decided by the
difference of two rows, paired seed by seed, and over the test items where nothing is trained on
labels; a cell that was not run says so.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import study_figure
from mimic.reporting.compared.difference import Difference, SeedScores, difference

ROOT = Path(__file__).parent.parent
STUDY = ROOT / "docs/study"
FIGURE = "results.svg"
BEGIN = "<!-- study: python -m benchmarks.study_results --write -->"
END = "<!-- /study -->"
NOT_RUN = "not run"
MEANT = "croco"  # whose values README's table holds, unless a row names another run
VERDICTS = ("supported", "not decided", "refuted")
UNTRAINED = ("second-view", "cross-attention", "matches")  # no head learns from labels
DEPTH = ("depth", "depth-frozen", "depth-linear", "depth-few-shot")
CONSTANT = 0.382  # δ1 of the best constant depth on NYUv2 at 64 px
DEAD = 0.01  # of a frozen head: no further from the constant than this


@dataclass(frozen=True)
class Claim:
    """`better` against `worse` in some columns; None: against no gain at all."""

    name: str
    says: str
    better: str
    worse: str | None
    tasks: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A claim on one column."""

    claim: Claim
    task: str
    cells: tuple[str, str]  # of the worse and the better row, as text
    found: Difference | None  # signed so that positive is what the claim says
    note: str

    @property
    def verdict(self) -> str:
        interval = self.found.interval if self.found else None
        if interval is None:
            return NOT_RUN
        if interval[0] > 0:
            return "supported"
        return "refuted" if interval[1] < 0 else "not decided"


CLAIMS = (
    Claim("1", "completion uses the second view", "croco", None, ("second-view",)),
    Claim("2", "cross-attention finds matches, untrained", "croco", "random", ("cross-attention",)),
    Claim(
        "3",
        "stereo and flow (generated rooms) learn from few labels",
        "croco",
        "random",
        ("stereo", "flow"),
    ),
    Claim("a", "pretraining beats random weights", "croco", "random", DEPTH),
    Claim("b", "CroCo beats MAE on geometry", "croco", "mae", (*DEPTH, "matches")),
    Claim("c", "more pairs beat fewer", "croco", "croco-quarter", DEPTH),
    Claim(
        "c'",
        "more places beat more pairs of a place",
        "croco-quarter",
        "croco-few-places",
        DEPTH,
    ),
    Claim("d", "more steps beat fewer", "croco", "croco-short", DEPTH),
)
OPEN = {
    "e": "mined pairs match pairs chosen by true co-visibility",
    "f": "the 50-75 % band against looser and tighter",
    "g": "`symmetric` is at least as good as `reference`",
    "h": "mined correspondences in the loss help, or do not",
    "i": "starting from other weights helps",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--study", type=Path, default=STUDY, help="the folder of cells/")
    parser.add_argument("--write", action="store_true", help="into results.md and README.md")
    options = parser.parse_args()
    lines = decided(options.study)
    if not options.write:
        print(page(lines))
        return
    (options.study / "results.md").write_text(page(lines), encoding="utf-8")
    study_figure.draw(lines, options.study / "logs", options.study / FIGURE)
    readme = ROOT / "README.md"
    readme.write_text(put_into(readme.read_text(encoding="utf-8"), lines), encoding="utf-8")


def decided(study: Path) -> list[Line]:
    """Every claim on each of its columns, in the order of the claims."""
    return [_line(study, claim, task) for claim in CLAIMS for task in claim.tasks]


def _line(study: Path, claim: Claim, task: str) -> Line:
    better = _cell(study, claim.better, task)
    worse = _cell(study, claim.worse, task) if claim.worse else None
    texts = (_text(worse) if claim.worse else "0", _text(better))
    if better is None or (claim.worse and worse is None):
        return Line(claim, task, texts, None, "")
    one = _scores(better, task)
    other = _scores(worse, task) if worse else SeedScores(dict.fromkeys(one.values, 0.0), {}, 0.0)
    first, second = (other, one) if better.get("higher_is_better", True) else (one, other)
    return Line(claim, task, texts, difference(first, second), _note(task, better, worse))


def _cell(study: Path, run: str, task: str) -> dict[str, Any] | None:
    path = study / "cells" / run / f"{task}.json"
    return json.loads(path.read_text(encoding="utf-8"))["result"] if path.exists() else None


def _scores(cell: dict[str, Any], task: str) -> SeedScores:
    """The seeds of a cell; the error over test items only where nothing learns from labels."""
    if task == "second-view":
        gains = list(cell["seeds"].values())
        values = {number: float(one["gain"]) for number, one in enumerate(gains)}
        return SeedScores(values, {}, max(float(one["standard_error"]) for one in gains))
    values = {int(one["run_seed"]): float(one["value"]) for one in cell["seeds"]}
    error = cell.get("standard_error") if task in UNTRAINED else None
    return SeedScores(values, {}, error)


def _text(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return NOT_RUN
    spread = "" if cell.get("sd") is None else f" ± {cell['sd']:.3f}"
    return f"{cell['value'] if 'value' in cell else cell['gain']:.3f}{spread}"


def _note(task: str, *cells: dict[str, Any] | None) -> str:
    """A frozen head that learned nothing decides nothing."""
    frozen = [cell for cell in cells if cell and task == "depth-frozen"]
    values = [float(one["value"]) for cell in frozen for one in cell["seeds"]]
    dead = any(abs(value - CONSTANT) <= DEAD for value in values)
    return "a head learned nothing" if dead else ""


HEADER = ("claim", "measured by", "against", "value", "difference, 95 %", "verdict")
ABOVE = """# What the study gave

Made by `python -m benchmarks.study_results --write` from `docs/study/cells`. What each claim says,
and what would refute it: [claims](claims.md). Values are means over seeds ± their standard
deviation. δ1 of depth and recall are better when higher, the end-point errors of stereo and flow
when lower; a difference is positive where the claim is right. NYUv2 is a copy with depth in 8 bits.

![Each difference in units of half its interval, and the losses of all runs](results.svg)
"""


def page(lines: list[Line]) -> str:
    """results.md, whole."""
    notes = [f"* {one.claim.name}, `{one.task}`: {one.note}." for one in lines if one.note]
    parts = [ABOVE, table(lines), ""]
    if notes:
        parts += ["Heads that failed:", "", *notes, ""]
    parts += ["Claims without cells:", "", "| claim | | |", "|---|---|---|"]
    parts += [f"| {name} | {says} | {NOT_RUN} |" for name, says in OPEN.items()]
    return "\n".join(parts) + "\n"


def table(lines: list[Line]) -> str:
    rows = [HEADER, ("---",) * len(HEADER), *map(_row, lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(line: Line) -> tuple[str, ...]:
    against, value = line.cells
    names = f"{line.claim.name}: {line.claim.says}"
    other = f"{line.claim.worse or 'no gain'} {against}"
    better = f"{line.claim.better} {value}"
    return names, f"`{line.task}`", other, better, _shown(line), line.verdict


def _shown(line: Line) -> str:
    """The difference and half its interval."""
    if line.found is None or line.found.half is None:
        return NOT_RUN
    return f"{line.found.value:+.3f} ± {line.found.half:.3f}"


def summary(lines: list[Line]) -> str:
    """A row a claim that was run, its measures in the column of their verdict; it names the run
    that they are of, where that is not the one which README means."""
    rows = [("claim", *VERDICTS), ("---",) * (1 + len(VERDICTS))]
    for claim in CLAIMS:
        of_claim = [line for line in lines if line.claim is claim and line.found is not None]
        columns = [
            "<br>".join(_measure(line) for line in of_claim if line.verdict == verdict)
            for verdict in VERDICTS
        ]
        if of_claim:
            of_whom = "" if claim.better == MEANT else f" (`{claim.better}`)"
            rows.append((f"{claim.says}{of_whom}", *columns))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _measure(line: Line) -> str:
    value = line.cells[1].split(" ± ")[0]
    return f"{line.task.replace('-', ' ')} {value} ({_shown(line)})".replace(" ", "\u00a0")


def put_into(readme: str, lines: list[Line]) -> str:
    """README with the study's table replaced."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"README.md: no lines {BEGIN} and {END} to put the table between")
    return f"{before}{begin}\n{summary(lines)}\n{end}{after}"


if __name__ == "__main__":
    main()
