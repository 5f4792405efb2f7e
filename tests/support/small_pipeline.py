"""The laptop pipeline, whole and as small as it can be: generated videos, one dataset, a random
encoder and a run of two seeds, one task, the report. Some 12 stages, seconds each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.support import REPOSITORY

FILES = (
    *("dvc.yaml", "params.yaml", "prefect.yaml", "prefect.toml"),
    *(".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore"),
)
FLAT = {"width_m": 8.0, "depth_m": 6.5, "height_m": 2.6, "texture_px": 256}
VIDEOS = {"preset": "tiny", "videos": 3, "seconds": 6, "flat": FLAT}
MODEL = {"width": 32, "depth": 2, "heads": 2}
DECODER = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
RECIPE = {"batch": 8, "log_every": 2, "save_every": 4, "workers": 1, "samples": 2}
SEEDS = [0, 1]
JOB = {"cpus_per_task": 1, "mem_gb": 1, "timeout_min": 20, "signal_delay_s": 30}
RESULTS = ("models/*/**/encoder.safetensors", "metrics/**/*.json", "data/manifests/*.parquet")


def make_pipeline(root: Path, steps: int = 8) -> Path:
    """The workspace, under git, with nothing run in it."""
    copy_workspace(root)
    _only_videos(root / "dvc.yaml")
    raw = yaml.safe_load((root / "params.yaml").read_text())
    path = root / "params.yaml"
    path.write_text(yaml.safe_dump(raw | _small(raw, steps), sort_keys=False))
    commit(root, "An empty workspace")
    return root


def copy_workspace(root: Path) -> None:
    """What DVC and Prefect read of the repository: the laptop profile, with nothing run."""
    for name in FILES:
        _copy(name, root)
    for path in REPOSITORY.glob("src/mimic/**/*"):  # versions and presets
        if path.name == "__init__.py" or path.suffix == ".yaml":
            _copy(str(path.relative_to(REPOSITORY)), root)


def keep_only(path: Path, runs: Sequence[str], tasks: Sequence[str]) -> dict[str, Any]:
    """Take all other runs and tasks out of a params.yaml; what is left."""
    params: dict[str, Any] = yaml.safe_load(path.read_text())
    params["runs"] = {name: params["runs"][name] for name in runs}
    params["evaluate"] = {name: params["evaluate"][name] for name in tasks}
    params["table"] |= {"runs": list(runs), "tasks": list(tasks)}
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    return params


def change(root: Path, section: str, **values: Any) -> None:
    """What a section of params.yaml says, beside what it said."""
    path = root / "params.yaml"
    raw = yaml.safe_load(path.read_text())
    raw[section] |= values
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


def on_slurm(root: Path, store: str | None, cache: Path) -> None:
    """Heavy stages as jobs of a cluster, which read the shards from a store."""
    jobs = {kind: dict(JOB) for kind in ("mine", "pretrain", "evaluate")}
    shards = {"url": store, "cache": str(cache), "cache_gb": 1.0}
    change(root, "cluster", executor="slurm", poll_s=1, shards=shards, **jobs)


def commit(root: Path, subject: str) -> None:
    person = ("-c", "user.name=lab", "-c", "user.email=lab@example.org")
    if not (root / ".git").exists():
        subprocess.run(["git", "init", "-q", root], check=True)
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    subprocess.run(["git", *person, "commit", "-qm", subject], cwd=root, check=True)


def results(root: Path) -> dict[str, str]:
    """The digest of everything that a number can be read from, by name."""
    found = [path for pattern in RESULTS for path in root.glob(pattern)]
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(found)
    }


def status(root: Path, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """What DVC would run again."""
    done = subprocess.run(
        ["dvc", "status", "--json"],
        cwd=root,
        env=environment or dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def _copy(name: str, root: Path) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(REPOSITORY / name, root / name)


def _only_videos(path: Path) -> None:
    """Of the five kinds of generated data the one that is used: the others take most of the
    time."""
    text = path.read_text()
    whole = "foreach: ${synthesize}"
    assert text.count(whole) == 1
    path.write_text(text.replace(whole, "foreach: {phone: null}"))


def _small(raw: dict[str, Any], steps: int) -> dict[str, Any]:
    like = {"recipe": "croco-tiny", "dataset": "mimic-1m"}
    task = {"dataset": "mimic-1m", "features_of": "random", "tracked_by": "models/random"}
    return {
        "sources": {"phone": raw["sources"]["phone"]},
        "synthesize": raw["synthesize"] | {"phone": VIDEOS | {"width_px": 240, "height_px": 320}},
        "datasets": {"mimic-1m": raw["datasets"]["mimic-1m"] | {"sources": {"phone": None}}},
        "pretrain": {"croco-tiny": RECIPE | {"model": MODEL | DECODER}},
        "runs": {
            "random": like | {"steps": 0, "seed": 0},
            "croco": like | {"steps": steps, "seeds": SEEDS},
        },
        "evaluate": {
            "reconstruction": raw["evaluate"]["reconstruction"] | task | {"pairs": 4, "samples": 2}
        },
        "table": {
            "runs": ["random", "croco"],
            "tasks": ["reconstruction"],
            "checkpoints": "last",
        },
    }
