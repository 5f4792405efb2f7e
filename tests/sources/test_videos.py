from __future__ import annotations

import functools
import gc
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from mimic import sources
from mimic.errors import BadInput
from mimic.params import Params, load_params
from mimic.sources import videos
from mimic.sources.base import Unreadable
from mimic.sources.precomputed import pair_index
from mimic.sources.video import sampling, side_data
from mimic.sources.video.sampling import Sampled
from tests.support import footage

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _times(path: Path, spacing_s: float) -> list[float]:
    return [round(time_s, 3) for time_s, _ in videos.sample(path, spacing_s)]


def test_frames_are_taken_by_the_clock(tmp_path: Path) -> None:
    path = footage.video(tmp_path / "a.mp4", footage.pan(0, 11, 8), fps=4)
    assert _times(path, 1.0) == [0.0, 1.0, 2.0]
    assert _times(path, 0.5) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert _times(path, 0.3) == [
        0.0,
        0.5,
        0.75,
        1.0,
        1.25,
        1.5,
        2.0,
        2.25,
        2.5,
    ]  # the first frame at or after each, none twice


def test_groups_pair_each_frame_with_the_next_and_retry_with_the_one_after(
    tmp_path: Path, params: Params
) -> None:
    footage.video(tmp_path / "a.mp4", footage.pan(0, 8, 8), fps=2)
    section = footage.videos_section(params, tmp_path, spacing_s=1.0, retry_spacing_s=2.0)
    source = sources.open_source("phone", section, Path(), 224)
    groups = list(source.groups("a.mp4", RNG))
    assert [[view.key for view in group.views] for group in groups] == [
        ["0.000", "1.000", "2.000"],
        ["1.000", "2.000", "3.000"],
        ["2.000", "3.000"],
    ]
    assert [(group.pairs, group.retry, group.skip_after_retry) for group in groups] == [
        (((0, 1),), ((0, 2),), 1),
        (((0, 1),), ((0, 2),), 1),
        (((0, 1),), (), 0),
    ]


def test_few_frames_are_alive_at_a_time(tmp_path: Path, params: Params) -> None:
    """Memory must not grow with the length of a video."""
    import weakref

    footage.video(tmp_path / "a.mp4", footage.pan(0, 30, 8), fps=1)
    source = sources.open_source("phone", footage.videos_section(params, tmp_path), Path(), 224)
    alive: list[weakref.ref] = []
    for group in source.groups("a.mp4", RNG):
        alive += [weakref.ref(view.read()) for view in group.views]
        assert len({id(reference()) for reference in alive if reference() is not None}) <= 4


def test_captions_are_cut_off_below(tmp_path: Path, params: Params) -> None:
    footage.video(tmp_path / "a.mp4", footage.pan(0, 4, 8), fps=1)
    source = sources.open_source(
        "phone", footage.videos_section(params, tmp_path, crop_bottom=0.2), Path(), 224
    )
    assert next(source.groups("a.mp4", RNG)).views[0].read().shape == (180, 224, 3)


@pytest.mark.parametrize(("height", "kept"), [(288, 231), (240, 192), (1080, 864), (1, 1)])
def test_rows_cut_off_are_truncated(height: int, kept: int) -> None:
    """The published script keeps image[:-int(0.2 * height)]."""
    frames = [Sampled(float(second), np.zeros((height, 8, 3), np.uint8)) for second in range(2)]
    assert next(iter(videos.spaced(frames, 1.0, 1, 0.2))).views[0].read().shape[0] == kept


def test_a_retry_between_frames_is_refused(tmp_path: Path, params: Params) -> None:
    with pytest.raises(BadInput, match=r"retry_spacing_s: 1.5 is no multiple"):
        sources.open_source(
            "phone",
            footage.videos_section(params, tmp_path, spacing_s=1.0, retry_spacing_s=1.5),
            Path(),
            224,
        )


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_display_matrix_is_applied_once(quarters: int, mirrored: bool) -> None:
    """Every turn and mirror image a phone can write, as ISO 14496-12 defines the matrix: (p, q)
    goes to (a p + c q, b p + d q)."""
    turn = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), quarters) @ np.diag(
        [-1 if mirrored else 1, 1]
    )
    stored = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    shown = side_data.turned(stored, turn[0, 0], turn[1, 0], turn[0, 1], turn[1, 1])
    corners = np.array(list(itertools.product(range(6), range(4)))) @ turn.T
    corners -= corners.min(axis=0)
    for (p, q), (column, row) in zip(itertools.product(range(6), range(4)), corners, strict=True):
        assert (shown[row, column] == stored[q, p]).all()


