"""COCO human pose with the classic decoder (ViTPose)."""

from __future__ import annotations

from typing import Any

from mimic.tasks.sections import GIVEN

PEER: dict[str, Any] = {
    "size_px": 256,
    "width_px": 192,
    "boxes": GIVEN,  # a detector's (AP 56 for people), not the annotated ones
    "augment": "peer",
    "head_width": 256,
    "patch_padding": 2,
    "steps": 61320,  # 210 epochs of 149,813 people
    "batch": 512,
    "lr": 5e-4,
    "weight_decay": 0.1,
    "betas": (0.9, 0.999),
    "layer_decay": 0.75,
    "drop_path": 0.3,
    "warmup": 0.00815,  # 500 steps
    "warmup_from": 0.001,
    "drop_at": (0.80952, 0.95238),  # epochs 170 and 200
    "clip_grad": 1.0,
    "precision": "fp32",
    "flip_test": True,
}
STANDARD: dict[str, Any] = {**PEER, "patch_padding": 0, "precision": "bf16"}
