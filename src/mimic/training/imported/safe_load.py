"""Files of weights that others have made, hostile until shown otherwise.

Nothing in them is executed: torch's weights-only reader builds tensors and plain containers, and
argparse.Namespace, a bag of names that MAE and CroCo leave in their files. Archives are looked
through before they are opened, and their checksums are compared, which torch does not do. The older
torch format and .safetensors hold no checksums: of those only the extents can be checked.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from mimic.errors import BadInput
from mimic.infra import confined

SMALL = 1 << 20
ALONE = "where you trust it, save its weights alone: torch.save({'model': weights}, path)"
# First bytes of what comes instead of weights, and what to do then.
NOT_WEIGHTS = (
    (b"<!doctype", "a web page, not the file: download it again"),
    (b"<html", "a web page, not the file: download it again"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file: run git lfs pull"),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ", "an xz archive: unpack it first"),
    (b"7z\xbc\xaf", "a 7-zip archive: unpack it first"),
    (b"\x89HDF", "an HDF5 file, as Keras writes them: no weights of torch"),
)
OWN = {"card.json", "encoder.safetensors"}
TAR_SIGN = slice(257, 262)


def files_of(path: Path) -> list[Path]:
    """The files that hold the weights: the file itself, or the shards that a folder or its index
    names, the index first.

    Raises:
        BadInput: a folder without weights, or an index that is damaged or names files outside of
            its folder.
    """
    if path.is_dir():
        path = _main_file(path)
    if not path.name.endswith(".index.json"):
        return [path]
    return [path, *(path.parent / name for name in sorted(set(_index(path).values())))]


def read_file(path: Path) -> Any:
    """What a file of weights, a folder of shards or an index of shards holds.

    Raises:
        BadInput: damaged, or more than weights; nothing in it was executed.
    """
    first, *shards = files_of(path)
    if not shards:
        return _raw(first)
    where = _index(first)
    weights: dict[str, Any] = {}
    for shard in shards:
        content = _raw(shard)
        wanted = {key for key, name in where.items() if name == shard.name}
        if not isinstance(content, dict) or set(content) != wanted:
            raise BadInput(
                f"{shard}: holds other weights than {first.name} names; download both again"
            )
        weights |= content
    return weights


def _main_file(folder: Path) -> Path:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise BadInput(f"{folder}: cannot be read ({error.strerror})") from None
    if set(names) >= OWN:  # a model of ours: the other file holds the same encoder and its decoder
        return folder / "encoder.safetensors"
    for ending in (".index.json", ".safetensors", ".bin"):
        matching = [name for name in names if name.endswith(ending)]
        if len(matching) == 1:
            return folder / matching[0]
        if matching:
            raise BadInput(
                f"{folder}: holds {len(matching)} files {ending} ({', '.join(matching[:2])}, ...); "
                "name one"
            )
    raise BadInput(
        f"{folder}: cannot be read as weights, a folder without any; give a .pth, .pt or "
        ".safetensors file"
    )


def _index(path: Path) -> dict[str, str]:
    """Key to the name of its shard, as Hugging Face writes it."""
    try:
        weight_map = json.loads(path.read_bytes())["weight_map"]
        where = {str(key): str(name) for key, name in weight_map.items()}
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadInput(
            f"{path}: no whole index of shards; expected {{'weight_map': {{key: file}}}}"
        ) from None
    outside = [name for name in where.values() if "/" in name or not confined.is_below(name)]
    if outside or not where:
        what = (
            f"names {outside[0][:60]!r}, a file outside of its folder"
            if outside
            else "names no weights"
        )
        raise BadInput(f"{path}: {what}; refused")
    return where


def _raw(path: Path) -> Any:
    """What a file holds, by its first bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise BadInput(
            f"{path}: cannot be read ({error.strerror}); give a .pth, .pt or .safetensors file"
        ) from None
    _refuse_by_name(path, start)
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
    except (
        Exception
    ) as error:  # whatever a damaged or hostile file provokes, it is the file's fault
        line = " ".join(str(error).split())
        if (
            "Unsupported global" in line
            or "WeightsUnpickler error" in line
            or "Weights only load failed" in line
        ):
            raise BadInput(
                f"{path}: holds more than weights and was refused; nothing in it was executed "
                f"({_culprit(line)}); {ALONE}"
            ) from None
        raise BadInput(
            f"{path}: not a whole checkpoint ({line[:120] or type(error).__name__})"
        ) from None


def _refuse_by_name(path: Path, start: bytes) -> None:
    """Say what a file is that is no file of weights at all."""
    if not start:
        raise BadInput(f"{path}: an empty file; download it again")
    if start[TAR_SIGN] == b"ustar":
        raise BadInput(f"{path}: a tar archive; unpack it first")
    text = start.lstrip().lower()
    for sign, what in NOT_WEIGHTS:
        if start.startswith(sign) or text.startswith(sign):
            raise BadInput(f"{path}: {what}")


def _culprit(line: str) -> str:
    """The object that torch names, out of its page of advice."""
    start = line.find("Unsupported")
    return line[start:].split(". ")[0][:120] if start >= 0 else "damaged, or not weights alone"


def _look_through(path: Path) -> None:
    """A torch archive stores its members uncompressed, inside one folder; anything else is no torch
    archive."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if not any(Path(member.filename).name == "data.pkl" for member in members):
        raise BadInput(f"{path}: a zip archive that is no torch checkpoint; unpack it first")
    inside = sum(member.file_size for member in members)
    for member in members:
        if not confined.is_below(member.filename):
            raise BadInput(
                f"{path}: an archive with a member outside of it, {member.filename[:60]!r}; refused"
            )
        if member.compress_type != zipfile.ZIP_STORED:
            raise BadInput(
                f"{path}: an archive with compressed members, which torch does not write; refused"
            )
    if inside > path.stat().st_size + SMALL:
        raise BadInput(
            f"{path}: an archive that claims {inside} bytes in a file of {path.stat().st_size}; "
            "refused"
        )
    _compare_checksums(path)


def _compare_checksums(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise BadInput(
            f"{path}: damaged: the checksum of {damaged[:60]} does not fit; download or copy it "
            "again"
        )
