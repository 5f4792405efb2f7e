"""mimic: mine cross-view pretraining pairs, pretrain MAE and CroCo on them, measure the encoder,
trace every number.

The Python interface is `mimic.api`, and its names are importable from here. They are loaded when
they are first used: `import mimic` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mimic.api import (
        MinedPairs,
        extract_features,
        load_encoder,
        mine_pairs,
        pretrain_encoder,
    )
    from mimic.errors import BadInput

_MODULES = {
    "BadInput": "mimic.errors",
    "MinedPairs": "mimic.api",
    "extract_features": "mimic.api",
    "load_encoder": "mimic.api",
    "mine_pairs": "mimic.api",
    "pretrain_encoder": "mimic.api",
}
__all__ = [
    "BadInput",
    "MinedPairs",
    "extract_features",
    "load_encoder",
    "mine_pairs",
    "pretrain_encoder",
]


def __getattr__(name: str) -> Any:
    """Load a name of the Python interface when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'mimic' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
