"""Taskonomy's dense targets (MultiMAE's protocol)."""

from __future__ import annotations

from typing import Any

PEER: dict[str, Any] = {
    "variant": "tiny",
    "images": (800, 200, None),
    "size_px": 384,
    # MultiMAE's, as in MIMIC's tables; CroCo's own head normalises its last block
    "last_norm": False,
    "antialias": True,
    "augment": "none",
    "head_width": 256,
    "erode_px": 4,
    "steps": 10000,  # 100 epochs of 100
    "batch": 8,
    "lr": 3e-4,
    "weight_decay": 0.05,
    "betas": (0.9, 0.999),
    "layer_decay": 0.75,
    "drop_path": 0.1,
    "warmup": 0.05,
    "clip_grad": None,
    "precision": "bf16",  # the peers' fp16 with loss scaling, without its overflows
    "validate_every": 500,  # 5 epochs
    "averaging": "batch",
    "eval_batch": 12,  # the last of 54,514 has 10 and counts like the others
}
STANDARD: dict[str, Any] = {**PEER, "averaging": "image"}
