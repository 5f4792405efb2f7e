from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.scenes import base, glb, walker
from mimic.scenes.embree import Embree
from mimic.scenes.mesh import Mesh
from mimic.synthetic import glb_writer
from tests.support.boxes import engine_of


@pytest.fixture(scope="module")
def written(flat_mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "flat.glb"
    path.write_bytes(glb_writer.to_glb(flat_mesh))
    path.with_suffix(".stage_config.json").write_text(
        json.dumps(glb_writer.stage_config(path.name))
    )
    return path


def rewritten(path: Path, to: Path, change) -> Path:  # type: ignore[no-untyped-def]
    """The same .glb with its JSON changed."""
    data = path.read_bytes()
    length = struct.unpack("<I", data[12:16])[0]
    tree = json.loads(data[20 : 20 + length])
    change(tree)
    to.write_bytes(glb_writer._container(json.dumps(tree).encode(), data[20 + length + 8 :]))
    return to


def test_a_round_trip_keeps_geometry_labels_and_looks(
    written: Path, flat_mesh: Mesh, flat: Embree
) -> None:
    again = glb.read(written, "auto", 1024)
    assert all(
        np.allclose(a, b, atol=1e-6)
        for a, b in zip(again.bounds(), flat_mesh.bounds(), strict=True)
    )
    assert len(again.faces) == len(flat_mesh.faces)
    assert np.array_equal(np.bincount(again.class_id), np.bincount(flat_mesh.class_id))
    assert np.array_equal(np.bincount(again.instance), np.bincount(flat_mesh.instance))
    place = walker.start(flat, np.random.default_rng(0), 2.0) + [0, 1.5, 0]
    before, after = (
        engine.render(place, base.heading(200), (96, 96), 90.0)
        for engine in (flat, engine_of(again))
    )
    assert np.allclose(before.depth_m, after.depth_m, atol=1e-4)
    assert np.array_equal(before.class_id, after.class_id)
    assert np.array_equal(before.instance, after.instance)
    assert np.abs(before.rgb.astype(int) - after.rgb).mean() < 4  # JPEG


def test_the_same_mesh_gives_the_same_bytes(written: Path, flat_mesh: Mesh) -> None:
    assert glb_writer.to_glb(flat_mesh) == written.read_bytes()


def test_trimesh_reads_it_as_any_tool_would(written: Path) -> None:
    import trimesh

    scene = trimesh.load_scene(written)
    assert scene.bounds[1][1] == pytest.approx(2.6, abs=0.01)
    sofa = next(geometry for name, geometry in scene.geometry.items() if name.startswith("shelf."))
    assert sofa.metadata["class"] == "shelf"
    assert sofa.visual.material.baseColorTexture.size == (
        512,
        512,
    )


def test_a_bare_file_is_taken_for_y_up_unless_scans_of_its_kind_are_z_up(
    written: Path, flat_mesh: Mesh, tmp_path: Path
) -> None:
    bare = tmp_path / "bare.glb"
    bare.write_bytes(written.read_bytes())
    turned = glb.read(bare, "auto", 64, default_up="z")
    low, high = flat_mesh.bounds()
    assert np.allclose(glb.read(bare, "auto", 64).bounds(), (low, high))
    assert turned.bounds()[1][1] == pytest.approx(high[2])  # y = z, z = -y
    assert turned.bounds()[0][2] == pytest.approx(-high[1])
    assert np.allclose(glb.read(bare, "z", 64).vertices, turned.vertices)
    assert np.allclose(glb.read(bare, "y", 64).bounds(), (low, high))
    assert max(max(texture.shape) for texture in turned.textures) <= 64


def test_the_stage_config_scales_and_is_checked(
    written: Path, tmp_path: Path, flat_mesh: Mesh
) -> None:
    scene = tmp_path / "scaled.glb"
    scene.write_bytes(written.read_bytes())
    config = tmp_path / "scaled.stage_config.json"
    config.write_text(json.dumps({"up": [0, 1, 0], "front": [0, 0, -1], "scale": [2, 2, 2]}))
    assert np.allclose(glb.read(scene, "auto", 64).bounds()[1], 2 * flat_mesh.bounds()[1])
    config.write_text(json.dumps({"up": [0, 1, 0], "front": [0, 1, 0]}))
    with pytest.raises(BadInput, match="perpendicular"):
        glb.read(scene, "auto", 64)
    config.write_text("{")
    with pytest.raises(BadInput, match="not readable as JSON"):
        glb.read(scene, "auto", 64)


def basis_by_extension(tree: dict) -> None:
    tree["textures"][0] = {"extensions": {"GOOGLE_texture_basis": {"source": 0}}}


def basis_by_type(tree: dict) -> None:
    tree["images"][0]["mimeType"] = "image/ktx2"


@pytest.mark.parametrize("change", [basis_by_extension, basis_by_type])
def test_basis_textures_are_refused_with_the_remedies(
    written: Path, tmp_path: Path, change: Callable[..., Any]
) -> None:
    scene = rewritten(written, tmp_path / "innocent.glb", change)
    with pytest.raises(
        BadInput, match=r"Basis-compressed.*engine: habitat.*convert the textures to JPEG"
    ):
        glb.read(scene, "auto", 64)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[: len(data) // 2], "cut short"),
        (lambda data: b"PK" + data[2:], "not a .glb"),
        (lambda data: b"", "not a .glb"),
        (lambda data: data[:4] + b"\1" + data[5:], "version 1"),
        (lambda data: data[:20] + b"!" + data[21:], "does not parse"),
        (
            lambda data: (
                data[:20]
                + data[20:].replace(b'"bufferView":1,', b'"bufferView":9999,', 1)[: len(data) - 20]
            ),
            "damaged",
        ),
    ],
)
def test_damage_is_one_clear_line(
    written: Path, tmp_path: Path, damage: Callable[..., Any], message: str
) -> None:
    scene = tmp_path / "damaged.glb"
    scene.write_bytes(damage(written.read_bytes()))
    with pytest.raises(BadInput, match=message) as raised:
        glb.read(scene, "auto", 64)
    assert "\n" not in str(raised.value)


