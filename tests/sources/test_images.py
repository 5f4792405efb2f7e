from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from mimic import sources
from mimic.errors import BadInput
from mimic.params import Params, load_params
from mimic.sources import images
from mimic.sources.base import NoCandidates, Unreadable, numeric_order
from tests.support import footage

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _source(params: Params, root: Path, **change: Any) -> sources.Source:
    return sources.open_source(
        "frames", footage.images_section(params, root, **change), Path(), 224
    )


def _candidates(source: sources.Source, clip: str) -> list[tuple[str, str]]:
    found = []
    for group in source.groups(clip, RNG):
        assert len(group.pairs) == 1
        a, b = group.pairs[0]
        found.append((group.views[a].key, group.views[b].key))
    return found


def _touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")


def test_frames_count_by_number_not_by_name(tmp_path: Path, params: Params) -> None:
    _touch(tmp_path / "a", *(f"{number}.jpg" for number in range(1, 13)))
    source = _source(params, tmp_path, stride=5, advance=5)
    assert _candidates(source, "a") == [("1.jpg", "6.jpg"), ("6.jpg", "11.jpg")]


def test_a_gap_makes_no_pair_of_distant_frames(tmp_path: Path, params: Params) -> None:
    _touch(tmp_path / "a", *(f"frame{number:06}.jpg" for number in [3, 4, 5, 8, 9]))
    assert _candidates(_source(params, tmp_path, stride=1, advance=1), "a") == [
        ("frame000003.jpg", "frame000004.jpg"),
        ("frame000004.jpg", "frame000005.jpg"),
        ("frame000008.jpg", "frame000009.jpg"),
    ]


def test_exports_of_every_fifth_frame_and_names_with_times(tmp_path: Path, params: Params) -> None:
    _touch(tmp_path / "fifth", *(f"frame-{5 * number:06}.color.jpg" for number in range(4)))
    _touch(tmp_path / "times", *(f"40753679_{6845.7 + number / 60:.3f}.png" for number in range(4)))
    source = _source(params, tmp_path, stride=2, advance=1)
    assert _candidates(source, "fifth")[0] == ("frame-000000.color.jpg", "frame-000010.color.jpg")
    assert _candidates(source, "times") == [
        ("40753679_6845.700.png", "40753679_6845.733.png"),
        ("40753679_6845.717.png", "40753679_6845.750.png"),
    ]


def test_colour_is_never_paired_with_depth(tmp_path: Path, params: Params) -> None:
    _touch(
        tmp_path / "a",
        *(
            f"frame-{number:06}.{kind}"
            for number in range(3)
            for kind in ("color.jpg", "depth.png")
        ),
    )
    found = _candidates(_source(params, tmp_path, stride=1, advance=1), "a")
    assert len(found) == 4
    assert all(a.split(".")[1] == b.split(".")[1] for a, b in found)
    assert (
        len(_candidates(_source(params, tmp_path, stride=1, advance=1, glob="*.color.jpg"), "a"))
        == 2
    )


DEPTH_MAP = "a depth map, no photograph"


