"""3-D scenes (.glb), walked by an agent: at each position three rings of views, the first compared
with the two others.

Layout: any tree below the root; every .glb is a clip, named by its path below the root (hm3d.py,
gibson.py and matterport.py know the layouts of those sets). A `<name>.stage_config.json` beside a
scene says which axis is up; without one it is y, as glTF 2.0 says, and z in the layouts of those
sets (scenes/axes.py). HM3D's basis.glb and Matterport3D's current .glb hold Basis textures, which
the embedded engine refuses. The candidate rule is MIMIC's (section 3, appendix A): camera height
once per scene, views all around, turn and step twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from mimic import config
from mimic.errors import BadInput
from mimic.scenes import axes, base, glb
from mimic.scenes.axes import DefaultUp
from mimic.scenes.base import Engine, EngineFailed, Unwalkable
from mimic.scenes.gltf import files_beside
from mimic.scenes.walker import Camera, Walk, three_rings
from mimic.sources.base import (
    Description,
    Group,
    Image,
    Position,
    Unreadable,
    View,
    content_digest,
    digest_of_digests,
    digest_with,
    files_below,
    require_folder,
)
from mimic.sources.photos.folders import passed_over, shown

EXTENSIONS = frozenset({".glb"})
RINGS = "abc"
# Habitat's own, as in the published navigation meshes; taller agents find doorways closed, whose
# height its cells round down.
HABITAT_AGENT_HEIGHT_M = 1.5
HABITAT_AGENT_RADIUS_M = 0.1


def forget_parts(skipped: dict[str, str], root: Path, scenes: Iterable[str]) -> None:
    """What is read with a scene is not passed over: its stage_config.json, and the files that it
    refers to."""
    within = root.resolve()
    for scene in scenes:
        skipped.pop(shown(axes.config_of(Path(scene)).as_posix()), None)
        for part in files_beside(root / scene):
            if part.is_relative_to(within):
                skipped.pop(shown(part.relative_to(within).as_posix()), None)


class SceneSource:
    """Scenes below a folder; see `config.SceneWalk` for the numbers.

    Args:
        size_px: the centre of each rendered view that is kept; at most `section.render_px`.
        habitat: how habitat-sim is started; needed by sections that ask for it.
    """

    def __init__(
        self,
        name: str,
        section: config.SceneBase,
        root: Path,
        size_px: int,
        habitat: config.HabitatRuntime | None = None,
    ) -> None:
        if size_px > section.render_px:
            raise BadInput(
                f"sources.{name}.render_px: {section.render_px} is less than mine.size_px "
                f"{size_px}, which is cut out of it"
            )
        self.name = name
        self.root = root
        self._section = section
        self.skipped: dict[str, str] = {}
        self._size_px = size_px
        self._habitat = habitat

    def clips(self) -> list[str]:
        files = files_below(
            require_folder(self.name, self.root), EXTENSIONS, self.skipped, "a .glb scene"
        )
        scenes = self.scenes(files)
        self.skipped.update(
            dict.fromkeys(
                set(files) - set(scenes),
                "no scene in this layout, or another form of one that is mined",
            )
        )
        forget_parts(self.skipped, self.root, scenes)
        if not scenes:
            raise BadInput(
                f"sources.{self.name}.root: no .glb scene in {self.root}{passed_over(self.skipped)}"
            )
        return scenes

    def scenes(self, files: list[str]) -> list[str]:
        """Which of the .glb files below the root are scenes, each once."""
        return files

    def describe(self, clip: str) -> Description:
        path = self.root / clip
        error: str | None = None
        note: str | None = None
        try:
            tree = glb.header(path)
            drawn: list[str] = []
            if self._section.engine == "embree":
                glb.refuse_unreadable(path, tree)
                glb.refuse_damaged(path)
                drawn += glb.remarks(path, tree)
            upward = axes.resolve(path, self._section.up, default_up(self._section))
            note = "; ".join([upward.note, *drawn])
        except BadInput as problem:
            error = str(problem)
        return Description(
            bytes=path.stat().st_size,
            frames=None,
            digest=_digest(path, self._section.engine),
            error=error,
            note=note,
        )

    def groups(
        self,
        clip: str,
        rng: np.random.Generator,
        resume_after: Position | None = None,
    ) -> Iterator[Group]:
        """One group a position; each position's randomness is its own, so that nothing else drawn
        from rng moves it.

        Raises:
            Unreadable: the scene cannot be read, or has no walkable floor that is large enough.
        """
        section = self._section
        assert isinstance(section, config.SceneWalk)
        height_m = float(rng.uniform(*section.height_m))
        seeds = rng.integers(0, 2**63, section.positions)
        walk = Walk(section.headings, section.turn_deg, section.step_m, section.island_radius_min_m)
        with open_scene(section, self._habitat, self.root / clip) as engine:
            for position, own_rng in positions(seeds, resume_after):
                try:
                    rings = three_rings(engine, own_rng, walk, height_m)
                except (Unwalkable, EngineFailed) as problem:
                    # The scene loaded, so an engine that fails now fails on this scene.
                    raise Unreadable(str(problem)) from None
                yield placed(self._group(engine, position, rings), position, len(seeds))

    def _group(self, engine: Engine, position: int, rings: list[list[Camera]]) -> Group:
        views = [
            View(
                f"{position:04d}{RINGS[ring]}{number}",
                self._reader(engine, camera),
                base.pose(camera.position, camera.rotation),
            )
            for ring, cameras in enumerate(rings)
            for number, camera in enumerate(cameras)
        ]
        first = len(rings[0])
        return Group(
            views=tuple(views), pairs=tuple(product(range(first), range(first, len(views))))
        )

    def _reader(self, engine: Engine, camera: Camera) -> Callable[[], Image]:
        side = self._section.render_px
        hfov_deg = self._section.hfov_deg
        inset = (side - self._size_px) // 2

        @functools.cache
        def read() -> Image:
            try:
                rgb = engine.render(camera.position, camera.rotation, (side, side), hfov_deg).rgb
            except EngineFailed as problem:
                raise Unreadable(str(problem)) from None
            return np.ascontiguousarray(
                rgb[inset : inset + self._size_px, inset : inset + self._size_px]
            )

        return read


def positions(
    seeds: np.ndarray,
    resume_after: Position | None,
) -> Iterator[tuple[int, np.random.Generator]]:
    """Number and randomness of each position, or of those behind a place (see `placed`)."""
    for position in range(0 if resume_after is None else resume_after + 1, len(seeds)):
        yield position, np.random.default_rng(seeds[position])


def placed(group: Group, position: int, count: int) -> Group:
    """The group of one position of `count`, which says so."""
    return replace(group, locate=lambda: position, share=position / count)


def _digest(path: Path, engine: str) -> str:
    """Of the scene, of what is said beside it of its axes and units, of the files that it refers
    to, and of the navigation mesh that habitat-sim takes."""
    beside = axes.config_of(path)
    digest = content_digest(path)
    if beside.is_file():
        digest = digest_of_digests([(path.name, digest), (beside.name, content_digest(beside))])
    mesh = [path.with_suffix(".navmesh")] if engine == "habitat" else []
    return digest_with(digest, [*files_beside(path), *mesh])


@contextmanager
def open_scene(
    section: config.SceneBase, habitat: config.HabitatRuntime | None, scene: Path
) -> Iterator[Engine]:
    """The engine that a source asks for, with a scene; Unreadable when it cannot be read.

    Raises:
        BadInput: no scene at all opens on this machine, so none is worth a try.
    """
    engine = open_engine(section, habitat)
    try:
        try:
            glb.header(scene)  # before an engine is started for a file that is known to be none
            engine.load(scene)
        except BadInput as problem:
            raise Unreadable(str(problem)) from None
        except EngineFailed as problem:
            raise BadInput(
                f"engine {section.engine}: {problem}; `mimic doctor` looks closer"
            ) from None
        yield engine
    finally:
        engine.close()


def open_engine(section: config.SceneBase, habitat: config.HabitatRuntime | None = None) -> Engine:
    """The engine that a source asks for."""
    match section.engine:
        case "embree":
            from mimic.scenes.embree import Embree

            return Embree(
                section.up,
                section.texture_max_px,
                section.lod_bias,
                section.height_m[1],
                default_up(section),
            )
        case "habitat":
            from mimic.scenes.habitat import Habitat

            if habitat is None:
                raise BadInput(
                    "engine: habitat needs the section `habitat` of params.yaml; see docs/scenes.md"
                )
            # No dataset configuration: only semantics need one, and the mesh is all that is
            # rendered.
            return Habitat(
                habitat.command,
                habitat.timeout_s,
                habitat.gpu_device_id,
                dataset_config=None,
                size_px=(section.render_px, section.render_px),
                hfov_deg=section.hfov_deg,
                agent_height_m=HABITAT_AGENT_HEIGHT_M,
                agent_radius_m=HABITAT_AGENT_RADIUS_M,
                up=section.up,
                default_up=default_up(section),
            )


def default_up(section: config.SceneBase) -> DefaultUp:
    """Which axis is up in files of a layout that say nothing: those of HM3D, Gibson and
    Matterport3D are z-up."""
    assert isinstance(section, config.Scenes | config.Scans | config.Covisible)
    layout = section.layout if isinstance(section, config.Covisible) else section.reader
    return "y" if layout == "scenes" else "z"
