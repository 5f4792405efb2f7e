"""A published encoder as MLflow's registry keeps it:

    MLmodel            says how to load it
    data/model.pt2     for mlflow.pytorch.load_model: images float[b, 3, h, w], normalised as
                       everywhere here, to all tokens after the final norm; any batch, the size it
                       was trained at
    timm/              for timm.create_model("local-dir:.../timm", pretrained=True); weights in
                       safetensors

Nothing in it is a pickle of code: the program is `torch.export`'s, with its weights as bytes.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from mimic.commands.hand_out.export_hub import folder_config
from mimic.commands.hand_out.export_weights import Exported, converted
from mimic.infra.storage import link, write_json
from mimic.training.checkpoint import write_weights


def pack(model: Path, out: Path) -> None:
    """Write it.

    Args:
        model: models/<run>, or one of its seeds.
    """
    exported = converted(model, "timm")
    (out / "data").mkdir(parents=True)
    _write_program(exported, out / "data/model.pt2")
    has_timm = _write_timm(exported, model, out / "timm")
    flavor = {"model_data": "data", "pytorch_version": torch.__version__, "code": None}
    description = {
        "flavors": {"pytorch": flavor},
        "utc_time_created": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}",
        "metadata": {"encoder": model.name, "timm": has_timm},
    }
    # JSON is YAML as well
    (out / "MLmodel").write_text(json.dumps(description, indent=2) + "\n")


def _write_program(exported: Exported, path: Path) -> None:
    height, width = exported.card["model"]["size_px"]
    encoder = exported.encoder.eval().requires_grad_(False)
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(
        encoder,
        (torch.zeros(2, 3, height, width),),
        dynamic_shapes={"images": {0: batch}},
        strict=False,
    )
    torch.export.save(program, path)


def _write_timm(exported: Exported, model: Path, out: Path) -> bool:
    """False where config.json cannot tell timm how to build this model."""
    try:
        config: dict[str, Any] = folder_config(exported)
    except ValueError:
        return False
    out.mkdir()
    write_json(out / "config.json", config)
    weights = out / "model.safetensors"
    if exported.encoder.plain and exported.encoder.positions == "sincos":
        link(model / "encoder.safetensors", weights)  # the same keys: no bytes are written twice
    else:
        write_weights(exported.weights, weights, exported.card)
    return True
