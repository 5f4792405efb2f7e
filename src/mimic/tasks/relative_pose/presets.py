"""Presets of relative pose on 7-Scenes (CroCo).

Published are the split, the metric and the two ways to place a query; no training recipe of CroCo's
could be read, so that its numbers here follow CroCo v2's other fine-tuning: AdamW without layer
decay, an epoch of warm-up.
"""

from __future__ import annotations

from typing import Any

PEER: dict[str, Any] = {
    "scenes": ("chess", "fire", "heads", "office", "pumpkin", "redkitchen", "stairs"),
    "every": 1,
    "retrieval": None,
    "neighbours": 10,
    "gap": 30,  # a second: as far as the camera moves until another sequence would show the place
    "estimate": "nearest",
    "size_px": 224,  # pretraining's square, the frame squeezed into it
    "width_px": 224,
    "head_width": 512,
    "steps": 24400,  # 30 epochs of 26,000 frames
    "batch": 32,
    "lr": 1e-4,
    "weight_decay": 0.05,
    "betas": (0.9, 0.95),
    "layer_decay": 1.0,
    "warmup": 0.0333,
    "clip_grad": None,
    "precision": "fp32",
}
STANDARD: dict[str, Any] = {**PEER, "estimate": "consensus", "width_px": 304, "precision": "bf16"}
