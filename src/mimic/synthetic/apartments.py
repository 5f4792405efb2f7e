"""Furnished flats from a seed: three rooms with doorways, each with its own floor, walls, furniture
and pictures.

Lessons built in (measured): textures must not repeat within a view, details must be large and of
high contrast, or a view has too few SIFT keypoints to be matched. The same seed gives the same
flat.
"""

from __future__ import annotations

import numpy as np

from mimic.scenes.mesh import Mesh
from mimic.synthetic import interiors, lighting, rooms, texture_atlas, textures
from mimic.synthetic.builder import Builder
from mimic.synthetic.furniture import Kit

DRAWINGS = {
    "paper": textures.wallpaper,
    "paper2": textures.wallpaper,
    "brick": textures.brick,
    "planks": textures.planks,
    "tiles": textures.tiles,
    "carpet": textures.carpet,
    "plaster": textures.plaster,
    "wood": textures.wood,
    "fabric": textures.fabric,
    "upholstery": textures.fabric,
    "leaves": textures.leaves,
    "paintings": texture_atlas.paintings,
    "rugs": texture_atlas.rugs,
    "views": texture_atlas.views,
    "joinery": texture_atlas.joinery,
    "books": texture_atlas.books,
}


def build(seed: int, width_m: float, depth_m: float, height_m: float, texture_px: int) -> Mesh:
    """A flat of about width_m x depth_m, its corner at the origin, with light baked in.

    Args:
        seed: every seed is another flat.
        width_m, depth_m, height_m: outer size; rooms need about 3 m each way.
        texture_px: side of each texture; it spans 8 m.
    """
    rng = np.random.default_rng([seed, 1])
    pictures = tuple(
        draw(np.random.default_rng([seed, 2, number]), texture_px)
        for number, draw in enumerate(DRAWINGS.values())
    )
    kit = Kit(Builder(rng), rng, {name: number for number, name in enumerate(DRAWINGS)})
    lights: list[lighting.Light] = []
    for number, room in enumerate(rooms.plan(rng, width_m, depth_m)):
        walls = room.walls()
        rooms.build_shell(kit, room, walls, height_m)
        rooms.build_doorways(kit, room, walls)
        lights += rooms.build_openings(kit, room, walls, number, (width_m, depth_m))
        lights.append(interiors.hang_lamp(kit, room, height_m))
        interiors.furnish(kit, room, walls)
        interiors.hang_pictures(kit, walls, number, height_m)
    dark = kit.builder.mesh(pictures, None)
    return kit.builder.mesh(pictures, lighting.bake(dark, lights))
