"""Damaged and hostile glTF: one line that names the file, in little time and memory; nothing drawn
wrong."""

from __future__ import annotations

import copy
import json
import math
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.scenes import glb, primitives
from tests.scenes.test_gltf_decoding import transformed, written
from tests.scenes.test_gltf_features import CORNERS, FACES, UV, document, plain
from tests.support.gltf_writer import Writer, save

Tree = dict[str, Any]
FUZZ_BYTES_MAX = 3 << 30  # of address space, with numpy, Pillow and OpenBLAS loaded


def tree_and_data(path: Path) -> tuple[Tree, bytes]:
    data = path.read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    return json.loads(data[20 : 20 + length]), data[28 + length :]


def container(tree: bytes, binary: bytes | None) -> bytes:
    tree += b" " * (-len(tree) % 4)
    chunk = b"" if binary is None else struct.pack("<I4s", len(binary), b"BIN\0") + binary
    total = 20 + len(tree) + len(chunk)
    return (
        struct.pack("<4sII", b"glTF", 2, total)
        + struct.pack("<I4s", len(tree), b"JSON")
        + tree
        + chunk
    )


def changed(path: Path, change: Callable[[Tree], Any]) -> Path:
    tree, data = tree_and_data(path)
    change(tree)
    path.write_bytes(container(json.dumps(tree).encode(), data))
    return path


