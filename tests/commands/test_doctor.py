"""mimic doctor: one line a thing, a remedy, and failure only where the parameters need what is
missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimic import cli, config
from mimic.commands.operation import doctor
from mimic.commands.operation.doctor import programs, workspace
from mimic.commands.operation.doctor.finding import Finding
from mimic.params import Params, load_params
from tests.support import HABITAT_STAND_IN


@pytest.fixture
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _with_habitat(
    params: Params, command: tuple[str, ...], gpu_device_id: int = -1, engine: str = "habitat"
) -> Params:
    rooms = params.sources["rooms"].model_copy(update={"engine": engine})
    habitat = config.HabitatRuntime(command=command, gpu_device_id=gpu_device_id, timeout_s=60)
    return params.model_copy(update={"sources": {"rooms": rooms}, "habitat": habitat})


def _found(params: Params, name: str) -> Finding:
    return next(finding for finding in doctor.examine(params, Path()) if finding.name == name)


def test_a_torn_record_of_locks_is_named(params: Params, tmp_path: Path) -> None:
    record = tmp_path / ".dvc/tmp/rwlock"
    record.parent.mkdir(parents=True)
    for content, state in (("{}", "ok"), ("", "warning")):
        record.write_text(content)
        (finding,) = [one for one in doctor.examine(params, tmp_path) if one.name == "dvc"]
        assert finding.state == state
    assert f"rm {record}" in finding.remedy


@pytest.mark.parametrize(
    ("option", "is_secret"),
    [
        ("secret_access_key", True),
        ("password", True),
        ("connection_string", True),
        ("session_token", True),
        ("profile", False),
        ("ask_password", False),
        ("keyfile", False),
    ],
)
def test_a_credential_where_others_read_it_is_named(
    option: str, is_secret: bool, params: Params, tmp_path: Path
) -> None:
    """Of a remote that the real DVC wrote."""
    dvc = [sys.executable, "-m", "dvc", "--quiet"]
    bucket = {"ask_password": "https", "keyfile": "ssh", "password": "https"}.get(option, "s3")
    if option == "connection_string":
        bucket = "azure"
    value = "true" if option == "ask_password" else "marked-value"
    for command in (
        ["init", "--no-scm"],
        ["remote", "add", "lab", f"{bucket}://host/pairs"],
        ["remote", "modify", "--local", "lab", option, value],
    ):
        subprocess.run([*dvc, *command], cwd=tmp_path, check=True)
    local = tmp_path / ".dvc/config.local"
    local.chmod(0o644)

    def finding() -> Finding:
        return next(one for one in doctor.examine(params, tmp_path) if one.name == "credentials")

    assert finding().state == ("warning" if is_secret else "ok")
    assert "marked-value" not in str(finding())
    if is_secret:
        assert f"chmod 600 {local}" in finding().remedy
        local.chmod(0o600)
        assert finding().state == "ok"
        (tmp_path / ".dvc/config").write_text(local.read_text())
        assert "git keeps it" in finding().found


def test_an_address_with_a_password_in_git_is_named(params: Params, tmp_path: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("['remote \"lab\"']\n    url = ssh://me:pw@host/pairs\n")
    (finding,) = [one for one in doctor.examine(params, tmp_path) if one.name == "credentials"]
    assert "an address with a password" in finding.found


def test_what_is_absent_fails_only_where_it_is_needed(params: Params) -> None:
    absent = ("no-such-program",)
    needed = _found(_with_habitat(params, absent), "habitat-sim")
    assert needed.state == "missing"
    assert "cannot start 'no-such-program'" in needed.found
    assert needed.remedy
    assert f"{needed.found} {needed.remedy}".count("docs/scenes.md") == 1
    assert _found(_with_habitat(params, absent, engine="embree"), "habitat-sim").state == "note"
    assert doctor.main(_with_habitat(params, absent), Path(), as_json=True) is False


def test_slurm_is_asked_whether_it_answers(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins in a PATH of their own: none of the programs, a cluster with two jobs, and one that
    is down."""
    cluster = params.cluster.model_copy(update={"executor": "slurm"})
    slurm = params.model_copy(update={"cluster": cluster})
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = _found(slurm, "SLURM")
    assert (finding.state, finding.found) == ("missing", "no sbatch, squeue, scancel, sacct here")
    assert "cluster.executor: local" in finding.remedy
    assert (_found(params, "SLURM").state, _found(params, "SLURM").remedy) == ("note", "")
    for program in ("sbatch", "squeue", "scancel", "sacct"):
        (tmp_path / program).write_text("#!/bin/sh\necho 1 cpu mine\necho 2 cpu mine\n")
        (tmp_path / program).chmod(0o755)
    for asked in (slurm, params):
        finding = _found(asked, "SLURM")
        assert (finding.state, finding.found) == ("ok", "the cluster answers, 2 jobs of yours")
    (tmp_path / "squeue").write_text("#!/bin/sh\necho unable to contact >&2\nexit 1\n")
    finding = _found(slurm, "SLURM")
    assert finding.state == "missing"
    assert finding.found == "sbatch is here, but no cluster answers (unable to contact)"
    assert _found(params, "SLURM").state == "note"