def test_a_real_untextured_room_stands_upright_and_can_be_walked(real_data: Path) -> None:
    engine = Embree("auto", 512, 0.0, 1.5)
    engine.load(real_data / "scenes3d/simple_room.glb")
    low, high = engine.mesh.bounds()
    assert (high - low) == pytest.approx([10.5, 2.2, 10.9], abs=0.3)
    place = walker.start(engine, np.random.default_rng(0), 3.0)
    camera = walker.look(
        place + [0, 1.4, 0], walker.open_heading(engine, np.random.default_rng(0), place), -30.0
    )
    seen = engine.render(camera.position, camera.rotation, (64, 64), 60.0)
    assert seen.depth_m[56:].all()
    assert seen.rgb.std() > 1  # it has no ceiling
    assert seen.normal is not None
    assert np.allclose(seen.normal[-1, 32], [0, 1, 0], atol=0.01)


def test_real_files_load_as_their_configs_say(real_data: Path) -> None:
    chair = glb.read(real_data / "scenes3d/chair.glb", "auto", 256)
    assert max(texture.shape[0] for texture in chair.textures) == 256
    floor = glb.read(real_data / "scenes3d/stage_floor1.glb", "auto", 256)
    assert np.ptp(floor.vertices, axis=0)[[0, 2]] == pytest.approx(
        [40, 40], abs=0.5
    )  # 20 m, scaled by two
    assert len(glb.read(real_data / "scenes3d/magnum_scene.glb", "auto", 256).faces) > 0
    building = Embree("auto", 256, 0.0, 1.5)
    building.load(real_data / "scenes3d/no_indices_3storybuilding.glb")
    heights = np.unique(np.round(building.floor.height[~np.isnan(building.floor.height)], 1))
    assert len(heights) >= 2
