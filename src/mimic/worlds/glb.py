"""Reading a textured binary glTF (.glb): HM3D, Gibson and Matterport scans, and the rooms that `export` writes.

A bare .glb is taken for z up, as Habitat does; `<name>.stage_config.json` beside it says otherwise (`up`, `front`, `scale`,
`units_to_meters`). Basis-compressed textures are refused: a reader that drops them in silence renders grey walls.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mimic.errors import BadInput
from mimic.worlds.mesh import CLASSES, Mesh

BASIS_EXTENSIONS = ("KHR_texture_basisu", "GOOGLE_texture_basis")
BASIS_TYPES = ("image/x-basis", "image/ktx2")
GREY = np.full((1, 1, 3), 255, np.uint8)  # the texture of untextured parts; their colour is in `light`


def read(path: Path, up: Literal["y", "z", "auto"], texture_max_px: int) -> Mesh:
    """Flatten a scene into one mesh.

    Args:
        path: the .glb file.
        up: the file's upward axis; auto = its stage_config.json, and z without one.
        texture_max_px: larger textures are scaled down to this side.

    Raises:
        BadInput: not a .glb, damaged, without triangles, or compressed in a way that nothing here reads.
    """
    import trimesh

    refuse_unreadable(path, header(path))
    try:
        scene = trimesh.load_scene(path, file_type="glb", process=False)
        names = sorted(scene.graph.nodes_geometry, key=lambda node: (scene.graph[node][1], scene.graph[node][0].tobytes()))
        parts = [_Part(scene.geometry[geometry], transform, str(geometry)) for transform, geometry in (scene.graph[node] for node in names)]
    except BadInput:
        raise
    except Exception as error:  # trimesh raises whatever the damage leads to
        raise BadInput(f"{path}: damaged .glb ({type(error).__name__}: {error}); fetch it again") from None
    parts = [part for part in parts if len(part.faces)]
    if not parts:
        raise BadInput(f"{path}: no triangles in this .glb; it is no scene")
    return _join(parts, world_from_file(path, up), texture_max_px)


def header(path: Path) -> dict[str, Any]:
    """The JSON part of a .glb; BadInput when it is not one or shorter than it claims."""
    with path.open("rb") as file:
        start = file.read(20)
        if len(start) < 20 or start[:4] != b"glTF":
            raise BadInput(f"{path}: not a .glb file (no glTF mark at its start)")
        version, total, length, kind = struct.unpack("<III4s", start[4:])
        size = path.stat().st_size
        if version != 2 or kind != b"JSON":
            raise BadInput(f"{path}: glTF version {version} is not read; convert it to version 2")
        if size < total:
            raise BadInput(f"{path}: cut short, {size} of {total} bytes; fetch it again")
        try:
            tree = json.loads(file.read(length))
        except ValueError:
            raise BadInput(f"{path}: damaged .glb (its JSON part does not parse); fetch it again") from None
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: damaged .glb (its JSON part is no object); fetch it again")
    return tree


def refuse_unreadable(path: Path, tree: dict[str, Any]) -> None:
    """BadInput for textures or geometry in a compression that would be dropped in silence. Names say nothing: look inside."""
    used = set(tree.get("extensionsUsed", [])) | set(tree.get("extensionsRequired", []))
    used |= {name for texture in tree.get("textures", []) for name in texture.get("extensions", {})}
    types = {image.get("mimeType") for image in tree.get("images", [])}
    if used & set(BASIS_EXTENSIONS) or types & set(BASIS_TYPES):
        raise BadInput(
            f"{path}: its textures are Basis-compressed, which the embedded engine cannot read; either set `engine: habitat`, "
            "or use the plain .glb release of these scenes (HM3D: hm3d_*_glb), or convert the textures to JPEG"
        )
    if "EXT_meshopt_compression" in used:
        raise BadInput(f"{path}: its geometry is meshopt-compressed, which is not read; write it again uncompressed")
    if "KHR_draco_mesh_compression" in used:
        try:
            import DracoPy  # noqa: F401
        except ImportError:
            raise BadInput(f"{path}: its geometry is Draco-compressed; pip install DracoPy, or write it again uncompressed") from None


def world_from_file(path: Path, up: Literal["y", "z", "auto"]) -> np.ndarray:
    """The 3x3 matrix from a file's axes and units to metres, y up, -z forward."""
    config_path = path.with_name(f"{path.stem}.stage_config.json")
    config: dict[str, Any] = {}
    if config_path.exists():
        try:
            config = json.loads(config_path.read_text())
        except ValueError:
            raise BadInput(f"{config_path}: not valid JSON") from None
    upward, front = {"y": ([0, 1, 0], [0, 0, -1]), "z": ([0, 0, 1], [0, 1, 0])}["z" if up == "auto" else up]
    if up == "auto":
        upward, front = config.get("up", upward), config.get("front", front)
    try:
        basis = np.array([np.cross(front, upward), upward, -np.asarray(front, float)], float)
        scale = np.broadcast_to(np.asarray(config.get("scale", 1.0), float), 3) * float(config.get("units_to_meters", 1.0))
        if not np.allclose(basis @ basis.T, np.eye(3), atol=1e-3):
            raise ValueError
    except ValueError:
        raise BadInput(f"{config_path}: `up` and `front` must be perpendicular unit vectors, `scale` three numbers") from None
    return basis * scale


