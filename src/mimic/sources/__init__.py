"""Sources of candidate pairs: one file per kind of raw data, chosen in one place."""

from __future__ import annotations

from pathlib import Path

from mimic import config
from mimic.sources.base import Description, Group, Source, Unreadable, View

__all__ = ["Description", "Group", "Source", "Unreadable", "View", "open_source"]


def open_source(name: str, section: config.Source, root: Path, size_px: int) -> Source:
    """The source that a section of params.yaml describes.

    Args:
        root: the workspace; `section.root` is relative to it.
        size_px: side of the square that views are mined at; renderers crop to it.
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

            return SceneSource(name, section, folder, size_px)
