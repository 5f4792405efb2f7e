"""Published results to be shown in MLflow: the files of encoders and evaluations, without the work
that would make them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mimic import config
from mimic.commands.operation import serve
from mimic.infra.storage import file_digest, write_bytes, write_json
from mimic.infra.tracking import TrackingContext
from mimic.models import ViTSize
from mimic.models.encoder import VisionTransformer
from mimic.training.checkpoint import write_weights
from tests.support.servers import Service, free_port, get, with_programs

TRACKING = config.Tracking(uri="sqlite:///mlflow.db", experiment_prefix="mimic")
TOLD = TrackingContext(
    TRACKING, generated=frozenset(), tests={"mimic-3m": ("gibson",)}, best="depth"
)
DIGESTS = {"mimic-1m": "1a" * 32, "mimic-3m": "3b" * 32}
RUNS = {
    "mae-1m": ("mae", "mimic-1m"),
    "croco-1m": ("croco", "mimic-1m"),
    "croco-3m": ("croco", "mimic-3m"),
}
MODEL: dict[str, Any] = {
    "size_px": [32, 32],
    "patch_px": 8,
    "width": 32,
    "depth": 2,
    "heads": 2,
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
    "class_token": False,
    "positions": "sincos",
    "norm_eps": 1.0e-6,
}


def publish_pretraining(root: Path, run: str, seed: int = 0, *, several: bool = False) -> Path:
    """models/<run>, or one of its seeds."""
    objective, dataset = RUNS[run]
    card = {
        "run": run,
        "objective": objective,
        "dataset": dataset,
        "manifest_digest": DIGESTS[dataset],
        "steps": 30,
        "seed": seed,
        "model": MODEL,
        "git_commit": "c0ffee",
        "progress": f"{seed:016x}",
        "versions": {"torch": "2.14.1", "mimic": "0.1.0"},
    }
    folder = root / "models" / run / (f"seed-{seed}" if several else "")
    write_json(folder / "card.json", card)
    write_bytes(folder / "encoder.safetensors", f"{run} {seed}".encode())
    lines = [{"step": step, "loss": 1 / step, "lr": 1e-3} for step in range(1, 31)]
    write_bytes(folder / "log.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    Image.fromarray(np.full((32, 96, 3), 128, np.uint8)).save(folder / "reconstruction.png")
    return folder


def with_weights(folder: Path, seed: int) -> None:
    """Give an encoder weights that can be loaded, in place of none."""
    card = json.loads((folder / "card.json").read_text())
    torch.manual_seed(seed)
    encoder = VisionTransformer(ViTSize.of_card(card["model"]), attention="auto")
    write_weights(encoder.state_dict(), folder / "encoder.safetensors", card)


def result_of(
    root: Path, run: str, value: float, task: str = "depth", **changed: Any
) -> dict[str, Any]:
    """What metrics/<run>/<task>.json holds, of the encoder that lies in models/<run>."""
    objective, dataset = RUNS[run]
    weights = root / "models" / run / "encoder.safetensors"
    return {
        "name": "delta1",
        "headline": "delta1",
        "value": value,
        "higher_is_better": True,
        "metrics": {
            "delta1": value,
            "rms": 0.5,
            "averages": {"image": {"delta1": value}},
            "blocks": [{"exact": 0.1}, {"exact": 0.2}],
            "best_block": 1,
            "note": "x",
        },
        "protocol": "fine-tuned",
        "kind": "depth",
        "section": {"data": "data/raw/nyu-depth-v2", "seed": 0},
        "task": task,
        "run": run,
        "objective": objective,
        "dataset": dataset,
        "manifest_digest": DIGESTS[dataset],
        "data_digest": "da7a" * 4,
        "checkpoint": file_digest(weights) if weights.exists() else None,
        "versions": {"torch": "2.14.1", "mimic": "0.1.0"},
        "parts": {"task": 1},
    } | changed


def publish_evaluation(
    root: Path, run: str, value: float, task: str = "depth", **changed: Any
) -> None:
    write_json(
        root / "metrics" / run / f"{task}.json", result_of(root, run, value, task, **changed)
    )
    publish_picture(root / "samples" / run / task)


def publish_picture(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(folder / "view-0.png")


def publish_seeds(root: Path, run: str, task: str, values: Sequence[float], **changed: Any) -> None:
    """A run with an encoder a seed, and the result on a task of each and of all."""
    each = []
    for seed, value in enumerate(values):
        folder = root / "models" / run / f"seed-{seed}"
        if not folder.exists():
            publish_pretraining(root, run, seed, several=True)
        each.append(
            {
                "encoder": f"{run}/seed-{seed}",
                "run_seed": seed,
                "value": value,
                "checkpoint": file_digest(folder / "encoder.safetensors"),
                "metrics": {"delta1": value, "rms": 0.5},
            }
        )
        publish_picture(root / "samples" / run / task / f"seed-{seed}")
    mean = sum(values) / len(values)
    whole = {
        "value": mean,
        "sd": float(np.std(values, ddof=1)),
        "n": len(values),
        "seeds": each,
        "checkpoint": None,
    }
    result = result_of(root, run, mean, task, **changed)
    write_json(root / "metrics" / run / f"{task}.json", result | whole)


def publish_all(root: Path) -> Path:
    for run, value in zip(RUNS, (0.4, 0.5, 0.6), strict=True):
        publish_pretraining(root, run)
        publish_evaluation(root, run, value)
    write_json(root / "metrics" / "mine" / "rooms.json", {"kept": 3})
    return root


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def client_in(root: Path) -> Any:
    """Of a workspace's embedded store."""
    return client_of(f"sqlite:///{root}/mlflow.db")


def search(client: Any, query: str = "", experiment: str = "mimic") -> dict[str, Any]:
    """Runs by their names."""
    found = client.get_experiment_by_name(experiment).experiment_id
    return {run.info.run_name: run for run in client.search_runs([found], query, max_results=1000)}


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A real one, on a database of its own; its address."""
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    silent = with_programs(**serve.QUIET, **{serve.JOBS: "false"})
    running = Service("mlflow", command, folder, lambda: get(f"{page}/health") == b"OK", silent)
    try:
        running.start()
        yield page
    finally:
        running.end()


def pictures(otherwise: Path) -> Path:
    """Where tests leave pictures for people: MIMIC_TEST_PICTURES, which CI keeps."""
    return Path(os.environ.get("MIMIC_TEST_PICTURES") or otherwise)