def test_habitat_is_asked_for_what_it_can_do(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HABITAT_STAND_IN))
    assert _found(_with_habitat(params, (sys.executable,)), "habitat-sim").state == "ok"
    dying = _found(_with_habitat(params, (sys.executable,), gpu_device_id=0), "habitat-sim")
    assert dying.state == "missing"
    assert "unable to find CUDA device 0" in dying.found
    assert "gpu_device_id: -1" in dying.remedy
    monkeypatch.delenv("PYTHONPATH")
    assert (
        "No module named 'habitat_sim'"
        in _found(_with_habitat(params, (sys.executable,)), "habitat-sim").found
    )


def test_every_reader_of_scenes_is_asked_for_its_engine(repository: Path) -> None:
    """Pairs by co-visibility are rendered, too."""
    paper = load_params(repository / "profiles/paper.yaml")
    covisible = {
        name: section
        for name, section in paper.sources.items()
        if isinstance(section, config.Covisible)
    }
    assert covisible
    absent = config.HabitatRuntime(command=("no-such-program",), gpu_device_id=-1, timeout_s=60)
    asking = {
        name: section.model_copy(update={"engine": "habitat"})
        for name, section in covisible.items()
    }
    assert (
        _found(paper.model_copy(update={"sources": asking, "habitat": absent}), "habitat-sim").state
        == "missing"
    )


def test_a_busy_machine_is_not_taken_for_a_wrong_device(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HABITAT_STAND_IN))
    monkeypatch.setenv("STAND_IN_LOADS_FOR_S", "60")
    section = _with_habitat(params, (sys.executable,)).habitat.model_copy(update={"timeout_s": 5.0})
    slow = programs.habitat_sim(section, needed=True)
    assert slow.state == "missing"
    assert "load took longer than 5 s" in slow.found
    assert "gpu_device_id" not in slow.remedy + slow.found


def test_blurring_without_a_model_is_found(params: Params, tmp_path: Path) -> None:
    privacy = params.mine.privacy.model_copy(
        update={"blur_faces": True, "face_model": tmp_path / "gone.onnx"}
    )
    finding = _found(
        params.model_copy(update={"mine": params.mine.model_copy(update={"privacy": privacy})}),
        "faces",
    )
    assert finding.state == "missing"
    assert "gone.onnx" in finding.found
    assert _found(params, "faces").state == "note"


def test_bad_versions_and_broken_checks_are_findings(
    params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.setattr(cv2, "__version__", "4.12.0")
    assert _found(params, "OpenCV").state == "warning"
    monkeypatch.setattr(workspace, "disk", lambda root: 1 / 0)
    assert "ZeroDivisionError" in _found(params, "disk").found
    tracking = config.Tracking(uri="http://127.0.0.1:9", experiment_prefix="x")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert _found(params.model_copy(update={"tracking": tracking}), "MLflow").state == "warning"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://bob:s3cret@127.0.0.1:9")
    finding = _found(params, "MLflow")
    assert "refused" in finding.found, "it was asked, at the right place"
    assert "s3cret" not in str(finding)


def test_the_command_prints_one_line_each(repository: Path) -> None:
    command = ["doctor", "--params", str(repository / "params.yaml")]
    plain, as_json = (CliRunner().invoke(cli.app, [*command, *more]) for more in ([], ["--json"]))
    findings = json.loads(as_json.stdout)["findings"]
    assert as_json.exit_code == plain.exit_code == 0
    assert len(plain.stdout.splitlines()) == len(findings) >= 11
    assert {"name", "state", "found", "remedy"} == set(findings[0])
