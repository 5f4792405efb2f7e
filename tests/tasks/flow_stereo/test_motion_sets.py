"""Official layouts of flow and stereo, written small: which pairs are found, chosen and read, in
which unit; the mixtures of CroCo v2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mimic.errors import BadInput
from mimic.tasks import TASKS
from mimic.tasks.checks import check
from mimic.tasks.flow_stereo import mixture
from mimic.tasks.flow_stereo.config import FlowPart, FlowTask, StereoPart, StereoTask
from mimic.tasks.flow_stereo.files import MotionPair, read, read_pfm
from mimic.tasks.flow_stereo.sets import chosen_pairs, list_pairs, listed_parts, mixed
from mimic.tasks.protocols import overrides

HEIGHT, WIDTH = 24, 40

FLOW_RUN = TASKS["flow"].presets["published"]
STEREO_RUN = TASKS["stereo"].presets["published"]


def flow_part(
    repeat: int, layout: str, folder: str, *, only: Any = None, without: Any = ()
) -> FlowPart:
    fields = {"layout": layout, "folder": folder, "only": only, "without": without}
    return FlowPart.model_validate({**fields, "repeat": repeat})


def stereo_part(
    repeat: int, layout: str, folder: str, *, only: Any = None, without: Any = ()
) -> StereoPart:
    fields = {"layout": layout, "folder": folder, "only": only, "without": without}
    return StereoPart.model_validate({**fields, "repeat": repeat})


def image(path: Path, picture: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((HEIGHT, WIDTH, 3), 90, np.uint8) if picture is None else picture
    assert cv2.imwrite(str(path), picture)


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def flo(path: Path, motion_px: np.ndarray) -> None:
    height, width = motion_px.shape[:2]
    head = b"PIEH" + np.array([width, height], "<i4").tobytes()
    write(path, head + motion_px.astype("<f4").tobytes())


def pfm(path: Path, values: np.ndarray) -> None:
    """Written from the bottom row up; three channels for flow."""
    kind = b"PF" if values.ndim == 3 else b"Pf"
    head = kind + b"\n%d %d\n-1.0\n" % values.shape[1::-1]
    write(path, head + np.ascontiguousarray(values[::-1], dtype="<f4").tobytes())


def npy(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def plane(value: float, channels: int = 0) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, channels) if channels else (HEIGHT, WIDTH), value, np.float32)


def names(pairs: list[MotionPair]) -> list[str]:
    return [pair.name for pair in pairs]


def values_of(pairs: list[MotionPair]) -> list[float]:
    """The first number of each truth; both views are read, too."""
    return [float(read(pair, masks=True).motion[0, 0, 0]) for pair in pairs]


# ---------------------------------------------------------------------------- flow


def things(folder: Path) -> None:
    """Two scenes of three frames; the flow of the last frame leads nowhere."""
    for split, frames in (("TRAIN", 3), ("TEST", 3)):
        for kind in ("clean", "final"):
            for frame in range(6, 6 + frames):
                image(folder / f"frames_{kind}pass/{split}/A/0000/left/{frame:04d}.png")
        for direction in ("future", "past"):
            for frame in range(6, 6 + frames):
                name = f"OpticalFlowInto{direction.capitalize()}_{frame:04d}_L.pfm"
                value = frame if direction == "future" else -frame
                pfm(
                    folder / f"optical_flow/{split}/A/0000/into_{direction}/left/{name}",
                    np.dstack([plane(value), plane(1), plane(0)]),
                )


def test_flying_things_in_both_passes_and_directions(tmp_path: Path) -> None:
    things(tmp_path / "T")
    part = flow_part(1, "flying_things", "T", only=("TRAIN",))
    pairs = chosen_pairs("flow", part, tmp_path)
    assert len(pairs) == 2 * 2 * 2  # steps, directions, passes
    for pair, value in zip(pairs, values_of(pairs), strict=True):
        first, second = int(pair.a.stem), int(pair.b.stem)
        assert value == (first if second == first + 1 else -first)
        assert abs(second - first) == 1
    assert {pair.b.stem for pair in pairs} == {"0006", "0007", "0008"}
    one_way = flow_part(1, "flying_things", "T", only=("TRAIN",), without=("final", "into_past"))
    assert names(chosen_pairs("flow", one_way, tmp_path)) == [
        "clean-A-0000-0006-future",
        "clean-A-0000-0007-future",
    ]


def test_what_is_not_on_disk_is_named(tmp_path: Path, flow_task: FlowTask) -> None:
    things(tmp_path / "flow/SceneFlow/FlyingThings")
    for path in (tmp_path / "flow/SceneFlow/FlyingThings/frames_finalpass").rglob("*.png"):
        path.unlink()
    for path in sorted(
        (tmp_path / "flow/SceneFlow/FlyingThings/frames_finalpass").rglob("*"), reverse=True
    ):
        path.rmdir()
    part = FLOW_RUN["train"][1]
    with pytest.raises(
        BadInput, match=r"4 of 8 pairs lack their files, first frames_finalpass.*without.*'final'"
    ) as error:
        chosen_pairs("flow", part, tmp_path / "flow")
    assert "\n" not in str(error.value)
    with pytest.raises(BadInput) as error:
        check(flow_task.model_copy(update={"train": FLOW_RUN["train"]}), tmp_path)
    said = str(error.value)
    assert said.startswith("4 of 4 sets of flow are not there")
    assert all(
        folder in said for folder in ("MPI-Sintel", "FlyingThings", "FlyingChairs", "TartanAir")
    )


def test_tartanair(tmp_path: Path) -> None:
    sequence = tmp_path / "T/office/office/Easy/P001"
    for frame in range(3):
        image(sequence / f"image_left/{frame:06d}_left.png")
    for frame in range(2):
        npy(sequence / f"flow/{frame:06d}_{frame + 1:06d}_flow.npy", plane(frame + 2, 2))
        npy(
            sequence / f"flow/{frame:06d}_{frame + 1:06d}_mask.npy",
            np.zeros((HEIGHT, WIDTH), np.uint8),
        )
    pairs = list_pairs("flow", "tartanair", tmp_path / "T")
    assert values_of(pairs) == [2, 3]
    assert pairs[0].labels == ("office", "Easy")
    assert [(pair.a.name, pair.b.name) for pair in pairs] == [
        ("000000_left.png", "000001_left.png"),
        ("000001_left.png", "000002_left.png"),
    ]
    truth = sequence / "flow/000000_000001_flow.npy"
    whole = truth.read_bytes()
    for content, match in (
        (whole[:200], "whole .npy"),
        (b"x" * 90, "whole .npy"),
        (whole[:0], "empty"),
    ):
        truth.write_bytes(content)
        with pytest.raises(BadInput, match=match):
            read(pairs[0], masks=True)
    npy(truth, np.zeros((HEIGHT, WIDTH, 2), np.int64))
    with pytest.raises(BadInput, match="floating point"):
        read(pairs[0], masks=True)


@pytest.mark.parametrize("name", ["FlyingChairs_train_val.txt", "chairs_split.txt"])
def test_flying_chairs_by_either_list(tmp_path: Path, name: str) -> None:
    for number in (1, 2, 3):
        for view in (1, 2):
            image(tmp_path / f"data/{number:05d}_img{view}.ppm")
        flo(tmp_path / f"data/{number:05d}_flow.flo", plane(number, 2))
    (tmp_path / name).write_text("1\n2\n1\n")
    part = flow_part(1, "flying_chairs", ".", only=("train",))
    assert values_of(chosen_pairs("flow", part, tmp_path)) == [1, 3]
    (tmp_path / "data/00002_flow.flo").unlink()  # the others keep their own lines
    assert values_of(chosen_pairs("flow", part, tmp_path)) == [1, 3]
    (tmp_path / name).write_text("1\n2\n")
    with pytest.raises(BadInput, match="2 lines, none of pair 00003"):
        chosen_pairs("flow", part, tmp_path)


def test_masks_of_sintel_are_a_choice(tmp_path: Path) -> None:
    for frame in (1, 2):
        image(tmp_path / f"training/clean/alley_1/frame_{frame:04d}.png")
    flo(tmp_path / "training/flow/alley_1/frame_0001.flo", plane(3, 2))
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[:5] = 255
    image(tmp_path / "training/invalid/alley_1/frame_0001.png", mask)
    part = flow_part(1, "sintel", ".", without=("final",))
    pair = chosen_pairs("flow", part, tmp_path)[0]
    assert read(pair, masks=False).valid.all()
    assert read(pair, masks=True).valid.sum() == (HEIGHT - 5) * WIDTH


def test_a_few_enormous_vectors_do_not_end_a_training(tmp_path: Path) -> None:
    """Rendered sets have them; CroCo's loss leaves out what is beyond 10,000 px, and so does
    ours."""
    truth = plane(2, 2)
    truth[3, 4] = (4000, -9000)
    for frame in (1, 2):
        image(tmp_path / f"training/clean/alley_1/frame_{frame:04d}.png")
    flo(tmp_path / "training/flow/alley_1/frame_0001.flo", truth)
    pair = list_pairs("flow", "sintel", tmp_path)[0]
    assert read(pair, masks=True).motion[3, 4].tolist() == [4000, -9000]
    flo(tmp_path / "training/flow/alley_1/frame_0001.flo", plane(2**15, 2))
    with pytest.raises(BadInput, match="is it in pixels"):
        read(pair, masks=True)


# ---------------------------------------------------------------------------- stereo


def views(folder: Path, *paths: str) -> None:
    for path in paths:
        image(folder / path)


def driving(folder: Path) -> None:
    for kind in ("clean", "final"):
        for side in ("left", "right"):
            views(folder, f"frames_{kind}pass/15mm_focallength/scene_forwards/fast/{side}/0001.png")
    pfm(folder / "disparity/15mm_focallength/scene_forwards/fast/left/0001.pfm", plane(4))
    pfm(folder / "disparity/15mm_focallength/scene_forwards/fast/right/0001.pfm", plane(-4))


def monkaa(folder: Path) -> None:
    for kind in ("clean", "final"):
        for side in ("left", "right"):
            views(folder, f"frames_{kind}pass/a_rain_of_stones_x2/{side}/0000.png")
    pfm(folder / "disparity/a_rain_of_stones_x2/left/0000.pfm", plane(5))


def sceneflow(folder: Path) -> None:
    for split in ("TRAIN", "TEST"):
        for kind in ("clean", "final"):
            for side in ("left", "right"):
                views(folder, f"frames_{kind}pass/{split}/B/0012/{side}/0006.png")
        pfm(folder / f"disparity/{split}/B/0012/left/0006.pfm", plane(6))


def middlebury_2006(folder: Path) -> None:
    wide = np.full((60, 1300, 3), 90, np.uint8)
    for light in range(1, 4):
        for exposure in range(3):
            for view in (1, 5):
                image(folder / f"Aloe/Illum{light}/Exp{exposure}/view{view}.png", wide)
    image(folder / "Aloe/disp1.png", np.full((60, 1300), 77, np.uint8))


def middlebury_2014(folder: Path) -> None:
    for kind in ("perfect", "imperfect"):
        views(folder, *(f"Bike-{kind}/{name}.png" for name in ("im0", "im1", "im1E", "im1L")))
        pfm(folder / f"Bike-{kind}/disp0.pfm", plane(8))


def middlebury_2021(folder: Path) -> None:
    views(
        folder, "chess1/im0.png", "chess1/im1.png"
    )  # is among the lights once more, and not counted
    for light, names_of in (("F0", ("e0",)), ("L0", ("e0", "e1"))):
        for exposure in names_of:
            views(folder, *(f"chess1/ambient/{light}/im{view}{exposure}.png" for view in (0, 1)))
    pfm(folder / "chess1/disp0.pfm", plane(9))


def eth3d(folder: Path) -> None:
    views(folder, "train/delivery_area_1l/im0.png", "train/delivery_area_1l/im1.png")
    views(folder, "test/lakeside_1l/im0.png", "test/lakeside_1l/im1.png")
    pfm(folder / "train_gt/delivery_area_1l/disp0GT.pfm", plane(3))


def booster(folder: Path) -> None:
    for scene in ("Bathroom", "Case", "Washer"):
        for light in ("im0", "im1"):
            views(
                folder,
                *(f"train/balanced/{scene}/camera_{eye}/{light}.png" for eye in ("00", "02")),
            )
        npy(folder / f"train/balanced/{scene}/disp_00.npy", plane(7))


def middlebury(folder: Path) -> None:
    views(folder, "Vintage/im0.png", "Vintage/im1.png")
    pfm(folder / "Vintage/disp0GT.pfm", plane(11))


def crestereo(folder: Path) -> None:
    views(folder, "tree/00001_left.jpg", "tree/00001_right.jpg")
    image(folder / "tree/00001_left.disp.png", np.full((HEIGHT, WIDTH), 96, np.uint16))


STEREO: dict[
    str, tuple[Callable[[Path], None], int, float]
] = {  # how many pairs, and their disparity
    "driving": (driving, 2, 4),
    "monkaa": (monkaa, 2, 5),
    "sceneflow": (sceneflow, 4, 6),
    "middlebury_2005": (middlebury_2006, 9, 77),
    "middlebury_2006": (middlebury_2006, 9, 77),
    "middlebury_2014": (middlebury_2014, 6, 8),
    "middlebury_2021": (middlebury_2021, 3, 9),
    "middlebury": (middlebury, 1, 11),
    "eth3d": (eth3d, 1, 3),
    "booster": (booster, 6, 7),
    "crestereo": (crestereo, 1, 3),
}


@pytest.mark.parametrize("layout", STEREO)
def test_stereo_layouts(tmp_path: Path, layout: str) -> None:
    make, count, disparity = STEREO[layout]
    make(tmp_path)
    pairs = list_pairs("stereo", layout, tmp_path)
    assert values_of(pairs) == [disparity] * count
    assert len(set(names(pairs))) == count
    assert len({(pair.a, pair.b) for pair in pairs}) == count
    assert all(pair.a != pair.b for pair in pairs)


def test_booster_holds_out_its_last_scenes(tmp_path: Path) -> None:
    booster(tmp_path)
    part = stereo_part(1, "booster", ".", without=("subval",))
    assert names(chosen_pairs("stereo", part, tmp_path)) == ["Bathroom-im0", "Bathroom-im1"]


def test_disparities_that_are_not_above_zero_are_unknown(tmp_path: Path) -> None:
    truth = plane(5)
    truth[0, :4] = (0, -7, np.inf, np.nan)
    views(tmp_path, "Shopvac/im0.png", "Shopvac/im1.png")
    pfm(tmp_path / "Shopvac/disp0.pfm", truth)
    item = read(list_pairs("stereo", "middlebury", tmp_path)[0], masks=True)
    assert item.valid[0, :5].tolist() == [False] * 4 + [True]
    assert item.valid.sum() == HEIGHT * WIDTH - 4
    assert item.motion[0, :5, 0].tolist() == [0, 0, 0, 0, 5]
    pfm(tmp_path / "Shopvac/disp0.pfm", plane(-5))
    with pytest.raises(BadInput, match="of the right view"):
        read(list_pairs("stereo", "middlebury", tmp_path)[0], masks=True)


@pytest.mark.parametrize(
    "head",
    [b"Pf\r\n%d %d\r\n-1.0\r\n", b"Pf\n# by hand\n%d %d\n# of the left\n-1.0\n", b"Pf %d %d -1 "],
)
def test_a_pfm_begins_behind_its_header(tmp_path: Path, head: bytes) -> None:
    """Written on Windows, or with comments; the first byte may be any."""
    truth = np.frombuffer(b"\n\r \x3f" * HEIGHT * WIDTH, "<f4").reshape(HEIGHT, WIDTH)
    write(tmp_path / "a.pfm", head % (WIDTH, HEIGHT) + truth.tobytes())
    np.testing.assert_array_equal(read_pfm(tmp_path / "a.pfm"), truth)


def shifted(width: int, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """View a, and view b in which everything lies `shift` pixels further left."""
    world = np.random.default_rng(shift).integers(0, 256, (30, width + shift, 3), dtype=np.uint8)
    return world[:, :width], world[:, shift:]


@pytest.mark.parametrize(
    ("layout", "scene", "width", "grey"),
    [
        *(
            ("middlebury_2003", scene, 434, 8)
            for scene in ("venus", "poster", "sawtooth", "bull", "barn1", "barn2")
        ),
        ("middlebury_2003", "tsukuba", 384, 16),
        ("middlebury_2003", "teddy", 450, 4),
        ("middlebury_2003", "cones", 900, 2),
        ("middlebury_2003", "cones", 1800, 1),
        ("middlebury_2005", "Art", 1390, 1),
        ("middlebury_2006", "Aloe", 641, 2),
        ("middlebury_2006", "Aloe", 427, 3),
        ("middlebury_2005", "Art", 463, 3),
    ],
)
def test_the_scale_of_each_scene(
    tmp_path: Path, layout: str, scene: str, width: int, grey: int
) -> None:
    """View b fetched by the truth that was read is view a, to the pixel."""
    a, b = shifted(width, 12)
    truth, first, second = (
        ("disp2", "im2", "im6") if layout == "middlebury_2003" else ("disp1", "view1", "view5")
    )
    lights = (
        [""]
        if layout == "middlebury_2003"
        else [f"Illum{i}/Exp{j}/" for i in (1, 2, 3) for j in (0, 1, 2)]
    )
    for light in lights:
        image(tmp_path / f"{scene}/{light}{first}.png", a)
        image(tmp_path / f"{scene}/{light}{second}.png", b)
    image(tmp_path / f"{scene}/{truth}.png", np.full(a.shape[:2], 12 * grey, np.uint8))
    item = read(list_pairs("stereo", layout, tmp_path)[0], masks=True)
    ys, xs = np.mgrid[:30, :width].astype(np.float32)
    fetched = cv2.remap(item.b, xs - item.motion[..., 0], ys, cv2.INTER_LINEAR)
    np.testing.assert_array_equal(fetched[:, 12:], item.a[:, 12:])


def test_a_scene_of_unknown_scale_is_refused(tmp_path: Path) -> None:
    views(tmp_path, "kitchen/im2.png", "kitchen/im6.png")
    image(tmp_path / "kitchen/disp2.png", np.full((HEIGHT, WIDTH), 8, np.uint8))
    with pytest.raises(BadInput, match="kitchen: how its disparity is scaled is not documented"):
        list_pairs("stereo", "middlebury_2003", tmp_path)


# ---------------------------------------------------------------------------- mixtures


def test_the_mixture_of_croco_flow() -> None:
    """Shares of an epoch that follow from CroCo's command and the sets' sizes."""
    sizes = {
        mixture.described(part): part.repeat * mixture.PAIRS[mixture.described(part)]
        for part in FLOW_RUN["train"]
    }
    assert sum(sizes.values()) == 793052
    shares = {name.split()[0]: round(100 * size / 793052) for name, size in sizes.items()}
    assert shares == {"sintel": 10, "flying_things": 41, "flying_chairs": 11, "tartanair": 39}
    assert FLOW_RUN["steps"] == 240 * 30000 // 8
    assert round(FLOW_RUN["warmup"] * FLOW_RUN["steps"]) == 3750


def test_the_mixture_of_croco_stereo() -> None:
    known = [part for part in STEREO_RUN["train"] if part.layout != "booster"]
    pairs = sum(part.repeat * mixture.PAIRS[mixture.described(part)] for part in known)
    assert pairs == 200000 + 2 * 35454 + 30 * 24 + 50 * (45 + 171 + 132 + 335 + 14)
    assert {STEREO_RUN["steps"] / 32} == {
        (pairs + booster_pairs) // 6 for booster_pairs in range(212, 218)
    }


def test_repeats_weigh_and_a_missing_set_is_an_override(
    tmp_path: Path, stereo_task: StereoTask
) -> None:
    eth3d(tmp_path / "e")
    middlebury(tmp_path / "m")
    parts = (stereo_part(3, "eth3d", "e"), stereo_part(2, "middlebury", "m"))
    listed = mixed(parts, listed_parts(stereo_task, parts, tmp_path))
    assert [pair.name for pair in listed] == ["delivery_area_1l"] * 3 + ["Vintage"] * 2
    assert mixture.mixture(parts, [1, 1]) == ["3 * eth3d (1 pairs)", "2 * middlebury (1 pairs)"]
    assert mixture.mixture(STEREO_RUN["train"][:1], [5]) == ["1 * crestereo (5 of 200000 pairs)"]
    task = stereo_task.model_copy(
        update={
            "preset": "published",
            "train": STEREO_RUN["train"],
            "test": STEREO_RUN["test"],
        }
    )
    elsewhere = tuple(
        part.model_copy(update={"folder": Path("other")}) for part in STEREO_RUN["train"]
    )
    assert "train" not in overrides(task.model_copy(update={"train": elsewhere}))
    fewer = overrides(task.model_copy(update={"train": STEREO_RUN["train"][1:]}))
    assert fewer["train"][0] == "1 * sceneflow only TRAIN"
    assert len(fewer["train"]) == 10
