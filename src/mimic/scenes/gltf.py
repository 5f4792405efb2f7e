"""A binary glTF 2.0 document: its tree, its numbers, its nodes.

Read here and not by a library, because libraries drop in silence what they do not know. Source: the
glTF 2.0 specification.
"""

from __future__ import annotations

import base64
import binascii
import json
import posixpath
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from mimic.errors import BadInput

DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
UNSIGNED = (5121, 5123, 5125)  # what counts vertices
NODES_MAX = 1_000_000
VISIBILITY = "KHR_node_visibility"
SHOWN_MAX = 120  # characters of a file's own words in a message
# Whatever a tree leads to that says one thing and holds another. A bug of ours can look the same,
# so the message keeps the kind of the error.
DAMAGE = (
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    struct.error,
)


def shown(words: object) -> str:
    """What a file says, for a message: one line, not endless."""
    line = " ".join(str(words).split())
    printable = "".join(letter if letter.isprintable() else "?" for letter in line)
    return printable if len(printable) <= SHOWN_MAX else f"{printable[:SHOWN_MAX]}..."


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """BadInput, one line that names the file, for whatever its damage leads to.

    Numbers that overflow are not warned of: what comes out is asked whether it is finite.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            yield
    except DAMAGE as error:
        problem = f"{type(error).__name__}: {shown(error)}"
        raise BadInput(f"{path}: damaged .glb ({problem}); fetch it again") from None


def header(path: Path) -> dict[str, Any]:
    """The JSON part of a .glb; BadInput when it is not one or shorter than it claims."""
    with path.open("rb") as file:
        start = file.read(20)
        if len(start) < 20 or start[:4] != b"glTF":
            raise BadInput(f"{path}: not a .glb file (no glTF mark at its start)")
        version, total, length, kind = struct.unpack("<III4s", start[4:])
        size = path.stat().st_size
        if version != 2:
            raise BadInput(f"{path}: glTF version {version} is not read; convert it to version 2")
        if kind != b"JSON":
            raise BadInput(f"{path}: damaged .glb (its first part is not JSON); fetch it again")
        if size < total:
            raise BadInput(f"{path}: cut short, {size} of {total} bytes; fetch it again")
        try:
            tree = json.loads(file.read(min(length, size)))
        except (ValueError, RecursionError):
            raise BadInput(
                f"{path}: damaged .glb (its JSON part does not parse); fetch it again"
            ) from None
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: damaged .glb (its JSON part is no object); fetch it again")
    asset = tree.get("asset")
    stated = asset if isinstance(asset, dict) else {}
    least = str(stated.get("minVersion", stated.get("version", "2.0")))
    if least.partition(".")[0] != "2":
        raise BadInput(f"{path}: requires glTF version {shown(least)}; convert it to version 2")
    return tree


def files_beside(path: Path) -> list[Path]:
    """Files that a .glb refers to and that are there; none of one that cannot be read."""
    return sorted({target for _, target in references(path)})


def references(path: Path) -> list[tuple[str, Path]]:
    """The same with the relative path by which the .glb refers to each."""
    try:
        tree = header(path)
    except BadInput:
        return []
    folder = path.parent.resolve()
    targets = ((unquote(uri), _target(folder, uri)) for uri in stated_files(tree))
    return [(uri, target) for uri, target in targets if target is not None]


def stated_files(tree: dict[str, Any]) -> list[str]:
    """References of a document to other files, as they are written, wherever they lead."""
    listed = (tree.get(kind) for kind in ("buffers", "images"))
    entries = [entry for of_kind in listed if isinstance(of_kind, list) for entry in of_kind]
    uris = [entry.get("uri") for entry in entries if isinstance(entry, dict)]
    return sorted({uri for uri in uris if isinstance(uri, str) and uri[:5] != "data:"})


def _target(folder: Path, uri: str) -> Path | None:
    """The file in a folder or below it that a reference means; None: there is none, or it lies
    elsewhere."""
    try:
        target = _beside(folder, uri)
        return target if target is not None and _is_file(target) else None
    except ValueError:  # a zero byte
        return None


def _beside(folder: Path, uri: str) -> Path | None:
    """The place below a folder that a reference names; None where it names another. Links on the
    way are those of whoever owns the folder, such as into a store of DVC or git-annex."""
    name = posixpath.normpath(unquote(uri))
    leads_out = "://" in uri or name.startswith("/") or name.split("/")[0] == ".."
    return None if leads_out else folder / name


def _is_file(target: Path) -> bool:
    """Of anything else nothing is opened, as it might wait."""
    try:
        return target.is_file()
    except (OSError, RuntimeError):  # a name that is too long, or links in a circle
        return False


class Document:
    """Access to a file's parts. Whatever its tree refers to and is not there raises one of DAMAGE.

    What it allocates is bounded by what the file holds, whatever its tree claims.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = header(path)
        self.buffer = lru_cache(maxsize=None)(self._buffer)

    def item(self, kind: str, index: Any) -> dict[str, Any]:
        """An entry of a list of the tree; negative numbers are none."""
        if not isinstance(index, int) or index < 0:
            raise LookupError(f"{kind} {index!r}")
        try:
            entry = self.tree[kind][index]
        except LookupError:
            raise LookupError(f"no {kind}[{index}]") from None
        if not isinstance(entry, dict):
            raise TypeError(f"{kind}[{index}] is no object")
        return entry

    def _buffer(self, index: int) -> bytes:
        buffer = self.item("buffers", index)
        data = self._chunk() if "uri" not in buffer else self.fetch(buffer["uri"])
        if len(data) < buffer["byteLength"]:
            raise ValueError(f"buffer {index} holds {len(data)} of {buffer['byteLength']} bytes")
        return data

    def _chunk(self) -> bytes:
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            start = 20 + struct.unpack("<I", file.read(16)[12:])[0]
            file.seek(start)
            head = file.read(8)
            if head[4:] != b"BIN\0":
                raise ValueError("no binary part")
            return file.read(min(struct.unpack("<I", head[:4])[0], size))

    @property
    def _bytes(self) -> int:
        """Of all buffers together."""
        return sum(len(self.buffer(index)) for index in range(len(self.tree.get("buffers", []))))

    def fetch(self, uri: str) -> bytes:
        """The bytes of a data URI, or of a file beside this one."""
        if uri.startswith("data:"):
            try:
                return base64.b64decode(unquote(uri.partition(",")[2]), validate=True)
            except binascii.Error:
                raise ValueError("a data URI that does not decode") from None
        reference = f"{self.path}: refers to {shown(uri)}"
        target = _beside(self.path.parent.resolve(), uri)
        if target is None:
            problem = "which does not lie beside it; pack everything into one .glb"
            raise BadInput(f"{reference}, {problem}")
        if not _is_file(target):
            raise BadInput(f"{reference}, no such file; put it beside the .glb")
        try:
            return target.read_bytes()
        except OSError as error:
            raise BadInput(f"{reference}: {error.strerror}; make it readable") from None

    def view(self, index: int) -> tuple[memoryview, int]:
        """The bytes of a buffer view, and its stride or 0."""
        view = self.item("bufferViews", index)
        start = view.get("byteOffset", 0)
        length = view["byteLength"]
        data = memoryview(self.buffer(view["buffer"]))
        if start < 0 or length < 0 or start + length > len(data):
            raise ValueError(f"buffer view {index} ends beyond its buffer")
        return data[start : start + length], view.get("byteStride", 0)

    def accessor(self, index: int) -> np.ndarray:
        """[count, width]; normalised integers as f64 shares, others as they are stored. Sparse
        values are in place."""
        accessor = self.item("accessors", index)
        kind = accessor["componentType"]
        count = accessor["count"]
        width = WIDTHS[accessor["type"]]
        if "bufferView" in accessor:
            offset = accessor.get("byteOffset", 0)
            values = self._array(accessor["bufferView"], offset, kind, (count, width))
        elif 0 <= count <= self._bytes:  # zeros stand for vertices, of which each takes a byte
            values = np.zeros((count, width), DTYPES[kind])
        else:
            raise ValueError(f"accessor {index} claims {count} values that the file does not hold")
        if "sparse" in accessor:
            values = self._sparse(values, accessor["sparse"], kind)
        if not accessor.get("normalized", False) or kind == 5126:
            return values
        return np.maximum(values / np.iinfo(values.dtype).max, -1.0)

    def integers(self, index: int) -> np.ndarray:
        """[count] of a table of unsigned integers, as i64."""
        accessor = self.item("accessors", index)
        if accessor["componentType"] not in UNSIGNED or accessor["type"] != "SCALAR":
            raise ValueError(f"accessor {index} holds no indices")
        return self.accessor(index)[:, 0].astype(np.int64)

    def attribute(self, index: int, count: int | None, widths: tuple[int, ...]) -> np.ndarray:
        """f64 [count, width] of a table with a row a vertex."""
        values = self.accessor(index).astype(float)
        other_count = count is not None and len(values) != count
        if other_count or values.shape[1] not in widths:
            raise ValueError(f"accessor {index} has not the shape of what it is used for")
        return values

    def _array(self, view: int, offset: int, kind: int, shape: tuple[int, int]) -> np.ndarray:
        data, stride = self.view(view)
        dtype = np.dtype(DTYPES[kind])
        row = dtype.itemsize * shape[1]
        step = stride or row
        if (
            offset < 0
            or step < row
            or (shape[0] and offset + step * (shape[0] - 1) + row > len(data))
        ):
            raise ValueError(f"an accessor ends beyond buffer view {view}")
        return np.ndarray(shape, dtype, data, offset, (step, dtype.itemsize)).copy()

    def _sparse(self, values: np.ndarray, sparse: dict[str, Any], kind: int) -> np.ndarray:
        count = sparse["count"]
        where = sparse["indices"]
        what = sparse["values"]
        if where["componentType"] not in UNSIGNED:
            raise ValueError("sparse values at places that are no indices")
        places = self._array(
            where["bufferView"], where.get("byteOffset", 0), where["componentType"], (count, 1)
        )[:, 0]
        new = self._array(
            what["bufferView"], what.get("byteOffset", 0), kind, (count, values.shape[1])
        )
        values[places] = new
        return values

    def placed(self) -> Iterator[tuple[int, np.ndarray, bool]]:
        """The nodes of the scene with their 4x4 world transforms and whether they are shown, in the
        order of the file.

        The scene is the one that `scene` names, or the first, or (in a file without scenes) all
        roots. A hidden node (KHR_node_visibility) hides what is below it.
        """
        stack = [(node, np.eye(4), True, 1) for node in reversed(self._roots())]
        deepest = len(self.tree.get("nodes", []))
        count = 0
        while stack:
            index, parent, is_above_shown, depth = stack.pop()
            node = self.item("nodes", index)
            world = parent @ local(node)
            is_shown = is_above_shown and _visible(node)
            yield index, world, is_shown
            count += 1
            if depth > deepest or count > NODES_MAX:
                raise ValueError("nodes that contain themselves")
            below = reversed(node.get("children", []))
            stack += [(child, world, is_shown, depth + 1) for child in below]

    def _roots(self) -> list[int]:
        if self.tree.get("scenes", []) != []:
            return list(self.item("scenes", self.tree.get("scene", 0)).get("nodes", []))
        nodes = self.tree.get("nodes", [])
        inner = {child for node in nodes for child in node.get("children", [])}
        return [index for index in range(len(nodes)) if index not in inner]


def _visible(node: dict[str, Any]) -> bool:
    return node.get("extensions", {}).get(VISIBILITY, {}).get("visible", True) is not False


def local(node: dict[str, Any]) -> np.ndarray:
    """A node's own 4x4 transform."""
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    return placement(
        node.get("translation", (0, 0, 0)),
        node.get("rotation", (0, 0, 0, 1)),
        node.get("scale", (1, 1, 1)),
    )


def placement(translation: Any, rotation: Any, scale: Any) -> np.ndarray:
    """Scale, then turn (quaternion x, y, z, w), then move."""
    x, y, z, w = np.asarray(rotation, float) / max(float(np.linalg.norm(rotation)), 1e-12)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * np.asarray(scale, float)
    matrix[:3, 3] = translation
    return matrix
