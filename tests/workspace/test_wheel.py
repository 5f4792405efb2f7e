"""The package that is installed from a wheel holds all its data, and makes the same stages."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mimic.commands.workspace import stages, versions

NEEDED = ("pyproject.toml", "README.md", "LICENSE", "dvc.yaml", "prefect.yaml", "prefect.toml")


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    for name in NEEDED:
        shutil.copy(repository / name, root / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(repository / "src", root / "src", symlinks=True, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", "wheels", "."]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (found,) = (root / "wheels").glob("mimic-*.whl")
    return found


def test_every_data_file_is_in_the_wheel(wheel: Path, repository: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    package = repository / "src/mimic"
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    data = [path for path in files if path.suffix != ".py"]
    assert len(data) > 12
    for path in files:
        assert held[path.relative_to(package.parent).as_posix()] == path.read_bytes(), path


def test_an_installed_package_makes_the_same_stages_and_versions(
    wheel: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    script = (
        "import mimic; from mimic.commands.workspace import stages, versions;"
        "print(mimic.__file__); print(versions.text(versions.current('laptop')) + stages.text())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    where, said = done.stdout.split("\n", 1)
    assert Path(where).is_relative_to(tmp_path / "site")
    assert said == versions.text(versions.current("laptop")) + stages.text() + "\n"