def test_real_clip_with_a_display_matrix_comes_out_upright(real_data: Path) -> None:
    clip = real_data / "seven_scenes_kitchen/kitchen_dev_displaymatrix90.mp4"
    _, image = next(videos.sample(clip, 1.0))
    original = cv2.imread(str(real_data / "seven_scenes_kitchen/frames/frame-000000.color.jpg"))[
        ..., ::-1
    ]
    upright = cv2.rotate(original, cv2.ROTATE_90_COUNTERCLOCKWISE)
    assert image.shape == (640, 480, 3)
    assert np.abs(image.astype(int) - upright).mean() < 4
    opened = cv2.VideoCapture(str(clip))  # which applies the matrix too
    assert (opened.read()[1][..., ::-1] == image).all()


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("tree.avi", 30),  # announces 444 frames, decodes 68
        ("sample_sorenson.mov", 5),
        ("sample_sorenson.avi", 5),
        ("big_buck_bunny.mov", 6),
        ("big_buck_bunny.mp4", 6),
        ("realshort.mp4", 2),
    ],
)
def test_real_containers(real_data: Path, name: str, frames: int) -> None:
    assert len(_times(real_data / "videos" / name, 1.0)) == frames


def test_damage_in_the_middle_keeps_the_rest_and_is_told(tmp_path: Path, real_data: Path) -> None:
    whole = (real_data / "seven_scenes_kitchen/kitchen_000000-000299_30fps.mp4").read_bytes()
    half, most = len(whole) // 2, len(whole) * 3 // 4
    (tmp_path / "a.mp4").write_bytes(whole[:half] + bytes(most - half) + whole[most:])
    times: list[Any] = []
    with pytest.raises(Unreadable, match="damaged packets or frames"):
        times.extend(time_s for time_s, _ in videos.sample(tmp_path / "a.mp4", 1.0))
    assert len(times) == 7  # of those between the damage and the next key frame, none


def test_truncated_files(tmp_path: Path, real_data: Path) -> None:
    whole = (real_data / "seven_scenes_kitchen/kitchen_000000-000299_30fps.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(
        whole[: len(whole) // 2]
    )  # without the index at its end, nothing can be read
    with pytest.raises(Unreadable):
        _times(tmp_path / "a.mp4", 1.0)
    whole = (real_data / "videos/sample_sorenson.avi").read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: len(whole) // 2])
    found: list[Any] = []
    with pytest.raises(Unreadable, match="1 damaged"):
        found.extend(time_s for time_s, _ in videos.sample(tmp_path / "a.avi", 1.0))
    assert len(found) == 3


def test_sound_alone_is_no_video(tmp_path: Path, params: Params) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    source = sources.open_source("phone", footage.videos_section(params, tmp_path), Path(), 224)
    assert source.describe("a.mp4")["error"] == "no video stream"


def test_inventory_of_good_and_bad_files(tmp_path: Path, params: Params) -> None:
    footage.video(tmp_path / "b/10.MP4", footage.pan(0, 4, 8), fps=1)
    footage.video(tmp_path / "b/9.mp4", footage.pan(1, 4, 8), fps=1)
    (tmp_path / "text.mov").write_text("no video at all")
    (tmp_path / "._9.mp4").write_text("what a Mac leaves beside a file")
    source = sources.open_source("phone", footage.videos_section(params, tmp_path), Path(), 224)
    assert source.clips() == ["b/9.mp4", "b/10.MP4", "text.mov"]
    found = {clip: source.describe(clip) for clip in source.clips()}
    assert found["b/9.mp4"]["error"] is None
    assert found["b/9.mp4"]["frames"] == 4
    assert found["b/9.mp4"]["digest"] != found["b/10.MP4"]["digest"]
    assert "Invalid data" in str(found["text.mov"]["error"])


@pytest.mark.parametrize(
    ("name", "form", "codec", "fps"),
    [
        ("a.3g2", None, "mpeg4", 10),
        ("a.f4v", "mp4", "mpeg4", 10),
        ("a.qt", "mov", "mpeg4", 10),
        ("a.divx", "avi", "mpeg4", 10),
        ("a.mk3d", "matroska", "mpeg4", 10),
        ("a.ogm", "ogg", "libvpx", 10),
        ("a.rm", None, "rv20", 10),
        ("a.vob", "vob", "mpeg2video", 25),
        ("a.mpe", "mpeg", "mpeg1video", 25),
        ("a.tod", "mpegts", "mpeg2video", 25),
        ("a.m2t", "mpegts", "mpeg2video", 25),
        ("a.mxf", "mxf", "mpeg2video", 25),
        ("a.nut", None, "mpeg4", 10),
        ("a.wtv", None, "mpeg2video", 25),
        ("a.avc", "h264", "libx264", 10),
        ("a.ivf", None, "libvpx", 10),
        ("a.m1v", "mpeg1video", "mpeg1video", 25),
        ("a.m2v", "mpeg2video", "mpeg2video", 25),
        ("a.mjpg", "mjpeg", "mjpeg", 25),
        ("a.Y4M", "yuv4mpegpipe", "wrapped_avframe", 10),
    ],
)
def test_containers_and_streams_are_found_by_their_names_and_read(
    tmp_path: Path, params: Params, name: str, form: str | None, codec: str, fps: int
) -> None:
    with av.open(str(tmp_path / name), "w", format=form) as container:
        stream = container.add_stream(codec, rate=fps)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 224
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for image in footage.pan(0, fps + 1, 8):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format=stream.pix_fmt
            )
            frame.pts = None
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    source = sources.open_source(
        "phone",
        footage.videos_section(params, tmp_path, spacing_s=0.5, retry_spacing_s=None),
        Path(),
        224,
    )
    assert source.clips() == [name]
    assert source.describe(name)["error"] is None
    assert len(list(source.groups(name, np.random.default_rng(0)))) >= 1


