"""Textures beside a 3-D scene are parts of it, whatever the form of the scene."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as pillow

from mimic.commands.own.own_options import Options
from mimic.commands.own.own_sources import find_media
from mimic.params import Params, load_params
from mimic.sources.images import ImageSource
from mimic.sources.scenes import SceneSource
from mimic.synthetic import glb_writer
from tests.scenes.test_gltf_features import CORNERS, FACES, UV, document
from tests.support import footage
from tests.support.gltf_writer import Writer, save

OF = "a texture of"


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        pillow.fromarray(footage.plane(seed, 64)[:48, :64]).save(folder / name)


def _room(folder: Path, uris: list[str]) -> tuple[Writer, dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    writer = Writer()
    attributes = {"POSITION": writer.add(CORNERS), "TEXCOORD_0": writer.add(UV)}
    tree = document(writer, {"attributes": attributes, "indices": writer.add(FACES)}, {})
    tree["images"] = [{"uri": uri} for uri in uris]
    return writer, tree


def _seen(params: Params, folder: Path) -> tuple[dict[str, int], dict[str, str]]:
    """Views of each clip, and what is passed over, by its path below the folder."""
    media = find_media(params, [folder], Options(), folder / "out")
    prefix = f"{folder}/"
    frames = {
        clip.name: clip.described["frames"] or 0 for part in media.parts for clip in part.clips
    }
    return frames, {path.removeprefix(prefix): why for path, why in media.skipped.items()}


def test_textures_of_a_glb_are_no_photographs(tmp_path: Path, params: Params) -> None:
    _pictures(tmp_path / "textures", "wall 0.jpg", "wall 1.jpg")
    _pictures(tmp_path / "photos", "a.jpg", "b.jpg")
    writer, tree = _room(tmp_path, ["textures/wall%200.jpg", "textures\\wall%201.jpg"])
    save(tmp_path / "house.glb", writer, tree)
    assert _seen(params, tmp_path) == (
        {"house.glb": 0, "photos": 2, "textures": 0},
        {f"textures/wall {n}.jpg": f"{OF} house.glb" for n in (0, 1)},
    )


def test_those_of_a_gltf_are_named_beside_it(tmp_path: Path, params: Params) -> None:
    """The scene itself is not read."""
    _pictures(tmp_path / "textures", "a.png", "b.png")
    writer, tree = _room(tmp_path, ["textures/a.png", "textures/b.png"])
    tree["buffers"] = [{"byteLength": len(writer.data), "uri": "house.bin"}]
    (tmp_path / "house.gltf").write_text(json.dumps(tree))
    (tmp_path / "house.bin").write_bytes(bytes(writer.data))
    frames, skipped = _seen(params, tmp_path)
    assert frames == {"textures": 0}
    assert skipped["textures/a.png"] == skipped["textures/b.png"] == f"{OF} house.gltf"
    assert skipped["house.gltf"].startswith("a 3-D format that is not read")
    assert set(skipped) == {"textures/a.png", "textures/b.png", "house.gltf", "house.bin"}


def test_maps_of_a_material_library_are_named(tmp_path: Path, params: Params) -> None:
    """As programs for photogrammetry export a model beside the photographs it is made of."""
    _pictures(tmp_path / "model", "scan material.png", "bumps.png", "other.png")
    _pictures(tmp_path / "photos", "a.jpg", "b.jpg")
    (tmp_path / "model/scan.obj").write_text("mtllib scan.mtl\n")
    (tmp_path / "model/scan.mtl").write_text(
        "newmtl one\nKd 1 1 1\nmap_Kd scan material.png\n\tmap_Bump -bm 0.2 bumps.png\nmap_Ks\n"
    )
    frames, skipped = _seen(params, tmp_path)
    assert frames == {"model": 1, "photos": 2}
    assert skipped["model/scan material.png"] == skipped["model/bumps.png"] == f"{OF} scan.mtl"
    assert "model/other.png" not in skipped


def test_those_in_a_folder_beside_the_scene_are_named(tmp_path: Path, params: Params) -> None:
    """As archives of models are laid out."""
    model = tmp_path / "models/house"
    _pictures(model / "textures", "wall.jpg", "floor.jpg")
    _pictures(tmp_path / "photos", "a.jpg", "b.jpg")
    (model / "source").mkdir()
    (model / "source/house.mtl").write_text("map_Kd ../textures/wall.jpg\n")
    frames, skipped = _seen(params, tmp_path)
    assert skipped["models/house/textures/wall.jpg"] == f"{OF} house.mtl"
    assert frames["photos"] == 2
    assert not any("floor.jpg" in path for path in skipped)


def test_what_a_glb_refers_to_is_read_with_it(tmp_path: Path, params: Params) -> None:
    """Its numbers are not passed over; a picture beside its texture is a photograph."""
    _pictures(tmp_path, "h\u00e4user.png", "view.png")
    writer, tree = _room(tmp_path, ["h%C3%A4user.png"])
    tree |= {"accessors": writer.accessors, "bufferViews": writer.views}
    tree["buffers"] = [{"byteLength": len(writer.data), "uri": "numbers.bin"}]
    (tmp_path / "numbers.bin").write_bytes(bytes(writer.data))
    (tmp_path / "house.glb").write_bytes(glb_writer._container(json.dumps(tree).encode(), b""))
    expected = ({"house.glb": 0, ".": 1}, {"h\u00e4user.png": f"{OF} house.glb"})
    assert _seen(params, tmp_path) == expected
    section: Any = params.sources["frames"].model_copy(update={"glob": "*", "pairing": "all"})
    source = ImageSource("mine", section, tmp_path)
    assert source.clips() == ["."]
    assert source.skipped["h\u00e4user.png"] == f"{OF} house.glb"
    assert source.describe(".")["frames"] == 1
    rooms: Any = params.sources["rooms"]
    scenes = SceneSource("rooms", rooms, tmp_path, 224)
    assert scenes.clips() == ["house.glb"]
    assert set(scenes.skipped) == {"view.png"}


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"images": 3}', '{"images": [{"uri": "\\u0000"}, {"uri": "data:,"}, {"uri": 7}]}'],
)
def test_a_damaged_description_names_no_texture(tmp_path: Path, params: Params, text: str) -> None:
    _pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "house.gltf").write_text(text)
    frames, skipped = _seen(params, tmp_path)
    assert frames == {".": 2}
    assert list(skipped) == ["house.gltf"]
