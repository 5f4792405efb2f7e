"""Random glTF documents, decoded here a vertex at a time as the specification says, and by the
reader: the same triangles.

Nothing of the reader is used to find out what is right: corners, texture coordinates and colours go
through scalar formulas.
"""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.scenes import glb
from mimic.scenes.mesh import Mesh
from tests.support.gltf_writer import Writer, encoded, save

Rng = np.random.Generator
Vector = tuple[float, float, float]
ENLARGED = {"": {}, "smoothed": {"magFilter": 9729}, "not smoothed": {"magFilter": 9728}}
WRAPS = {10497: "repeat", 33071: "clamp", 33648: "mirror"}
COUNT = 6  # vertices a primitive
IDENTITY: dict[str, Any] = {"translation": (0, 0, 0), "rotation": (0, 0, 0, 1), "scale": (1, 1, 1)}
NAMES = {"translation": "TRANSLATION", "rotation": "ROTATION", "scale": "SCALE"}


@dataclass
class Scene:
    """A document being written, and the triangles that it should give."""

    rng: Rng
    folder: Path
    writer: Writer = field(default_factory=Writer)
    tree: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    corners: list[tuple[tuple[float, ...], ...]] = field(
        default_factory=list
    )  # a triangle: x y z u v r g b of 3 corners
    pictures: list[int | None] = field(
        default_factory=list
    )  # of each triangle: the texture, None = white

    def one(self, *choices: str) -> str:
        self.said.append(str(self.rng.choice(choices)))
        return self.said[-1]

    def new(self, kind: str, entry: dict[str, Any]) -> int:
        self.tree.setdefault(kind, []).append(entry)
        return len(self.tree[kind]) - 1


# ---- what the specification says, of one vertex


def rotated(quaternion: Any, point: Any) -> list[float]:
    """p + w t + q x t with t = 2 q x p."""
    x, y, z, w = (float(value) for value in quaternion)
    px, py, pz = (float(value) for value in point)
    tx, ty, tz = 2 * (y * pz - z * py), 2 * (z * px - x * pz), 2 * (x * py - y * px)
    return [
        px + w * tx + y * tz - z * ty,
        py + w * ty + z * tx - x * tz,
        pz + w * tz + x * ty - y * tx,
    ]


def placed(node: dict[str, Any], point: Any) -> list[float]:
    """A point by a node's own transform."""
    if "matrix" in node:
        m, (x, y, z) = node["matrix"], point
        return [m[row] * x + m[row + 4] * y + m[row + 8] * z + m[row + 12] for row in range(3)]
    said = {**IDENTITY, **node}
    scaled = [a * b for a, b in zip(said["scale"], point, strict=True)]
    return [
        a + b for a, b in zip(said["translation"], rotated(said["rotation"], scaled), strict=True)
    ]


def placed_by(chain: Any, point: Any) -> list[float]:
    """By the nodes from the innermost to the root."""
    for node in chain:
        point = placed(node, point)
    return list(point)


def mirrors(chain: list[dict[str, Any]]) -> bool:
    """Whether the axes, placed, are left-handed."""
    origin, *axes = (
        np.array(placed_by(chain, point)) for point in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    )
    x, y, z = (axis - origin for axis in axes)
    return float(np.dot(np.cross(x, y), z)) < 0


