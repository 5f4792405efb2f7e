"""How the code is built, in numbers: `python -m benchmarks.house [--ref COMMIT ...] [--json]`.

The working tree, and each commit that is named (checked out into a temporary folder for the
purpose). Of the package (and `flows/`, where it once lay), tests and benchmarks apart:

files in the fullest folder: Python files side by side in one folder, `__init__.py` not counted.
class names that mean two things: names that two files give to different classes.
duplicate functions: pairs of functions of DUPLICATE_STATEMENTS statements or more that are equal
but for names and constants; constructors apart.
function lines: from `def` to the last line, the docstring not counted; nested functions too.
import circles: groups of modules that import each other, directly or not, and groups of packages.
packed assignments: `a, b = x, y`. ternaries: `x if c else y`; both in 100 statements.
vague names: variables, arguments and functions called by a word that does not say what they hold
(`VAGUE`); a name counts once a function.

Lines over COLUMNS columns are counted in every Python file, those of tests and benchmarks too.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grimp
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

COLUMNS = 100
DUPLICATE_STATEMENTS = 4
VAGUE = {"about", "found", "here", "made", "place", "said", "there", "told", "whole"}
REPOSITORY = Path(__file__).parents[1]
PACKAGE = "mimic"
WORKING_TREE = "working tree"
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class House:
    """The measurements of one tree of files; lists name what was counted."""

    files: int
    lines: int
    lines_over_100_columns: int
    longest_file_lines: int
    fullest_folder_files: int
    params_yaml_lines: int | None
    class_names_with_two_meanings: list[str]
    duplicate_functions: list[str]
    function_lines_p50: float
    function_lines_p90: float
    function_lines_max: int
    import_circles: list[str]
    packed_assignments_per_100: float
    ternaries_per_100: float
    nested_ternaries: int
    vague_names: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ref", action="append", default=[], help="a commit to measure as well")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    # internal: the import graph can be built once a process, so a commit gets a process of its own
    parser.add_argument("--root", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.root is not None:
        print(json.dumps(dataclasses.asdict(measure(options.root))))
        return
    houses = {ref: measure_commit(ref) for ref in options.ref}
    houses[WORKING_TREE] = dataclasses.asdict(measure(REPOSITORY))
    if options.json:
        print(json.dumps(houses, indent=2))
    else:
        Console().print(table(houses))


def table(houses: dict[str, dict[str, Any]]) -> Table:
    """A row a measurement, a column a tree; of lists only the length."""
    shown = Table("measurement", *houses)
    for name in next(iter(houses.values())):
        values = [house[name] for house in houses.values()]
        shown.add_row(name.replace("_", " "), *(_shown(value) for value in values))
    return shown


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return str(len(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


# ---------------------------------------------------------------------------- measuring a tree


def measure_commit(ref: str) -> dict[str, Any]:
    """The measurements of a commit."""
    with worktree(ref) as root:
        command = [sys.executable, str(Path(__file__)), "--root", str(root)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(answer.stdout))


@contextmanager
def worktree(ref: str) -> Iterator[Path]:
    """A commit's files in a temporary folder."""
    git = ["git", "-C", str(REPOSITORY), "worktree"]
    with tempfile.TemporaryDirectory() as parent:
        root = Path(parent) / "tree"
        subprocess.run([*git, "add", "--quiet", "--detach", str(root), ref], check=True)
        try:
            yield root
        finally:
            subprocess.run([*git, "remove", "--force", str(root)], check=True)


def measure(root: Path, package: str = PACKAGE) -> House:
    """The measurements of the tree in `root`, whose package lies in src/."""
    package_files = sorted((root / "src" / package).rglob("*.py"))
    paths = [*package_files, *sorted(root.glob("flows/*.py"))]
    texts = {path: path.read_text() for path in paths}
    trees = [ast.parse(text) for text in texts.values()]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    functions = [node for node in nodes if isinstance(node, Function)]
    lengths = [_length(function) for function in functions]
    statements = sum(isinstance(node, ast.stmt) for node in nodes)
    line_counts = [len(text.splitlines()) for text in texts.values()]
    params = root / "params.yaml"
    return House(
        files=len(paths),
        lines=sum(line_counts),
        lines_over_100_columns=_long_lines(root),
        longest_file_lines=max(line_counts),
        fullest_folder_files=_fullest_folder(package_files),
        params_yaml_lines=len(params.read_text().splitlines()) if params.exists() else None,
        class_names_with_two_meanings=_repeated_class_names(trees),
        duplicate_functions=_duplicates(functions),
        function_lines_p50=statistics.median(lengths),
        function_lines_p90=float(np.percentile(lengths, 90)),
        function_lines_max=max(lengths),
        import_circles=import_circles(root, package),
        packed_assignments_per_100=_per_100(sum(map(_is_packed, nodes)), statements),
        ternaries_per_100=_per_100(sum(isinstance(n, ast.IfExp) for n in nodes), statements),
        nested_ternaries=sum(map(_is_nested_ternary, nodes)),
        vague_names=sorted(
            f"{name} in {getattr(scope, 'name', 'a module')}"
            for scope in [*trees, *functions]
            for name in _bound(scope) & VAGUE
        ),
    )


