"""Read the pickled `corresponding.npy` of the released MIMIC sets without unpickling anything.

`np.save` of a Python dict writes an object array, which is a pickle; loading one runs whatever the
file says. This reader walks the pickle with every class replaced by an inert stand-in, so that the
only things it can build are dicts, lists and integers.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any

import numpy as np

MAX_BYTES = 1 << 16  # 196 entries take about a kilobyte; anything larger is not a patch map
_HEADER_MAX = 4096
_MEMO_MAX = (
    1 << 16
)  # an unpickler allocates its memo up to the largest index named: a cheap way to ask for gigabytes
_REFUSED_OPCODES = {
    "PERSID",
    "BINPERSID",
    "EXT1",
    "EXT2",
    "EXT4",
    "INST",
    "OBJ",
    "BYTEARRAY8",
    "NEXT_BUFFER",
    "READONLY_BUFFER",
}


class NotAPatchMap(ValueError):
    """The file is not a pickled dict of ints; the message says what it is instead."""


def read_patch_map(data: bytes, patches: int) -> dict[int, int]:
    """Patch in view a -> patch in view b, from the bytes of a released `corresponding.npy`.

    Args:
        data: the whole file.
        patches: number of patches of a view (196 for 14 x 14); keys and values lie in [0, patches).

    Raises:
        NotAPatchMap: damaged, hostile, or something else than a one-to-one dict of such ints.
    """
    if len(data) > MAX_BYTES:
        raise NotAPatchMap(f"{len(data)} bytes is too large for a patch map")
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(stream, max_header_size=_HEADER_MAX)
    except Exception as error:
        raise NotAPatchMap(f"not an .npy file: {error}") from None
    if shape != () or not dtype.hasobject:
        raise NotAPatchMap(
            f"holds an array of shape {shape} and type {dtype}, not one pickled dict"
        )
    try:
        body = stream.read()
        _scan(body)
        value = _content(_Inert(io.BytesIO(body)).load())
    except NotAPatchMap:
        raise
    except Exception as error:  # a pickle can fail in any way it likes
        raise NotAPatchMap(f"damaged pickle: {type(error).__name__}") from None
    return _checked(value, patches)


def _scan(body: bytes) -> None:
    """Refuse, before anything is built, what a patch map never needs and what asks for memory."""
    for opcode, argument, _ in pickletools.genops(body):
        if opcode.name in _REFUSED_OPCODES:
            raise NotAPatchMap(f"uses the pickle opcode {opcode.name}; refused, nothing was run")
        if (
            opcode.name in {"PUT", "BINPUT", "LONG_BINPUT"}
            and not 0 <= int(str(argument)) < _MEMO_MAX
        ):
            raise NotAPatchMap("names an enormous memo index; refused, nothing was run")


def _checked(value: Any, patches: int) -> dict[int, int]:
    if not isinstance(value, dict):
        raise NotAPatchMap(f"holds a {type(value).__name__}, not a dict")
    result: dict[int, int] = {}
    for key, target in value.items():
        if (
            type(key) is not int
            or type(target) is not int
            or not (0 <= key < patches and 0 <= target < patches)
        ):
            raise NotAPatchMap(
                f"entry {key!r:.40}: {target!r:.40} is not a patch number below {patches}"
            )
        result[key] = target
    if len(set(result.values())) != len(result):
        raise NotAPatchMap("two patches share a target; a released map is one-to-one")
    return result


class _Array:
    """Stands for the object array: remembers the state the pickle wants to give it."""

    state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype:
    """Stands for numpy.dtype; keeps the code string so that integer scalars can be read."""

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code if isinstance(code, str) else ""

    def __setstate__(self, state: Any) -> None:
        pass


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: Any, data: Any = b"") -> int:
    """A pickled numpy integer, such as np.int64(5)."""
    code = getattr(dtype, "code", "")
    if (
        isinstance(data, bytes)
        and code in {"i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"}
        and len(data) == int(code[1])
    ):
        return int.from_bytes(data, "little", signed=code[0] == "i")
    raise NotAPatchMap("holds a numpy scalar that is not an integer")


def _latin1(text: Any, encoding: Any) -> bytes:
    """How pickle protocol 2 writes bytes."""
    if isinstance(text, str) and encoding == "latin1":
        return text.encode("latin1")
    raise NotAPatchMap("holds text in an unexpected encoding")


_STAND_INS: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    ("_codecs", "encode"): _latin1,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
}


class _Inert(pickle.Unpickler):
    """An unpickler that knows seven names, all of them inert."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise NotAPatchMap(f"asks for {module}.{name}; refused, nothing was run") from None


def _content(array: Any) -> Any:
    """The single object of a 0-d object array: state = (version, shape, dtype, is_fortran,
    [object])."""
    state = array.state if isinstance(array, _Array) else ()
    if (
        not isinstance(state, tuple)
        or len(state) != 5
        or not isinstance(state[4], list)
        or len(state[4]) != 1
    ):
        raise NotAPatchMap("is not a 0-d object array")
    return state[4][0]