def refused(path: Path) -> str:
    """The message, which is one line that begins with the file."""
    with pytest.raises(BadInput) as raised:
        glb.refuse_damaged(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < 400
    return message


@pytest.mark.parametrize("value", [None, "x", 3, [None], [3], {"a": 1}, [["x"]]])
@pytest.mark.parametrize(
    "key",
    [
        "textures",
        "images",
        "extensionsRequired",
        "meshes",
        "bufferViews",
        "nodes",
        "scenes",
        "accessors",
        "buffers",
        "materials",
    ],
)
def test_a_table_of_another_type_is_damage(tmp_path: Path, key: str, value: Any) -> None:
    path = changed(plain(tmp_path / "a.glb"), lambda tree: tree.update({key: value}))
    refused(path)


def test_a_file_without_its_binary_part_is_damage(tmp_path: Path) -> None:
    path = plain(tmp_path / "a.glb")
    tree, _ = tree_and_data(path)
    path.write_bytes(container(json.dumps(tree).encode(), None))
    assert "no binary part" in refused(path)
    path.write_bytes(container(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", b""))
    assert "does not parse" in refused(path)


def set_at(*keys: Any) -> Callable[[Any], Callable[[Tree], None]]:
    def value(new: Any) -> Callable[[Tree], None]:
        def change(tree: Any) -> None:
            for key in keys[:-1]:
                tree = tree[key]
            if new is None:
                tree.pop(keys[-1])
            else:
                tree[keys[-1]] = new

        return change

    return value


POSITION = set_at("accessors", 0, "count")


@pytest.mark.parametrize("count", [2**31, 10**12, 10**30, -1, -(10**12), 5, 1e300, 4.5])
def test_counts_that_the_file_does_not_hold(tmp_path: Path, count: Any) -> None:
    refused(changed(plain(tmp_path / "a.glb"), POSITION(count)))

    def without_view(tree: Tree) -> None:
        tree["accessors"][0] = {"componentType": 5126, "type": "VEC3", "count": count}

    if count != 5:
        refused(changed(plain(tmp_path / "b.glb"), without_view))


@pytest.mark.parametrize("count", [2**31, 10**12, -1])
def test_sparse_counts_that_the_file_does_not_hold(tmp_path: Path, count: int) -> None:
    def sparse(tree: Tree) -> None:
        places = {"bufferView": 2, "componentType": 5123}
        tree["accessors"][0]["sparse"] = {
            "count": count,
            "indices": places,
            "values": {"bufferView": 0},
        }

    refused(changed(plain(tmp_path / "a.glb"), sparse))


def test_sparse_places_are_unsigned_and_inside(tmp_path: Path) -> None:
    for places, kind in (([-1], 5122), ([4], 5123)):
        writer = Writer()
        attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
        where = writer.view(np.array(places, "<i2").tobytes())
        what = writer.view(CORNERS[:1].tobytes())
        indices = {"bufferView": where, "componentType": kind}
        writer.accessors[0]["sparse"] = {
            "count": 1,
            "indices": indices,
            "values": {"bufferView": what},
        }
        tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
        refused(save(tmp_path / "a.glb", writer, tree))


def wall(path: Path, change: Callable[[Writer, Tree, Tree], None]) -> Path:
    """The wall of test_gltf_features with its primitive and tree changed."""
    writer = Writer()
    attributes: Tree = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    primitive = {"attributes": attributes, "indices": writer.add(FACES)}
    tree = document(writer, primitive, {})
    tree["nodes"].append({"mesh": 0})
    change(writer, tree["meshes"][0]["primitives"][0], tree)
    return save(path, writer, tree)


DAMAGED: dict[str, tuple[Callable[[Writer, Tree, Tree], Any], str]] = {
    "uv of another length": (
        lambda w, p, t: p["attributes"].update(TEXCOORD_0=w.add(UV[:3])),
        "not the shape",
    ),
    "one uv for all": (
        lambda w, p, t: p["attributes"].update(TEXCOORD_0=w.add(UV[:1])),
        "not the shape",
    ),
    "one colour for all": (
        lambda w, p, t: p["attributes"].update(COLOR_0=w.add(CORNERS[:1])),
        "not the shape",
    ),
    "colours of two numbers": (
        lambda w, p, t: p["attributes"].update(COLOR_0=w.add(UV)),
        "not the shape",
    ),
    "points of two numbers": (
        lambda w, p, t: p["attributes"].update(POSITION=w.add(UV)),
        "not the shape",
    ),
    "indices that are floats": (
        lambda w, p, t: p.update(indices=w.add(np.array([0, 1, 2], np.float32))),
        "no indices",
    ),
    "indices that are negative": (
        lambda w, p, t: p.update(indices=w.add(np.array([0, 1, -1], "i2"))),
        "no indices",
    ),
    "indices beyond the vertices": (
        lambda w, p, t: p.update(indices=w.add(np.array([0, 1, 4], np.uint8))),
        "beyond the vertices",
    ),
    "an unknown mode": (lambda w, p, t: p.update(mode=7), "mode 7"),
    "a mode of words": (lambda w, p, t: p.update(mode="fan"), "mode 'fan'"),
    "no numbers": (
        lambda w, p, t: p["attributes"].update(POSITION=w.add(CORNERS * np.float32(np.nan))),
        "no numbers",
    ),
    "endless uv": (
        lambda w, p, t: p["attributes"].update(
            TEXCOORD_0=w.add(np.full((4, 2), np.inf, np.float32))
        ),
        "no numbers",
    ),
    "uv too far": (
        lambda w, p, t: p["attributes"].update(TEXCOORD_0=w.add(UV * np.float32(1e30))),
        "coordinates beyond 1e",
    ),
    "corners too far": (
        lambda w, p, t: t["nodes"][0].update(scale=[1e300, 1, 1]),
        "e.300 m away.*unit",
    ),
    "an endless transform": (
        lambda w, p, t: t["nodes"][0].update(scale=[1e308] * 3, translation=[1e308] * 3),
        "no numbers",
    ),
    "a node in itself": (lambda w, p, t: t["nodes"][0].update(children=[0]), "contain themselves"),
    "nodes in each other": (
        lambda w, p, t: [
            t["nodes"][0].update(children=[1, 1]),
            t["nodes"][1].update(children=[0, 0]),
        ],
        "themselves",
    ),
    "no such scene": (lambda w, p, t: t.update(scene=1), r"scenes\[1\]"),
    "a negative mesh": (lambda w, p, t: t["nodes"][0].update(mesh=-1), "meshes -1"),
    "draco unlisted": (
        lambda w, p, t: p.update(extensions={"KHR_draco_mesh_compression": {}}),
        "Draco-compressed.*Blender",
    ),
    "meshopt unlisted": (
        lambda w, p, t: w.views[0].update(extensions={"EXT_meshopt_compression": {}}),
        "meshopt-compressed",
    ),
    "an unknown way to repeat": (
        lambda w, p, t: [t.update(samplers=[{"wrapS": 1}]), t["textures"][0].update(sampler=0)],
        "KeyError: 1",
    ),
    "joints of negative numbers": (lambda w, p, t: negative_joints(w, p, t), "joints of negative"),
    "a joint that is not there": (lambda w, p, t: negative_joints(w, p, t, 1), "index 1"),
    "a name of many lines": (
        lambda w, p, t: t.update(extensionsRequired=["a\nb\u0007" + "c" * 500]),
        "requires a b.*not read here",
    ),
    "a data URI that is none": (
        lambda w, p, t: t["images"][0].update(uri="data:;base64,*"),
        "does not decode",
    ),
    "no such file": (
        lambda w, p, t: t["images"][0].update(uri="gone.png"),
        "gone.png, no such file",
    ),
    "a folder": (lambda w, p, t: t["images"][0].update(uri="."), "no such file"),
    "a name too long": (lambda w, p, t: t["images"][0].update(uri="x" * 5000), "no such file"),
    "a pipe": (lambda w, p, t: t["images"][0].update(uri="pipe"), "no such file"),
    "a link to itself": (lambda w, p, t: t["images"][0].update(uri="circle"), "no such file"),
    "outside": (
        lambda w, p, t: t["images"][0].update(uri="../outside.png"),
        "does not lie beside it",
    ),
    "outside, encoded": (
        lambda w, p, t: t["images"][0].update(uri="%2e%2e/outside.png"),
        "does not lie beside it",
    ),
    "outside, behind a folder": (
        lambda w, p, t: t["images"][0].update(uri="a/../../outside.png"),
        "does not lie beside it",
    ),
    "an absolute path": (
        lambda w, p, t: t["images"][0].update(uri="/etc/passwd"),
        "does not lie beside it",
    ),
    "an address": (
        lambda w, p, t: t["images"][0].update(uri="https://example.org/a.png"),
        "does not lie beside it",
    ),
}


def negative_joints(writer: Writer, primitive: Tree, tree: Tree, joint: int = -1) -> None:
    primitive["attributes"]["JOINTS_0"] = writer.add(np.full((4, 4), joint, "i1"))
    primitive["attributes"]["WEIGHTS_0"] = writer.add(np.full((4, 4), 0.25, np.float32))
    tree["skins"] = [{"joints": [0]}]
    tree["nodes"][0]["skin"] = 0


@pytest.mark.parametrize("name", DAMAGED)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "scene"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(b"")
    (folder / "circle").symlink_to("circle")
    os.mkfifo(folder / "pipe")
    change, message = DAMAGED[name]
    path = wall(folder / "a.glb", change)
    with pytest.raises(BadInput, match=message):
        glb.refuse_damaged(path)
    refused(path)


def test_a_scene_that_grows_beyond_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def many(writer: Writer, primitive: Tree, tree: Tree) -> None:
        tree["scenes"][0]["nodes"] = [0] * 100

    path = wall(tmp_path / "a.glb", many)
    assert len(glb.read(path, "auto", 64).faces) == 200
    monkeypatch.setattr(glb, "CORNERS_MAX", 300)
    assert "more than 300 vertices" in refused(path)


def test_primitives_without_positions_are_passed_over(tmp_path: Path) -> None:
    def more(writer: Writer, primitive: Tree, tree: Tree) -> None:
        bare = {"attributes": {"TEXCOORD_0": 1}}
        points = {**copy.deepcopy(primitive), "mode": 0}
        tree["meshes"][0]["primitives"] += [bare, points]

    assert len(glb.read(wall(tmp_path / "a.glb", more), "auto", 64).faces) == 2


@pytest.mark.parametrize("mode", [0, 1])
def test_a_scene_of_points_or_lines_alone_is_named(tmp_path: Path, mode: int) -> None:
    """As a scanner exports its cloud."""
    path = wall(tmp_path / "a.glb", lambda writer, primitive, tree: primitive.update(mode=mode))
    assert refused(path) == f"{path}: no triangles in this .glb; it is no scene"


def test_colours_are_clamped(tmp_path: Path) -> None:
    def bright(writer: Writer, primitive: Tree, tree: Tree) -> None:
        primitive["attributes"]["COLOR_0"] = writer.add(
            np.tile(np.array([-3, 0.5, 4], np.float32), (4, 1))
        )
        tree["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] = [1, 1, 0.25, 1]

    assert np.allclose(glb.read(wall(tmp_path / "a.glb", bright), "auto", 64).light, [0, 0.5, 0.25])


def test_factors_beyond_one_do_not_wrap_round(tmp_path: Path) -> None:
    def bright(writer: Writer, primitive: Tree, tree: Tree) -> None:
        tree["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] = [2, -1, 1, 1]

    assert np.allclose(glb.read(wall(tmp_path / "a.glb", bright), "auto", 64).light, [1, 0, 1])


def test_the_example_of_the_extension_shows_the_lower_left_quarter() -> None:
    """KHR_texture_transform's own example; its text says which quarter of the picture that is."""
    said = {"offset": [0, 1], "rotation": math.pi / 2, "scale": [0.5, 0.5]}
    uv = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    moved = primitives._moved(uv, {"extensions": {"KHR_texture_transform": said}})
    assert np.allclose(moved.min(axis=0), [0, 0.5])
    assert np.allclose(moved.max(axis=0), [0.5, 1])
    assert np.allclose(moved, [transformed(said, point) for point in uv])


# ---- damage at random


def any_place(rng: np.random.Generator, tree: Any) -> tuple[Any, Any]:
    """A container of the tree, and a key of it."""
    while True:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = keys[rng.integers(len(keys))]
        if not isinstance(tree[key], dict | list) or not tree[key] or rng.random() < 0.15:
            return tree, key
        tree = tree[key]


ODD = [
    None,
    True,
    -1,
    0,
    1,
    7,
    255,
    2**31,
    2**63,
    10**40,
    0.5,
    -1e300,
    1e300,
    "",
    "x",
    "data:,",
    "SCALAR",
    "MAT4",
    [],
    {},
    [[]],
    [0],
    5126,
]


def damaged_tree(rng: np.random.Generator, tree: Tree) -> Tree:
    for _ in range(int(rng.integers(1, 4))):
        if not tree:
            return tree
        holder, key = any_place(rng, tree)
        what = rng.integers(4)
        if what == 0 and isinstance(holder, dict):
            del holder[key]
        elif what == 1:
            other, name = any_place(rng, tree)
            holder[key] = copy.deepcopy(other[name])
        elif what == 2 and isinstance(holder[key], int):
            holder[key] += int(rng.integers(-3, 4))
        else:
            holder[key] = copy.deepcopy(ODD[rng.integers(len(ODD))])
    return tree


def damaged_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 12))):
        out[rng.integers(len(out))] = rng.integers(256)
    if rng.random() < 0.2:
        del out[rng.integers(len(out)) :]
    return bytes(out)


def fuzz(folder: Path, rounds: int) -> None:
    """Runs in a process of its own: its address space is bounded, so that what is allocated for a
    lie fails here."""
    resource.setrlimit(resource.RLIMIT_AS, (FUZZ_BYTES_MAX, FUZZ_BYTES_MAX))
    told: dict[str, int] = {}
    for seed in range(rounds):
        rng = np.random.default_rng([7, seed])
        if seed % 20 == 0:
            whole = written(folder, seed)[0].read_bytes()
            (folder / "whole.glb").write_bytes(whole)
            tree, data = tree_and_data(folder / "whole.glb")
        damage = rng.integers(3)
        if damage == 0:
            bad = damaged_bytes(rng, whole)
        elif damage == 1:
            bad = container(json.dumps(tree).encode(), damaged_bytes(rng, data))
        else:
            bad = container(json.dumps(damaged_tree(rng, copy.deepcopy(tree))).encode(), data)
        path = folder / "bad.glb"
        path.write_bytes(bad)
        try:
            mesh = glb.read(path, "auto", 64)
        except BadInput as error:
            message = str(error)
            assert message.startswith(f"{path}: "), message
            assert "\n" not in message, message
            told["refused"] = told.get("refused", 0) + 1
        except BaseException:
            (folder / f"traceback-{seed}.glb").write_bytes(bad)
            raise
        else:
            assert all(
                np.isfinite(values).all() for values in (mesh.vertices, mesh.uv, mesh.light)
            ), seed
            assert mesh.faces.min() >= 0, seed
            assert mesh.faces.max() < len(mesh.vertices), seed
            assert len(mesh.uv) == len(mesh.light) == len(mesh.vertices), seed
            told["read"] = told.get("read", 0) + 1
    print(json.dumps(told))


def test_random_damage_is_refused_or_read_and_nothing_else(
    tmp_path: Path, repository: Path
) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.scenes.test_gltf_damage import fuzz; "
        "fuzz(Path(sys.argv[1]), int(sys.argv[2]))"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(repository),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", program, str(tmp_path), "2000"]
    ran = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout)
    # Both kinds occur, so the damage is neither idle nor total.
    assert told["refused"] > 500
    assert told["read"] > 200
