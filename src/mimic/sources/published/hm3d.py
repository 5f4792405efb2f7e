"""HM3D (Habitat-Matterport 3D): scans of a thousand buildings.

Layout:

    <root>/{minival,train,val,example}/00800-TEEsavR23oF/TEEsavR23oF.basis.glb
            Basis textures: habitat-sim only
                                                        /TEEsavR23oF.basis.navmesh
                                                        /TEEsavR23oF.glb
                                                                the `glb` archives: JPEG textures
                                                        /TEEsavR23oF.semantic.glb   not a scene

A clip is a scene. Where both forms of a scene lie there, habitat-sim is given `.basis.glb` (its
navigation mesh goes with it) and the embedded engine, which cannot read that, `.glb`. minival is a
part of val: a scene that several splits hold is mined once, from the first in numeric order. Terms:
Matterport's academic agreement; no redistribution.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from mimic.sources.scenes import SceneSource

BASIS = ".basis.glb"
SEMANTIC = ".semantic.glb"


class HM3DSource(SceneSource):
    """See `config.Scans` for the numbers."""

    def scenes(self, files: list[str]) -> list[str]:
        by_scene: dict[str, list[str]] = {}
        for file in files:
            name = PurePosixPath(file).name
            if not name.endswith(SEMANTIC):
                by_scene.setdefault(name.removesuffix(".glb").removesuffix(".basis"), []).append(
                    file
                )
        wanted = self._section.engine == "habitat"
        return [
            next((file for file in forms if file.endswith(BASIS) is wanted), forms[0])
            for forms in by_scene.values()
        ]
