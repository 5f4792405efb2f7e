"""Files of weights that others have made, hostile until shown otherwise.

Nothing in them is executed: torch's weights-only reader builds tensors and plain containers, and argparse.Namespace, a bag of names that
MAE and CroCo leave in their files. Archives are looked through before they are opened.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from mimic.errors import BadInput

SMALL = 1 << 20


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a .pth, .pt or .safetensors file in fp32, and the plain facts that lie beside them (epoch, croco_kwargs).

    Raises:
        BadInput: not a whole file of weights, or one that holds more than weights; nothing in it was executed.
    """
    content = _raw(path)
    facts = {key: content[key] for key in ("epoch", "croco_kwargs") if isinstance(content, Mapping) and key in content}
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise BadInput(f"{path}: holds {type(content).__name__}, not named weights; expected a state_dict, or one under 'model'")
    weights = {}
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise BadInput(
                f"{path}: {str(key)[:60]!r} is {type(value).__name__}, not a tensor; expected a state_dict, or one under 'model'"
            )
        if value.layout != torch.strided or not value.is_floating_point():
            raise BadInput(f"{path}: {key} is {value.dtype} ({value.layout}), not plain floating-point weights")
        if not torch.isfinite(value).all():
            raise BadInput(f"{path}: {key} holds values that are not finite; the checkpoint is of a run that diverged")
        weights[key.removeprefix("module.")] = value.float().contiguous()
    return weights, facts


def _raw(path: Path) -> Any:
    """What a file holds, by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); give a .pth, .pt or .safetensors file") from None
    try:
        if start[:2] == b"PK":
            _look_through(path)
        elif start[8:9] == b"{":
            return safetensors.torch.load_file(path)
        elif start[:1] != b"\x80":
            raise BadInput(f"{path}: neither a torch checkpoint nor a .safetensors file")
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except Exception as error:  # whatever a damaged or hostile file provokes, it is the file's fault
        line = " ".join(str(error).split())
        if "Unsupported global" in line or "WeightsUnpickler error" in line or "Weights only load failed" in line:
            raise BadInput(f"{path}: holds more than weights and was refused; nothing in it was executed ({_culprit(line)})") from None
        raise BadInput(f"{path}: not a whole checkpoint ({line[:120] or type(error).__name__})") from None


def _culprit(line: str) -> str:
    """The object that torch names, out of its page of advice."""
    start = line.find("Unsupported")
    return line[start:].split(". ")[0][:120] if start >= 0 else "damaged, or not weights alone"


def _look_through(path: Path) -> None:
    """A torch archive stores its members uncompressed, inside one folder; anything else is no torch archive."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    inside = sum(member.file_size for member in members)
    for member in members:
        if member.filename.startswith(("/", "\\")) or ".." in Path(member.filename).parts:
            raise BadInput(f"{path}: an archive with a member outside of it, {member.filename[:60]!r}; refused")
        if member.compress_type != zipfile.ZIP_STORED:
            raise BadInput(f"{path}: an archive with compressed members, which torch does not write; refused")
    if inside > path.stat().st_size + SMALL:
        raise BadInput(f"{path}: an archive that claims {inside} bytes in a file of {path.stat().st_size}; refused")
