"""samples/<run>/<task>/items.npz: what each test item contributes to a result, an array an encoder.

    np.load("samples/croco-3m/depth/items.npz")["only"]     float32[test items]; of seeds: "seed-0"

Items are in the order of the test set, NaN where one was not scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from mimic.errors import BadInput
from mimic.infra.storage import ITEMS

__all__ = ["ITEMS", "ONLY", "read_items", "write_items"]

ONLY = "only"  # the array of a run with one seed


def write_items(path: Path, items: Mapping[str, np.ndarray]) -> None:
    """Equal arrays are equal files."""
    arrays = {name: array.astype(np.float32) for name, array in items.items()}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_items(path: Path) -> dict[str, np.ndarray]:
    """float64[test items] by encoder; empty where a result has no such file.

    Raises:
        BadInput: the file is damaged.
    """
    if not path.exists():
        return {}
    try:
        with np.load(path) as saved:
            return {name: saved[name].astype(np.float64) for name in saved.files}
    except (ValueError, KeyError, EOFError, BadZipFile) as error:
        raise BadInput(f"{path}: damaged ({error}); run mimic evaluate again") from None
