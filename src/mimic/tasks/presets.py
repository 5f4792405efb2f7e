"""The protocols that results are compared under: what `preset: peer` and `preset: standard` promise.

These are no defaults: params.yaml is complete, and whatever differs from its preset is listed in the result. `peer` is the published
procedure, warts included (spec downstream 3, 5); `standard` is what the field would defend today. A preset fixes what decides whether
two numbers may be compared; fields that depend on the encoder or on taste (seed, samples, head width of a small model) are not in it.
"""

from __future__ import annotations

from typing import Any

from mimic.config import Task

DEPTH_PEER: dict[str, Any] = {
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
DEPTH_STANDARD: dict[str, Any] = {
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
POSE_PEER: dict[str, Any] = {
    "size_px": 256,
    "width_px": 192,
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
POSE_STANDARD: dict[str, Any] = {**POSE_PEER, "patch_padding": 0, "precision": "bf16"}
PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("depth", "peer"): DEPTH_PEER,
    ("depth", "standard"): DEPTH_STANDARD,
    ("pose", "peer"): POSE_PEER,
    ("pose", "standard"): POSE_STANDARD,
}


def overrides(task: Task) -> dict[str, Any]:
    """The fields of a task that differ from its preset, with the task's values; empty for a task without presets."""
    preset = PRESETS.get((task.task, getattr(task, "preset", "")), {})
    return {name: getattr(task, name) for name, value in sorted(preset.items()) if getattr(task, name) != value}
