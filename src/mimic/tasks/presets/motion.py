"""Presets of flow and stereo: CroCo v2's runs, and the same in bf16."""

from __future__ import annotations

from typing import Any

FLOW_PEER: dict[str, Any] = {
    "size_px": 320,
    "width_px": 384,
    "augment": "peer",
    "head_width": 256,
    "steps": 900000,  # 240 epochs of 30,000 pairs
    "batch": 8,
    "lr": 2e-5,
    "weight_decay": 0.05,
    "betas": (0.9, 0.95),
    "layer_decay": 1.0,
    "drop_path": 0.0,
    "warmup": 0.00417,  # an epoch
    "clip_grad": None,
    "precision": "fp32",
    "overlap": 0.9,
}
# The published stereo run is 32 epochs of whatever sets there are: its steps are not fixed here.
STEREO_PEER: dict[str, Any] = {name: value for name, value in FLOW_PEER.items() if name != "steps"} | {
    "size_px": 352,
    "width_px": 704,
    "batch": 6,
    "lr": 3e-5,
    "warmup": 0.03125,
}
FLOW_STANDARD: dict[str, Any] = {**FLOW_PEER, "precision": "bf16"}
STEREO_STANDARD: dict[str, Any] = {**STEREO_PEER, "precision": "bf16"}
