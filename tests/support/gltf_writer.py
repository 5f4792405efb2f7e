"""Writing small glTF documents by hand, in forms that no library writes."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mimic.synthetic import glb_writer

KINDS = {"f4": 5126, "u2": 5123, "i2": 5122, "u1": 5121, "i1": 5120, "u4": 5125}
TYPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}


class Writer:
    def __init__(self) -> None:
        self.data, self.views, self.accessors = bytearray(), [], []  # type: ignore[var-annotated]

    def view(self, data: bytes, **extra: Any) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        self.views.append(
            {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data), **extra}
        )
        self.data += data
        return len(self.views) - 1

    def add(self, values: np.ndarray, gap: int = 0, **extra: Any) -> int:
        table = np.ascontiguousarray(values.reshape(len(values), -1))
        raw, stride = table.view(np.uint8).reshape(len(values), -1), {}
        if gap:
            raw = np.pad(raw, ((0, 0), (0, gap + -raw.shape[1] % 4)), constant_values=77)
            stride = {"byteStride": raw.shape[1]}
        kind = KINDS[table.dtype.str[1:]]
        entry = {
            "bufferView": self.view(raw.tobytes(), **stride),
            "componentType": kind,
            "count": len(values),
            "type": TYPES[table.shape[1]],
        }
        self.accessors.append({**entry, **extra})
        return len(self.accessors) - 1


def encoded(form: str, picture: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture).save(out, form, lossless=True)
    return out.getvalue()


def save(path: Path, writer: Writer, tree: dict[str, Any]) -> Path:
    tree |= {
        "accessors": writer.accessors,
        "bufferViews": writer.views,
        "buffers": [{"byteLength": len(writer.data)}],
    }
    path.write_bytes(glb_writer._container(json.dumps(tree).encode(), bytes(writer.data)))
    return path
