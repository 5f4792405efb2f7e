"""Sequences told from names: every file in exactly one, whatever people, phones and recorders call
their pictures."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic import sources
from mimic.params import load_params
from mimic.sources.photos.sequences import sequences
from tests.support import footage


def _found(*names: str) -> list[list[str]]:
    return [[file.name for file in sequence.files] for sequence in sequences(map(Path, names))]


def test_cameras_of_a_rig_in_one_folder_are_sequences_of_their_own() -> None:
    rig = [f"cam{camera}_{frame:04}.jpg" for frame in range(5) for camera in range(2)]
    assert _found(*rig) == [
        [f"cam{camera}_{frame:04}.jpg" for frame in range(5)] for camera in range(2)
    ]
    behind = [f"{frame:04}_cam{camera}.jpg" for camera in range(3) for frame in range(5)]
    assert _found(*behind) == [
        [f"{frame:04}_cam{camera}.jpg" for frame in range(5)] for camera in range(3)
    ]
    scenes = [
        f"scene{scene:02}_{frame}.png" for scene in range(20) for frame in range(4)
    ]  # the scene changes most
    assert sorted(map(len, _found(*scenes))) == [4] * 20


def test_an_index_counts_and_not_a_number_drawn_beside_it() -> None:
    drawn = np.random.default_rng(0).permutation(90_000)[:40] + 10_000
    index_first = [Path(f"{number:05}_{other}.jpg") for number, other in enumerate(drawn)]
    index_last = [Path(f"{other}_{number:05}.jpg") for number, other in enumerate(drawn)]
    for files in (index_first, index_last):
        (found,) = sequences(sorted(files))
        assert list(found.files) == files
        assert found.steps(None) == list(range(40))
    cameras = [
        Path(f"cam{number % 2}_{number // 2:03}_{other}.jpg") for number, other in enumerate(drawn)
    ]
    assert sorted(map(list, (found.files for found in sequences(sorted(cameras))))) == [
        cameras[::2],
        cameras[1::2],
    ]
    alone = [Path(f"{other}.jpg") for other in drawn]
    (found,) = sequences(alone)
    assert list(found.files) == sorted(alone, key=lambda file: int(file.stem))


def test_numbers_spelled_in_two_ways_are_two_sequences() -> None:
    both = [f"img_{number}.jpg" for number in range(12)] + [
        f"img_{number:03}.jpg" for number in range(12)
    ]
    assert sorted(_found(*both)) == sorted([both[:12], both[12:]])
    assert sorted(_found("IMG_0.jpg", "IMG_0.JPG")) == [["IMG_0.JPG"], ["IMG_0.jpg"]]
    case = ["0.jpg", "0.JPG", "1.jpg", "1.JPG"]
    assert sorted(map(sorted, _found(*case))) == [["0.JPG", "1.JPG"], ["0.jpg", "1.jpg"]]


@pytest.mark.parametrize(
    "names",
    [
        [
            "PXL_20240501_095002582.jpg",
            "PXL_20240501_235959000.MP.jpg",
            "PXL_20240502_000001004~2.jpg",
        ],
        [
            "IMG_20240501_095002.jpg",
            "IMG_20240501_095002_1.jpg",
            "IMG_20240501_095003.jpg",
            "IMG_20240502_080000.jpg",
        ],
        ["20240501095002.jpg", "20240501095010.jpg", "20240502010000.jpg"],
        [
            "Screenshot 2026-04-15 at 9.59.11 AM.png",
            "Screenshot 2026-04-15 at 12.00.00 PM.png",
            "Screenshot 2026-04-15 at 1.01.11\u202fPM.png",
        ],
        ["Bildschirmfoto 2024-05-01 um 09.50.02.png", "Bildschirmfoto 2024-05-01 um 10.01.00.png"],
        [
            "signal-2024-05-01-09-50-02-123.jpg",
            "signal-2024-05-01-09-50-02-456.jpg",
            "signal-2024-05-02-08-00-00.jpg",
        ],
    ],
)
def test_names_with_the_time_follow_one_another_in_time(names: list[str]) -> None:
    shuffled = random.Random(0).sample(names, len(names))
    assert _found(*shuffled) == [names]
    assert sequences(map(Path, names))[0].steps(None) == list(range(len(names)))


def test_a_number_behind_a_dot_counts_where_it_is_written_as_a_count() -> None:
    def of(names: list[str]) -> list[list[str]]:
        return [[path.stem for path in one.files] for one in sequences(map(Path, names))]

    counted = [f"take1.{number}.jpg" for number in range(1, 26)]
    (found,) = of(sorted(counted))
    assert found == [f"take1.{number}" for number in range(1, 26)]
    takes = [f"v{take}.{number}.jpg" for take in (1, 2) for number in range(1, 13)]
    assert sorted(map(len, of(sorted(takes)))) == [12, 12]
    times = [f"{number * 0.25}.jpg" for number in range(12)]  # 0.0, 0.25, 0.5
    (found,) = of(sorted(times))
    assert found == [f"{number * 0.25}" for number in range(12)]


def test_frames_of_one_moment_are_not_mixed_with_their_depth() -> None:
    names = [
        f"20240501_0950{second:02}_{kind}.png" for second in range(4) for kind in ("color", "depth")
    ]
    assert _found(*names) == [names[0::2], names[1::2]]


def test_a_date_with_a_counter_stays_numbered() -> None:
    names = [f"20240501_{number:06}.jpg" for number in range(0, 300, 2)]  # most are no time of day
    (sequence,) = sequences(map(Path, names))
    assert sequence.steps(None) == list(range(150))
    assert sequence.numbers is not None
    whatsapp = [f"IMG-2024050{day}-WA000{number}.jpg" for day in (1, 2) for number in range(3)]
    assert sorted(map(len, _found(*whatsapp))) == [3, 3]


def test_distances_count_frames_where_the_numbers_do_and_places_where_not() -> None:
    (jittered,) = sequences(
        Path(f"{1.7 + number / 60:.3f}.png") for number in range(200)
    )  # 0.016 and 0.017 apart
    assert jittered.steps(None) == list(range(200))
    (gap,) = sequences(
        Path(f"{1.7 + number / 60:.3f}.png") for number in range(200) if number not in (50, 51)
    )
    assert gap.steps(None)[49:52] == [49, 52, 53]
    (rare,) = sequences(
        Path(f"{number}.jpg") for number in (1, 5, 6, 7, 40, 900, 901)
    )  # of most, nothing is left
    assert rare.steps(None) == list(range(7))
    (epoch,) = sequences(
        Path(f"{number}.jpg")
        for number in (1714557002123, 1714557002999, 1714557090000, 1714557090100, 1714599999999)
    )
    assert epoch.steps(None) == [0, 1, 2, 3, 4]
    (nanoseconds,) = sequences(
        Path(f"{1403636579763555584 + 50_000_000 * number}.png") for number in range(9)
    )
    assert nanoseconds.steps(None) == list(range(9))


NAMES = st.lists(
    st.from_regex(
        r"\A(IMG|cam|写真|img)?[-_ ]?[0-9]{0,9}[-_ ]?([0-9]{0,6})(\.color|\.depth|~2| "
        r"\(1\))?\.(jpg|JPG|png)\Z"
    ),
    unique=True,
    max_size=40,
)


@given(NAMES)
def test_every_file_with_a_number_is_in_exactly_one_sequence(names: list[str]) -> None:
    found = [file.name for sequence in sequences(map(Path, names)) for file in sequence.files]
    assert len(found) == len(set(found))
    assert {
        name for name in names if any(letter in "0123456789" for letter in Path(name).stem)
    } == set(found)
    for sequence in sequences(map(Path, names)):
        steps = sequence.steps(None)
        assert steps[0] == 0
        assert steps == sorted(set(steps))


# What was mined of folders like these stays what it is: the candidates of three sections, as they
# were found by version 0.1.
GROUPS = {
    "plain": ([f"{number:04}.jpg" for number in range(80)], "607eb0089c8b86b8"),
    "unpadded": ([f"{number}.png" for number in range(1, 61)], "53eb0dbe7d28d0cf"),
    "kinds": (
        [
            f"frame-{number:06}.{kind}"
            for number in range(50)
            for kind in ("color.jpg", "depth.png")
        ],
        "08e32ea2889dea51",
    ),
    "fifth": ([f"frame-{5 * number:06}.color.jpg" for number in range(40)], "34959162c0832250"),
    "counter and time": (
        [f"frame_{number:04}_{1000 + number * 33.3:.1f}.png" for number in range(40)],
        "c53b929a6b853c94",
    ),
    "scene and number": (
        [f"scene12_take3_{number:03}.tif" for number in range(45)],
        "acc6c5f8c1c2f2ba",
    ),
    "two kinds": (
        [f"{side}_{number:03}.png" for side in ("left", "right") for number in range(40)],
        "4a0e18d6f9517702",
    ),
    "seconds": (
        [f"{1305031102.175304 + number * 0.0333:.6f}.png" for number in range(60)],
        "35e99bd2156de7f6",
    ),
}


@pytest.mark.parametrize("kind", GROUPS)
def test_the_candidates_of_well_named_folders_are_what_they_were(
    repository: Path, tmp_path: Path, kind: str
) -> None:
    params = load_params(repository / "params.yaml")
    names, digest = GROUPS[kind]
    (tmp_path / "raw/c").mkdir(parents=True)
    for name in names:
        (tmp_path / "raw/c" / name).write_bytes(b"x")
    found = []
    for stride, retry, advance in ((1, (2, 4, 8, 16, 32), 1), (5, (), 5), (2, (3,), 3)):
        change = {"stride": stride, "retry_strides": retry, "advance": advance}
        source = sources.open_source(
            "f", footage.images_section(params, tmp_path / "raw", **change), Path(), 224
        )
        groups = source.groups("c", np.random.default_rng(0))
        found.append(
            [[[view.key for view in group.views], group.pairs, group.retry] for group in groups]
        )
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16] == digest


SECONDS = range(5)
RIGS = {
    "before the moment": [f"cam{c}_20240501_1200{s:02d}.jpg" for c in (0, 1) for s in SECONDS],
    "a moment a camera": [
        f"cam{c}_20240501_1200{s:02d}{3 * c:03d}.jpg" for c in (0, 1) for s in SECONDS
    ],
    "behind the moment": [f"20240501_1200{s:02d}_cam{c}.jpg" for c in (0, 1) for s in SECONDS],
    "words in turn": [
        f"20240501_1200{s:02d}{5 * i:03d}_{word}.jpg"
        for i, word in enumerate(("left", "right"))
        for s in SECONDS
    ],
    "a clock": [f"cam{c}_{1714560000000 + 100 * s + c}.jpg" for c in (0, 1) for s in SECONDS],
}


@pytest.mark.parametrize("names", RIGS.values(), ids=RIGS)
def test_each_camera_of_a_rig_is_a_sequence(names: list[str]) -> None:
    """Names come camera by camera, each in order of time."""
    found = sequences(map(Path, reversed(names)))
    parts = sorted([file.name for file in sequence.files] for sequence in found)
    assert parts == sorted([names[: len(SECONDS)], names[len(SECONDS) :]])


def test_takes_of_one_picture_each_are_one_sequence() -> None:
    for names in (
        [f"take{take}_20240501_1200{take:02d}.jpg" for take in range(1, 5)],
        [f"20240501_1200{second:02d}{more}.jpg" for second, more in enumerate(["", ".MP", ""])],
    ):
        (found,) = sequences(map(Path, names))
        assert [file.name for file in found.files] == names


def test_a_fraction_of_a_second_is_one() -> None:
    names = ["2024-05-01 12-00-00.25.jpg", "2024-05-01 12-00-00.5.jpg", "2024-05-01 12-00-01.jpg"]
    (found,) = sequences(map(Path, reversed(names)))
    assert [file.name for file in found.files] == names


@pytest.mark.parametrize("fps", [24, 25, 30, 60, 29.97])
def test_rounded_times_of_a_steady_camera_have_no_gaps(fps: float) -> None:
    """Whole milliseconds drift against their median either way; a frame that is missing is one."""
    names = [f"{round(1000 * number / fps):08d}.jpg" for number in range(3000)]
    (sequence,) = sequences(map(Path, names))
    assert sequence.steps(None) == list(range(3000))
    del names[1500]
    (sequence,) = sequences(map(Path, names))
    assert sequence.steps(None) == [*range(1500), *range(1501, 3000)]
