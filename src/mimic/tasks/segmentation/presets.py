"""ADE20K semantic segmentation (MultiMAE's protocol)."""

from __future__ import annotations

from typing import Any

SHARED: dict[str, Any] = {
    "images": (20210, 2000),
    "size_px": 512,
    "augment": "peer",
    "head_width": 384,
    "cell_px": 4,
    "head_blocks": 4,
    "betas": (0.9, 0.999),
    "layer_decay": 0.75,
    "drop_path": 0.1,
    "weight_decay": 0.05,
    "clip_grad": None,
    "precision": "bf16",  # the peers' fp16 with loss scaling, without its overflows
}
PEER: dict[str, Any] = {
    **SHARED,
    "frame": "padded",
    "antialias": False,
    "scale": (0.1, 2.0),
    "steps": 20160,  # 64 epochs of 315
    "batch": 64,  # 16 on each of four GPUs
    "lr": 5e-4,
    # 1 of 64 epochs, from 0: the "warm-up learning rate" of the paper is never applied
    "warmup": 0.015625,
    "inference": "whole",
    # truth too is shrunk to 512 px, so small things count less than at the images' own size
    "score_at": "input",
    "averaging": "global",
}
STANDARD: dict[str, Any] = {
    **SHARED,
    "frame": "whole",
    "antialias": True,
    "scale": (0.5, 2.0),
    "steps": 40000,
    "batch": 16,
    "lr": 1e-4,
    "warmup": 0.0375,  # 1500 steps
    "inference": "slide",
    "stride_px": 341,
    "score_at": "native",
    "averaging": "global",
}
LINEAR_STANDARD: dict[
    str, Any
] = {  # DINOv3's, on the frames' middles instead of random crops, so that features can be kept
    **{
        name: value
        for name, value in STANDARD.items()
        if name not in ("head_width", "cell_px", "head_blocks")
    },
    "augment": "flip",
    "lr": 1e-3,
    "weight_decay": 1e-3,
    "layer_decay": 1.0,
    "drop_path": 0.0,
}
# The papers give neither the numbers of images nor the recipe. Mirroring, without random colours
# and sizes, lets features be kept.
FEW_SHOT_PEER: dict[str, Any] = {
    **PEER,
    "augment": "flip",
    "shots": (100, 200, 400, 800, 1600, 3200, 6400, 20210),
    "seeds": 5,
}
