"""The triangles of a glTF document, each primitive of each node with its looks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mimic.scenes.gltf import Document, placement
from mimic.scenes.mesh import CLASSES

TRIANGLES = 4
STRIP = 5
FAN = 6
GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
TRANSFORM = "KHR_texture_transform"
INSTANCING = "EXT_mesh_gpu_instancing"
GLOW_MAX = 1e6  # the darkest texel but black is white long before
UNLIT = "KHR_materials_unlit"
STRENGTH = "KHR_materials_emissive_strength"


@dataclass(eq=False)
class Primitive:
    """One primitive of one node, in the file's axes."""

    vertices: np.ndarray  # f64 [n, 3]
    faces: np.ndarray  # i32 [m, 3]
    uv: np.ndarray  # f64 [n, 2]
    light: np.ndarray  # linear, f64 [n, 3]; above 1 where a material glows more than its texture
    texture: int | None  # index into the document's textures
    class_id: int
    instance: int | None


def parts(document: Document) -> Iterator[Primitive]:
    """All parts that have triangles, in the order of their meshes' names; points and lines are
    none."""
    nodes = list(document.placed())
    worlds = {index: world for index, world, _ in nodes}
    nodes.sort(key=lambda item: _name(document, item[0]))
    for index, world, is_shown in nodes:
        node = document.item("nodes", index)
        if "mesh" not in node or not is_shown:
            continue
        mesh = document.item("meshes", node["mesh"])
        for primitive in mesh["primitives"]:
            if not _has_triangles(primitive):
                continue
            for transform in _transforms(document, node, world):
                part = _part(document, node, mesh, primitive, transform, worlds)
                if len(part.faces):
                    yield part


def _has_triangles(primitive: dict[str, Any]) -> bool:
    """Not points or lines (modes 0 to 3), nor a primitive without positions, which is not drawn."""
    mode = primitive.get("mode", TRIANGLES)
    if mode not in range(FAN + 1):
        raise ValueError(f"a primitive of mode {mode!r}")
    return mode in (TRIANGLES, STRIP, FAN) and "POSITION" in primitive["attributes"]


def _name(document: Document, index: int) -> str:
    node = document.item("nodes", index)
    return str(document.item("meshes", node["mesh"]).get("name", "")) if "mesh" in node else ""


def _transforms(document: Document, node: dict[str, Any], world: np.ndarray) -> list[np.ndarray]:
    attributes = node.get("extensions", {}).get(INSTANCING, {}).get("attributes")
    if not attributes:
        return [world]
    default = {"TRANSLATION": (0, 0, 0), "ROTATION": (0, 0, 0, 1), "SCALE": (1, 1, 1)}
    stated = default.keys() & attributes.keys()
    if not stated:  # it has attributes of its own only
        return [world]
    columns = {
        name: document.attribute(attributes[name], None, (len(default[name]),)) for name in stated
    }
    count = max((len(values) for values in columns.values()), default=0)
    rows = [columns.get(name, np.tile(value, (count, 1))) for name, value in default.items()]
    return [world @ placement(*row) for row in zip(*rows, strict=True)]


def _part(
    document: Document,
    node: dict[str, Any],
    mesh: dict[str, Any],
    primitive: dict[str, Any],
    transform: np.ndarray,
    worlds: dict[int, np.ndarray],
) -> Primitive:
    attributes = primitive["attributes"]
    weights = node.get("weights", mesh.get("weights", []))
    count = len(document.accessor(attributes["POSITION"]))
    local = _morphed(document, primitive, weights, "POSITION", count, (3,))
    faces = _faces(document, primitive, count)
    if "skin" in node and "JOINTS_0" in attributes:
        vertices = _skinned(document, node["skin"], attributes, local, worlds)
    else:
        vertices = local @ transform[:3, :3].T + transform[:3, 3]
        if np.linalg.det(transform[:3, :3]) < 0:  # a mirrored part is inside out
            faces = faces[:, ::-1]
    material = document.item("materials", primitive["material"]) if "material" in primitive else {}
    uv = np.zeros((count, 2))
    factor, info = looks(material)
    if info is not None and (name := coordinate_set(info)) in attributes:
        uv = _moved(_morphed(document, primitive, weights, name, count, (2,)), info)
    light = np.ones((count, 3)) * np.clip(np.asarray(factor, float)[:3], 0, GLOW_MAX)
    if not shows_glow_alone(material):
        light = np.minimum(light, 1)
        if "COLOR_0" in attributes:  # a factor of the base colour alone (section 3.9.2)
            colour = _morphed(document, primitive, weights, "COLOR_0", count, (3, 4))
            light *= np.clip(colour[:, :3], 0, 1)  # section 3.7.2.1 of the specification
    if not (np.isfinite(uv).all() and np.isfinite(light).all() and np.isfinite(vertices).all()):
        raise ValueError("positions, texture coordinates or colours that are no numbers")
    class_id, instance = _labels(mesh)
    texture = None if info is None else info["index"]
    return Primitive(vertices, faces, uv, light, texture, class_id, instance)


def _labels(mesh: dict[str, Any]) -> tuple[int, int | None]:
    """Class and instance, as `export` writes them; instances are numbered later where none is
    said."""
    stated = mesh.get("extras")
    extras = stated if isinstance(stated, dict) else {}
    label = str(extras.get("class", str(mesh.get("name", "")).split(".")[0]))
    instance = extras.get("instance")
    known = isinstance(instance, int) and 0 <= instance < 2**31
    return CLASSES.index(label) if label in CLASSES else 0, instance if known else None


