"""Matterport3D: scans of 90 buildings, as prepared for Habitat (download_mp.py --task habitat).

Layout:

    <root>/<scan>/<scan>.glb  <scan>.house  <scan>.navmesh  <scan>_semantic.ply
    <root>/mp3d.scene_dataset_config.json

A clip is a scan: a .glb named like its folder; other .glb files are none. Current archives hold
Basis textures inside plain .glb names, which only habitat-sim reads: what is in a file is found by
looking inside. Terms: Matterport's, signed; no redistribution.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from mimic.sources.scenes import SceneSource


class MatterportSource(SceneSource):
    """See `config.Scans` for the numbers."""

    def scenes(self, files: list[str]) -> list[str]:
        return [
            file for file in files if PurePosixPath(file).stem == PurePosixPath(file).parent.name
        ]
