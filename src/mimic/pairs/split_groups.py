"""Which clips show one place, told from their names: those are on one side of every split.

A source's clips are its own unit (a scan, a folder, a scene of an .h5 file); several of them may
show the same room. What a name does not tell is not told here: converted DeMoN folders have lost
the sequence they came from, ARKitScenes' visits stand in its metadata alone, and
MannequinChallenge's clips of one video in their files.
"""

from __future__ import annotations

import re

from mimic import config

SCANNET = re.compile(r"(scene\d{4})_\d{2}")  # building and room, then the number of the scan
COUNTED = re.compile(r"(?:[-_.~:]+\d+)+$")  # frame numbers at the end of a sequence's name


def place_of(section: config.Source, clip: str) -> str:
    """The place that a clip of this source shows; the clip itself where its name tells no more."""
    match section:
        case config.ScanNet():
            return _scan(clip)
        case config.Demon():
            return _sequence(clip)
        case config.StreetView():
            # dataset_aligned/0002 and dataset_unaligned/0002: one region of a city
            return clip.rpartition("/")[2]
        case config.Mannequin() if (
            "/trims/" in f"/{clip}"
        ):  # <folder>/trims/<file>: clips cut from one video
            return clip.rpartition("trims/")[0] or clip
        case config.Released() | config.Covisible():  # ScanNet's scans below other folders
            return _scan(clip)
        case _:
            return clip


def _scan(clip: str) -> str:
    """`.../scene0000_00/...`, `_01`: scans of one room."""
    found = SCANNET.search(clip)
    return found[1] if found else clip


def _sequence(clip: str) -> str:
    """`<file>.h5/<sequence>-<frame numbers>`: one sequence is cut into many scenes, and into files
    by their baselines."""
    _, separator, scene = clip.rpartition(".h5/")
    return COUNTED.sub("", scene) or clip if separator else clip
