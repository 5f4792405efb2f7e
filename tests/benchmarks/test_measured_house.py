"""The measurements of the code, against trees whose numbers are plain; and the picture of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import architecture, house

FIRST = '''
"""A module."""
import toyhouse.b.second

class Row:
    pass

def packed(x, y):
    """A docstring
    of two lines."""
    a, b = x, y
    c = a if b else (b if a else 1)
    d = c + 1
    return d

# {long}
'''
SECOND = """
import toyhouse.a.first

class Row:
    pass

def other(p, found):
    e, f = p, found
    g = e if f else (f if e else 2)
    h = g + 2
    return h
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Two packages that import each other; every number of theirs can be counted by hand."""
    for folder in ("a", "b"):
        (tmp_path / "src/toyhouse" / folder).mkdir(parents=True)
        (tmp_path / "src/toyhouse" / folder / "__init__.py").touch()
    (tmp_path / "src/toyhouse/__init__.py").touch()
    (tmp_path / "src/toyhouse/a/first.py").write_text(FIRST.format(long="x" * 99))
    (tmp_path / "src/toyhouse/b/second.py").write_text(SECOND)
    (tmp_path / "params.yaml").write_text("a: 1\nb: 2\n")
    return tmp_path


def test_what_is_counted(toy: Path) -> None:
    found = house.measure(toy, "toyhouse")
    statements = 10 + 8  # of the first and of the second module
    assert found.files == 5
    assert found.lines_over_100_columns == 1
    assert found.fullest_folder_files == 1
    assert found.params_yaml_lines == 2
    assert found.class_names_with_two_meanings == ["Row"]
    assert found.duplicate_functions == ["packed = other"]
    assert (found.function_lines_p50, found.function_lines_max) == (5, 5)
    assert found.packed_assignments_per_100 == round(100 * 2 / statements, 2)
    assert found.ternaries_per_100 == round(100 * 4 / statements, 2)
    assert found.nested_ternaries == 2
    assert found.vague_names == ["found in other"]
    assert found.import_circles == [
        "toyhouse.a.first <-> toyhouse.b.second",
        "toyhouse.a <-> toyhouse.b",
    ]


def test_a_commit_is_measured_in_a_folder_of_its_own(repository: Path) -> None:
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True).returncode:
        pytest.skip("no repository here")
    program = [sys.executable, "-m", "benchmarks.house", "--ref", "HEAD"]
    done = subprocess.run(program, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "HEAD" in done.stdout
    listed = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True)
    assert b"/tree" not in listed.stdout


def test_arrows_that_follow_from_others_are_left_out() -> None:
    imports = {"a": {"b", "c", "d"}, "b": {"c"}, "c": set(), "d": set()}
    assert architecture.fewest_arrows(imports) == [("a", "b"), ("a", "d"), ("b", "c")]


def test_no_import_circles(repository: Path) -> None:
    assert house.import_circles(repository, "mimic") == []


def test_the_picture_shows_the_imports_that_exist() -> None:
    drawn = architecture.draw(architecture.read_layers(), architecture.direct_imports())
    assert architecture.PICTURE.read_text(encoding="utf-8") == drawn, (
        "docs/architecture.svg is out of date; run python -m benchmarks.architecture"
    )


def test_every_package_is_in_the_picture(repository: Path) -> None:
    drawn = architecture.PICTURE.read_text(encoding="utf-8")
    folders = [path.parent for path in repository.glob("src/mimic/*/__init__.py")]
    assert [path.name for path in folders if f">{path.name}</text>" not in drawn] == []
