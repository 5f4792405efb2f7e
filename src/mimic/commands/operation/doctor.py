"""What works on this machine: one line each, with the remedy where something does not
(`mimic doctor`).

Nothing is changed and nothing is downloaded. The exit status is 1 only when something is missing
that the parameter file needs.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from mimic import config
from mimic.commands.operation.credentials import exposed
from mimic.commands.operation.schedule_slots import held_slots
from mimic.errors import BadInput
from mimic.infra.addresses import without_password
from mimic.params import Params

CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")
BAD_OPENCV = ("4.12.", "4.13.")  # their SIFT or homographies differ
OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
# a call of habitat-sim: loading takes 15 s of processor time without a GPU, and machines are busy
PROBE_S = 180.0
DISK_GB = 20  # below this, mining and pretraining soon stop
MARKS = {"ok": "ok     ", "note": "-      ", "warning": "warning", "missing": "MISSING"}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    name: str
    state: Literal[
        "ok", "note", "warning", "missing"
    ]  # note: absent, and not needed; missing: absent, and needed
    found: str
    remedy: str = ""


def main(params: Params, root: Path, as_json: bool) -> bool:
    """Print what works; whether all is there that the parameters need."""
    findings = list(examine(params, root))
    if as_json:
        print(
            json.dumps(
                {"ok": _healthy(findings), "findings": [asdict(finding) for finding in findings]}
            )
        )
    else:
        for finding in findings:
            remedy = f"; {finding.remedy}" if finding.remedy else ""
            print(f"{MARKS[finding.state]}  {finding.name:<12}{finding.found}{remedy}")
    return _healthy(findings)


def _healthy(findings: list[Finding]) -> bool:
    return not any(finding.state == "missing" for finding in findings)


def examine(params: Params, root: Path) -> Iterator[Finding]:
    """Look at one thing after the other; a check that itself fails is a finding, never a
    traceback."""
    engines = {
        section.engine
        for section in params.sources.values()
        if isinstance(section, config.SceneBase)
    }
    videos = any(section.decodes_video for section in params.sources.values())
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("Python", _python),
        ("PyTorch", _torch),
        ("OpenCV", _opencv),
        (
            "embreex",
            lambda: _package(
                "embreex",
                "engine: embree",
                "embree" in engines,
                "no wheel for this processor? use engine: habitat",
            ),
        ),
        ("PyAV", lambda: _av(videos)),
        ("habitat-sim", lambda: _habitat(params.habitat, "habitat" in engines)),
        ("faces", lambda: _faces(params.mine.privacy, root)),
        ("SLURM", lambda: _slurm(params.cluster.executor == "slurm")),
        ("MLflow", lambda: mlflow_server(params.tracking)),
        ("Prefect", prefect_server),
        ("DVC", lambda: _dvc(root)),
        ("credentials", lambda: _credentials(root)),
        ("disk", lambda: _disk(root)),
    ]
    for name, check in checks:
        try:
            yield check()
        except Exception as error:  # a broken installation can fail in any way
            yield Finding(
                name,
                "warning",
                f"could not be examined ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:160]})",
            )


def _python() -> Finding:
    state = (
        f"{platform.python_version()}, "
        f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} "
        "cores"
    )
    return Finding("Python", "ok", state)


def _torch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of it does not load
        return Finding(
            "PyTorch", "missing", f"does not import ({error})", "pip install -e . brings it"
        )
    if not torch.cuda.is_available():
        return Finding(
            "PyTorch",
            "ok",
            f"{torch.__version__}, no GPU: the laptop profile's sizes are meant for this",
        )
    names = sorted(
        {torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())}
    )
    return Finding(
        "PyTorch", "ok", f"{torch.__version__}, {torch.cuda.device_count()} x {', '.join(names)}"
    )


def _opencv() -> Finding:
    import cv2

    several = [name for name in OPENCVS if _version(name)]
    if cv2.__version__.startswith(BAD_OPENCV):
        return Finding(
            "OpenCV",
            "warning",
            cv2.__version__,
            "4.12 and 4.13 find other pairs: pip install 'opencv-python-headless!=4.12.*,!=4.13.*'",
        )
    if len(several) > 1:
        return Finding(
            "OpenCV",
            "warning",
            f"{cv2.__version__}, {' and '.join(several)}",
            "they overwrite each other: uninstall all but one",
        )
    return Finding("OpenCV", "ok", cv2.__version__)


def _package(name: str, what_for: str, needed: bool, remedy: str) -> Finding:
    installed = _version(name)
    if installed:
        return Finding(name, "ok", installed)
    return Finding(name, "missing" if needed else "note", f"not installed ({what_for})", remedy)


def _av(needed: bool) -> Finding:
    try:
        import av
        from av.codec import Codec
    except (ImportError, OSError) as error:
        return Finding(
            "PyAV", "missing" if needed else "note", f"does not import ({error})", "pip install av"
        )
    lacking = []
    for name in CODECS:
        try:
            Codec(name, "r")
        except Exception:  # UnknownCodecError, whose place has moved
            lacking.append(name)
    if lacking:
        return Finding(
            "PyAV",
            "warning",
            f"{av.__version__} without {', '.join(lacking)}",
            "install the wheel from PyPI, it brings them",
        )
    return Finding("PyAV", "ok", f"{av.__version__}, decodes {', '.join(CODECS)}")


def _dvc(root: Path) -> Finding:
    """A process that was killed while it wrote the record of locks leaves half of it, and DVC
    refuses every stage from then on; flows mend it."""
    finding = _package("dvc", "dvc repro", False, "pip install -e . brings it")
    record = root / ".dvc/tmp/rwlock"
    try:
        json.loads(record.read_bytes())
    except FileNotFoundError:
        return finding
    except ValueError:
        problem = f"{finding.found}, but a killed process tore {record}: every stage is refused"
        return Finding(finding.name, "warning", problem, f"rm {record}, while no dvc runs")
    return finding


def _habitat(section: config.HabitatRuntime, needed: bool) -> Finding:
    """In a process of its own: habitat-sim aborts where no GPU matches."""
    from mimic.scenes import habitat
    from mimic.scenes.base import EngineFailed
    from mimic.scenes.habitat_process import HabitatSlow

    absent: Literal["missing", "note"] = "missing" if needed else "note"
    timeout_s = min(PROBE_S, section.timeout_s)
    try:
        installed = habitat.probe(section.command, timeout_s)
    except (EngineFailed, BadInput) as error:
        problem = _short(error).removesuffix("; see docs/scenes.md")
        return Finding(
            "habitat-sim",
            absent,
            problem,
            "docs/scenes.md says how to install it; engine: embree needs none",
        )
    versions = f"{installed['version']} under Python {installed['python']}"
    try:
        habitat.open_nothing(section.command, timeout_s, section.gpu_device_id)
    except HabitatSlow as error:
        return Finding(
            "habitat-sim",
            absent,
            f"{versions}, but {_short(error)}",
            "is the machine busy? try again",
        )
    except EngineFailed as error:
        return Finding(
            "habitat-sim",
            absent,
            f"{versions}, but it renders nothing: {_short(error)}",
            "try habitat.gpu_device_id: -1 (docs/scenes.md)",
        )
    return Finding(
        "habitat-sim", "ok", f"{versions}, renders with gpu_device_id {section.gpu_device_id}"
    )


def _faces(section: config.Privacy, root: Path) -> Finding:
    from mimic.mining import privacy

    if not section.blur_faces:
        return Finding("faces", "note", "not blurred (mine.privacy.blur_faces)")
    try:
        privacy.open_guard(section.model_copy(update={"nsfw_command": None}), root)
    except BadInput as error:
        return Finding("faces", "missing", _short(error))
    return Finding("faces", "ok", f"blurred; {section.face_model} opens")


def _slurm(needed: bool) -> Finding:
    lacking = [
        name for name in ("sbatch", "squeue", "scancel", "sacct") if shutil.which(name) is None
    ]
    if lacking:
        problem = f"no {', '.join(lacking)} here"
        return Finding(
            "SLURM",
            "missing" if needed else "note",
            problem,
            "run on a login node, or set cluster.executor: local" if needed else "",
        )
    answer = subprocess.run(
        ["squeue", "--noheader", "--me"], capture_output=True, text=True, timeout=20, check=False
    )
    if answer.returncode:
        problem = (
            f"sbatch is here, but no cluster answers ({' '.join(answer.stderr.split())[:120]})"
        )
        return Finding("SLURM", "missing" if needed else "note", problem)
    return Finding(
        "SLURM", "ok", f"the cluster answers, {len(answer.stdout.splitlines())} jobs of yours"
    )


def mlflow_server(tracking: config.Tracking) -> Finding:
    installed = _version("mlflow")
    if not installed:
        return Finding("MLflow", "note", "not installed", "pip install -e . brings it")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking.uri
    if uri is None:
        return Finding("MLflow", "ok", f"{installed}, tracking is off")
    if uri.startswith(("http://", "https://")):
        try:
            # urllib cannot read an address with a password in it, and would print it
            bare = without_password(uri).rstrip("/")
            with urllib.request.urlopen(f"{bare}/health", timeout=5):
                return Finding("MLflow", "ok", f"{installed}, the server answers")
        except (OSError, ValueError) as error:
            return Finding(
                "MLflow",
                "warning",
                f"{installed}, the server does not answer ({_short(error)})",
                "results wait in files; mimic track shows them later",
            )
    return Finding("MLflow", "ok", f"{installed}, {uri.partition(':')[0]} store")


def prefect_server() -> Finding:
    installed = _version("prefect")
    if not installed:
        return Finding("Prefect", "note", "not installed", "pip install -e . brings it")
    api = os.environ.get("PREFECT_API_URL")
    if not api:
        return Finding("Prefect", "ok", f"{installed}, no server (PREFECT_API_URL is not set)")
    try:
        slots = held_slots(api)
    except (OSError, ValueError) as error:
        problem = f"{installed}, the server does not answer ({_short(error)})"
        return Finding("Prefect", "warning", problem, "prefect server start")
    stuck = [slot for slot in slots if slot.is_stuck]
    if not stuck:
        at_work = "".join(f", {slot.run} holds the slot of {slot.deployment}" for slot in slots)
        return Finding("Prefect", "ok", f"{installed}, the server answers{at_work}")
    one = stuck[0]
    return Finding(
        "Prefect",
        "warning",
        f"the slot of {one.deployment} is held by {one.run}, {one.state} for "
        f"{one.seconds / 60:.0f} min: the runs that are due meanwhile are dropped",
        "start the worker (python -m mimic.flows.worker), which frees it",
    )


def _credentials(root: Path) -> Finding:
    exposures = list(exposed(root))
    if not exposures:
        return Finding("credentials", "ok", "none in git, none that others can read")
    first = exposures[0]
    others = f" (and {len(exposures) - 1} more)" if len(exposures) > 1 else ""
    return Finding("credentials", "warning", f"{first.path} {first.says}{others}", first.remedy)


def _disk(root: Path) -> Finding:
    free_gb = shutil.disk_usage(root.resolve()).free / 1e9
    state: Literal["ok", "warning"] = "ok" if free_gb >= DISK_GB else "warning"
    remedy = (
        ""
        if state == "ok"
        else "free some, or move the workspace; nothing finished is lost when it runs full"
    )
    return Finding("disk", state, f"{free_gb:.0f} GB free in the workspace", remedy)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
