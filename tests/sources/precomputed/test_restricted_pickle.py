"""The released patch maps are read; nothing in them is ever run."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.sources.precomputed.restricted_pickle import NotAPatchMap, read_patch_map


def _npy(value: object, protocol: int = 3) -> bytes:
    """np.save's own layout, for any pickle protocol."""
    stream = io.BytesIO()
    array = np.empty((), object)
    array[()] = value
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    pickle.dump(array, stream, protocol=protocol)
    return stream.getvalue()


def _saved(value: Any, tmp_path: Path) -> bytes:
    np.save(tmp_path / "map.npy", value, allow_pickle=True)
    return (tmp_path / "map.npy").read_bytes()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_what_numpy_writes(protocol: int, tmp_path: Path) -> None:
    patch_map = {0: 17, 5: 195, 195: 0}
    assert read_patch_map(_saved(patch_map, tmp_path), 196) == patch_map
    assert read_patch_map(_npy(patch_map, protocol), 196) == patch_map
    assert read_patch_map(_npy({np.int64(3): np.int32(4)}, protocol), 196) == {3: 4}
    assert read_patch_map(_npy({}, protocol), 196) == {}


class _Runs:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {0: x}, lambda x: {x: 0}, lambda x: [x]])
def test_hostile_pickles_run_nothing(wrap: Callable[..., Any], tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(NotAPatchMap, match="refused|damaged|unhashable"):
        read_patch_map(_npy(wrap(_Runs(marker))), 196)
    assert not marker.exists()


def test_requests_for_memory_are_refused_before_anything_is_built() -> None:
    header = _npy({})[:128]
    memo = b"\x80\x03}r" + (0xFFFFFFF0).to_bytes(4, "little") + b"."
    buffer = b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"."
    for body in (memo, buffer):
        with pytest.raises(NotAPatchMap):
            read_patch_map(header + body, 196)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "not a dict"),
        ({0: "1"}, "not a patch number"),
        ({0: 196}, "not a patch number below 196"),
        ({-1: 0}, "not a patch number"),
        ({True: 0}, "not a patch number"),
        ({0: 1, 1: 1}, "share a target"),
        (dict.fromkeys(range(100000), 0), "too large"),
    ],
)
def test_other_contents_are_named(value: object, message: str) -> None:
    with pytest.raises(NotAPatchMap, match=message):
        read_patch_map(_npy(value), 196)


def test_a_plain_array_is_not_a_patch_map(tmp_path: Path) -> None:
    with pytest.raises(NotAPatchMap, match="not one pickled dict"):
        read_patch_map(_saved(np.arange(196), tmp_path), 196)


@settings(max_examples=400)
@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with pytest.raises(NotAPatchMap):
        read_patch_map(data, 196)


@settings(max_examples=400)
@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(_npy({i: 195 - i for i in range(40)}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    try:
        result = read_patch_map(bytes(whole[:cut]), 196)
    except NotAPatchMap:
        return
    assert all(type(k) is int and type(v) is int for k, v in result.items())
