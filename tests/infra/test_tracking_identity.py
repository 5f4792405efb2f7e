"""Whose results are whose, on a server that several workspaces share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mimic import config
from mimic.infra.tracking import identity, store
from mimic.infra.tracking.identity import identity_of


@pytest.fixture(autouse=True)
def nothing_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(identity.VARIABLE, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_a_workspace_stays_itself(tmp_path: Path) -> None:
    root = made(tmp_path / "mimic")
    first = identity_of(root)
    assert first.workspace.startswith("mimic-")
    assert identity_of(root) == first
    shutil.rmtree(root / "runs")  # removing it costs only time
    assert identity_of(root) == first
    shutil.rmtree(root)
    assert identity_of(made(root)) == first, "cloned again to the same place"


def test_a_moved_one_stays_itself_and_a_copy_does_not(tmp_path: Path) -> None:
    root = made(tmp_path / "mimic")
    first = identity_of(root)
    copy = shutil.copytree(root, tmp_path / "copies" / "mimic")
    assert identity_of(copy).workspace != first.workspace
    assert identity_of(root) == first
    root.rename(tmp_path / "moved")
    assert identity_of(tmp_path / "moved") == first
    assert identity_of(tmp_path / "moved") == first


def test_a_former_folder_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    """Another user's home, or a disk that gives an error."""
    root = made(tmp_path / "mimic")
    first = identity_of(root)
    (tmp_path / "file").touch()
    known = json.loads((root / identity.KEPT).read_text())
    (root / identity.KEPT).write_text(json.dumps(known | {"place": f"{tmp_path}/file/mimic"}))
    assert identity_of(root).workspace == first.workspace, "made anew, of the same folder"


def test_two_people_and_two_places_are_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {identity_of(made(tmp_path / name / "mimic")).prefix for name in ("a", "b")}
    monkeypatch.setenv("LOGNAME", "somebody-else")
    shutil.rmtree(tmp_path / "a")
    theirs = identity_of(made(tmp_path / "a" / "mimic"))
    assert theirs.user == "somebody-else"
    assert len(found | {theirs.prefix}) == 3


def test_a_stated_name_is_the_same_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(identity.VARIABLE, "lab nightly")
    one, two = (identity_of(made(tmp_path / name)) for name in "ab")
    assert one == two
    assert one.workspace.startswith("lab-nightly-")


def test_a_queued_experiment_is_of_its_workspace_and_takes_nothing_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC removes the folder it runs a queue in."""
    root = made(tmp_path / "mimic")
    queued = made(root / ".dvc/tmp/exps/tmpabc")
    monkeypatch.setenv("DVC_EXP_NAME", "mask08")
    own = identity_of(root)
    assert identity_of(queued).workspace == own.workspace
    assert identity_of(queued).prefix == f"{own.prefix}/mask08"
    tracking = config.Tracking(uri="sqlite:///mlflow.db", experiment_prefix="mimic")
    assert store.address(tracking, queued) == f"sqlite:///{root}/mlflow.db"
