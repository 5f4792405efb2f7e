"""Any form that glTF gives a scene looks as the same scene in plain float32."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mimic.errors import BadInput
from mimic.scenes import base, glb
from mimic.scenes.embree import Embree
from tests.support.gltf_writer import Writer, encoded, save

CORNERS = np.array([[0, 0, 0], [4, 0, 0], [0, 3, 0], [4, 3, 0]], np.float32)  # a wall seen from +z
UV = np.array([[0, 1], [1, 1], [0, 0], [1, 0]], np.float32)
FACES = np.array([0, 1, 2, 1, 3, 2], np.uint16)


def image() -> np.ndarray:
    return np.asarray(
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (64, 64), Image.Resampling.BICUBIC
        )
    )


def document(
    writer: Writer, primitive: dict[str, Any], node: dict[str, Any], form: str = "PNG"
) -> dict[str, Any]:
    view = writer.view(encoded(form, image()))
    return {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, **node}],
        "meshes": [{"primitives": [{"material": 0, **primitive}]}],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": view, "mimeType": f"image/{form.lower()}"}],
    }


def seen(path: Path) -> base.Rendering:
    engine = Embree("auto", 256, 0.0, 1.5)
    engine.load(path)
    return engine.render(np.array([2.1, 1.4, 2.5]), base.heading(0), (64, 64), 80.0)


def plain(path: Path) -> Path:
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    return save(
        path, writer, document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    )


@pytest.mark.parametrize("place", [(12.0, 0.0, -7.0), (500123.37, 120.4, -5400321.29)])
def test_a_scene_in_map_coordinates_keeps_its_shape(
    tmp_path: Path, place: tuple[float, float, float]
) -> None:
    """Positions in the file are small, the node lies where the map has it."""
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    primitive = {"attributes": attributes, "indices": writer.add(FACES)}
    path = save(
        tmp_path / "far.glb", writer, document(writer, primitive, {"translation": list(place)})
    )
    found = glb.read(path, "auto", 64).vertices.astype(float)
    wanted = glb.read(plain(tmp_path / "near.glb"), "auto", 64).vertices.astype(float)
    assert np.abs((found - found[0]) - (wanted - wanted[0])).max() < 1e-3
    is_far = max(map(abs, place)) > glb.NEAR_M
    assert np.abs(found - (0 if is_far else place)).max() < 10


def positions(writer: Writer, form: str, gap: int) -> tuple[int, dict[str, Any]]:
    """The corners in a form, and what the node adds to make them the same."""
    if form == "short":
        return writer.add(np.rint(CORNERS / 4 * 32767).astype("<i2"), gap or 4, normalized=True), {
            "scale": [4, 4, 4]
        }
    if form == "mirrored":
        matrix = np.diag([-1, 1, 1, 1]).ravel().tolist()
        return writer.add(CORNERS * np.array([-1, 1, 1], np.float32), gap), {"matrix": matrix}
    if form == "scaled":
        return writer.add(CORNERS / 2, gap), {"scale": [2, 2, 2]}
    if form == "float":
        return writer.add(CORNERS, gap), {}
    position = writer.add(
        np.where([[True], [True], [False], [True]], CORNERS, 99).astype(np.float32), gap
    )
    where, what = (
        writer.view(np.array([2], np.uint8).tobytes()),
        writer.view(CORNERS[2:3].tobytes()),
    )
    sparse = {
        "count": 1,
        "indices": {"bufferView": where, "componentType": 5121},
        "values": {"bufferView": what},
    }
    writer.accessors[position]["sparse"] = sparse
    return position, {}


def triangles(writer: Writer, mode: str) -> dict[str, Any]:
    if mode == "fan":
        return {"mode": 6, "indices": writer.add(np.array([1, 3, 2, 0], np.uint16))}
    if mode == "strip":
        return {"mode": 5, "indices": writer.add(np.arange(4, dtype=np.uint8))}
    if mode == "strip without indices":
        return {"mode": 5}
    return {"indices": writer.add(FACES.astype(np.uint8 if mode == "bytes" else np.uint32))}


def any_form(path: Path, rng: np.random.Generator) -> tuple[Path, str]:
    """The same wall, written in a way drawn at random."""
    writer, said = Writer(), []

    def one(*choices: str) -> str:
        said.append(str(rng.choice(choices)))
        return said[-1]

    gap = 4 * int(rng.integers(3))
    position, node = positions(writer, one("float", "short", "sparse", "scaled", "mirrored"), gap)
    coordinates = UV
    info: dict[str, Any] = {"index": 0, "texCoord": int(rng.integers(2))}
    moved = one("as is", "transformed", "turned")
    if moved == "transformed":
        coordinates = (UV - 0.25) / np.float32(0.5)
        info["extensions"] = {
            "KHR_texture_transform": {"offset": [0.25, 0.25], "scale": [0.5, 0.5]}
        }
    elif moved == "turned":  # u' = v, v' = -u
        coordinates = np.column_stack([-UV[:, 1], UV[:, 0]]).astype(np.float32)
        info["extensions"] = {"KHR_texture_transform": {"rotation": np.pi / 2}}
    if moved == "as is" and one("float uv", "byte uv") == "byte uv":
        texcoord = writer.add((UV * 255).astype(np.uint8), 4, normalized=True)
    else:
        texcoord = writer.add(coordinates.astype(np.float32), gap)
    attributes = {"POSITION": position, f"TEXCOORD_{info['texCoord']}": texcoord}
    if info["texCoord"]:
        attributes["TEXCOORD_0"] = writer.add(np.zeros((4, 2), np.float32))
    primitive = {
        "attributes": attributes,
        **triangles(writer, one("strip", "fan", "bytes", "ints", "strip without indices")),
    }
    tree = document(writer, primitive, node, one("PNG", "WEBP"))
    if one("metallic", "glossiness") == "glossiness":
        tree["materials"] = [
            {"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": info}}}
        ]
        tree["extensionsRequired"] = [
            "KHR_materials_pbrSpecularGlossiness",
            "KHR_texture_transform",
            "KHR_mesh_quantization",
        ]
    else:
        tree["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": info}}]
    if tree["images"][0]["mimeType"] == "image/webp":
        tree["textures"] = [{"extensions": {"EXT_texture_webp": {"source": 0}}}]
    if one("scene", "no scene", "no scenes") != "scene":
        tree.pop("scene")
        if said[-1] == "no scenes":
            tree.pop("scenes")
    return save(path, writer, tree), ", ".join(said)


@pytest.mark.parametrize("seed", range(60))
def test_every_form_looks_as_the_plain_one(tmp_path: Path, seed: int) -> None:
    wanted = seen(plain(tmp_path / "plain.glb"))
    path, form = any_form(tmp_path / "form.glb", np.random.default_rng(seed))
    got = seen(path)
    assert (wanted.depth_m > 0).mean() > 0.3
    assert wanted.rgb.std() > 20
    same = (wanted.depth_m > 0) == (got.depth_m > 0)
    assert same.mean() > 0.99, form  # the rim, which quantised corners move
    assert np.allclose(wanted.depth_m[same], got.depth_m[same], atol=1e-3), form
    assert np.abs(wanted.rgb[same].astype(int) - got.rgb[same]).mean() < 1.0, form


@pytest.mark.parametrize(
    "name",
    ["NOT_known", "KHR_texture_basisu", "EXT_meshopt_compression", "KHR_draco_mesh_compression"],
)
def test_what_is_required_and_not_honoured_is_named(tmp_path: Path, name: str) -> None:
    path = plain(tmp_path / "plain.glb")
    tree = glb.header(path) | {"extensionsRequired": [name]}
    with pytest.raises(BadInput, match="NOT_known" if name == "NOT_known" else "compressed"):
        glb.refuse_unreadable(path, tree)


def test_an_atlas_of_16384_pixels_is_read_by_whoever_reads_it_first() -> None:
    """Pillow has a bound of its own, which another part of the program takes away: in a process
    that has read no photograph it would still hold."""
    code = """
