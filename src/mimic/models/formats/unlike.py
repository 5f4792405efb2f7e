"""Vision transformers that compute something else than plain ones, known by a weight that plain
ones do not have."""

from __future__ import annotations

import re
from collections.abc import Iterable

SIGNS = (
    (re.compile(r"(^|\.)(register_tokens?|reg_token)$"), "register tokens"),
    (re.compile(r"(^|\.)(dist_token|distillation_token)$"), "a distillation token (DeiT)"),
    (re.compile(r"relative_position_bias|rel_pos_bias"), "relative positions (BEiT)"),
    (
        re.compile(r"(^|\.)(layer_scale\d?\.lambda\d|lambda_\d|gamma_\d|ls\d\.gamma)$"),
        "a scale of each layer (DINOv2, BEiT, CaiT)",
    ),
)


def refuse(names: Iterable[str]) -> None:
    """
    Raises:
        ValueError: a name is that of a weight that plain models here do not have.
    """
    for name in names:
        for sign, what in SIGNS:
            if sign.search(name):
                raise ValueError(
                    f"it has {what}: {name[:80]}, which plain models here have not; if timm has "
                    "this model, say --timm NAME"
                )
