from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic import config
from mimic.errors import BadInput
from mimic.geometry import covisibility, features, homography, overlap
from mimic.params import load_params
from mimic.scenes import gltf, habitat
from mimic.scenes.base import Engine
from mimic.sources.base import Group, Unreadable
from mimic.sources.scenes import SceneSource, open_engine
from mimic.synthetic import apartments, glb_writer
from tests.scenes.test_gltf_features import image, textured
from tests.scenes.test_gltf_materials import wall
from tests.support.gltf_writer import encoded

SIZE_PX = 224
POSITIONS = 3


@pytest.fixture(scope="module")
def section(repository: Path) -> config.Scenes:
    section = load_params(repository / "params.yaml").sources["rooms"]
    assert isinstance(section, config.Scenes)
    return section.model_copy(update={"positions": POSITIONS})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "a").mkdir()
    path = folder / "a" / "room-000.glb"
    path.write_bytes(glb_writer.to_glb(apartments.build(0, 11.0, 8.0, 2.6, 1024)))
    path.with_suffix(".stage_config.json").write_text(
        json.dumps(glb_writer.stage_config(path.name))
    )
    (folder / "notes.txt").write_text("not a scene")
    return folder


@pytest.fixture(scope="module")
def source(section: config.Scenes, root: Path) -> SceneSource:
    return SceneSource("rooms", section, root, SIZE_PX)


@pytest.fixture(scope="module")
def groups(source: SceneSource) -> list[Group]:
    groups = []
    for group in source.groups("a/room-000.glb", np.random.default_rng(0)):
        for view in group.views:
            view.read()  # while the scene is open
        groups.append(group)
    return groups


def test_clips_and_their_description(source: SceneSource, root: Path) -> None:
    assert source.clips() == ["a/room-000.glb"]
    description = source.describe("a/room-000.glb")
    assert description["error"] is None
    assert description["bytes"] == (root / "a/room-000.glb").stat().st_size


def test_a_group_is_a_ring_against_the_two_others(groups: list[Group]) -> None:
    assert len(groups) == POSITIONS
    for group in groups:
        assert len(group.views) == 24
        assert set(group.pairs) == set(itertools.product(range(8), range(8, 24)))
        assert not group.retry
    keys = [view.key for group in groups for view in group.views]
    assert len(set(keys)) == len(keys)
    assert keys[:9] == [*(f"0000a{k}" for k in range(8)), "0000b0"]


def test_views_are_the_centre_of_the_rendering_and_rendered_once(groups: list[Group]) -> None:
    image = groups[0].views[3].read()
    assert image.shape == (SIZE_PX, SIZE_PX, 3)
    assert image.dtype == np.uint8
    assert image is groups[0].views[3].read()


def test_randomness_is_the_position_s_own(source: SceneSource, groups: list[Group]) -> None:
    """What else is drawn from the clip's generator in between (votes, in reference mode) moves no
    camera."""
    rng = np.random.default_rng(0)
    for group, other in zip(source.groups("a/room-000.glb", rng), groups, strict=True):
        rng.integers(0, 10, 1000)
        assert all(
            np.array_equal(view.pose, again.pose)
            for view, again in zip(group.views, other.views, strict=True)
        )


def test_every_position_gives_a_pair_and_its_overlap_is_true(
    groups: list[Group], section: config.Scenes, root: Path, repository: Path
) -> None:
    """Against exact depth and pose: homographies are right to a few pixels, and overlap rises with
    true co-visibility."""
    mine = load_params(repository / "params.yaml").mine
    rule = overlap.Rule(**{name: getattr(mine, name) for name in overlap.Rule.__dataclass_fields__})
    engine = open_engine(section)
    engine.load(root / "a/room-000.glb")
    kept, errors, measured, true = 0, [], [], []
    for group in groups:
        found = [features.extract(view.read()) for view in group.views]
        comparisons = [overlap.compare(found[a], found[b], rule, None) for a, b in group.pairs]
        kept += overlap.choose(comparisons) is not None
        truth = Truth(engine, group, section)
        for (a, b), comparison in zip(group.pairs, comparisons, strict=True):
            if comparison.b_from_a is not None:
                measured.append(comparison.overlap)
                true.append(min(truth.seen(a, b).visible.mean(), truth.seen(b, a).visible.mean()))
                errors.append(truth.error_px(a, b, comparison.b_from_a))
    assert kept == POSITIONS
    assert np.nanmedian(errors) < 5.0
    assert np.corrcoef(measured, true)[0, 1] > 0.5


