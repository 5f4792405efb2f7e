"""NYU Depth v2 (MultiMAE's protocol)."""

from __future__ import annotations

from typing import Any

from mimic.tasks.sections import GIVEN

PEER: dict[str, Any] = {
    "size_px": 256,
    "masks": GIVEN,  # made from Eigen's normals_gt; without, what the sensor measured is valid
    # MultiMAE's, as in MIMIC's tables; CroCo's own head normalises its last block
    "last_norm": False,
    "frame": "crop",
    "antialias": False,
    "augment": "peer",
    "head_width": 256,
    # uint16(depth_m * 2**16 / 10), standardised with the statistics of millimetres: targets sit
    # around +20
    "units_per_m": 6553.6,
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
    "masks": None,
    "last_norm": False,
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
LINEAR_STANDARD: dict[
    str, Any
] = {  # DINOv3's, on whole images instead of random crops, so that features can be kept
    **{name: value for name, value in STANDARD.items() if name != "head_width"},
    "last_norm": True,
    "target_mean": 0.0,
    "target_std": 1.0,
    "bins": 256,
    "steps": 38400,
    "batch": 16,
    "lr": 3e-4,
    "weight_decay": 1e-4,
    "layer_decay": 1.0,
    "flip_test": True,
}
# The papers give neither the numbers of images nor the recipe. Mirroring, without random colours
# and crops, lets features be kept.
FEW_SHOT: dict[str, Any] = {"augment": "flip", "shots": (10, 20, 40, 80, 160, 320, 795), "seeds": 5}
FEW_SHOT_PEER: dict[str, Any] = {**PEER, **FEW_SHOT}
FEW_SHOT_STANDARD: dict[str, Any] = {**STANDARD, **FEW_SHOT}