def _morphed(
    document: Document,
    primitive: dict[str, Any],
    weights: list[float],
    name: str,
    count: int,
    widths: tuple[int, ...],
) -> np.ndarray:
    """f64 [count, width] of an attribute, moved to its morph targets by their weights at rest."""
    values = document.attribute(primitive["attributes"][name], count, widths)
    for weight, target in zip(weights, primitive.get("targets", []), strict=False):
        if weight and name in target:
            values = values + weight * document.attribute(target[name], count, values.shape[1:])
    return values


def _faces(document: Document, primitive: dict[str, Any], count: int) -> np.ndarray:
    """Corners of triangles. A strip turns every other one round."""
    order = np.arange(count)
    if "indices" in primitive:
        order = document.integers(primitive["indices"])
    if len(order) and (order.min() < 0 or order.max() >= count):
        raise ValueError("indices beyond the vertices")
    mode = primitive.get("mode", TRIANGLES)
    if mode == TRIANGLES:
        faces = order[: len(order) // 3 * 3].reshape(-1, 3)
    elif mode == STRIP:
        faces = np.column_stack([order[:-2], order[1:-1], order[2:]])
        faces[1::2] = faces[1::2, [1, 0, 2]]
    else:
        first = np.repeat(order[:1], max(len(order) - 2, 0))
        faces = np.column_stack([first, order[1:-1], order[2:]])
    return faces.astype(np.int32)


def _skinned(
    document: Document,
    index: int,
    attributes: dict[str, int],
    local: np.ndarray,
    worlds: dict[int, np.ndarray],
) -> np.ndarray:
    """Vertices as the joints' own poses place them; the node's transform does not count."""
    skin = document.item("skins", index)
    joints = np.stack([worlds[joint] for joint in skin["joints"]])
    if "inverseBindMatrices" in skin:
        inverse = document.accessor(skin["inverseBindMatrices"]).astype(float)
        joints = joints @ inverse.reshape(-1, 4, 4).transpose(0, 2, 1)[: len(joints)]
    homogeneous = np.column_stack([local, np.ones(len(local))])
    total = np.zeros((len(local), 3))
    for number in range(len(attributes)):
        if f"JOINTS_{number}" not in attributes:
            break
        which = document.attribute(attributes[f"JOINTS_{number}"], len(local), (4,)).astype(int)
        weights = document.attribute(attributes[f"WEIGHTS_{number}"], len(local), (4,))
        if which.min(initial=0) < 0:
            raise ValueError("joints of negative numbers")
        for corner in range(4):
            moved = np.einsum("nij,nj->ni", joints[which[:, corner], :3], homogeneous)
            total += weights[:, corner, None] * moved
    return total


def looks(material: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    """Linear colour factor of a material, and the texture info of the colour or None."""
    if shows_glow_alone(material):
        return glow(material), material.get("emissiveTexture")
    return _base(material)


def _base(material: dict[str, Any]) -> tuple[Any, dict[str, Any] | None]:
    glossiness = material.get("extensions", {}).get(GLOSSINESS)
    if glossiness is not None:
        return glossiness.get("diffuseFactor", (1, 1, 1)), glossiness.get("diffuseTexture")
    metallic = material.get("pbrMetallicRoughness", {})
    return metallic.get("baseColorFactor", (1, 1, 1)), metallic.get("baseColorTexture")


def glow(material: dict[str, Any]) -> np.ndarray:
    """The linear factor of what a material emits; zeros where it emits nothing."""
    extensions = material.get("extensions", {})
    if UNLIT in extensions:  # there only the base colour counts
        return np.zeros(3)
    strength = extensions.get(STRENGTH, {}).get("emissiveStrength", 1.0)
    return strength * np.asarray(material.get("emissiveFactor", (0, 0, 0)), float)


def shows_glow_alone(material: dict[str, Any]) -> bool:
    """Whether a material is black but for what it emits, as baked light and scans are written by
    tools that know no unlit materials."""
    factor, _ = _base(material)
    return bool(glow(material).any()) and not np.asarray(factor, float)[:3].any()


def coordinate_set(info: dict[str, Any]) -> str:
    """Which of the texture coordinates a texture uses; KHR_texture_transform may name another. A
    part without them is drawn in the colour of the texture's corner, as by the readers in use."""
    moved = info.get("extensions", {}).get(TRANSFORM, {})
    return f"TEXCOORD_{moved.get('texCoord', info.get('texCoord', 0))}"


def _moved(uv: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """Texture coordinates [n, 2], moved as KHR_texture_transform says: offset * rotation * scale.

    A positive rotation is counter-clockwise in a picture of the coordinates whose v points down.
    The extension's text, its example of a picture's lower left quarter and the readers in use say
    so; its GLSL listing, read by columns, is the transpose (KhronosGroup/glTF, issue 1563).
    """
    transform = info.get("extensions", {}).get(TRANSFORM, {})
    if not transform:
        single = uv.astype(np.float32)
        # rounded as by readers whose v points up: rooms keep their pixels to the bit
        single[:, 1] = 1 - (1 - single[:, 1])
        return single.astype(float)
    u, v = (uv * transform.get("scale", (1, 1))).T
    angle = transform.get("rotation", 0.0)
    cosine = np.cos(angle)
    sine = np.sin(angle)
    turned = np.column_stack([cosine * u + sine * v, cosine * v - sine * u])
    return turned + np.asarray(transform.get("offset", (0, 0)), float)
