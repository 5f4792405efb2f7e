"""`mimic dag`: the stages in their order, one line each, as DVC's own graph has them.

`dvc dag` draws every stage of every entry, 1,500 columns wide. Here stages of one kind are one, and
an edge that others imply is left out.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

from mimic.errors import BadInput

DVC = (sys.executable, "-m", "dvc")
NODE = re.compile(r'(node\d+)\["(.+)"\]')
EDGE = re.compile(r"(node\d+)-->(node\d+)")

Graph = dict[str, set[str]]  # what each stage waits for


def text(root: Path) -> str:
    """A table: stage, how many there are of it, and what it waits for.

    Raises:
        BadInput: DVC cannot read the stages of the folder.
    """
    listed = _dvc(root, "stage", "list", "--all", "--name-only").split()
    counts = Counter(name.partition("@")[0] for name in listed)
    after = _reduced(_graph(root))
    rows = [("stage", "entries", "waits for")]
    for name in _in_order(after):
        rows.append((name, str(counts.get(name, 1)), ", ".join(_in_order(after, after[name]))))
    width = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:{width}}  {count:>7}  {of}".rstrip() for name, count, of in rows)


def mermaid(root: Path) -> str:
    """The same as a flowchart of Mermaid.

    Raises:
        BadInput: DVC cannot read the stages of the folder.
    """
    after = _reduced(_graph(root))
    order = _in_order(after)
    number = {name: f"s{index}" for index, name in enumerate(order)}
    lines = ["flowchart LR"]
    lines += [f'  {number[name]}["{name}"]' for name in order]
    for name in order:
        lines += [f"  {number[one]} --> {number[name]}" for one in _in_order(after, after[name])]
    return "\n".join(lines)


def _graph(root: Path) -> Graph:
    drawn = _dvc(root, "dag", "--collapse-foreach-matrix", "--mermaid")
    names = dict(NODE.findall(drawn))
    graph: Graph = {name: set() for name in names.values()}
    for before, after in EDGE.findall(drawn):
        graph[names[after]].add(names[before])
    return graph


def _reduced(graph: Graph) -> Graph:
    """Without edges between stages that a longer way connects, too."""
    above: Graph = {}
    for name in TopologicalSorter(graph).static_order():
        above[name] = set().union(*(above[one] | {one} for one in graph[name]))
    return {
        name: {one for one in befores if not any(one in above[other] for other in befores)}
        for name, befores in graph.items()
    }


def _in_order(graph: Mapping[str, set[str]], chosen: set[str] | None = None) -> list[str]:
    """Names in an order in which the stages can run, as deep as they lie, then by name."""
    depth: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        depth[name] = 1 + max((depth[one] for one in graph[name]), default=0)
    return sorted(graph if chosen is None else chosen, key=lambda name: (depth[name], name))


def _dvc(root: Path, *command: str) -> str:
    done = subprocess.run([*DVC, *command], cwd=root, capture_output=True, text=True)
    if done.returncode:
        reason = " ".join(done.stderr.split())[:300]
        raise BadInput(f"{root / 'dvc.yaml'}: DVC cannot read the stages: {reason}")
    return done.stdout
