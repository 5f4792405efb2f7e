"""Materials whose looks an unlit picture shows otherwise than a renderer with lights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.scenes import glb
from mimic.scenes.base import Rendering
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
        "of 3 materials 2 are masked or blended, drawn opaque",
        "of 3 materials 1 glow, drawn in their base colour",
    ]
