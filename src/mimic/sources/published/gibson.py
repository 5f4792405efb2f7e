"""Gibson: scans of buildings, as prepared for Habitat.

Layouts, both accepted at any depth below the root:

    <root>/<Scene>.glb  <Scene>.navmesh             Habitat's archives: one flat folder
    <root>/<Scene>/<Scene>.glb                      a folder a scene, as the published script
                                                    expects (it takes any .glb in it)
    <root>/<Scene>/mesh.obj ...                     the original Gibson environment: not read, it is
                                                    not textured .glb

A clip is a scene; one that lies there in both layouts is mined once. Terms: Gibson's agreement; no
redistribution.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from mimic.sources.scenes import SceneSource


class GibsonSource(SceneSource):
    """See `config.Scans` for the numbers."""

    def scenes(self, files: list[str]) -> list[str]:
        by_scene: dict[str, str] = {}
        for file in files:
            by_scene.setdefault(PurePosixPath(file).name, file)
        return list(by_scene.values())
