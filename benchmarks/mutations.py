"""Do the tests notice? Deliberate faults, one at a time, each against the tests nearest to it.

Run `python -m benchmarks.mutations [NAME...] [--json] [--jobs N] [--journal FILE]`. Every fault of
`faults.yaml` replaces one passage of one file, in a copy of the tracked files; the fault is killed
when its tests then fail. First the same tests must pass on an unchanged copy, or nothing is said of
them. All faults take hours: with a journal, every verdict is written down as it falls, and holds
until the fault, its file or its tests change. Exit status 1 when a fault survives, does not apply,
or its tests do not run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from rich.console import Console
from rich.table import Table

REPOSITORY = Path(__file__).resolve().parent.parent
FAULTS = Path(__file__).with_name("faults.yaml")
LIMIT_S = 900  # for one run of tests
Verdict = Literal[
    "killed", "SURVIVED", "does not apply", "tests do not run", "tests fail without it"
]
# pytest's exit statuses
PASSED = 0
FAILED = 1


@dataclass(frozen=True)
class Fault:
    """One deliberate fault: in `file`, `old` (which occurs once) becomes `new`; `tests` are
    pytest's arguments."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a fault, and in what time."""

    fault: Fault
    verdict: Verdict
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="faults to try; default: all")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--jobs", type=int, default=1, help="faults tried side by side")
    parser.add_argument("--journal", type=Path, help="JSON lines, to go on after an interruption")
    asked = parser.parse_args()
    faults = read_faults()
    if unknown := sorted(set(asked.names) - {fault.name for fault in faults}):
        parser.error(f"no fault is called {unknown[0]!r}; see {FAULTS.name}")
    chosen = [fault for fault in faults if not asked.names or fault.name in asked.names]
    found = try_all(REPOSITORY, chosen, asked.jobs, asked.journal)
    print(json.dumps(listed(found), indent=2)) if asked.json else show(found)
    sys.exit(any(outcome.verdict != "killed" for outcome in found))


def read_faults(path: Path = FAULTS) -> list[Fault]:
    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [
        Fault(
            name,
            fault["file"],
            fault["old"].rstrip("\n"),
            fault["new"].rstrip("\n"),
            tuple(fault["tests"].split()),
        )
        for name, fault in said.items()
    ]


def try_all(
    repository: Path, faults: Sequence[Fault], jobs: int, journal: Path | None = None
) -> list[Outcome]:
    """Each fault in a copy of its own; the tests it names are first run without it, once for all
    faults that name them. Faults whose verdict on the same files is in the journal are not tried
    again."""
    names = tracked(repository)
    digests = {fault.name: digest_of(repository, names, fault) for fault in faults}
    outcomes = read_journal(journal, digests, faults) if journal else {}
    left = [fault for fault in faults if fault.name not in outcomes]
    with tempfile.TemporaryDirectory(prefix="mimic-mutations-") as folder:
        clean = copy(repository, Path(folder) / "clean")
        asked = {fault.tests: threading.Lock() for fault in left}
        statuses: dict[tuple[str, ...], int] = {}

        def without(tests: tuple[str, ...]) -> int:
            with asked[tests]:
                if tests not in statuses:
                    statuses[tests] = run(clean, tests)
                return statuses[tests]

        def one(fault: Fault) -> Outcome:
            outcome = try_one(repository, Path(folder), fault, without(fault.tests))
            if journal:
                append(journal, digests[fault.name], outcome)
            return outcome

        with ThreadPoolExecutor(jobs) as pool:
            outcomes |= {outcome.fault.name: outcome for outcome in pool.map(one, left)}
    return [outcomes[fault.name] for fault in faults]


def digest_of(repository: Path, names: Sequence[str], fault: Fault) -> str:
    """Of the fault, the file that it is put into, and the tests: what a verdict holds for.

    Args:
        names: the files under version control, sorted.
    """
    digest = hashlib.sha256(f"{fault.old}\0{fault.new}\0{fault.tests}".encode())
    tests = {word.partition("::")[0] for word in fault.tests}
    for name in names:
        if name in {fault.file, *tests} or any(name.startswith(f"{test}/") for test in tests):
            digest.update(name.encode() + b"\0")
            digest.update((repository / name).read_bytes() + b"\0")
    return digest.hexdigest()


def read_journal(
    path: Path, digests: Mapping[str, str], faults: Sequence[Fault]
) -> dict[str, Outcome]:
    """The verdicts on these files, by the fault's name; a line cut short is no verdict."""
    by_name = {fault.name: fault for fault in faults}
    outcomes = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if digests.get(row["name"]) == row["files"] and row["verdict"] in ("killed", "SURVIVED"):
            fault = by_name[row["name"]]
            outcomes[fault.name] = Outcome(fault, row["verdict"], row["seconds"])
    return outcomes


def append(path: Path, digest: str, outcome: Outcome) -> None:
    row = {"files": digest, **listed([outcome])[0]}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def try_one(repository: Path, folder: Path, fault: Fault, without: int) -> Outcome:
    started = time.monotonic()

    def outcome(verdict: Verdict) -> Outcome:
        print(f"{fault.name}: {verdict}", file=sys.stderr, flush=True)  # a run of all takes hours
        return Outcome(fault, verdict, round(time.monotonic() - started, 1))

    if not applies(repository, fault):
        return outcome("does not apply")
    if without != PASSED:
        return outcome("tests fail without it")
    tree = copy(repository, folder / fault.name)
    apply(tree, fault)
    status = run(tree, fault.tests)
    shutil.rmtree(tree)
    if status == FAILED:
        return outcome("killed")
    return outcome("SURVIVED" if status == PASSED else "tests do not run")


def applies(repository: Path, fault: Fault) -> bool:
    path = repository / fault.file
    return path.is_file() and path.read_text(encoding="utf-8").count(fault.old) == 1


def apply(tree: Path, fault: Fault) -> None:
    path = tree / fault.file
    path.write_text(
        path.read_text(encoding="utf-8").replace(fault.old, fault.new), encoding="utf-8"
    )


def copy(repository: Path, target: Path) -> Path:
    """The files under version control, as they are now, and under version control there, too, which
    DVC asks for; `../shared` of the repository is found from there."""
    for name in tracked(repository):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / name, target / name, follow_symlinks=False)
    for command in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *command], cwd=target, check=True)
    return target


def tracked(repository: Path) -> list[str]:
    """The files and links under version control that are there, sorted."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=repository, capture_output=True, check=True
    )
    names = listed.stdout.decode().split("\0")
    paths = {name: repository / name for name in names if name}
    return sorted(name for name, path in paths.items() if path.is_file() or path.is_symlink())


def run(tree: Path, tests: Sequence[str]) -> int:
    """pytest's exit status in a tree whose package is the tree's own."""
    data = os.environ.get("MIMIC_TEST_DATA", str(REPOSITORY.parent / "shared" / "data"))
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "MIMIC_TEST_DATA": data}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED  # what never ends does not pass
    return done.returncode


def listed(found: Sequence[Outcome]) -> list[dict[str, object]]:
    return [
        {"name": outcome.fault.name, "verdict": outcome.verdict, "seconds": outcome.seconds}
        for outcome in found
    ]


def show(found: Sequence[Outcome]) -> None:
    killed = sum(outcome.verdict == "killed" for outcome in found)
    table = Table(title=f"{killed} of {len(found)} faults killed")
    for column in ("fault", "file", "verdict", "s"):
        table.add_column(column)
    for outcome in found:
        table.add_row(outcome.fault.name, outcome.fault.file, outcome.verdict, str(outcome.seconds))
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