class Truth:
    """Exact depth and pose of a group's views."""

    def __init__(self, engine: Engine, group: Group, section: config.Scenes) -> None:
        hfov = float(
            2
            * np.degrees(
                np.arctan(np.tan(np.radians(section.hfov_deg) / 2) * SIZE_PX / section.render_px)
            )
        )
        self.intrinsics = covisibility.intrinsics_from_fov(SIZE_PX, SIZE_PX, hfov)
        self.poses = [view.pose for view in group.views]
        from_opencv = np.diag([1.0, -1.0, -1.0])
        self.depths = [
            engine.render(pose[:3, 3], pose[:3, :3] @ from_opencv, (SIZE_PX, SIZE_PX), hfov).depth_m
            for pose in self.poses
        ]
        y, x = (axis.ravel().astype(float) for axis in np.mgrid[4:SIZE_PX:8, 4:SIZE_PX:8])
        self.points = np.column_stack([x, y])

    def seen(self, a: int, b: int) -> covisibility.Visibility:
        k = self.intrinsics
        return covisibility.look(
            self.points, self.depths[a], self.depths[b], k, k, self.poses[a], self.poses[b], 0.05
        )

    def error_px(self, a: int, b: int, b_from_a: np.ndarray) -> float:
        """Median distance between where the homography and the geometry put what both views see."""
        seen, there = self.seen(a, b), homography.warp(self.points, b_from_a)
        both = seen.visible & (there >= 0).all(axis=1) & (there < SIZE_PX).all(axis=1)
        return (
            float(np.median(np.linalg.norm(there - seen.points_b, axis=1)[both]))
            if both.sum() > 20
            else float("nan")
        )


def test_the_description_says_which_axis_is_up_and_changes_with_it(
    section: config.Scenes, tmp_path: Path
) -> None:
    (tmp_path / "room.glb").write_bytes(glb_writer.to_glb(apartments.build(0, 8.0, 6.5, 2.6, 64)))
    source = SceneSource("rooms", section, tmp_path, SIZE_PX)
    bare = source.describe("room.glb")
    assert bare["note"] == "y is up, as glTF 2.0 says (`up: z` says otherwise)"
    beside = tmp_path / "room.stage_config.json"
    beside.write_text(json.dumps(glb_writer.stage_config("room.glb")))
    said = source.describe("room.glb")
    assert said["note"] == "y is up, as its stage_config.json says"
    beside.write_text(json.dumps({**glb_writer.stage_config("room.glb"), "units_to_meters": 0.5}))
    scaled = source.describe("room.glb")
    assert len({bare["digest"], said["digest"], scaled["digest"]}) == 3
    (tmp_path / "alone.stage_config.json").write_text("{}")
    assert source.clips() == ["room.glb"]
    assert source.skipped == {"alone.stage_config.json": "not a .glb scene"}
    beside.write_text("{")
    damaged = source.describe("room.glb")
    assert damaged["note"] is None
    assert "room.stage_config.json: not readable as JSON" in str(damaged["error"])


def test_the_description_counts_what_is_drawn_opaque(
    section: config.Scenes, tmp_path: Path
) -> None:
    wall(tmp_path / "fence.glb", {"alphaMode": "MASK"})
    note = SceneSource("rooms", section, tmp_path, SIZE_PX).describe("fence.glb")["note"]
    assert note == (
        "y is up, as glTF 2.0 says (`up: z` says otherwise); "
        "of 1 materials 1 let light through, drawn opaque"
    )


def test_files_that_a_scene_refers_to_make_it_another_one(
    section: config.Scenes, tmp_path: Path
) -> None:
    """And the navigation mesh, for the engine that takes it; what lies elsewhere is not opened."""
    path = tmp_path / "room.glb"
    path.write_bytes(glb_writer.to_glb(apartments.build(0, 8.0, 6.5, 2.6, 64)))
    tree = gltf.header(path)
    uris = ["walls/a%20b.png", "data:image/png;base64,", "../out.png", "http://x/y.png", 3, []]
    tree["images"] = [*tree.get("images", []), *({"uri": uri} for uri in uris), "none"]
    document = json.dumps(tree).encode()
    path.write_bytes(glb_writer._container(document, bytes(64)))
    (tmp_path / "walls").mkdir()
    (tmp_path / "walls/a b.png").write_bytes(b"1")
    (tmp_path.parent / "out.png").write_bytes(b"1")
    assert gltf.files_beside(path) == [tmp_path.resolve() / "walls/a b.png"]

    def digest(engine: str) -> str:
        numbers = section.model_copy(update={"engine": engine})
        return SceneSource("rooms", numbers, tmp_path, SIZE_PX).describe("room.glb")["digest"]

    before = digest("embree")
    (tmp_path / "walls/a b.png").write_bytes(b"2")
    assert digest("embree") != before
    of_each = {engine: digest(engine) for engine in ("embree", "habitat")}
    (tmp_path / "room.navmesh").write_bytes(b"MESH")
    assert digest("embree") == of_each["embree"]
    assert digest("habitat") != of_each["habitat"]


