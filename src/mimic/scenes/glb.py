"""Reading a textured binary glTF (.glb) into one mesh: your scenes, HM3D, Gibson and Matterport
scans, and the rooms of `export`.

What changes the shape or the colour is honoured, or refused by name: a reader that drops it in
silence renders white walls. Drawn as they are at rest: skins and morph targets. Drawn opaque:
masked, blended and clear materials (`remarks` counts them). Drawn in what it emits: a material that
is black but for that. Both sides of every triangle are drawn; of two with the same corners, the
one that faces the camera. Lights, cameras, points and lines are not. Which way is up, axes.py
decides.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput
from mimic.infra import endings
from mimic.scenes import axes
from mimic.scenes.axes import DefaultUp, Up
from mimic.scenes.gltf import DAMAGE, VISIBILITY, Document, damage_named, header, shown
from mimic.scenes.mesh import Mesh, Wrap
from mimic.scenes.primitives import (
    Primitive,
    coordinate_set,
    glow,
    looks,
    parts,
    shows_glow_alone,
)

__all__ = ["header", "read", "refuse_unreadable", "remarks"]

TEXTURE_PIXELS_MAX = 300_000_000  # 16384 x 16384, which most GPUs bound textures by, is below
BASIS_EXTENSIONS = ("KHR_texture_basisu", "GOOGLE_texture_basis")
BASIS_TYPES = ("image/x-basis", "image/ktx2")
WEBP = "EXT_texture_webp"
COMPRESSED = {"EXT_meshopt_compression": "meshopt", "KHR_draco_mesh_compression": "Draco"}
HONOURED = {
    "KHR_mesh_quantization",
    "KHR_texture_transform",
    "KHR_materials_pbrSpecularGlossiness",
    "EXT_mesh_gpu_instancing",
    VISIBILITY,
    WEBP,
}
# They change how light is reflected, or add lights: nothing that an unlit picture shows.
WITHOUT_EFFECT = {
    "KHR_lights_punctual",
    "KHR_materials_unlit",
    "KHR_materials_variants",
    "KHR_xmp_json_ld",
} | {
    f"KHR_materials_{name}"
    for name in (
        "anisotropy",
        "clearcoat",
        "dispersion",
        "emissive_strength",
        "ior",
        "iridescence",
        "sheen",
        "specular",
    )
}
TRANSMISSIONS = {
    "KHR_materials_transmission": "transmissionFactor",
    "KHR_materials_diffuse_transmission": "diffuseTransmissionFactor",
}
CORNERS_MAX = 60_000_000  # vertices, or triangles, of a scene: some 10 GB
REACH_MAX = 1e9  # metres, or lengths of a texture: products of so many still fit a float32
NEAR_M = 1000.0  # a scene that lies further from its origin is moved there
UNCOMPRESSED = "write it again without, for example with Blender (export without compression)"
WRAPS: dict[int, Wrap] = {10497: "repeat", 33071: "clamp", 33648: "mirror"}
NEAREST = 9728
WHITE = np.full(
    (1, 1, 3), 255, np.uint8
)  # the texture of untextured parts; their colour is in `light`


def read(path: Path, up: Up, texture_max_px: int, default_up: DefaultUp = "y") -> Mesh:
    """Flatten a scene into one mesh.

    Args:
        path: the .glb file.
        up, default_up: the file's upward axis; see axes.resolve.
        texture_max_px: larger textures are scaled down to this side.

    Raises:
        BadInput: not a .glb, damaged, without triangles, or written in a way that nothing here
            reads.
    """
    refuse_unreadable(path, header(path))
    world_from_file = axes.resolve(path, up, default_up).world_from_file
    with damage_named(path):
        document = Document(path)
        primitives = _bounded(parts(document))
        if not primitives:
            raise BadInput(f"{path}: no triangles in this .glb; it is no scene")
        return _join(primitives, world_from_file, _Textures(document, texture_max_px))


def _bounded(parts: Iterable[Primitive]) -> list[Primitive]:
    """All parts, of a number that memory holds: few bytes can place a mesh any number of times."""
    primitives: list[Primitive] = []
    corners = 0
    for part in parts:
        corners += max(len(part.vertices), len(part.faces))
        if corners > CORNERS_MAX:
            raise ValueError(f"more than {CORNERS_MAX} vertices or triangles")
        primitives.append(part)
    return primitives


def refuse_unreadable(path: Path, tree: dict[str, Any]) -> None:
    """BadInput for what would be drawn wrong. Names say nothing: look inside."""
    with damage_named(path):
        required = set(tree.get("extensionsRequired", []))
        used = _used(tree)
        basis = set(BASIS_EXTENSIONS)
        if required & basis or _basis_alone(tree):
            raise BadInput(
                f"{path}: its textures are Basis-compressed, which the embedded engine cannot "
                "read; "
                "either set `engine: habitat`, or use the plain .glb release of these scenes "
                "(HM3D: hm3d_*_glb), or convert the textures to JPEG"
            )
        for extension, name in COMPRESSED.items():
            if extension in used:
                problem = f"its geometry is {name}-compressed, which is not read"
                raise BadInput(f"{path}: {problem}; {UNCOMPRESSED}")
        unknown = sorted(required - HONOURED - WITHOUT_EFFECT - basis)
        if unknown:
            names = shown(", ".join(unknown))
            problem = f"requires {names}, which is not read here"
            raise BadInput(f"{path}: {problem}; write it again without")


def remarks(path: Path, tree: dict[str, Any]) -> Iterator[str]:
    """What `read` draws otherwise than a renderer with lights would, or not at all.

    Raises:
        BadInput: the materials or meshes are damaged.
    """
    with damage_named(path):
        materials = tree.get("materials", [])
        clear = sum(map(_lets_light_through, materials))
        glowing = [material for material in materials if glow(material).any()]
        alone = sum(map(shows_glow_alone, glowing))
        primitives = [part for mesh in tree.get("meshes", []) for part in mesh["primitives"]]
        thin = sum(part.get("mode", 4) < 4 for part in primitives)
        bare = sum(_lacks_coordinates(part, materials) for part in primitives)
        scenes = len(tree.get("scenes", []))
        unknown = sorted(_used(tree) - HONOURED - WITHOUT_EFFECT - TRANSMISSIONS.keys())
    if clear:
        yield f"of {len(materials)} materials {clear} let light through, drawn opaque"
    if lit := len(glowing) - alone:
        yield f"of {len(materials)} materials {lit} glow, drawn in their base colour"
    if thin:
        yield f"of {len(primitives)} parts {thin} are points or lines, not drawn"
    if bare:
        yield (
            f"of {len(primitives)} parts {bare} have a texture and no coordinates on it, drawn in "
            "one colour"
        )
    if scenes > 1:
        yield f"of {scenes} scenes in the file one is drawn"
    if unknown:
        yield f"drawn without {shown(', '.join(unknown))}, which it uses and which is not read here"


def _lacks_coordinates(primitive: dict[str, Any], materials: list[dict[str, Any]]) -> bool:
    number: Any = primitive.get("material")
    if number not in range(len(materials)):
        return False  # of none, or named as damaged where it is drawn
    _, info = looks(materials[number])
    return info is not None and coordinate_set(info) not in primitive.get("attributes", {})


def _lets_light_through(material: dict[str, Any]) -> bool:
    if material.get("alphaMode", "OPAQUE") != "OPAQUE":
        return True
    extensions = material.get("extensions", {})
    return any(extensions.get(name, {}).get(key, 0) > 0 for name, key in TRANSMISSIONS.items())


def _used(tree: dict[str, Any]) -> set[str]:
    """Extensions that a tree lists, and those at work in its geometry, listed or not."""
    primitives = [part for mesh in tree.get("meshes", []) for part in mesh["primitives"]]
    elements = [*primitives, *tree.get("bufferViews", [])]
    at_work = {name for element in elements for name in element.get("extensions", {})}
    return at_work | set(tree.get("extensionsUsed", [])) | set(tree.get("extensionsRequired", []))


def _basis_alone(tree: dict[str, Any]) -> bool:
    """Whether a texture has no other form beside it, which a reader without the extension takes."""
    basis = set(BASIS_EXTENSIONS)
    kinds = [image.get("mimeType") for image in tree.get("images", [])]
    for texture in tree.get("textures", []):
        if "source" not in texture and basis & set(texture.get("extensions", {})):
            return True
        if texture.get("source") in range(len(kinds)) and kinds[texture["source"]] in BASIS_TYPES:
            return True
    return False


def refuse_damaged(path: Path) -> None:
    """BadInput for what `read` would refuse that only the parts show: geometry and textures that
    are not whole."""
    read(path, "auto", texture_max_px=64)


class _Textures:
    """The textures in use, each image, way to repeat and way to be enlarged once."""

    def __init__(self, document: Document, max_px: int) -> None:
        self.path = document.path
        self._document = document
        self._max_px = max_px
        self._places: dict[Any, int] = {}
        self.pictures: list[np.ndarray] = []
        self.wraps: list[tuple[Wrap, Wrap]] = []
        self.nearest: list[bool] = []

    def insert(self, texture: int | None) -> int:
        """The number of a texture in `pictures`."""
        if texture is None:
            return self._add(None, ("repeat", "repeat"), nearest=False)
        entry = self._document.item("textures", texture)
        sampler = self._document.item("samplers", entry["sampler"]) if "sampler" in entry else {}
        wrap = (WRAPS[sampler.get("wrapS", 10497)], WRAPS[sampler.get("wrapT", 10497)])
        nearest = sampler.get("magFilter") == NEAREST
        forms = entry.get("extensions", {})
        source = forms.get(WEBP, {}).get("source", entry.get("source"))
        if source is None:
            names = shown(", ".join(sorted(forms)))
            problem = f"is {names} alone, which is not read" if names else "has no image"
            raise BadInput(
                f"{self.path}: texture {texture} {problem}; write the file again with PNG or JPEG"
            )
        return self._add(source, wrap, nearest)

    def _add(self, image: int | None, wrap: tuple[Wrap, Wrap], nearest: bool) -> int:
        if (image, wrap, nearest) not in self._places:
            self._places[image, wrap, nearest] = len(self.pictures)
            self.pictures.append(
                WHITE if image is None else picture(self._document, image, self._max_px)
            )
            self.wraps.append(wrap)
            self.nearest.append(nearest)
        return self._places[image, wrap, nearest]


def picture(document: Document, index: int, max_px: int) -> np.ndarray:
    """An image as RGB, scaled down to fit; BadInput when it is damaged."""
    from PIL import Image

    entry = document.item("images", index)
    data = document.fetch(entry["uri"]) if "uri" in entry else document.view(entry["bufferView"])[0]
    # Pillow's bound is lower, and one for a whole process; that of a texture follows.
    Image.MAX_IMAGE_PIXELS = None
    source = io.BytesIO(data)
    try:
        with Image.open(source) as file:
            if file.width * file.height > TEXTURE_PIXELS_MAX:
                raise OSError(f"{file.width} x {file.height} pixels")
            file.load()
            if lacking := endings.lacking(source, file.format):
                raise OSError(lacking)
            image: Image.Image = file
            if image.mode.startswith("I"):  # 16 bits: Pillow would cut off what is above 255
                image = Image.fromarray(
                    (np.asarray(image, np.float64) / 257 + 0.5).astype(np.uint8)
                )
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError, *DAMAGE) as error:
        problem = shown(error).partition(" <")[0] or type(error).__name__
        raise BadInput(
            f"{document.path}: damaged .glb (texture image {index}: {problem}); fetch it again"
        ) from None
    rgb.thumbnail((max_px, max_px))
    return np.ascontiguousarray(np.asarray(rgb))


def _far_origin(vertices: np.ndarray) -> np.ndarray:
    """Where a scene that lies in map coordinates lies, in whole metres; 0 of others.

    Single floats, which rays are cast in, lie half a metre apart at the coordinates of a map, and
    0.06 mm within a kilometre. Half of the corners lie on either side of the median: a stray one
    does not move it.
    """
    middle = np.rint(np.median(vertices, axis=0))
    return middle if np.abs(middle).max() > NEAR_M else np.zeros(3)


def _join(primitives: list[Primitive], to_world: np.ndarray, textures: _Textures) -> Mesh:
    counts = np.array([len(part.faces) for part in primitives])
    first = np.concatenate([[0], np.cumsum([len(part.vertices) for part in primitives])[:-1]])
    faces = np.concatenate(
        [part.faces + start for part, start in zip(primitives, first, strict=True)]
    )
    if np.linalg.det(to_world) < 0:
        faces = faces[:, ::-1]
    numbered = [
        index + 1 if part.instance is None else part.instance
        for index, part in enumerate(primitives)
    ]
    texture = [textures.insert(part.texture) for part in primitives]
    vertices = np.concatenate([part.vertices for part in primitives]) @ to_world.T
    uv = np.concatenate([part.uv for part in primitives])
    if np.abs(uv).max() > REACH_MAX:
        raise ValueError(f"texture coordinates beyond {REACH_MAX:g}")
    far_m = float(np.abs(vertices).max())
    if not far_m <= REACH_MAX:
        raise BadInput(
            f"{textures.path}: corners {far_m:.3g} m away, more than {REACH_MAX:g} m; is the file "
            "damaged, or its unit not the metre?"
        )
    return Mesh(
        vertices=(vertices - _far_origin(vertices)).astype(np.float32),
        uv=uv.astype(np.float32),
        light=np.concatenate([part.light for part in primitives]).astype(np.float32),
        faces=np.ascontiguousarray(faces, np.int32),
        texture=np.repeat(np.array(texture, np.int32), counts),
        class_id=np.repeat(np.array([part.class_id for part in primitives], np.int32), counts),
        instance=np.repeat(np.array(numbered, np.int32), counts),
        textures=tuple(textures.pictures),
        wraps=tuple(textures.wraps),
        nearest=tuple(textures.nearest),
    )