import io
from PIL import Image
from mimic.scenes import glb

class Document:
    path = "a.glb"
    def item(self, kind, index): return {"bufferView": 0}
    def view(self, index): return memoryview(data), 0

file = io.BytesIO()
Image.new("1", (16384, 16384)).save(file, "PNG")
data = file.getvalue()
print(glb.picture(Document(), 0, 64).shape)
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "(64, 64, 3)\n", done.stderr


def textured(path: Path, form: str, data: bytes) -> Path:
    """The wall with a texture of these bytes."""
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {}, form)
    tree["images"][0]["bufferView"] = writer.view(data)
    return save(path, writer, tree)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "all zeros": lambda data: bytes(len(data)),
    "half, then zeros": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "half": lambda data: data[: len(data) // 2],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_texture_is_named(tmp_path: Path, form: str, damage: str) -> None:
    """Also where a decoder takes what is missing for black."""
    data = encoded(form, image())
    glb.refuse_damaged(textured(tmp_path / "undamaged.glb", form, data))
    path = textured(tmp_path / "a.glb", form, DAMAGE[damage](data))
    with pytest.raises(BadInput, match="damaged .glb .texture image 0"):
        glb.refuse_damaged(path)


@pytest.mark.parametrize(
    ("mode", "column"), [(10497, [0.25, 0.25]), (33071, [1.0, 0.0]), (33648, [0.75, 0.25])]
)
def test_beyond_its_edge_a_texture_goes_on_as_the_sampler_says(
    tmp_path: Path, mode: int, column: list[float]
) -> None:
    writer = Writer()
    attributes = {
        "POSITION": writer.add(CORNERS),
        "TEXCOORD_0": writer.add(np.tile(np.array([1.25, 0.5], np.float32), (4, 1))),
    }
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree |= {
        "samplers": [{"wrapS": mode, "wrapT": mode}],
        "textures": [{"source": 0, "sampler": 0}],
    }
    centre = seen(save(tmp_path / "wrap.glb", writer, tree)).rgb[32, 32]
    left = (
        image()[31:33, min(max(int(column[0] * 64) - 1, 0), 62) :][:, :2]
        .reshape(-1, 3)
        .astype(float)
    )
    if mode == 33071:
        left = image()[31:33, -1].astype(float)
    assert np.abs(centre - left.mean(axis=0)).max() < 12


@pytest.mark.parametrize(("mode", "is_blended"), [(9728, False), (9729, True), (None, True)])
def test_a_texture_is_enlarged_as_the_sampler_says(
    tmp_path: Path, mode: int | None, is_blended: bool
) -> None:
    """A picture of few pixels on a wall keeps their edges, or is smoothed."""
    path = tmp_path / "wall.glb"
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    squares = np.array([[[200, 20, 20], [20, 200, 20]], [[20, 20, 200], [200, 200, 20]]], np.uint8)
    tree["images"] = [{"bufferView": writer.view(encoded("PNG", squares)), "mimeType": "image/png"}]
    tree["samplers"] = [{} if mode is None else {"magFilter": mode}]
    tree["textures"] = [{"source": 0, "sampler": 0}]
    wall = seen(save(path, writer, tree)).rgb[20:44, 20:44].reshape(-1, 3).astype(int)
    apart = np.abs(wall[:, None] - squares.reshape(-1, 3).astype(int)).max(axis=2).min(axis=1)
    assert (apart > 1).any() == is_blended
    seen_squares = {tuple(colour) for colour in wall.tolist()}
    assert is_blended or len(seen_squares) == 4


@pytest.mark.parametrize("extension", glb.BASIS_EXTENSIONS)
def test_a_picture_beside_a_compressed_one_is_taken(tmp_path: Path, extension: str) -> None:
    """As the extension says of readers that do not know it; without one the scene is refused."""
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree["images"].append({"bufferView": writer.view(b"KTX 20"), "mimeType": "image/ktx2"})
    tree["textures"] = [{"source": 0, "extensions": {extension: {"source": 1}}}]
    tree["extensionsUsed"] = [extension]
    path = save(tmp_path / "both.glb", writer, tree)
    assert np.array_equal(seen(path).rgb, seen(plain(tmp_path / "plain.glb")).rgb)
    for alone in ({"source": 1}, {"extensions": {extension: {"source": 1}}}):
        tree["textures"] = [alone]
        with pytest.raises(BadInput, match="Basis-compressed"):
            seen(save(path, writer, tree))


def test_colours_are_linear_factors(tmp_path: Path) -> None:
    writer = Writer()
    colour = writer.add(np.full((4, 4), 65535 // 2, np.uint16), normalized=True)
    attributes = {"POSITION": writer.add(CORNERS), "COLOR_0": colour}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree["materials"] = [{"pbrMetallicRoughness": {"baseColorFactor": [0.5, 1, 1, 1]}}]
    centre = seen(save(tmp_path / "colour.glb", writer, tree)).rgb[32, 32]
    assert centre == pytest.approx(255 * np.array([0.25, 0.5, 0.5]) ** (1 / 2.2), abs=1)
