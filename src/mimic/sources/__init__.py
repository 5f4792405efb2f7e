"""Sources of candidate pairs: one file per kind of raw data, chosen in one place.

`READER_VERSIONS` decides, with the parameters, whether an inventory and the pairs mined from it
are stale: DVC reads it. Raise `reader` when a reader lists other clips or hands out other views,
and `embree` or `habitat` in every row when that engine renders or walks otherwise.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import cast

from mimic import config
from mimic.sources.base import Description, Group, Source, Unreadable, View

__all__ = ["Description", "Group", "Source", "Unreadable", "View", "open_source", "parts"]

# Where each reader is. It is imported when it is used: none should cost the others its libraries.
READERS = {
    "videos": "videos.VideoSource",
    "images": "images.ImageSource",
    "scenes": "scenes.SceneSource",
    "covisible": "covisible.CovisibleSource",
    "hm3d": "published.hm3d.HM3DSource",
    "gibson": "published.gibson.GibsonSource",
    "matterport": "published.matterport.MatterportSource",
    "demon": "published.demon.DemonSource",
    "scannet": "published.scannet.ScanNetSource",
    "arkitscenes": "published.arkitscenes.ARKitScenesSource",
    "objectron": "published.objectron.ObjectronSource",
    "mannequin": "published.mannequin.MannequinSource",
    "co3d": "published.co3d.CO3DSource",
    "streetview": "published.streetview.StreetViewSource",
    "rgbd": "rgbd.RGBDSource",
    "released": "precomputed.released.ReleasedSource",
    "crops": "precomputed.crops.CropsSource",
}
READER_VERSIONS = {
    "videos": {"reader": 1},
    "images": {"reader": 2},
    "scenes": {"reader": 1, "embree": 1, "habitat": 1},
    "covisible": {"reader": 1, "embree": 1, "habitat": 1},
    "hm3d": {"reader": 1, "embree": 1, "habitat": 1},
    "gibson": {"reader": 1, "embree": 1, "habitat": 1},
    "matterport": {"reader": 1, "embree": 1, "habitat": 1},
    "demon": {"reader": 1},
    "scannet": {"reader": 1},
    "arkitscenes": {"reader": 1},
    "objectron": {"reader": 1},
    "mannequin": {"reader": 1},
    "co3d": {"reader": 1},
    "streetview": {"reader": 1},
    "rgbd": {"reader": 2},
    "released": {"reader": 1},
    "crops": {"reader": 1},
}


def parts(section: config.Source) -> dict[str, int]:
    """Versions of what reads a source: its reader, and the engine that its scenes are rendered
    by."""
    named = ("reader", getattr(section, "engine", None))
    versions = READER_VERSIONS[section.reader]
    return {part: version for part, version in versions.items() if part in named}


def open_source(
    name: str,
    section: config.Source,
    root: Path,
    size_px: int,
    habitat: config.HabitatRuntime | None = None,
) -> Source:
    """The source that a section of params.yaml describes.

    Args:
        root: the workspace; `section.root` is relative to it.
        size_px: side of the square that views are mined at; renderers crop to it.
        habitat: how habitat-sim is started; needed where a section asks for that engine.
    """
    module, class_name = READERS[section.reader].rsplit(".", 1)
    reader = getattr(importlib.import_module(f"mimic.sources.{module}"), class_name)
    folder = root / section.root
    if isinstance(section, config.SceneBase):
        return cast(Source, reader(name, section, folder, size_px, habitat))
    return cast(Source, reader(name, section, folder))
