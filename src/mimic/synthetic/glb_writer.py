"""Writing a mesh as a binary glTF (.glb) with JPEG textures inside: the same mesh gives the same
bytes.

One node and one mesh an object; its class is in the node's name (`sofa.17`) and in the mesh's
`extras`, so labels survive.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import cv2
import numpy as np

from mimic.scenes.mesh import CLASSES, Mesh

JPEG_QUALITY = 88
FLOAT = 5126
UNSIGNED_INT = 5125
UNSIGNED_SHORT = 5123
ARRAY_BUFFER = 34962
ELEMENT_BUFFER = 34963


class _Buffer:
    """The binary part, with the tables that describe it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def view(self, data: bytes, target: int | None) -> int:
        self.data += b"\0" * (-len(self.data) % 4)
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        if target is not None:
            view["target"] = target
        self.data += data
        self.views.append(view)
        return len(self.views) - 1

    def accessor(
        self, array: np.ndarray, component: int, kind: str, target: int, **extra: Any
    ) -> int:
        view = self.view(np.ascontiguousarray(array).tobytes(), target)
        self.accessors.append(
            {
                "bufferView": view,
                "componentType": component,
                "count": len(array),
                "type": kind,
                **extra,
            }
        )
        return len(self.accessors) - 1


def to_glb(mesh: Mesh) -> bytes:
    """The file's bytes; y up. Habitat takes a bare .glb for z up: write `stage_config` beside
    it."""
    buffer = _Buffer()
    images = [_image(buffer, texture) for texture in mesh.textures]
    nodes: list[dict[str, Any]] = []
    meshes: list[dict[str, Any]] = []
    for instance in np.unique(mesh.instance):
        mine = mesh.instance == instance
        name = CLASSES[int(mesh.class_id[mine][0])]
        primitives = [
            _primitive(buffer, mesh, np.flatnonzero(mine & (mesh.texture == texture)), int(texture))
            for texture in np.unique(mesh.texture[mine])
        ]
        nodes.append({"name": f"{name}.{instance}", "mesh": len(meshes)})
        meshes.append(
            {
                "name": f"{name}.{instance}",
                "primitives": primitives,
                "extras": {"class": name, "instance": int(instance)},
            }
        )
    tree = {
        "asset": {"version": "2.0", "generator": "mimic"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": meshes,
        "materials": [
            {
                "pbrMetallicRoughness": {"baseColorTexture": {"index": k}, "metallicFactor": 0.0},
                "extensions": {"KHR_materials_unlit": {}},
            }
            for k in range(len(images))
        ],
        "textures": [{"source": k, "sampler": 0} for k in range(len(images))],
        "images": images,
        "samplers": [{"magFilter": 9729, "minFilter": 9987}],  # linear, trilinear; repeats
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    return _container(json.dumps(tree, separators=(",", ":")).encode(), bytes(buffer.data))


def stage_config(asset: str) -> dict[str, Any]:
    """What Habitat reads beside `asset`, a file of `to_glb`: y is up, no lights but the baked."""
    return {
        "render_asset": asset,
        "up": [0, 1, 0],
        "front": [0, 0, -1],
        "shader_type": "flat",
        "units_to_meters": 1.0,
    }


def _image(buffer: _Buffer, texture: np.ndarray) -> dict[str, Any]:
    _, encoded = cv2.imencode(".jpg", texture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return {"bufferView": buffer.view(encoded.tobytes(), None), "mimeType": "image/jpeg"}


def _primitive(buffer: _Buffer, mesh: Mesh, faces: np.ndarray, texture: int) -> dict[str, Any]:
    used, indices = np.unique(mesh.faces[faces], return_inverse=True)
    positions = mesh.vertices[used]
    low, high = (
        bound.astype(float).tolist() for bound in (positions.min(axis=0), positions.max(axis=0))
    )
    light = np.column_stack([np.rint(mesh.light[used] * 65535), np.full(len(used), 65535)]).astype(
        np.uint16
    )
    return {
        "attributes": {
            "POSITION": buffer.accessor(positions, FLOAT, "VEC3", ARRAY_BUFFER, min=low, max=high),
            "TEXCOORD_0": buffer.accessor(mesh.uv[used], FLOAT, "VEC2", ARRAY_BUFFER),
            "COLOR_0": buffer.accessor(
                light, UNSIGNED_SHORT, "VEC4", ARRAY_BUFFER, normalized=True
            ),
        },
        "indices": buffer.accessor(
            indices.reshape(-1).astype(np.uint32), UNSIGNED_INT, "SCALAR", ELEMENT_BUFFER
        ),
        "material": texture,
    }


def _container(tree: bytes, binary: bytes) -> bytes:
    tree += b" " * (-len(tree) % 4)
    binary += b"\0" * (-len(binary) % 4)
    total = 12 + 8 + len(tree) + 8 + len(binary)
    return b"".join(
        [struct.pack("<4sII", b"glTF", 2, total), struct.pack("<I4s", len(tree), b"JSON"), tree]
        + [struct.pack("<I4s", len(binary), b"BIN\0"), binary]
    )