@pytest.mark.parametrize(
    ("kind", "reader", "layout", "expected"),
    [
        (config.Scenes, "scenes", None, "y"),
        (config.Scans, "hm3d", None, "z"),
        (config.Scans, "gibson", None, "z"),
        (config.Scans, "matterport", None, "z"),
        (config.Covisible, "covisible", "scenes", "y"),
        (config.Covisible, "covisible", "hm3d", "z"),
        (config.Covisible, "covisible", "gibson", "z"),
        (config.Covisible, "covisible", "matterport", "z"),
    ],
)
@pytest.mark.parametrize("engine", ["embree", "habitat"])
def test_every_reader_hands_its_own_upward_axis_to_the_engine(
    repository: Path,
    kind: type[config.SceneBase],
    reader: str,
    layout: str | None,
    expected: str,
    engine: str,
) -> None:
    params = load_params(repository / "profiles/paper.yaml")
    template = next(
        section
        for section in params.sources.values()
        if isinstance(section, kind if layout else config.SceneWalk)
    )
    change = {"reader": reader, "engine": engine} | ({"layout": layout} if layout else {})
    opened: Any = open_engine(
        kind.model_validate({**template.model_dump(), **change}), params.habitat
    )
    assert getattr(opened, "default_up" if engine == "embree" else "_default_up") == expected


def test_habitat_walks_where_its_own_agent_fits(
    section: config.Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However high the camera is: an agent of 1.8 m finds doorways closed."""
    handed: dict[str, Any] = {}

    class Recorder:
        def __init__(self, *_: Any, **named: Any) -> None:
            handed.update(named)

    monkeypatch.setattr(habitat, "Habitat", Recorder)
    numbers = section.model_copy(update={"engine": "habitat", "height_m": (1.2, 1.8)})
    open_engine(
        numbers, config.HabitatRuntime(command=("python",), gpu_device_id=-1, timeout_s=1.0)
    )
    assert (handed["agent_height_m"], handed["agent_radius_m"]) == (1.5, 0.1)
    size_px = (section.render_px, section.render_px)
    assert (handed["size_px"], handed["hfov_deg"]) == (size_px, section.hfov_deg)


@pytest.mark.parametrize(
    ("name", "message"), [("empty.glb", "not a .glb"), ("ceiling.glb", "no walkable floor")]
)
def test_a_scene_that_cannot_be_walked_is_a_named_reason(
    section: config.Scenes, tmp_path: Path, name: str, message: str
) -> None:
    from mimic.synthetic.builder import Builder, Paint

    builder = Builder(np.random.default_rng(0))
    builder.quad((0, 2, 0), (3, 0, 0), (0, 0, 3), Paint(0), builder.new("ceiling"))
    content = (
        b""
        if name == "empty.glb"
        else glb_writer.to_glb(builder.mesh((np.zeros((2, 2, 3), np.uint8),), None))
    )
    (tmp_path / name).write_bytes(content)
    source = SceneSource("rooms", section.model_copy(update={"up": "y"}), tmp_path, SIZE_PX)
    assert (source.describe(name)["error"] is None) == bool(content)
    with pytest.raises(Unreadable, match=message):
        next(source.groups(name, np.random.default_rng(0)))


def test_a_damaged_texture_is_told_before_anything_is_mined(
    section: config.Scenes, tmp_path: Path
) -> None:
    """Its tail is zeros, as of a copy that a power loss cut off."""
    data = encoded("WEBP", image())
    kept = len(data) // 2
    textured(tmp_path / "room.glb", "WEBP", data[:kept] + bytes(len(data) - kept))
    source = SceneSource("rooms", section, tmp_path, SIZE_PX)
    assert "room.glb: damaged .glb (texture image 0" in str(source.describe("room.glb")["error"])
    with pytest.raises(Unreadable, match="texture image 0"):
        next(source.groups("room.glb", np.random.default_rng(0)))


def test_bad_settings_and_folders_are_one_clear_line(
    section: config.Scenes, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="render_px: 256 is less than"):
        SceneSource("rooms", section, tmp_path, 300)
    (tmp_path / "readme.txt").write_text("")
    with pytest.raises(BadInput, match="no .glb scene"):
        SceneSource("rooms", section, tmp_path, SIZE_PX).clips()
