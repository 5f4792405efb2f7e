"""ImageNet on frozen vectors: linear probe (MAE, appendix A.1) and nearest neighbours."""

from __future__ import annotations

from typing import Any

PROBE_PEER: dict[str, Any] = {
    "resize_px": 256,
    "size_px": 224,
    "images": (1000, 1281167, 50000),
    "pool": None,
    "views": 90,  # a fresh crop every epoch
    "crop_area": (0.08, 1.0),
    "epochs": 90,
    "warmup_epochs": 10,
    "batch": 16384,  # 512 on each of 8 GPUs, gradients of 4 added up
    "base_lr": 0.1,
    "momentum": 0.9,
    "trust": 0.001,
    "weight_decay": 0.0,
    # the published value is the best epoch's, chosen on the images it is measured on
    "selection": "best",
}
PROBE_STANDARD: dict[str, Any] = {**PROBE_PEER, "selection": "last"}
KNN_STANDARD: dict[str, Any] = {
    "resize_px": 256,
    "size_px": 224,
    "images": (1000, 1281167, 50000),
    "pool": None,
    "k": (10, 20, 100, 200),
    "value_k": 20,
    "temperature": 0.07,
}