def _per_100(count: int, statements: int) -> float:
    return round(100 * count / statements, 2)


def _long_lines(root: Path) -> int:
    folders = ("src", "flows", "tests", "benchmarks")
    paths = [path for folder in folders for path in (root / folder).rglob("*.py")]
    lines = (line for path in paths for line in path.read_text().splitlines())
    return sum(len(line) > COLUMNS for line in lines)


def _fullest_folder(paths: Iterable[Path]) -> int:
    folders = Counter(path.parent for path in paths if path.name != "__init__.py")
    return max(folders.values(), default=0)


def _length(function: Function) -> int:
    """Lines of a function, its docstring not counted."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def _repeated_class_names(trees: Iterable[ast.Module]) -> list[str]:
    names = Counter(
        node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)
    )
    return sorted(name for name, count in names.items() if count > 1)


# ---------------------------------------------------------------------------- statements


def _is_packed(node: ast.AST) -> bool:
    """Whether a statement assigns several values to several names."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False
    return any(isinstance(target, ast.Tuple) for target in node.targets)


def _is_nested_ternary(node: ast.AST) -> bool:
    if not isinstance(node, ast.IfExp):
        return False
    return any(isinstance(part, ast.IfExp) for part in (node.body, node.orelse, node.test))


def _bound(scope: ast.AST) -> set[str]:
    """The names that a module or a function gives to something; inner functions have their own."""
    names: set[str] = set()
    queue: list[ast.AST] = [scope]
    while queue:
        for child in ast.iter_child_nodes(queue.pop()):
            if isinstance(child, Function):
                names.add(child.name)
                continue
            if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                names.add(child.id)
            elif isinstance(child, ast.arg):
                names.add(child.arg)
            queue.append(child)
    return names


def _duplicates(functions: Iterable[Function]) -> list[str]:
    """Pairs of functions that say the same in other names."""
    by_shape: dict[str, list[Function]] = defaultdict(list)
    for function in functions:
        body = _body(function)
        if function.name != "__init__" and len(body) >= DUPLICATE_STATEMENTS:
            by_shape["\n".join(map(_syntax, body))].append(function)
    pairs = [(first, other) for first, *others in by_shape.values() for other in others]
    return sorted(f"{first.name} = {other.name}" for first, other in pairs)


def _body(function: Function) -> list[ast.stmt]:
    """The statements of a function without its docstring."""
    return function.body[1:] if ast.get_docstring(function) is not None else function.body


def _syntax(node: ast.AST) -> str:
    """The syntax of a statement without its names and constants."""
    if isinstance(node, ast.Name | ast.Constant):
        return "_"
    inner = ",".join(_syntax(child) for child in ast.iter_child_nodes(node))
    label = f".{node.attr}" if isinstance(node, ast.Attribute) else type(node).__name__
    return f"{label}({inner})"


# ---------------------------------------------------------------------------- imports


def import_graph(root: Path, package: str) -> dict[str, set[str]]:
    """What each module of the package imports from it."""
    sys.path.insert(0, str(root / "src"))
    try:
        graph = grimp.build_graph(package, cache_dir=None)
    finally:
        sys.path.pop(0)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def import_circles(root: Path, package: str) -> list[str]:
    """Groups of modules, and of packages, that import each other."""
    modules = import_graph(root, package)
    return [*circles(modules), *circles(between_packages(modules))]


def between_packages(modules: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same imports between the first-level packages, `package.name`; the root itself is left
    out: it is imported with everything below it."""
    packages: dict[str, set[str]] = {name: set() for name in map(_first_level, modules) if name}
    for name, imported in modules.items():
        importer = _first_level(name)
        if importer:
            others = {_first_level(other) for other in imported} - {importer, ""}
            packages[importer] |= others
    return packages


def _first_level(module: str) -> str:
    return ".".join(module.split(".")[:2]) if "." in module else ""


def circles(graph: dict[str, set[str]]) -> list[str]:
    """The strongly connected parts of a graph that have two members or more."""
    names = sorted(graph)
    index = {name: number for number, name in enumerate(names)}
    edges = [(index[name], index[other]) for name in names for other in graph[name]]
    if not edges:
        return []
    rows, columns = zip(*edges, strict=True)
    matrix = coo_array((np.ones(len(edges)), (rows, columns)), shape=(len(names), len(names)))
    _, labels = connected_components(matrix, directed=True, connection="strong")
    return sorted(_members(names, labels))


def _members(names: Sequence[str], labels: np.ndarray) -> Iterator[str]:
    for label in np.flatnonzero(np.bincount(labels) > 1):
        yield " <-> ".join(name for name, own in zip(names, labels, strict=True) if own == label)


if __name__ == "__main__":
    main()
