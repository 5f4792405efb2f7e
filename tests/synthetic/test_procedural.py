from __future__ import annotations

import cv2
import numpy as np
import pytest

from mimic.scenes import base, walker
from mimic.scenes.embree import Embree
from mimic.scenes.mesh import CLASSES, Mesh
from mimic.synthetic import apartments, lighting


def test_the_seed_decides_everything(flat_mesh: Mesh) -> None:
    again, other = (apartments.build(seed, 9.0, 7.0, 2.6, 512) for seed in (7, 8))
    for name in ("vertices", "uv", "light", "faces", "texture", "class_id", "instance"):
        assert np.array_equal(getattr(flat_mesh, name), getattr(again, name)), name
    assert all(
        np.array_equal(a, b) for a, b in zip(flat_mesh.textures, again.textures, strict=True)
    )
    assert flat_mesh.vertices.shape != other.vertices.shape
    assert not np.array_equal(flat_mesh.textures[0], other.textures[0])


def test_a_flat_holds_what_a_flat_holds(flat_mesh: Mesh) -> None:
    present = {CLASSES[index] for index in np.unique(flat_mesh.class_id)}
    assert {
        "wall",
        "floor",
        "ceiling",
        "door",
        "window",
        "table",
        "picture",
        "rug",
        "lamp",
    } <= present
    low, high = flat_mesh.bounds()
    assert np.all(low > -0.3)
    assert np.all(high < [9.3, 2.7, 7.3])
    assert flat_mesh.light.min() >= 0
    assert flat_mesh.light.max() <= 1
    instance_classes = {
        int(instance): np.unique(flat_mesh.class_id[flat_mesh.instance == instance])
        for instance in np.unique(flat_mesh.instance)
    }
    assert all(len(classes) == 1 for classes in instance_classes.values())


@pytest.mark.parametrize("seed", range(3))
def test_all_rooms_are_connected_by_their_doorways(seed: int) -> None:
    mesh = apartments.build(seed, 11.0, 8.0, 2.6, 128)
    engine = Embree("y", 128, 0.0, 1.8)
    engine.show(mesh)
    assert engine.floor.radius.max() > 4.5  # one room alone has about 4 m or less
    assert (mesh.vertices[mesh.faces[mesh.class_id == CLASSES.index("floor")]][..., 1] == 0).all()


def test_views_are_rich_enough_for_sift(flat: Embree) -> None:
    rng, sift, found = np.random.default_rng(3), cv2.SIFT.create(), []
    for _ in range(12):
        place = walker.start(flat, rng, 2.0)
        seen = flat.render(
            place + [0, 1.5, 0], base.heading(45.0 * rng.integers(8)), (256, 256), 90.0
        )
        found.append(len(sift.detect(cv2.cvtColor(seen.rgb, cv2.COLOR_RGB2GRAY))))
    assert np.median(found) > 300
    assert np.mean(np.array(found) > 100) > 0.9


def test_no_texture_repeats() -> None:
    """A texture resembles none of its own shifted copies: tiles would."""
    for name in ("paper", "tiles", "carpet", "plaster"):
        grey = cv2.cvtColor(
            apartments.DRAWINGS[name](np.random.default_rng(0), 256), cv2.COLOR_RGB2GRAY
        ).astype(np.float32)
        grey = cv2.GaussianBlur(grey, (0, 0), 2) - cv2.GaussianBlur(grey, (0, 0), 12)
        spectrum = np.fft.fft2(grey)
        likeness = np.fft.ifft2(np.abs(spectrum) ** 2).real
        likeness /= likeness[0, 0]
        assert likeness[24:-24, 24:-24].max() < 0.5, name


def test_light_falls_and_shadows_stay_dark(flat_mesh: Mesh) -> None:
    sample = np.array([[4.0, 2.2, 3.0]])
    bright, dark = (
        lighting.bake(flat_mesh, lights)
        for lights in ([lighting.Light(sample, (1.0, 1.0, 1.0), 2.0)], [])
    )
    assert (bright >= dark - 1e-6).all()
    assert (bright > dark + 0.05).any()
    facing_away = (
        flat_mesh.vertices[:, 1] > 2.5
    )  # the ceiling is above the lamp; what it lights there, it lights from below
    assert (bright[~facing_away] > dark[~facing_away] + 0.01).mean() < 0.9