def _save(path: Path, *modes: str) -> None:
    """Pictures `path` with a number in place of #, of these modes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, mode in enumerate(modes):
        pillow.new(mode, (8, 8)).save(str(path).replace("#", str(number)))


@pytest.mark.parametrize("pairing", ["all", "neighbours"])
def test_depth_maps_beside_photographs_are_left_out_and_named(
    tmp_path: Path, params: Params, pairing: str
) -> None:
    _save(tmp_path / "#.png", "RGB", "RGB", "RGB")
    _save(tmp_path / "#_depth.png", "I;16", "I;16")
    _save(tmp_path / "disp-#.png", "L", "L")
    source = _source(params, tmp_path, pairing=pairing, glob="*", stride=1, advance=1)
    assert source.clips() == ["."]
    maps = ("0_depth.png", "1_depth.png", "disp-0.png", "disp-1.png")
    assert source.skipped == dict.fromkeys(maps, DEPTH_MAP)
    assert source.describe(".")["frames"] == 3
    further = {("0.png", "2.png")} if pairing == "all" else set()
    assert set(_candidates(source, ".")) == {("0.png", "1.png"), ("1.png", "2.png")} | further


@pytest.mark.parametrize("pairing", ["all", "neighbours"])
def test_depth_maps_of_7_scenes_are_left_out_and_named(
    tmp_path: Path, params: Params, pairing: str
) -> None:
    """A dot stands before the kind, and the photographs are of another format."""
    _save(tmp_path / "seq-01/frame-00000#.color.jpg", "RGB", "RGB", "RGB")
    _save(tmp_path / "seq-01/frame-00000#.depth.png", "I;16", "I;16", "I;16")
    source = _source(params, tmp_path, pairing=pairing, glob="*", stride=1, advance=1)
    assert source.clips() == ["seq-01"]
    maps = [f"seq-01/frame-00000{number}.depth.png" for number in range(3)]
    assert source.skipped == dict.fromkeys(maps, DEPTH_MAP)
    photos = [f"frame-00000{number}.color.jpg" for number in range(3)]
    further = {(photos[0], photos[2])} if pairing == "all" else set()
    assert set(_candidates(source, "seq-01")) == {*itertools.pairwise(photos)} | further


@pytest.mark.parametrize(
    "name", ["depths", "Depth", "depthmap", "depth_maps", "disps", "disparities", "rawDepth_01"]
)
def test_depth_maps_are_known_by_every_usual_name(
    tmp_path: Path, params: Params, name: str
) -> None:
    """Also where the first of them cannot be opened: it tells nothing of the others."""
    _save(tmp_path / name / "#.png", "I;16", "I;16", "I;16")
    (tmp_path / name / "0.png").write_bytes(b"")
    _save(tmp_path / "deepths/#.png", "L", "L")
    source = _source(params, tmp_path, pairing="all", glob="*")
    assert set(source.clips()) == {name, "deepths"}
    with pytest.raises(NoCandidates, match="no photographs"):
        _candidates(source, name)
    assert len(_candidates(source, "deepths")) == 1
    assert source.skipped == dict.fromkeys((f"{name}/{n}.png" for n in range(3)), DEPTH_MAP)


def test_a_depth_map_has_one_channel_and_the_word_in_its_name(
    tmp_path: Path, params: Params
) -> None:
    _save(tmp_path / "rgb/deep_#.png", "L", "L")  # grey photographs
    _save(tmp_path / "rgb/depth_of_field_#.png", "RGB", "RGB")  # a photograph of that name
    _save(tmp_path / "depth/#.png", "I;16", "I;16")
    source = _source(params, tmp_path, pairing="all", glob="*")
    assert source.clips() == ["depth", "rgb"]
    assert source.skipped == dict.fromkeys(("depth/0.png", "depth/1.png"), DEPTH_MAP)
    assert len(_candidates(source, "rgb")) == 6
    with pytest.raises(NoCandidates, match="no photographs"):
        _candidates(source, "depth")


def test_retries_are_offered_at_other_distances(tmp_path: Path, params: Params) -> None:
    _touch(tmp_path / "a", *(f"{number}.jpg" for number in range(6)))
    group = next(
        _source(params, tmp_path, stride=1, advance=1, retry_strides=(2, 4, 8)).groups("a", RNG)
    )
    assert [view.key for view in group.views] == ["0.jpg", "1.jpg", "2.jpg", "4.jpg"]
    assert group.retry == ((0, 2), (0, 3))


def test_sets_try_all_pairs(tmp_path: Path, params: Params) -> None:
    _touch(tmp_path / "a", "x.jpg", "y.jpg", "z.png")
    assert _candidates(_source(params, tmp_path, pairing="all"), "a") == [
        ("x.jpg", "y.jpg"),
        ("x.jpg", "z.png"),
        ("y.jpg", "z.png"),
    ]


def test_a_large_set_tries_the_next_ones_in_time_and_says_so(
    tmp_path: Path, params: Params
) -> None:
    """As many pairs as a set of group_max images has; where cameras say when, in that order, else
    in order of names."""
    names = [f"{letter}.jpg" for letter in "abcdefghijkl"]
    hours = dict(zip(names, [7, 3, 11, 0, 5, 1, 9, 2, 10, 4, 8, 6], strict=True))
    for timed in (True, False):
        folder = tmp_path / ("timed" if timed else "named")
        folder.mkdir()
        for name in names:
            exif = pillow.Exif()
            if timed:
                exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 {hours[name]:02}:00:00"
            pillow.new("RGB", (8, 8)).save(folder / name, exif=exif)
        order = sorted(names, key=lambda name: hours[name]) if timed else names
        source = _source(
            params, tmp_path, pairing="all", group_max=8
        )  # 28 pairs: 2 of each of 12 images
        found = _candidates_of(source, folder.name)
        assert found == [(order[a], order[b]) for a in range(12) for b in (a + 1, a + 2) if b < 12]
        assert source.describe(folder.name)["error"] is None
    source.clips()
    assert sorted(source.skipped) == ["named", "timed"]
    assert all(
        word in source.skipped["named"]
        for word in ("12 images make 66 pairs", "only the 2 next", "raise group_max")
    )


def _candidates_of(source: sources.Source, clip: str) -> list[tuple[str, str]]:
    return [
        (group.views[a].key, group.views[b].key)
        for group in source.groups(clip, RNG)
        for a, b in group.pairs
    ]


def test_every_folder_with_images_is_a_clip(tmp_path: Path, params: Params) -> None:
    for folder in ("scene/10", "scene/9", "other", ".hidden"):
        _touch(tmp_path / folder, "0.jpg", "1.JPG", "notes.txt", "._0.jpg")
    _touch(tmp_path / "empty")
    source = _source(params, tmp_path)
    assert source.clips() == ["other", "scene/9", "scene/10"]
    assert source.describe("other")["frames"] == 2


def test_a_digest_sees_contents_and_names(tmp_path: Path, params: Params) -> None:
    footage.folder(tmp_path / "a", footage.pan(0, 3, 8))
    source = _source(params, tmp_path)
    before = source.describe("a")["digest"]
    assert source.describe("a")["digest"] == before
    file = tmp_path / "a/frame000001.png"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    changed = source.describe("a")["digest"]
    file.rename(tmp_path / "a/frame000007.png")
    assert len({before, changed, source.describe("a")["digest"]}) == 3


@pytest.mark.parametrize("content", ["missing", "empty", "nothing of the kind"])
def test_a_source_without_images_is_one_clear_line(
    tmp_path: Path, params: Params, content: str
) -> None:
    root = tmp_path / "raw"
    if content != "missing":
        root.mkdir()
    if content == "nothing of the kind":
        (root / "readme.txt").write_text("x")
    with pytest.raises(BadInput, match=r"^sources\.frames\.root: [^\n]+$"):
        _source(params, root).clips()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_photos_upright(tmp_path: Path, orientation: int) -> None:
    upright = cv2.resize(
        np.arange(24, dtype=np.uint8).reshape(4, 6) * 10, (60, 40), interpolation=cv2.INTER_NEAREST
    )
    undo = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.T,
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).T,
        8: lambda x: np.rot90(x, -1),
    }[orientation]
    exif = pillow.Exif()
    exif[0x0112] = orientation
    pillow.fromarray(np.ascontiguousarray(undo(upright))).save(
        tmp_path / "a.jpg", exif=exif, quality=100
    )
    assert np.abs(images.read(tmp_path / "a.jpg")[..., 0].astype(int) - upright).mean() < 2


def test_every_kind_of_pixel_becomes_rgb(tmp_path: Path) -> None:
    colour = np.full((8, 8, 3), (200, 100, 50), np.uint8)
    grey = np.full((8, 8), 128, np.uint8)
    pillow.fromarray(np.dstack([colour, np.full((8, 8), 7, np.uint8)])).save(tmp_path / "rgba.png")
    pillow.fromarray(colour).quantize(16).save(tmp_path / "palette.png")
    pillow.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=100)
    pillow.fromarray(grey).save(tmp_path / "grey.png")
    pillow.fromarray(np.dstack([grey, np.full_like(grey, 255)])).save(tmp_path / "opaque.png")
    pillow.fromarray(np.dstack([grey, np.full_like(grey, 7)])).save(tmp_path / "la.png")
    half = np.dstack([np.zeros_like(grey), np.where(np.eye(8) > 0, 255, 127)]).astype(np.uint8)
    pillow.fromarray(half).save(tmp_path / "half.png")
    pillow.fromarray(np.eye(8) > 0).save(tmp_path / "bits.png")
    cv2.imwrite(str(tmp_path / "deep.png"), grey.astype(np.uint16) * 256)
    cv2.imwrite(str(tmp_path / "deep_colour.png"), colour[..., ::-1].astype(np.uint16) * 256)
    for name in ("rgba.png", "palette.png", "cmyk.jpg", "deep_colour.png"):
        image = images.read(tmp_path / name)
        assert image.shape == (8, 8, 3)
        assert image.dtype == np.uint8
        assert np.abs(image.astype(int) - colour).max() <= 3, name
    for name in ("grey.png", "deep.png", "opaque.png", "la.png"):
        assert (images.read(tmp_path / name) == 128).all(), name
    assert {name: pillow.open(tmp_path / name).mode for name in ("la.png", "bits.png")} == {
        "la.png": "LA",
        "bits.png": "1",
    }
    on_white = np.where(np.eye(8) > 0, 0, 128)[..., None]
    assert (images.read(tmp_path / "half.png") == on_white).all()
    assert (images.read(tmp_path / "bits.png") == (255 * np.eye(8))[..., None]).all()


def test_damaged_images_are_unreadable_with_a_reason(tmp_path: Path) -> None:
    pillow.fromarray(footage.pan(0, 1, 8)[0]).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    for name, reason in (
        ("half.jpg", "truncated"),
        ("text.png", "not an image"),
        ("empty.png", "not an image"),
        ("gone.jpg", "No such file"),
    ):
        with pytest.raises(Unreadable, match=reason):
            images.read(tmp_path / name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_damage_raises_nothing_but_unreadable(tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from([".png", ".jpg", ".webp", ".tiff", ".gif", ".bmp"]))
    path = tmp_path / f"a{suffix}"
    pillow.fromarray(footage.pan(0, 1, 8)[0][:16, :16]).save(path)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    try:
        image = images.read(path)
    except Unreadable:
        return
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.dtype == np.uint8


def test_rgba_png_photos(real_data: Path) -> None:
    assert images.read(real_data / "croco_chateau/Chateau1.png").shape[2] == 3


def test_numeric_order() -> None:
    assert sorted(["f10", "f9", "f", "e11", "10", "9"], key=numeric_order) == [
        "9",
        "10",
        "e11",
        "f",
        "f9",
        "f10",
    ]


def test_an_animation_in_a_folder_is_no_photograph_and_named(
    tmp_path: Path, params: Params
) -> None:
    for number in range(2):
        pillow.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    frames = [pillow.new("RGB", (8, 8), (0, 90 * number, 0)) for number in range(3)]
    frames[0].save(tmp_path / "walk.gif", save_all=True, append_images=frames[1:])
    source = _source(params, tmp_path, pairing="all", glob="*")
    assert source.clips() == ["."]
    said = "an animation, which is mined as a video, not among photographs"
    assert source.skipped == {"walk.gif": said}
    assert _candidates(source, ".") == [("0.png", "1.png")]
