"""What the documents name exists: modules, files, keys, pages; and the site builds."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from mimic.params import Params, load_params

TOP = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", ".github"]
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.S)
DOTTED = re.compile(r"(?<![\w./-])([a-z_]+(?:\.\w+)+)(?![\w/*<-])")
FENCED = re.compile(r"```.*?```", re.S)
# Words of other projects' settings and files, which none of our code says.
OTHERS = {"CV_8U", "mae_pretrain_vit_base"}
FILE = re.compile(r"(?<![\w./<>*{-])((?:[\w.-]+/)*[\w-]+\.(?:py|yaml|toml|sql))(?![\w*<])")
FOLDER = re.compile(r"(?<![\w./<>-])(?:src|tests|benchmarks|docker|examples)/[\w./-]+(?![\w./<-])")
AT_THE_TOP = {
    "params.yaml",
    "versions.yaml",
    "dvc.yaml",
    "prefect.yaml",
    "prefect.toml",
    "pyproject.toml",
}


def documents(repository: Path) -> list[Path]:
    """All documents but the changelog, which names what is gone."""
    pages = [repository / name for name in TOP]
    found = [page for path in pages for page in (path.rglob("*.md") if path.is_dir() else [path])]
    return [*found, *sorted((repository / "docs").rglob("*.md"))]


def code_of(page: Path) -> str:
    return "\n".join(CODE.findall(page.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def test_every_python_name_exists(repository: Path, params: Params) -> None:
    """`mimic.a.b`, and `a.b` where `a` is a package of mimic: a module, or a name in one."""
    packages = {path.parent.name for path in repository.glob("src/mimic/*/__init__.py")}
    missing = [
        f"{page.relative_to(repository)}: {name}"
        for page in documents(repository)
        for name in DOTTED.findall(code_of(page) + _directives(page))
        if name.split(".")[0] in packages | {"mimic"}
        and not _exists("mimic." + name.removeprefix("mimic."))
        and not _is_file(name)
        and name.split(".")[0] not in type(params).model_fields
    ]
    assert missing == []


def test_a_name_that_is_gone_is_found() -> None:
    assert _exists("mimic.geometry.overlap.compare")
    assert _exists("mimic.mine_pairs")
    assert not _exists("mimic.geometry.overlap.compared")
    assert not _exists("mimic.worlds")
    assert DOTTED.findall("`infra.gone.name` and `docs/x.y` `.mimic.json`") == ["infra.gone.name"]
    assert FILE.findall("`pairs/gone.py` `data/<source>/x.py` `params.yaml`") == [
        "pairs/gone.py",
        "params.yaml",
    ]


def test_every_identifier_occurs_in_the_code(repository: Path) -> None:
    """`open_pairs`, `Stop.requested()`, `overlap_min`: each word is one of the code, the parameter
    files or a tool's settings."""
    words = _words_of_the_code(repository)
    missing = [
        f"{page.relative_to(repository)}: {token}"
        for page in documents(repository)
        for token in re.findall(r"`([^`\n]+)`", FENCED.sub("", page.read_text(encoding="utf-8")))
        for word in re.findall(r"(?<![\w<*-])[A-Za-z_]\w*_\w*(?![\w>*-])", token)
        if word not in words and word not in OTHERS
    ]
    assert missing == []


def test_every_module_that_is_run_exists(repository: Path) -> None:
    """`python -m benchmarks.truth`, and modules of other packages."""
    for page in documents(repository):
        for name in re.findall(r"python -m ([\w.]+)", code_of(page)):
            assert find_spec(name.rstrip(".")) is not None, f"{page}: {name}"


def _words_of_the_code(repository: Path) -> set[str]:
    kinds = {".py", ".yaml", ".toml", ".json", ".txt", ".sql", ".in", ""}
    folders = ("src", "flows", "benchmarks", "tests", "docker", "profiles", "examples")
    files = [path for name in folders for path in (repository / name).rglob("*")]
    files += [path for path in repository.iterdir() if path.name[0] != "."]
    words = {path.stem for path in files}
    for path in files:
        if path.is_file() and path.suffix in kinds and "test_documents" not in path.name:
            words |= set(re.findall(r"\w+", path.read_text(encoding="utf-8", errors="ignore")))
    return words


def _directives(page: Path) -> str:
    return " ".join(re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.M))


