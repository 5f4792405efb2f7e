"""Pairs that others chose: the released MIMIC sets and CroCo's lists are taken as they are."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as pillow
from pydantic import ValidationError

from mimic import config, ingest, sources
from mimic import mine as stage
from mimic.errors import BadInput
from mimic.geometry.overlap import Outcome
from mimic.infra.storage import Workspace
from mimic.pairs.read import iter_rows
from mimic.params import Params, load_params
from mimic.sources.base import Unreadable
from mimic.sources.precomputed import crops
from tests.support import footage
from tests.support.truth import BASE, mined

RNG = np.random.default_rng(0)
PATCH_MAP = {
    patch + 6: patch for patch in range(196) if patch % 14 < 8
}  # b lies six patches to the right


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _pair(folder: Path, seed: int, correspondences: object = PATCH_MAP) -> None:
    folder.mkdir(parents=True)
    wide = footage.pan(seed, 7, 16)
    for name, image in (("0000.jpg", wide[0]), ("0001.jpg", wide[6])):
        pillow.fromarray(image).save(folder / name, quality=95)
    if correspondences is not None:
        np.save(folder / "corresponding.npy", np.array(correspondences, object))


@pytest.fixture
def release(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    _pair(root / "ScanNet/scene0000_00/0", 0)
    _pair(root / "ScanNet/scene0000_00/10", 1)
    _pair(root / "ScanNet/scene0000_00/9", 2)
    _pair(root / "DeMoN/sun3d_00001", 3, {0: 1, 5: 0})
    _pair(root / "CO3D/110_13051_23361/3", 4, None)  # came without a map
    return root


def _released(root: Path, index: str | None = None) -> sources.Source:
    section = config.Released(
        reader="released", root=root, index=None if index is None else Path(index), **BASE
    )
    return sources.open_source("released", section, Path(), 224)


def test_released_folders_are_pairs_grouped_by_scene(release: Path, params: Params) -> None:
    source = _released(release)
    assert source.clips() == ["CO3D/110_13051_23361", "DeMoN/sun3d_00001", "ScanNet/scene0000_00"]
    assert source.describe("ScanNet/scene0000_00")["frames"] == 6
    pairs, stats = mined(source, "ScanNet/scene0000_00", params.mine)
    assert [pair.a.key for pair in pairs] == [
        f"ScanNet/scene0000_00/{number}/0000.jpg" for number in (0, 9, 10)
    ]
    assert stats.outcomes == {Outcome.KEPT: 3}
    found = pairs[0].comparison
    assert found.b_from_a is None
    assert found.overlap == len(PATCH_MAP) / 196
    assert {a: int(b) for a, b in enumerate(found.correspondences) if b >= 0} == PATCH_MAP


def test_given_pairs_are_kept_whatever_the_rule_thinks(release: Path, params: Params) -> None:
    pairs, stats = mined(_released(release), "DeMoN/sun3d_00001", params.mine)
    assert len(pairs) == stats.kept == 1
    assert pairs[0].comparison.overlap == 2 / 196
    (pair,), _ = mined(
        _released(release), "CO3D/110_13051_23361", params.mine
    )  # measured, for nothing else is known
    assert pair.comparison.b_from_a is not None
    assert abs(pair.comparison.overlap - 8 / 14) < 0.08


def test_an_index_names_the_pairs_and_reaches_nowhere_else(release: Path, params: Params) -> None:
    outside = release.parent / "secret.jpg"
    pillow.fromarray(footage.pan(9, 1, 1)[0]).save(outside)
    scene = "ScanNet/scene0000_00"
    rows = [
        f"{scene}/9/0000.jpg,{scene}/9/0001.jpg,{scene}/9/corresponding.npy",
        f"{scene}/0/0001.jpg,{scene}/0/0000.jpg,",
        f"{scene}/0/0000.jpg,../secret.jpg,",
        f"{scene}/1/0000.jpg,{scene}/1/0001.jpg,",
        f"{scene}/0/0000.jpg,{scene}/0/0001.jpg,/etc/passwd",
    ]
    (release / "index.csv").write_text("path1,path2,correspondence\n" + "\n".join(rows) + "\n")
    source = _released(release, "index.csv")
    assert source.clips() == [scene]
    assert "2 images are missing" in str(source.describe(scene)["error"])
    pairs, stats = mined(source, scene, params.mine)
    assert [(pair.a.key[-10:], pair.b.key[-10:]) for pair in pairs] == [
        ("9/0000.jpg", "9/0001.jpg"),
        ("0/0001.jpg", "0/0000.jpg"),
    ]
    assert stats.outcomes == {Outcome.KEPT: 2, Outcome.UNREADABLE: 3}
    assert (
        pairs[1].comparison.b_from_a is not None
    )  # the map beside the images is of the other order: measured instead
    (release / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput, match="path1 and path2 are needed"):
        _released(release, "index.csv").clips()
    with pytest.raises(BadInput, match=r"missing\.csv: No such file"):
        _released(release, "missing.csv").clips()


def test_pairs_that_all_lie_elsewhere_are_said_to(release: Path, params: Params) -> None:
    (release / "index.csv").write_text(
        "path1,path2\n/data/scene/0/0000.jpg,/data/scene/0/0001.jpg\n"
    )
    source = _released(release, "index.csv")
    (clip,) = source.clips()
    found = source.describe(clip)
    assert found["frames"] == 0
    assert found["error"] == "2 images lie outside the root, such as /data/scene/0/0000.jpg"


class Bomb:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("/tmp/mimic-must-not-exist"),))


@pytest.mark.parametrize(
    "hostile",
    [Bomb(), {0: 196}, {0: 1, 1: 1}, [1, 2], {"0": 1}],
    ids=["code", "range", "twice", "list", "text"],
)
def test_a_map_that_is_none_rejects_its_pair_and_runs_nothing(
    tmp_path: Path, params: Params, hostile: Any
) -> None:
    _pair(tmp_path / "a/b/0", 0, None)
    with (tmp_path / "a/b/0/corresponding.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|O", "fortran_order": False, "shape": ()}
        )
        pickle.dump(
            np.array(hostile, object) if not isinstance(hostile, Bomb) else hostile,
            file,
            protocol=4,
        )
    pairs, stats = mined(_released(tmp_path), "a/b", params.mine)
    assert not pairs
    assert stats.outcomes == {Outcome.UNREADABLE: 1}
    assert not Path("/tmp/mimic-must-not-exist").exists()


def test_another_grid_of_patches_is_one_line(release: Path, params: Params) -> None:
    with pytest.raises(BadInput, match=r"of 196 patches, mine\.size_px and mine\.patch_px make 49"):
        mined(
            _released(release), "DeMoN/sun3d_00001", params.mine.model_copy(update={"patch_px": 32})
        )


def test_released_pairs_go_through_the_pipeline_without_a_homography(
    release: Path, params: Params, tmp_path: Path
) -> None:
    section = config.Released(reader="released", root=release, index=None, **BASE)
    params = params.model_copy(update={"sources": {"published": section}})
    params = params.model_copy(update={"cluster": params.cluster.model_copy(update={"workers": 1})})
    ingest.main(params, tmp_path, "published")
    stage.main(params, tmp_path, "published")
    space = Workspace(tmp_path)
    rows = [
        row
        for file in sorted(space.pairs("published").glob("*.parquet"))
        for row in iter_rows(file)
    ]
    assert len(rows) == 5
    assert sum(row["b_from_a"] is None for row in rows) == 4
    assert json.loads(space.metrics("mine", "published").read_text())["outcomes"]["kept"] == 5


# ---------------------------------------------------------------- CroCo's lists


def _crops(root: Path, file: str, form: Any) -> sources.Source:
    section = config.Crops(
        reader="crops", root=root, list=Path(file), form=form, images=Path("images"), **BASE
    )
    return sources.open_source("croco", section, Path(), 224)


@pytest.fixture
def album(tmp_path: Path) -> list[np.ndarray]:
    views = footage.pan(5, 7, 16)
    for name, image in (
        ("scene/a_1.jpg", views[0]),
        ("scene/a_2.jpg", views[6]),
        ("val/a_1.jpg", views[0]),
    ):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        pillow.fromarray(image).save(tmp_path / "images" / name, quality=98)
    return [views[0], views[6]]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("pairs", "scene/a_1.jpg scene/a_2.jpg\nval/a_1.jpg scene/a_2.jpg\n"),
        ("stems", "# pair_path\nscene/a\n"),
        (
            "crops",
            "# img1, img2, rotation\nscene/a_1.jpg, scene/a_2.jpg, 12\n0, 224, 0, 224, 0, 224, 0, "
            "224\n",
        ),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_listed_pairs_are_kept_and_measured(
    tmp_path: Path, album: list[np.ndarray], params: Params, form: str, text: str, encoding: str
) -> None:
    (tmp_path / "list.txt").write_text(text, encoding=encoding)
    source = _crops(tmp_path, "list.txt", form)
    assert source.clips() == ["scene"]
    assert source.describe("scene")["error"] is None
    (pair,), stats = mined(source, "scene", params.mine)
    assert stats.outcomes == {Outcome.KEPT: 1}
    assert abs(pair.comparison.overlap - 8 / 14) < 0.08
    assert np.abs(pair.image_b.astype(int) - album[1]).mean() < 6


def test_crops_are_cut_and_the_second_is_turned(tmp_path: Path, album: list[np.ndarray]) -> None:
    lines = [
        "scene/a_1.jpg, scene/a_2.jpg, -100",
        "10, 110, 20, 120, 50, 150, 60, 200",
        "0, 300, 0, 224, 0, 224, 0, 224",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    first, second = _crops(tmp_path, "list.txt", "crops").groups("scene", RNG)
    assert np.abs(first.views[0].read().astype(int) - album[0][20:120, 10:110]).mean() < 6
    assert (
        np.abs(first.views[1].read().astype(int) - np.rot90(album[1][60:200, 50:150], -1)).mean()
        < 6
    )
    with pytest.raises(Unreadable, match="not within 224 x 224"):
        second.views[0].read()


def test_another_box_and_another_turn_are_another_clip(
    tmp_path: Path, album: list[np.ndarray]
) -> None:
    """The pictures are the same."""
    digests = set()
    for turn, left in ((12, 0), (12, 10), (90, 0)):
        pair = f"scene/a_1.jpg, scene/a_2.jpg, {turn}\n{left}, 200, 0, 224, 0, 224, 0, 224\n"
        (tmp_path / "list.txt").write_text(pair)
        digests.add(_crops(tmp_path, "list.txt", "crops").describe("scene")["digest"])
    assert len(digests) == 3


def test_another_map_and_another_pairing_are_another_clip(release: Path) -> None:
    """The pictures are the same."""
    clip = "ScanNet/scene0000_00"
    digests = {_released(release).describe(clip)["digest"]}
    np.save(release / clip / "0/corresponding.npy", np.array({3: 4}, object))
    digests.add(_released(release).describe(clip)["digest"])
    for maps in (("0", "9"), ("9", "0")):
        rows = [
            f"{clip}/{pair}/0000.jpg,{clip}/{pair}/0001.jpg,{clip}/{by}/corresponding.npy"
            for pair, by in zip(("0", "9"), maps, strict=True)
        ]
        (release / "index.csv").write_text("\n".join(["path1,path2,correspondence", *rows]))
        digests.add(_released(release, "index.csv").describe(clip)["digest"])
    assert len(digests) == 4


def test_rotations_up_to_sixty_degrees_are_none() -> None:
    assert [
        crops.quarter_turns(degrees) for degrees in (-60, 0, 60, 61, 100, -61, 180, -170, 270)
    ] == [0, 0, 0, 1, 1, 3, 2, 2, 3]


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("pairs", "one"),
        ("crops", "1, 2, 3, 4, 5, 6, 7, 8"),
        ("crops", "a.jpg, b.jpg, north"),
        ("crops", "a, b"),
    ],
)
def test_a_line_of_another_form_is_named(
    tmp_path: Path, album: list[np.ndarray], form: str, line: str
) -> None:
    (tmp_path / "list.txt").write_text(f"\n{line}\n")
    with pytest.raises(BadInput, match=r"list\.txt: line 2 is "):
        _crops(tmp_path, "list.txt", form).clips()


def test_a_list_reaches_nowhere_else(
    tmp_path: Path, album: list[np.ndarray], params: Params
) -> None:
    (tmp_path / "list.txt").write_text(
        "../images/scene/a_1.jpg scene/a_2.jpg\n/etc/hostname scene/a_2.jpg\n"
    )
    source = _crops(tmp_path, "list.txt", "pairs")
    for clip in source.clips():
        _, stats = mined(source, clip, params.mine)
        assert stats.outcomes == {Outcome.UNREADABLE: 1}


def test_boxes_are_of_pixels_as_they_are_stored(tmp_path: Path) -> None:
    """CroCo cuts them out of what the file holds, whatever EXIF says."""
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[:100, :100] = (255, 0, 0)
    exif = pillow.Exif()
    exif[0x0112] = 6
    (tmp_path / "images/s").mkdir(parents=True)
    pillow.fromarray(picture).save(tmp_path / "images/s/plain.png")
    pillow.fromarray(picture).save(tmp_path / "images/s/turned.png", exif=exif)
    lines = ["s/plain.png, s/turned.png, 0", "0, 100, 0, 100, 0, 100, 0, 100"]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    source = _crops(tmp_path, "list.txt", "crops")
    (group,) = source.groups("s", RNG)
    for view in group.views:
        assert np.array_equal(view.read(), picture[:100, :100])


@pytest.mark.parametrize("reader", ["released", "crops"])
def test_no_sharpness_is_asked_of_given_pairs(reader: str) -> None:
    of_reader: dict[str, dict[str, Any]] = {
        "released": {"index": None},
        "crops": {"list": "a", "form": "pairs", "images": "i"},
    }
    stated = {"reader": reader, "root": "x", **BASE, **of_reader[reader], "sharpness_min": 100.0}
    with pytest.raises(ValidationError, match="given pairs are taken as they are; set 0"):
        sources.section_type(reader).model_validate(stated)