class _Part:
    """One primitive of one node, in the file's axes."""

    def __init__(self, geometry: Any, transform: np.ndarray, name: str) -> None:
        self.faces = np.asarray(getattr(geometry, "faces", np.empty((0, 3))), np.int32)  # points and lines have none
        self.vertices = np.asarray(geometry.vertices, np.float64) @ transform[:3, :3].T + transform[:3, 3]
        if np.linalg.det(transform[:3, :3]) < 0:  # a mirrored part is inside out
            self.faces = self.faces[:, ::-1]
        visual = getattr(geometry, "visual", None)
        material = getattr(visual, "material", None)
        self.image = getattr(material, "baseColorTexture", None)
        uv = getattr(visual, "uv", None)
        if uv is None:
            self.image, uv = None, np.zeros((len(self.vertices), 2))
        self.uv = np.column_stack([uv[:, 0], 1 - uv[:, 1]])  # trimesh turned v upwards
        self.light = _light(visual, material, len(self.vertices))
        extras = getattr(geometry, "metadata", {})
        label = str(extras.get("class", name.split(".")[0]))
        self.class_id = CLASSES.index(label) if label in CLASSES else 0
        self.instance = int(extras["instance"]) if isinstance(extras.get("instance"), int) else None


def _light(visual: Any, material: Any, count: int) -> np.ndarray:
    """Vertex colours times the material's factor, linear, 0..1."""
    light = np.ones((count, 3))
    factor = getattr(material, "baseColorFactor", None)
    if factor is not None:
        light *= _unit(np.asarray(factor))[:3]
    attributes = getattr(visual, "vertex_attributes", None) or {}
    colours = attributes.get("color") if material is not None else getattr(visual, "vertex_colors", None)
    if colours is not None and len(colours) == count:
        light *= _unit(np.asarray(colours))[:, :3]
    return light


def _unit(values: np.ndarray) -> np.ndarray:
    """Integers are shares of their type's maximum."""
    return values / np.iinfo(values.dtype).max if np.issubdtype(values.dtype, np.integer) else values.astype(float)


def _join(parts: list[_Part], to_world: np.ndarray, texture_max_px: int) -> Mesh:
    textures: list[np.ndarray] = []
    places: dict[int | None, int] = {}
    for part in parts:
        key = None if part.image is None else id(part.image)
        if key not in places:
            places[key] = len(textures)
            textures.append(GREY if part.image is None else _texture(part.image, texture_max_px))
    counts = np.array([len(part.faces) for part in parts])
    first = np.concatenate([[0], np.cumsum([len(part.vertices) for part in parts])[:-1]])
    faces = np.concatenate([part.faces + start for part, start in zip(parts, first, strict=True)])
    if np.linalg.det(to_world) < 0:
        faces = faces[:, ::-1]
    numbered = [index + 1 if part.instance is None else part.instance for index, part in enumerate(parts)]
    texture = [places[None if part.image is None else id(part.image)] for part in parts]
    return Mesh(
        vertices=(np.concatenate([part.vertices for part in parts]) @ to_world.T).astype(np.float32),
        uv=np.concatenate([part.uv for part in parts]).astype(np.float32),
        light=np.concatenate([part.light for part in parts]).astype(np.float32),
        faces=np.ascontiguousarray(faces, np.int32),
        texture=np.repeat(np.array(texture, np.int32), counts),
        class_id=np.repeat(np.array([part.class_id for part in parts], np.int32), counts),
        instance=np.repeat(np.array(numbered, np.int32), counts),
        textures=tuple(textures),
    )


def _texture(image: Any, texture_max_px: int) -> np.ndarray:
    """A PIL image as RGB, scaled down to fit."""
    image = image.convert("RGB")
    image.thumbnail((texture_max_px, texture_max_px))
    return np.ascontiguousarray(np.asarray(image))
