"""Materials whose looks an unlit picture shows otherwise than a renderer with lights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.scenes import glb, gltf
from mimic.scenes.base import Rendering, heading
from mimic.scenes.embree import Embree
from mimic.scenes.shading.mipmaps import Mipmaps
from mimic.scenes.shading.twins import Twins
from tests.scenes.test_gltf_features import CORNERS, FACES, UV, document, plain, seen
from tests.support.gltf_writer import Writer, save

TEXTURE = {"index": 0}
GLOW = {"emissiveFactor": [1, 1, 1], "emissiveTexture": TEXTURE}
BLACK = {"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}}


def wall(path: Path, *materials: dict[str, Any]) -> Path:
    """The wall of `plain`, in the first of these materials."""
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree["materials"] = list(materials)
    return save(path, writer, tree)


def _noted(path: Path) -> list[str]:
    return list(glb.remarks(path, glb.header(path)))


@pytest.fixture
def wanted(tmp_path: Path) -> Rendering:
    return seen(plain(tmp_path / "plain.glb"))


@pytest.mark.parametrize(
    "base",
    [
        BLACK,
        {"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": [0, 0, 0, 1]}}},
        {"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1], "baseColorTexture": TEXTURE}},
    ],
)
def test_what_is_black_but_for_its_glow_is_drawn_in_it(
    tmp_path: Path, wanted: Rendering, base: dict[str, Any]
) -> None:
    path = wall(tmp_path / "baked.glb", base | GLOW)
    assert wanted.rgb.std() > 20
    assert np.array_equal(seen(path).rgb, wanted.rgb)
    assert _noted(path) == []


@pytest.mark.parametrize(("strength", "level"), [(1.0, 0.25), (2.0, 0.5), (10.0, 1.0)])
def test_the_strength_of_a_glow_is_a_factor(tmp_path: Path, strength: float, level: float) -> None:
    emission = {"KHR_materials_emissive_strength": {"emissiveStrength": strength}}
    material = BLACK | {"emissiveFactor": [0.25, 0.25, 0.25], "extensions": emission}
    centre = seen(wall(tmp_path / "lamp.glb", material)).rgb[32, 32]
    assert centre == pytest.approx(255 * level ** (1 / 2.2), abs=1)


@pytest.mark.parametrize("level", [0.0, 0.1])
def test_colours_of_corners_do_not_dim_a_glow(
    tmp_path: Path, wanted: Rendering, level: float
) -> None:
    """They are a factor of the base colour (section 3.9.2)."""
    writer = Writer()
    attributes = {
        "POSITION": writer.add(CORNERS),
        "TEXCOORD_0": writer.add(UV),
        "COLOR_0": writer.add(np.full((4, 3), level, np.float32)),
    }
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree["materials"] = [BLACK | GLOW]
    path = save(tmp_path / "baked.glb", writer, tree)
    assert np.array_equal(seen(path).rgb, wanted.rgb)


def test_a_glow_is_stronger_than_its_texture(tmp_path: Path, wanted: Rendering) -> None:
    """It is cut off at white after the product with the texture, not before."""
    emission = {"KHR_materials_emissive_strength": {"emissiveStrength": 2.0}}
    path = wall(tmp_path / "lamp.glb", BLACK | GLOW | {"extensions": emission})
    brighter = np.minimum(wanted.rgb * 2 ** (1 / 2.2), 255)
    assert (brighter < 250).mean() > 0.2
    assert np.abs(seen(path).rgb - brighter).max() <= 1.5  # both are rounded


def test_of_an_unlit_material_the_base_colour_counts_alone(tmp_path: Path) -> None:
    unlit = BLACK | GLOW | {"extensions": {"KHR_materials_unlit": {}}}
    path = wall(tmp_path / "unlit.glb", unlit)
    assert not seen(path).rgb[32, 32].any()
    assert _noted(path) == []


def test_what_lights_would_change_is_counted(tmp_path: Path, wanted: Rendering) -> None:
    shown = {"pbrMetallicRoughness": {"baseColorTexture": TEXTURE}}
    path = wall(
        tmp_path / "many.glb",
        shown | {"alphaMode": "BLEND", "emissiveFactor": [1, 0, 0]},
        shown | {"alphaMode": "MASK"},
        shown | {"alphaMode": "OPAQUE", "emissiveFactor": [0, 0, 0]},
    )
    assert np.array_equal(seen(path).rgb, wanted.rgb)
    assert _noted(path) == [
        "of 3 materials 2 let light through, drawn opaque",
        "of 3 materials 1 glow, drawn in their base colour",
    ]


def test_glass_lines_and_other_scenes_are_counted(tmp_path: Path) -> None:
    clear = {"extensions": {"KHR_materials_transmission": {"transmissionFactor": 1.0}}}
    opaque = {"extensions": {"KHR_materials_transmission": {"transmissionFactor": 0.0}}}
    path = wall(tmp_path / "glass.glb", clear, opaque)
    assert _noted(path) == ["of 2 materials 1 let light through, drawn opaque"]
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree["materials"] = [{}]
    tree["meshes"][0]["primitives"].append({"attributes": attributes, "mode": 1})
    tree["scenes"].append({"nodes": []})
    assert _noted(save(tmp_path / "more.glb", writer, tree)) == [
        "of 2 parts 1 are points or lines, not drawn",
        "of 2 scenes in the file one is drawn",
    ]


@pytest.mark.parametrize("is_above", [False, True])
@pytest.mark.parametrize("is_required", [False, True])
def test_hidden_nodes_are_not_drawn(
    tmp_path: Path, wanted: Rendering, is_above: bool, is_required: bool
) -> None:
    """Nor what is below them (KHR_node_visibility)."""
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    hidden = {"extensions": {"KHR_node_visibility": {"visible": False}}}
    pane = {"mesh": 0, "translation": [0, 0, 1]}
    tree["nodes"] += [hidden | {"children": [2]}, pane] if is_above else [hidden | pane]
    tree["scenes"][0]["nodes"].append(1)
    tree["extensionsRequired" if is_required else "extensionsUsed"] = ["KHR_node_visibility"]
    path = save(tmp_path / "hidden.glb", writer, tree)
    assert np.array_equal(seen(path).rgb, wanted.rgb)
    tree["nodes"][1].pop("extensions")
    tree.pop("extensionsRequired", None)
    assert not np.array_equal(seen(save(path, writer, tree)).rgb, wanted.rgb)


def test_a_part_without_coordinates_does_not_end_the_scene(
    tmp_path: Path, wanted: Rendering
) -> None:
    """It is drawn in one colour, behind the wall that has them."""
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    faces = writer.add(FACES)
    tree = document(writer, {"attributes": attributes, "indices": faces}, {})
    bare = {"attributes": {"POSITION": attributes["POSITION"]}, "indices": faces, "material": 0}
    tree["meshes"].append({"primitives": [bare]})
    tree["nodes"].append({"mesh": 1, "translation": [0, 0, -3]})
    tree["scenes"][0]["nodes"].append(1)
    path = save(tmp_path / "bare.glb", writer, tree)
    rendered = seen(path).rgb
    near = wanted.depth_m > 0
    assert near.any()
    assert np.array_equal(rendered[near], wanted.rgb[near])
    noted = "of 2 parts 1 have a texture and no coordinates on it, drawn in one colour"
    assert _noted(path) == [noted]


def test_textures_may_be_links_into_a_store(tmp_path: Path, wanted: Rendering) -> None:
    """As DVC and git-annex lay them out."""
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    document_of = glb.Document(save(tmp_path / "packed.glb", writer, tree))
    picture, _ = document_of.view(tree["images"][0].pop("bufferView"))
    (tmp_path / "store").mkdir()
    (tmp_path / "store/1f00").write_bytes(picture)
    tree["images"][0].pop("mimeType", None)
    tree["images"][0]["uri"] = "maps/wall.png"
    (tmp_path / "scene/maps").mkdir(parents=True)
    (tmp_path / "scene/maps/wall.png").symlink_to(tmp_path / "store/1f00")
    path = save(tmp_path / "scene/wall.glb", writer, tree)
    assert np.array_equal(seen(path).rgb, wanted.rgb)
    assert gltf.files_beside(path) == [tmp_path / "scene/maps/wall.png"]


# Corners of the side that is seen from behind, as permutations of those of the front.
@pytest.mark.parametrize("turn", [[0, 2, 1], [2, 1, 0], [1, 0, 2]])
@pytest.mark.parametrize("is_front_first", [True, False])
def test_a_wall_shows_the_side_that_faces_the_camera(
    tmp_path: Path, wanted: Rendering, turn: list[int], is_front_first: bool
) -> None:
    """Two triangles in each place, with a material each, whichever comes first in the file."""
    writer = Writer()
    shown = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    front = {"attributes": shown, "indices": writer.add(FACES), "material": 0}
    behind = np.ascontiguousarray(FACES.reshape(2, 3)[::-1, turn]).ravel()
    mirrored = {"POSITION": shown["POSITION"], "TEXCOORD_0": writer.add(UV[[1, 0, 3, 2]])}
    back = {"attributes": mirrored, "indices": writer.add(behind), "material": 0}
    tree = document(writer, front, {})
    tree["meshes"][0]["primitives"] = [front, back] if is_front_first else [back, front]
    path = save(tmp_path / "wall.glb", writer, tree)
    assert np.abs(seen(path).rgb.astype(int) - wanted.rgb).max() <= 1
    engine = Embree("auto", 256, 0.0, 1.5)
    engine.load(path)
    # from as far behind it and as far to the left: its picture is drawn the right way round
    around = engine.render(np.array([4 - 2.1, 1.4, -2.5]), heading(180), (64, 64), 80.0)
    assert np.abs(around.rgb.astype(int) - wanted.rgb).max() <= 1
    assert np.abs(around.depth_m - wanted.depth_m).max() < 1e-5
    assert around.instance.max() == (2 if is_front_first else 1)


def test_only_a_face_in_the_very_same_place_is_a_twin() -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [-0.0, 0, 0]], np.float32)
    same_side = np.array([[0, 1, 2], [1, 2, 0], [1, 3, 2]], np.int32)
    assert not Twins(vertices, same_side).any
    found = Twins(vertices, np.array([[0, 1, 2], [1, 3, 2], [2, 1, 4]], np.int32))
    assert found.any
    face = np.array([0, 0, 1, 2], np.int32)
    weight = np.zeros(4, np.float32)
    is_back = np.array([True, False, True, True])
    assert found.facing(face, weight, weight, is_back)[0].tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("shape", [(4, 33000), (33000, 4)])
def test_textures_beyond_what_can_be_sampled_are_named(shape: tuple[int, int]) -> None:
    with pytest.raises(BadInput, match=r"more than can be sampled; lower texture_max_px$"):
        Mipmaps((np.zeros((*shape, 3), np.uint8),))


@pytest.mark.parametrize(
    ("texture", "problem"),
    [
        (
            {"extensions": {"EXT_texture_avif": {"source": 0}}},
            "is EXT_texture_avif alone, which is not read",
        ),
        ({}, "has no image"),
    ],
)
def test_a_texture_in_a_form_that_is_not_read_is_named(
    tmp_path: Path, texture: dict[str, Any], problem: str
) -> None:
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree["textures"] = [texture]
    with pytest.raises(BadInput, match=rf"texture 0 {problem}; write the file again"):
        seen(save(tmp_path / "a.glb", writer, tree))


@pytest.mark.parametrize("stated", [{"minVersion": "3.0"}, {"minVersion": 10}, {"version": "1.0"}])
def test_another_version_that_is_required_is_named(tmp_path: Path, stated: dict[str, Any]) -> None:
    path = tmp_path / "a.glb"
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree["asset"] = {"version": "2.1", "minVersion": "2.0"}
    seen(save(path, writer, tree))
    tree["asset"] = {"version": "3.0", "minVersion": "2.1"}
    seen(save(path, writer, tree))
    (least,) = stated.values()
    tree["asset"] = {"version": "2.0"} | stated
    with pytest.raises(BadInput, match=f"requires glTF version {least}; convert it to version 2$"):
        seen(save(path, writer, tree))


def test_colours_in_an_extension_that_is_not_read_are_noted(tmp_path: Path) -> None:
    writer = Writer()
    tree = document(writer, {"attributes": {"POSITION": writer.add(CORNERS)}}, {})
    tree["materials"] = [{"extensions": {"KHR_techniques_webgl": {"values": {}}}}]
    tree["extensionsUsed"] = ["KHR_techniques_webgl", "KHR_lights_punctual", "KHR_texture_basisu"]
    assert _noted(save(tmp_path / "old.glb", writer, tree)) == [
        "drawn without KHR_techniques_webgl, KHR_texture_basisu, which it uses and which is not "
        "read here"
    ]
