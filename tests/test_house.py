"""What the documents claim about the house is checked: layers, tree, commands, keys."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from pydantic import BaseModel

from benchmarks import house, wrap_documents
from mimic import cli, config
from mimic.params import Params
from mimic.tasks import TASKS

DOCUMENTS = ["README.md", "CONTRIBUTING.md", "docs"]


def _documents(repository: Path) -> list[Path]:
    paths = [repository / name for name in DOCUMENTS]
    return [
        page for path in paths for page in (sorted(path.rglob("*.md")) if path.is_dir() else [path])
    ]


def test_no_two_files_of_tests_share_a_name(repository: Path) -> None:
    """A name alone says which file failed, and `pytest -k` picks one."""
    names = Counter(
        path.name
        for path in repository.glob("tests/**/*.py")
        if path.name not in ("conftest.py", "__init__.py")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_layers_hold(repository: Path) -> None:
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([program, "--no-cache"], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# One of these has another meaning in each of two files, and why that is right.
TWO_MEANINGS: dict[str, str] = {}


@pytest.fixture(scope="module")
def measured(repository: Path) -> house.House:
    return house.measure(repository)


def test_files_functions_and_folders_fit_the_head(repository: Path, measured: house.House) -> None:
    files = list((repository / "src").rglob("*.py"))
    longest = max(files, key=lambda path: len(path.read_text().splitlines()))
    modules = [path.parent for path in files if path.name != "__init__.py"]
    fullest = max(modules, key=modules.count)
    assert measured.longest_file_lines <= 400, f"split {longest}"
    assert measured.function_lines_p90 <= 25, "split the longest of your functions"
    assert measured.fullest_folder_files <= 14, f"group files of {fullest} in a folder of their own"


def test_pages_have_100_columns() -> None:
    """All but tables, code and pictures."""
    wide = [page.name for page in wrap_documents.pages() if _is_wide(page.read_text())]
    assert wide == [], "run `python -m benchmarks.wrap_documents`"


def _is_wide(text: str) -> bool:
    return wrap_documents.wrapped(text) != text


def test_wrapping_changes_no_word_and_no_code() -> None:
    long = "word " * 30 + "`a code span with spaces` [a link of words](page.md) - 3. end\n"
    page = f"# {'title ' * 20}\n\n{long}\n- {long}\n```\n{long}```\n\n| {long}"
    after = wrap_documents.wrapped(page)
    assert after.split() == page.split()
    assert wrap_documents.wrapped(after) == after
    lines = after.splitlines()
    assert f"# {'title ' * 20}" in lines
    assert lines.count(long.rstrip("\n")) == 1  # in the code
    assert f"| {long}".rstrip("\n") in lines
    prose = [line for line in lines if not line.startswith(("#", "|")) and line != long.rstrip()]
    assert max(map(len, prose)) <= 100
    assert sum("`a code span with spaces`" in line for line in prose) == 2
    assert not any(re.match(r" *(- 3|3\.)", line) for line in prose)


def test_no_modules_import_each_other_in_a_circle(measured: house.House) -> None:
    assert measured.import_circles == []


def test_a_class_name_means_one_thing(measured: house.House) -> None:
    assert set(measured.class_names_with_two_meanings) == set(TWO_MEANINGS)


def test_a_statement_gives_one_name_a_value(measured: house.House) -> None:
    assert measured.packed_assignments_per_100 == 0
    assert measured.nested_ternaries == 0


def test_names_say_what_they_hold(measured: house.House) -> None:
    """The one is a key of `mimic doctor --json`."""
    assert measured.vague_names == ["found in a module"]


def test_no_function_is_written_twice(measured: house.House) -> None:
    assert measured.duplicate_functions == []


def test_no_dead_keys(repository: Path) -> None:
    """Every key of params.yaml is read somewhere outside mimic.config: as an attribute, by its name
    as a string, or by dvc.yaml."""
    read = set(re.findall(r"item\.(\w+)", (repository / "dvc.yaml").read_text()))
    source = repository / "src/mimic"
    for path in source.rglob("*.py"):
        if path.relative_to(source).parts[0] != "config" and path.name != "config.py":
            read |= _names_read(ast.parse(path.read_text()))
    models: list[type[BaseModel]] = [
        *_sections(vars(config).values()),
        Params,
        *(spec.section for spec in TASKS.values()),
    ]
    whole = {config.TaskSets}  # gone through field by field
    fields = {name for model in models if model not in whole for name in model.model_fields}
    assert len(fields) > 200
    assert sorted(fields - read) == [], "nothing reads these fields: use them, or remove them"


def _sections(values: Iterable[object]) -> list[type[config.Section]]:
    return [
        value for value in values if isinstance(value, type) and issubclass(value, config.Section)
    ]


def _names_read(tree: ast.AST) -> set[str]:
    """Attributes that are read, and strings that are no docstring."""
    documents = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            found.add(node.attr)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents
        ):
            found.add(node.value)
    return found


def test_the_tree_in_the_readme_is_the_tree(repository: Path) -> None:
    listing = (
        (repository / "README.md").read_text().split("## Repository layout", 1)[1].split("```")[1]
    )
    folders: list[str] = []
    for line in filter(None, listing.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r" {2,}|\t", line.strip(), maxsplit=1)[0].split()
        folders = folders[:depth]
        for name in names:
            assert (repository / Path(*folders) / name).exists(), (
                f"README's tree names {'/'.join([*folders, name])}"
            )
        folders.append(names[0])


def test_every_command_in_the_documents_exists(repository: Path) -> None:
    commands = set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(), re.M))
    for page in _documents(repository):
        code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.S))
        assert set(re.findall(r"(?:^|[`\n$ ])mimic ([a-z][a-z-]*)", code)) <= commands, page
        assert set(re.findall(r"(?:^|[`\n$ ])make ([a-z]+)", code)) <= targets, page


def test_every_file_a_document_links_to_exists(repository: Path) -> None:
    for page in _documents(repository):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_laptop_profile_is_what_params_yaml_holds(repository: Path) -> None:
    laptop = repository / "profiles" / "laptop.yaml"
    assert yaml.safe_load(laptop.read_text()) == yaml.safe_load(
        (repository / "params.yaml").read_text()
    ), "make the same change in both files"


COMMANDS: Any = typer.main.get_command(cli.app)


@pytest.mark.parametrize("command", sorted(COMMANDS.commands))
def test_every_command_explains_itself(command: str) -> None:
    found = typer.main.get_command(cli.app).commands[command]  # type: ignore[attr-defined]
    assert found.help
    assert len(found.help) > 20