def transformed(transform: dict[str, Any], uv: Any) -> list[float]:
    """KHR_texture_transform: translation * rotation * scale as 3x3 matrices; v points down,
    positive angles turn u towards -v."""
    angle = transform.get("rotation", 0.0)
    offset, scale = transform.get("offset", (0, 0)), transform.get("scale", (1, 1))
    move = np.array([[1, 0, offset[0]], [0, 1, offset[1]], [0, 0, 1]])
    turn = np.array(
        [[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    return list((move @ turn @ np.diag([*scale, 1]) @ [*uv, 1])[:2])


def triangles(mode: int, order: list[int]) -> list[tuple[int, int, int]]:
    """Section 3.7.2.1: the corners of triangle i."""
    if mode == 4:
        return [(order[3 * i], order[3 * i + 1], order[3 * i + 2]) for i in range(len(order) // 3)]
    if mode == 5:
        return [
            (order[i], order[i + 1 + i % 2], order[i + 2 - i % 2]) for i in range(len(order) - 2)
        ]
    return [(order[i + 1], order[i + 2], order[0]) for i in range(len(order) - 2)]


# ---- writing at random, with the truth kept


def positions(scene: Scene) -> tuple[int, np.ndarray]:
    points = scene.rng.uniform(-1, 1, (COUNT, 3)).astype(np.float32)
    form = scene.one("float", "short", "byte", "sparse", "sparse of nothing")
    if form == "short":
        stored = np.rint(points * 32767).astype("<i2")
        return scene.writer.add(stored, 2, normalized=True), np.maximum(stored / 32767, -1)
    if form == "byte":
        stored = np.rint(points * 100).astype("i1")
        return scene.writer.add(stored, 1), stored.astype(float)
    index = scene.writer.add(points, 4 * int(scene.rng.integers(3)))
    if form.startswith("sparse"):
        entry = scene.writer.accessors[index]
        changed = np.sort(scene.rng.permutation(COUNT)[:4]).astype("<u2")
        where = scene.writer.view(changed.tobytes())
        new = scene.rng.uniform(-1, 1, (4, 3)).astype(np.float32)
        indices = {"bufferView": where, "componentType": 5123}
        entry["sparse"] = {
            "count": 4,
            "indices": indices,
            "values": {"bufferView": scene.writer.view(new.tobytes())},
        }
        if form == "sparse of nothing":
            points = np.zeros_like(points)
            entry.pop("bufferView")
        points = points.copy()
        points[changed] = new
    return index, points


def shares(scene: Scene, width: int) -> tuple[int, np.ndarray]:
    """Numbers from 0 to 1: texture coordinates or colours."""
    values = scene.rng.uniform(0, 1, (COUNT, width))
    form = scene.one("f4", "u1", "u2")
    if form == "f4":
        single = values.astype(np.float32)
        return scene.writer.add(single), single.astype(float)
    top = 255 if form == "u1" else 65535
    stored = np.rint(values * top).astype(form)
    return scene.writer.add(stored, 4, normalized=True), stored / top


def texture(scene: Scene) -> int:
    """A texture of one colour that no other has, somewhere, with a way to repeat of its own along u
    and v."""
    number = len(scene.tree.setdefault("textures", []))
    data = encoded("PNG", np.full((2, 2, 3), (number, 255 - number, 7 * number), np.uint8))
    place = scene.one("inside", "data URI", "beside")
    if place == "inside":
        image: dict[str, Any] = {"bufferView": scene.writer.view(data), "mimeType": "image/png"}
    elif place == "data URI":
        image = {"uri": "data:image/png;base64," + base64.b64encode(data).decode()}
    else:
        (scene.folder / f"picture {number}.png").write_bytes(data)
        image = {"uri": f"picture%20{number}.png"}
    s, t = scene.rng.permutation(list(WRAPS))[:2]
    enlarged = scene.one(*ENLARGED)
    sampler = scene.new("samplers", {"wrapS": int(s), "wrapT": int(t), **ENLARGED[enlarged]})
    return scene.new("textures", {"source": scene.new("images", image), "sampler": sampler})


def material(
    scene: Scene, attributes: dict[str, Any]
) -> tuple[dict[str, Any], np.ndarray, np.ndarray, int | None]:
    """What a primitive says of it, and the truth: uv, factor, number of the texture."""
    if scene.one("material", "material", "no material") == "no material":
        return {}, np.zeros((COUNT, 2)), np.ones(3), None
    factor = scene.rng.uniform(0, 1, 4)
    colour: dict[str, Any] = (
        {"factor": factor.tolist()} if scene.one("factor", "no factor") == "factor" else {}
    )
    uv, number = np.zeros((COUNT, 2)), None
    if scene.one("texture", "texture", "no texture") == "texture":
        number = texture(scene)
        sets = [shares(scene, 2), shares(scene, 2)]
        attributes |= {f"TEXCOORD_{index}": accessor for index, (accessor, _) in enumerate(sets)}
        info, uv = coordinates(scene, [values for _, values in sets])
        colour["texture"] = {**info, "index": number}
    if scene.one("metallic", "glossiness") == "metallic":
        names = {"factor": "baseColorFactor", "texture": "baseColorTexture"}
        entry: dict[str, Any] = {
            "pbrMetallicRoughness": {names[key]: value for key, value in colour.items()}
        }
        if scene.one("lit", "unlit") == "unlit":
            entry["extensions"] = {"KHR_materials_unlit": {}}
    else:
        names = {"factor": "diffuseFactor", "texture": "diffuseTexture"}
        gloss = {names[key]: value for key, value in colour.items()}
        decoy = {"baseColorFactor": [0.1, 0.2, 0.3, 1]}
        entry = {
            "pbrMetallicRoughness": decoy,
            "extensions": {"KHR_materials_pbrSpecularGlossiness": gloss},
        }
    entry["alphaMode"] = scene.one("OPAQUE", "MASK", "BLEND")
    return (
        {"material": scene.new("materials", entry)},
        uv,
        factor[:3] if "factor" in colour else np.ones(3),
        number,
    )


def coordinates(scene: Scene, sets: list[np.ndarray]) -> tuple[dict[str, Any], np.ndarray]:
    """A texture info, and the coordinates that it makes."""
    used = int(scene.rng.integers(2))
    if scene.one("as they are", "moved", "moved") == "as they are":
        return {"texCoord": used}, sets[used]
    parts = {
        "offset": scene.rng.uniform(-1, 1, 2).tolist(),
        "rotation": float(scene.rng.uniform(-3, 3)),
        "scale": scene.rng.uniform(-2, 2, 2).tolist(),
    }
    said: dict[str, Any] = {name: value for name, value in parts.items() if scene.one(name, "")}
    info: dict[str, Any] = {"texCoord": used}
    if scene.one("texCoord inside", ""):
        said["texCoord"] = used
        info["texCoord"] = 1 - used
    info["extensions"] = {"KHR_texture_transform": said}
    return info, np.array([transformed(said, uv) for uv in sets[used]])


def transform(scene: Scene) -> dict[str, Any]:
    quaternion = scene.rng.normal(size=4)
    node = {
        "translation": scene.rng.uniform(-5, 5, 3).tolist(),
        "rotation": (quaternion / np.linalg.norm(quaternion)).tolist(),
        "scale": (scene.rng.uniform(0.5, 2, 3) * scene.rng.choice([-1, 1], 3)).tolist(),
    }
    form = scene.one("all", "some", "matrix", "none")
    if form == "matrix":
        columns = [placed(node, axis) for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
        origin = node["translation"]
        rows = [[*(a - b for a, b in zip(column, origin, strict=True)), 0.0] for column in columns]
        return {"matrix": [*rows[0], *rows[1], *rows[2], *origin, 1.0]}
    kept = {"all": 3, "some": 1, "none": 0}[form]
    return {name: node[name] for name in scene.rng.permutation(list(node))[:kept].tolist()}


def skin(
    scene: Scene, roots: list[int], attributes: dict[str, Any]
) -> tuple[int, list[list[float]], Any]:
    """Two joints, one below the other; the truth is the joints' places of a point, and the
    weights."""
    outer, inner = transform(scene), transform(scene)
    child = scene.new("nodes", dict(inner))
    parent = scene.new("nodes", {**outer, "children": [child]})
    roots.append(parent)
    binds = [{"matrix": placement_matrix(transform(scene))} for _ in range(2)]
    inverse = scene.writer.add(np.array([bind["matrix"] for bind in binds], np.float32))
    weight = scene.rng.uniform(0, 1, COUNT).astype(np.float32)
    zeros = np.zeros(COUNT, np.float32)
    attributes["WEIGHTS_0"] = scene.writer.add(np.column_stack([weight, 1 - weight, zeros, zeros]))
    attributes["JOINTS_0"] = scene.writer.add(
        np.tile(np.array([[0, 1, 0, 0]], np.uint8), (COUNT, 1))
    )
    chains = [[binds[0], outer], [binds[1], inner, outer]]
    entry = {"joints": [parent, child], "inverseBindMatrices": inverse}
    return scene.new("skins", entry), chains, weight  # type: ignore[return-value]


def placement_matrix(node: dict[str, Any]) -> list[float]:
    origin = placed(node, (0, 0, 0))
    axes = [np.subtract(placed(node, axis), origin).tolist() for axis in np.eye(3)]
    return [*axes[0], 0.0, *axes[1], 0.0, *axes[2], 0.0, *origin, 1.0]


def primitive(
    scene: Scene, weights: list[float], attributes: dict[str, Any]
) -> tuple[dict[str, Any], Any]:
    """A primitive, and its truth before it is placed: points, the rest of each vertex, triangles,
    texture."""
    attributes["POSITION"], points = positions(scene)
    points = points.astype(float)
    entry: dict[str, Any] = {"attributes": attributes}
    targets = []
    for weight in weights:
        deltas = scene.rng.uniform(-1, 1, (COUNT, 3)).astype(np.float32)
        targets.append({"POSITION": scene.writer.add(deltas)})
        points = points + weight * deltas
    if targets:
        entry["targets"] = targets
    said, uv, factor, number = material(scene, attributes)
    light = np.tile(factor, (COUNT, 1))
    if scene.one("coloured", "plain") == "coloured":
        attributes["COLOR_0"], colours = shares(scene, int(scene.rng.choice([3, 4])))
        light = light * colours[:, :3]
    mode = {"triangles": 4, "strip": 5, "fan": 6}[scene.one("triangles", "strip", "fan")]
    order = list(range(COUNT))
    if (form := scene.one("", "u1", "u2", "u4")) != "":
        order = scene.rng.integers(0, COUNT, int(scene.rng.integers(3, 13))).tolist()
        entry["indices"] = scene.writer.add(np.array(order, form))
    if mode != 4 or scene.one("said", ""):
        entry["mode"] = mode
    return {**entry, **said}, (points, np.column_stack([uv, light]), triangles(mode, order), number)


def keep(scene: Scene, places: np.ndarray, mirrored: bool, truth: Any) -> None:
    _, rest, faces, number = truth
    vertices = np.column_stack([places, rest])
    for a, b, c in faces:
        order = (c, b, a) if mirrored else (a, b, c)
        scene.corners.append(tuple(tuple(vertices[corner]) for corner in order))
        scene.pictures.append(number)


def instanced(scene: Scene) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a node says of EXT_mesh_gpu_instancing, and the instances' own transforms."""
    if scene.one("", "", "instances") == "":
        return {}, [{}]
    count = 3
    quaternions = scene.rng.normal(size=(count, 4))
    rows = {
        "translation": scene.rng.uniform(-5, 5, (count, 3)),
        "rotation": quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True),
        "scale": scene.rng.uniform(0.5, 2, (count, 3)) * scene.rng.choice([-1, 1], (count, 3)),
    }
    used = scene.rng.permutation(list(rows))[: int(scene.rng.integers(4))].tolist()
    attributes = {NAMES[name]: scene.writer.add(rows[name].astype(np.float32)) for name in used}
    attributes["_ID"] = scene.writer.add(np.arange(count, dtype=np.float32))  # of its own
    scene.tree["extensionsRequired"] = ["EXT_mesh_gpu_instancing"]
    extension = {"extensions": {"EXT_mesh_gpu_instancing": {"attributes": attributes}}}
    return extension, [
        {name: rows[name][index].tolist() for name in used} for index in range(count if used else 1)
    ]


def node(scene: Scene, roots: list[int]) -> int:
    """A mesh below zero to two more nodes."""
    attributes: dict[str, Any] = {}
    weights = scene.rng.uniform(-1, 1, int(scene.rng.integers(3))).tolist()
    entry, truth = primitive(scene, weights, attributes)
    mesh: dict[str, Any] = {"primitives": [entry]}
    chain = [transform(scene) for _ in range(int(scene.rng.integers(1, 4)))]
    holder: dict[str, Any] = dict(chain[0])
    if weights and scene.one("weights of the node", "of the mesh") == "of the mesh":
        mesh["weights"] = weights
    elif weights:
        mesh["weights"] = [9.0] * len(weights)
        holder["weights"] = weights
    holder["mesh"] = scene.new("meshes", mesh)
    if scene.one("rigid", "rigid", "rigid", "skinned") == "skinned":
        holder["skin"], chains, share = skin(scene, roots, attributes)
        both = [np.array([placed_by(chain_, point) for point in truth[0]]) for chain_ in chains]
        keep(scene, share[:, None] * both[0] + (1 - share[:, None]) * both[1], False, truth)
    else:
        extension, instances = instanced(scene)
        holder |= extension
        for instance in instances:
            whole = [instance, *chain]
            places = np.array([placed_by(whole, point) for point in truth[0]])
            keep(scene, places, mirrors(whole), truth)
    index = scene.new("nodes", holder)
    for parent in chain[1:]:
        index = scene.new("nodes", {**parent, "children": [index]})
    return index


def written(folder: Path, seed: int) -> tuple[Path, Scene]:
    scene = Scene(np.random.default_rng(seed), folder)
    roots: list[int] = []
    scene.tree = {"asset": {"version": "2.0"}}
    for _ in range(int(scene.rng.integers(1, 4))):
        roots.append(node(scene, roots))
    kept = len(scene.corners), len(scene.pictures)
    other = [node(scene, [])]  # which the scene does not show
    del scene.corners[kept[0] :], scene.pictures[kept[1] :]
    if scene.one("a second scene", "the only scene") == "a second scene":
        scene.tree |= {"scene": 1, "scenes": [{"nodes": other}, {"nodes": roots}]}
    else:
        scene.tree["scenes"] = [{"nodes": roots}]
    path = save(folder / "scene.glb", scene.writer, scene.tree)
    return path, scene


def same_triangle(got: np.ndarray, wanted: np.ndarray) -> bool:
    """The same corners, from whichever on, the same way round."""
    return any(np.allclose(np.roll(got, turn, axis=0), wanted, atol=2e-4) for turn in range(3))


def decoded(mesh: Mesh) -> np.ndarray:
    return np.column_stack([mesh.vertices, mesh.uv, mesh.light])[mesh.faces]


@pytest.mark.parametrize("seed", range(80))
def test_a_random_document_gives_the_triangles_that_the_specification_says(
    tmp_path: Path, seed: int
) -> None:
    path, scene = written(tmp_path, seed)
    mesh = glb.read(path, "auto", 64)
    got, said = decoded(mesh), ", ".join(filter(None, scene.said))
    assert len(got) == len(scene.corners), said
    for index, (one, wanted) in enumerate(zip(got, scene.corners, strict=True)):
        assert same_triangle(one, np.array(wanted)), (index, one, wanted, said)
    for number, place in zip(scene.pictures, mesh.texture, strict=True):
        colour = (255, 255, 255) if number is None else (number, 255 - number, 7 * number)
        assert mesh.textures[place][0, 0].tolist() == list(colour), said
        if number is not None:
            sampler = scene.tree["samplers"][number]
            assert mesh.wraps[place] == (WRAPS[sampler["wrapS"]], WRAPS[sampler["wrapT"]]), said
            assert mesh.nearest[place] == (sampler.get("magFilter") == 9728), said
