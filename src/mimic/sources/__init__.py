"""Sources of candidate pairs: one file per kind of raw data, chosen in one place.

`READER_VERSIONS` decides, with the parameters, whether an inventory and the pairs mined from it
are stale: DVC reads it. Raise `reader` when a reader lists other clips or hands out other views,
and `embree` or `habitat` in every row when that engine renders or walks otherwise.
"""

from __future__ import annotations

from pathlib import Path

from mimic import config
from mimic.sources.base import Description, Group, Source, Unreadable, View

__all__ = ["Description", "Group", "Source", "Unreadable", "View", "open_source", "parts"]

READER_VERSIONS = {
    "videos": {"reader": 1},
    "images": {"reader": 1},
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
    folder = root / section.root
    # A reader is imported when it is used: none should cost the others its libraries.
    match section:
        case config.Videos():
            from mimic.sources.videos import VideoSource

            return VideoSource(name, section, folder)
        case config.Images():
            from mimic.sources.images import ImageSource

            return ImageSource(name, section, folder)
        case config.Scenes():
            from mimic.sources.scenes import SceneSource

            return SceneSource(name, section, folder, size_px, habitat)
        case config.Covisible():
            from mimic.sources.covisible import CovisibleSource

            return CovisibleSource(name, section, folder, size_px, habitat)
        case config.Scans(reader="hm3d"):
            from mimic.sources.published.hm3d import HM3DSource

            return HM3DSource(name, section, folder, size_px, habitat)
        case config.Scans(reader="gibson"):
            from mimic.sources.published.gibson import GibsonSource

            return GibsonSource(name, section, folder, size_px, habitat)
        case config.Scans():
            from mimic.sources.published.matterport import MatterportSource

            return MatterportSource(name, section, folder, size_px, habitat)
        case _:
            return _open_frames(name, section, folder)


def _open_frames(
    name: str,
    section: config.Demon
    | config.ScanNet
    | config.PhoneVideos
    | config.Mannequin
    | config.CO3D
    | config.StreetView
    | config.Released
    | config.Crops,
    folder: Path,
) -> Source:
    """The published data sets of photographs and videos, and published pairs."""
    match section:
        case config.Demon():
            from mimic.sources.published.demon import DemonSource

            return DemonSource(name, section, folder)
        case config.ScanNet():
            from mimic.sources.published.scannet import ScanNetSource

            return ScanNetSource(name, section, folder)
        case config.PhoneVideos(reader="arkitscenes"):
            from mimic.sources.published.arkitscenes import ARKitScenesSource

            return ARKitScenesSource(name, section, folder)
        case config.PhoneVideos():
            from mimic.sources.published.objectron import ObjectronSource

            return ObjectronSource(name, section, folder)
        case config.Mannequin():
            from mimic.sources.published.mannequin import MannequinSource

            return MannequinSource(name, section, folder)
        case config.CO3D():
            from mimic.sources.published.co3d import CO3DSource

            return CO3DSource(name, section, folder)
        case config.StreetView():
            from mimic.sources.published.streetview import StreetViewSource

            return StreetViewSource(name, section, folder)
        case config.Released():
            from mimic.sources.precomputed.released import ReleasedSource

            return ReleasedSource(name, section, folder)
        case config.Crops():
            from mimic.sources.precomputed.crops import CropsSource

            return CropsSource(name, section, folder)
