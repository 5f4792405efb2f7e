"""Workspaces elsewhere: under another locale, with names that are not ASCII, moved between two
runs and reached through links."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from mimic import ingest
from mimic.params import load_params, resolve_params
from mimic.training import checkpoint
from tests.support import footage, toy_runs
from tests.support.command import MIMIC


@pytest.mark.parametrize("locale", ["C", "ja_JP.eucJP"])  # one that is not installed counts as C
def test_a_locale_changes_no_byte_and_stops_no_name(
    tmp_path: Path, repository: Path, locale: str
) -> None:
    root = tmp_path / "größe 写真"
    footage.video(root / "data/raw/phone/übung-写真.mp4", footage.pan(0, 8, 80))
    (root / "data/raw/phone/kaputt-ß.mp4").write_text("no video")
    raw = resolve_params(repository / "params.yaml").full()
    text = "# Übung, 写真\n" + yaml.safe_dump(raw, sort_keys=False)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    ingest.main(load_params(root / "params.yaml"), root, "phone")
    inventory = root / "data/inventory/phone.parquet"
    before = inventory.read_bytes()
    inventory.unlink()
    narrow = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [MIMIC, "ingest", "phone"], cwd=root, env={**os.environ, **narrow}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert "kaputt-ß.mp4" in done.stderr.decode()
    assert inventory.read_bytes() == before


def test_a_workspace_that_is_moved_goes_on_where_it_was(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    alone = toy_runs.files(toy_runs.run(_toy(first, repository), "croco"))
    moved = tmp_path / "moved"
    os.rename(first, moved)
    for path in moved.glob("models/croco/*"):
        path.unlink()
    save = checkpoint.save

    def killed(folder: Path, step: int, *given: object, **named: object) -> None:
        save(folder, step, *given, **named)  # type: ignore[arg-type]
        if step == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            toy_runs.run(moved, "croco")
    elsewhere = tmp_path / "else where"
    os.rename(moved, elsewhere)
    assert not moved.exists()
    assert toy_runs.files(toy_runs.run(elsewhere, "croco")) == alone
    assert not moved.exists()  # nothing goes back to where it was


def test_a_workspace_of_links_is_worked_in_as_any_other(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """data/, runs/ and models/ on other disks, the workspace reached through a link itself."""
    alone = toy_runs.files(toy_runs.run(_toy(tmp_path / "plain", repository), "croco"))
    real = _toy(tmp_path / "real", repository)
    for name in ("data", "runs", "models"):
        disk = tmp_path / f"disk of {name}"
        if (real / name).exists():
            os.rename(real / name, disk)
        else:
            disk.mkdir()
        (real / name).symlink_to(disk)
    link = tmp_path / "link"
    link.symlink_to(real)
    monkeypatch.chdir(link)
    assert toy_runs.files(toy_runs.run(Path(), "croco")) == alone
    assert all((real / name).is_symlink() for name in ("data", "runs", "models"))
    assert toy_runs.files(real / "models/croco") == alone


def _toy(root: Path, repository: Path) -> Path:
    root.mkdir()
    return toy_runs.write_workspace(root, repository)