def test_a_list_of_other_files_is_no_video_and_none_of_them_is_read(
    tmp_path: Path, params: Params
) -> None:
    footage.video(tmp_path / "a.mp4", footage.pan(0, 4, 8), fps=1)
    (tmp_path / "b.mp4").write_text("ffconcat version 1.0\nfile 'a.mp4'\n")
    source = sources.open_source("phone", footage.videos_section(params, tmp_path), Path(), 224)
    assert source.describe("a.mp4")["error"] is None
    assert source.describe("b.mp4")["error"] == "a list of other files; give the files themselves"
    with pytest.raises(Unreadable, match="a list of other files"):
        list(videos.sample(tmp_path / "b.mp4", 1.0))


@pytest.mark.parametrize("content", ["missing", "empty", "nothing of the kind"])
def test_a_source_without_videos_is_one_clear_line(
    tmp_path: Path, params: Params, content: str
) -> None:
    root = tmp_path / "raw"
    if content != "missing":
        root.mkdir()
    if content == "nothing of the kind":
        (root / "readme.txt").write_text("x")
        (root / "walk.mp4").symlink_to("gone.mp4")
    source = sources.open_source("phone", footage.videos_section(params, root), Path(), 224)
    with pytest.raises(BadInput, match=r"^sources\.phone\.root: [^\n]+$") as found:
        source.clips()
    if content == "nothing of the kind":
        assert str(found.value).endswith("; passed over: readme.txt (not a video), and 1 more")


def test_reading_is_sequential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass, no seeking."""
    path = footage.video(tmp_path / "a.mp4", footage.pan(0, 12, 8), fps=4)
    opened: list[Any] = []
    monkeypatch.setattr(av, "open", functools.partial(_spy, av.open, opened))
    assert len(_times(path, 1.0)) == 3
    assert len(opened) == 1


def _spy(function: Callable[..., Any], calls: list[Any], *arguments: Any, **named: Any) -> Any:
    calls.append(arguments)
    return function(*arguments, **named)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.mpg"])
def test_a_clip_in_the_middle_is_decoded_from_the_key_frame_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same frames as from the start, of every container; those that can be sought decode a
    part."""
    path = footage.video(
        tmp_path / name,
        [image[:64, :64].copy() for image in footage.pan(0, 300, 1)],
        fps=10 if name != "a.mpg" else 25,
    )
    end_s = 300 / (10 if name != "a.mpg" else 25)
    decoded: list[float] = []
    whole = videos.streams.decoded

    def counting(*arguments: Any, **more: Any) -> Iterator[Any]:
        for frame in whole(*arguments, **more):
            decoded.append(frame.time_s)
            yield frame

    monkeypatch.setattr(videos.streams, "decoded", counting)
    start_s = end_s - 3.05
    middle = list(videos.sample(path, 0.5, start_s, end_s - 1))
    sought = len(decoded)
    monkeypatch.setattr(sampling, "SOUGHT_FROM_S", 1e9)
    before = list(videos.sample(path, 0.5, start_s, end_s - 1))
    assert [time_s for time_s, _ in middle] == [time_s for time_s, _ in before]
    assert len(middle) >= 4
    assert all((a == b).all() for (_, a), (_, b) in zip(middle, before, strict=True))
    if name in ("a.mp4", "a.mkv", "a.avi"):
        assert sought < 60


