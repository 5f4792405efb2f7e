"""What works on this machine: one line each, with the remedy where something does not
(`mimic doctor`).

Nothing is changed and nothing is downloaded. The exit status is 1 only when something is missing
that the parameter file needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from mimic import config
from mimic.commands.operation.doctor import programs, services, workspace
from mimic.commands.operation.doctor.finding import Finding, package
from mimic.params import Params


def main(params: Params, root: Path, as_json: bool) -> bool:
    """Print what works; whether all is there that the parameters need."""
    findings = list(examine(params, root))
    is_healthy = not any(finding.state == "missing" for finding in findings)
    if as_json:
        answer = {"ok": is_healthy, "findings": [asdict(finding) for finding in findings]}
        print(json.dumps(answer))
    else:
        print("\n".join(map(str, findings)))
    return is_healthy


def examine(params: Params, root: Path) -> Iterator[Finding]:
    """Look at one thing after the other; a check that itself fails is a finding, never a
    traceback."""
    for name, check in _checks(params, root).items():
        try:
            yield check()
        except Exception as error:  # a broken installation can fail in any way
            cause = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            yield Finding(name, "warning", f"could not be examined ({cause})")


def _checks(params: Params, root: Path) -> dict[str, Callable[[], Finding]]:
    """In the order in which they are shown."""
    scenes = [one for one in params.sources.values() if isinstance(one, config.SceneBase)]
    engines = {scene.engine for scene in scenes}
    decodes = any(section.decodes_video for section in params.sources.values())
    no_wheel = "no wheel for this processor? use engine: habitat"
    return {
        "Python": programs.python,
        "PyTorch": programs.pytorch,
        "OpenCV": programs.opencv,
        "embreex": lambda: package("embreex", "engine: embree", "embree" in engines, no_wheel),
        "PyAV": lambda: programs.pyav(decodes),
        "habitat-sim": lambda: programs.habitat_sim(params.habitat, "habitat" in engines),
        "faces": lambda: programs.faces(params.mine.privacy, root),
        "SLURM": lambda: services.slurm(params.cluster.executor == "slurm"),
        "MLflow": lambda: services.mlflow_server(params.tracking),
        "Prefect": services.prefect_server,
        "DVC": lambda: workspace.dvc(root),
        "credentials": lambda: workspace.credentials(root),
        "disk": lambda: workspace.disk(root),
    }