def _is_file(name: str) -> bool:
    return name.rpartition(".")[2] in {"py", "yaml", "json", "toml", "md", "lock", "db"}


def _exists(name: str) -> bool:
    """The longest part of the name that is a module is imported, and asked for the rest."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            found = getattr(found, part, None)
        return found is not None
    return False


def test_every_file_exists(repository: Path) -> None:
    """Of the repository, or of the package; a name alone is that of some file."""
    names = set(_tracked_names(repository)) | AT_THE_TOP
    missing = []
    for page in documents(repository):
        for name in [*FILE.findall(code_of(page)), *FOLDER.findall(code_of(page))]:
            homes = (repository, repository / "src/mimic", page.parent)
            here = any((home / name).exists() for home in homes)
            if not here and ("/" in name or name not in names):
                missing.append(f"{page.relative_to(repository)}: {name}")
    assert missing == []


def _tracked_names(repository: Path) -> Iterator[str]:
    for folder in ("src", "flows", "tests", "benchmarks", "docker", "profiles", "examples"):
        yield from (path.name for path in (repository / folder).rglob("*") if path.is_file())


def test_the_documented_layers_are_those_of_the_contract(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())
    contract = project["tool"]["importlinter"]["contracts"][0]["layers"]
    layers = [sorted(re.findall(r"(?:mimic\.)?(\w+)(?: \||$)", layer)) for layer in contract]
    page = (repository / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| \d+ \| (.*) \|$", page, re.M)
    assert [sorted(re.findall(r"`(\w+)`", row)) for row in rows] == layers
    text = (repository / "CONTRIBUTING.md").read_text()
    line = text.split("    flows > ", 1)[1].split("\n\n", 1)[0]
    told = [sorted(re.findall(r"\w+", part)) for part in f"flows > {line}".split(">")]
    stages = next(layer for layer in layers if "ingest" in layer)
    assert told == [["stages"] if layer == stages else layer for layer in layers]


def test_every_page_is_in_the_navigation(repository: Path) -> None:
    site = yaml.safe_load((repository / "mkdocs.yml").read_text())
    listed = list(_pages(site["nav"]))
    pages = [str(path.relative_to(repository / "docs")) for path in _site_pages(repository)]
    assert sorted(listed) == sorted(pages)


def _site_pages(repository: Path) -> list[Path]:
    return list((repository / "docs").rglob("*.md"))


def _pages(nav: object) -> Iterator[str]:
    match nav:
        case str():
            yield nav
        case list():
            for entry in nav:
                yield from _pages(entry)
        case dict():
            for entry in nav.values():
                yield from _pages(entry)


def test_the_site_builds_and_a_broken_link_fails(
    repository: Path, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    zensical = require_program("zensical")
    for name in ("docs", "src"):
        shutil.copytree(repository / name, tmp_path / name)
    shutil.copy(repository / "mkdocs.yml", tmp_path)

    def build() -> subprocess.CompletedProcess[str]:
        command = [zensical, "build", "--strict", "--clean"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)

    done = build()
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "site/reference/index.html").read_text()
    for name in ("api.mine_pairs", "api.extract_features", "models.encoder.VisionTransformer"):
        assert f'id="mimic.{name}"' in reference
    with (tmp_path / "docs/index.md").open("a") as page:
        page.write("\n[gone](gone.md)\n")
    assert build().returncode != 0


def test_the_citation_names_this_version(repository: Path) -> None:
    cited = yaml.safe_load((repository / "CITATION.cff").read_text())
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (project["version"], project["license"])
    assert [paper["year"] for paper in cited["references"]] == [2023, 2022]


def test_workflows_and_forms_are_yaml_and_ci_runs_the_one_script(repository: Path) -> None:
    forms = [*repository.glob(".github/**/*.yml")]
    assert len(forms) == 5
    loaded = {path.name: yaml.safe_load(path.read_text()) for path in forms}
    for job, command in (("all", "bash .ci/run"), ("long", "bash .ci/run long")):
        steps = loaded["ci.yml"]["jobs"][job]["steps"]
        assert [step["run"] for step in steps if ".ci/run" in step.get("run", "")] == [command]
    for name in ("bug.yml", "feature.yml"):
        assert {"name", "description", "body"} <= loaded[name].keys()
