"""NYU Depth v2 (spec downstream 3.1)."""

from __future__ import annotations

from typing import Any

PEER: dict[str, Any] = {
    "size_px": 256,
    "frame": "crop",
    "antialias": False,
    "augment": "peer",
    "head_width": 256,
    "units_per_m": 6553.6,  # uint16(depth_m * 2**16 / 10), standardised with the statistics of millimetres: targets sit around +20
    "target_mean": 2070.7764,
    "target_std": 777.5723,
    "steps": 12000,
    "batch": 128,  # 64 on each of two GPUs
    "lr": 1e-4,
    "weight_decay": 3e-4,
    "betas": (0.9, 0.999),
    "layer_decay": 0.75,
    "drop_path": 0.0,
    "warmup": 0.05,  # 100 of 2000 epochs
    "clip_grad": None,
    "precision": "fp32",
    "score_at": "input",
    "score_region": "all",
    "depth_min_m": None,
    "depth_max_m": None,
    "flip_test": False,
    "averaging": "batch",
    "eval_batch": 96,
    "eval_ranks": 2,
}
STANDARD: dict[str, Any] = {
    "size_px": 480,
    "frame": "whole",
    "antialias": True,
    "augment": "flip",
    "head_width": 256,
    "units_per_m": 1.0,
    "target_mean": 2.7,
    "target_std": 1.2,
    "steps": 12000,
    "batch": 32,
    "lr": 1e-4,
    "weight_decay": 3e-4,
    "betas": (0.9, 0.999),
    "layer_decay": 0.75,
    "drop_path": 0.0,
    "warmup": 0.05,
    "clip_grad": None,
    "precision": "bf16",
    "score_at": "native",
    "score_region": "eigen",
    "depth_min_m": 0.001,
    "depth_max_m": 10.0,
    "flip_test": False,
    "averaging": "image",
}