def test_an_index_is_read_clip_by_clip(tmp_path: Path) -> None:
    """Rows of a clip apart from one another, quoted, with other line ends; what is kept grows with
    runs of clips, not with rows."""
    rows = [
        f"set/{clip}/{number}/0000.jpg,set/{clip}/{number}/0001.jpg"
        for clip in ("a", "b", "a")
        for number in range(1000)
    ]
    path = tmp_path / "index.csv"
    path.write_text(
        "\ufeffpath1,path2\r\n" + "\r\n".join(rows) + '\n"set/c,d/7/0000.jpg",set/c/7/0001.jpg\n'
    )
    index = pair_index.read(path, (0, 0))
    assert {clip: len(places) for clip, places in index.runs.items()} == {
        "set/a": 4,
        "set/b": 2,
        "set/c,d": 2,
    }
    assert [",".join(row[:2]) for row in index.rows("set/a")] == [*rows[:1000], *rows[2000:]]
    assert list(index.rows("set/c,d")) == [("set/c,d/7/0000.jpg", "set/c/7/0001.jpg", "")]
    assert list(index.rows("set/x")) == []
    for text in (
        "path1,path2\na,b,c\n",
        "path1,path1,path2\n",
        'path1,path2\n"a\nb",c\n',
        "path1,path2\n" + "x" * 70000,
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match="not a readable CSV"):
            pair_index.read(path, (1, len(text)))


def test_no_frame_is_held_for_longer_than_it_is_used(tmp_path: Path) -> None:
    """However long the video: frames must not wait for Python to look for cycles."""
    path = footage.video(
        tmp_path / "a.mp4", [image[:64, :64].copy() for image in footage.pan(0, 60, 2)]
    )
    gc.collect()
    gc.disable()
    try:
        held = [
            sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
            for number, _ in enumerate(videos.sample(path, 0.5))
            if number % 20 == 19  # each looks at all that lives in the process
        ]
    finally:
        gc.enable()
    assert len(held) == 3
    assert max(held) <= 4


@pytest.mark.parametrize("ending", ["mp4", "avi", "mxf"])
def test_frames_that_are_stored_in_another_order_have_their_times(
    tmp_path: Path, ending: str
) -> None:
    """AVI and MXF number packets as they are stored; B frames are shown in another order."""
    path = tmp_path / f"a.{ending}"
    _numbered(path, "libx264", 50, {"x264-params": "log-level=none:bframes=3:keyint=25"})
    found = [
        (time_s, round((image.mean() - 20) / 4)) for time_s, image in videos.sample(path, 0.04)
    ]
    assert [number for _, number in found] == list(range(50))
    assert [time_s for time_s, _ in found] == pytest.approx([number / 25 for number in range(50)])


def test_a_hole_in_an_avi_is_named(tmp_path: Path) -> None:
    """Zeros in the middle, as of bad sectors: the frames behind it seem to be earlier."""
    path = tmp_path / "a.avi"
    _numbered(path, "mjpeg", 50, {})
    whole = path.read_bytes()
    begin, end = len(whole) * 2 // 5, len(whole) * 3 // 5
    path.write_bytes(whole[:begin] + bytes(end - begin) + whole[end:])
    with pytest.raises(Unreadable, match=r"of the 50 frames .* are missing, and what lies behind"):
        list(videos.sample(path, 0.04))


def _numbered(path: Path, codec: str, count: int, options: dict[str, str]) -> None:
    """A video, 25 frames a second, whose frames are as bright as their numbers say."""
    noise = np.random.default_rng(0).integers(-2, 3, (120, 160, 3))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = 160, 120
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = options
        for number in range(count):
            pixels = (20 + 4 * number + noise).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
