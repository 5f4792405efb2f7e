"""Sources of candidate pairs: one file per kind of raw data, chosen in one place.

`READER_VERSIONS` decides, with the parameters, whether an inventory and the pairs mined from it
are stale: DVC reads it. Raise `reader` when a reader lists other clips or hands out other views,
and `embree` or `habitat` in every row when that engine renders or walks otherwise.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import AfterValidator, BeforeValidator, ConfigDict, SerializeAsAny

from mimic import config
from mimic.errors import BadInput
from mimic.sources.base import Description, Group, Source, Unreadable, View

__all__ = [
    "READERS",
    "Description",
    "Group",
    "Reader",
    "Source",
    "SourceSection",
    "Unreadable",
    "View",
    "open_source",
    "parts",
    "section_type",
]


@dataclass(frozen=True)
class Reader:
    """A row of the table of readers.

    Modules are imported when they are used: no reader should cost the others its libraries.

    source: module and class, below `mimic.sources`.
    section: what it takes from params.yaml: a type that several readers share, or the name of one
        beside the class in its module.
    """

    source: str
    section: type[config.SourceBase] | str

    @property
    def module(self) -> str:
        return f"mimic.sources.{self.source.rpartition('.')[0]}"

    def named(self, name: str) -> Any:
        return getattr(importlib.import_module(self.module), name)


READERS = {
    "videos": Reader("videos.VideoSource", config.Videos),
    "images": Reader("images.ImageSource", config.Images),
    "scenes": Reader("scenes.SceneSource", config.Scenes),
    "covisible": Reader("covisible.CovisibleSource", config.Covisible),
    "hm3d": Reader("published.hm3d.HM3DSource", config.Scans),
    "gibson": Reader("published.gibson.GibsonSource", config.Scans),
    "matterport": Reader("published.matterport.MatterportSource", config.Scans),
    "demon": Reader("published.demon.DemonSource", config.Demon),
    "scannet": Reader("published.scannet.ScanNetSource", config.ScanNet),
    "arkitscenes": Reader("published.arkitscenes.ARKitScenesSource", config.PhoneVideos),
    "objectron": Reader("published.objectron.ObjectronSource", config.PhoneVideos),
    "mannequin": Reader("published.mannequin.MannequinSource", config.Mannequin),
    "co3d": Reader("published.co3d.CO3DSource", config.NumberedFrames),
    "streetview": Reader("published.streetview.StreetViewSource", config.StreetView),
    "transforms": Reader("published.transforms.TransformsSource", config.NumberedFrames),
    "rgbd": Reader("rgbd.RGBDSource", "RGBD"),
    "released": Reader("precomputed.released.ReleasedSource", config.Released),
    "crops": Reader("precomputed.crops.CropsSource", config.Crops),
}
READER_VERSIONS = {
    "videos": {"reader": 5},
    "images": {"reader": 8},
    "scenes": {"reader": 1, "embree": 5, "habitat": 2},
    "covisible": {"reader": 3, "embree": 5, "habitat": 2},
    "hm3d": {"reader": 1, "embree": 5, "habitat": 2},
    "gibson": {"reader": 1, "embree": 5, "habitat": 2},
    "matterport": {"reader": 1, "embree": 5, "habitat": 2},
    "demon": {"reader": 5},
    "scannet": {"reader": 6},
    "arkitscenes": {"reader": 5},
    "objectron": {"reader": 3},
    "mannequin": {"reader": 3},
    "co3d": {"reader": 6},
    "streetview": {"reader": 5},
    "transforms": {"reader": 8},
    "rgbd": {"reader": 9},
    "released": {"reader": 5},
    "crops": {"reader": 6},
}


def section_type(reader: str) -> type[config.SourceBase]:
    """The type of an entry of `sources` with this reader."""
    row = READERS[reader]
    named = row.section
    return cast(type[config.SourceBase], row.named(named)) if isinstance(named, str) else named


def _known(reader: str) -> str:
    if reader in READERS:
        return reader
    close = difflib.get_close_matches(reader, READERS, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(READERS)}"
    raise ValueError(f"no reader is called {reader!r}; {hint}")


class _ReaderOnly(config.Section):
    """The one key of an entry that says which others there are."""

    model_config = ConfigDict(extra="ignore")
    reader: Annotated[str, AfterValidator(_known)]


def _typed(entry: Any) -> Any:
    """An entry of `sources` as the section of its reader."""
    if not isinstance(entry, dict):
        return entry
    return section_type(_ReaderOnly.model_validate(entry).reader).model_validate(entry)


# An entry of `sources` in params.yaml, told apart by its `reader`.
SourceSection = Annotated[SerializeAsAny[config.SourceBase], BeforeValidator(_typed)]


def parts(section: config.SourceBase) -> dict[str, int]:
    """Versions of what reads a source: its reader, and the engine that its scenes are rendered
    by."""
    named = ("reader", getattr(section, "engine", None))
    versions = READER_VERSIONS.get(section.reader)
    if versions is None:
        raise BadInput(
            f"reader {section.reader!r} has no row in READER_VERSIONS of "
            "src/mimic/sources/__init__.py; add one, which starts at 1"
        )
    return {part: version for part, version in versions.items() if part in named}


def open_source(
    name: str,
    section: config.SourceBase,
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
    row = READERS[section.reader]
    reader = row.named(row.source.rpartition(".")[2])
    folder = root / section.root
    if isinstance(section, config.SceneBase):
        return cast(Source, reader(name, section, folder, size_px, habitat))
    return cast(Source, reader(name, section, folder))
