"""Any folder at all: no traceback, and every file is either mined in one clip, once, or named with
the reason."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image as pillow

from mimic import sources
from mimic.commands.own import own_options, own_sources
from mimic.errors import BadInput
from mimic.geometry.overlap import Outcome
from mimic.mining import loop, shard_job
from mimic.mining.stats import MiningStats
from mimic.params import Params, load_params
from mimic.sources import base, images
from mimic.sources.photos import folders
from mimic.sources.photos.sequences import sequences
from tests.support import footage

NOBODY = 65534
FORMATS = {
    ".jpg": "JPEG",
    ".JPG": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".jp2": "JPEG2000",
    ".gif": "GIF",
    ".avif": "AVIF",
}
OTHER = [".txt", ".heic", ".mp4", ".glb", ".jxl", ""]
STEMS = st.one_of(
    st.from_regex(r"\A(IMG_|cam[01]_|img-|)[0-9]{1,4}\Z"),
    st.from_regex(r"\APXL_2024050[12]_0950[0-5][0-9]([0-9]{3})?\Z"),
    st.sampled_from(
        [
            "a",
            "写真",
            "Фото 1",
            "صورة",
            "e\u0301",
            "\u202fPM 3",
            "b\u00a07",
            "👩\u200d🚀",
            "..x",
            ".hidden",
            "tab\there",
            "depth",
            "0.depth",
        ]
    ),
)
KINDS = st.sampled_from(
    ["picture"] * 6
    + [
        "cut",
        "empty",
        "text",
        "folder",
        "link",
        "link",
        "dead",
        "loop",
        "up",
        "outside",
        "pipe",
        "copy",
        "hard",
    ]
)
ENTRIES = st.lists(
    st.tuples(
        STEMS,
        st.sampled_from([*FORMATS, *FORMATS, *OTHER]),
        KINDS,
        st.integers(0, 3),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=14,
)
BYTES: dict[str, bytes] = {}


def _picture(ending: str) -> bytes:
    if ending not in BYTES:
        data = io.BytesIO()
        pillow.fromarray(footage.pan(5, 1, 8)[0][:48, :48]).save(data, FORMATS.get(ending, "PNG"))
        BYTES[ending] = data.getvalue()
    return BYTES[ending]


def _build(root: Path, entries: list[tuple[str, str, str, int, int]]) -> None:
    """Make each entry at one of four depths, or leave it out where its place is taken."""
    there: list[Path] = []
    (root / "store").mkdir(parents=True)
    (root / "store/photo.jpg").write_bytes(_picture(".jpg"))
    places = [root / "raw", root / "raw/x", root / "raw/x/y", root / "raw/0.jpg"]
    for place in places[:3]:
        place.mkdir()
    for stem, ending, kind, depth, number in entries:
        place = places[depth] if places[depth].is_dir() else places[0]
        path = place / f"{stem}{ending}"
        if os.path.lexists(path):
            continue
        target = there[number % len(there)] if there else root / "store/photo.jpg"
        _make(path, kind, ending, target, root)
        there.append(path)


def _make(path: Path, kind: str, ending: str, target: Path, root: Path) -> None:
    match kind:
        case "picture" | "copy":
            path.write_bytes(_picture(ending))
        case "cut":
            path.write_bytes(_picture(ending)[:60])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("not a picture")
        case "folder":
            path.mkdir()
            (path / "1.png").write_bytes(_picture(".png"))
        case "hard" if target.is_file():
            path.hardlink_to(target)
        case "pipe":
            os.mkfifo(path)
        case _:
            aims: dict[str, str | Path] = {
                "dead": "gone",
                "loop": path.name,
                "up": "..",
                "outside": root / "store/photo.jpg",
            }
            path.symlink_to(aims.get(kind, target))


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


@settings(
    max_examples=60,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # what is found is small enough to read
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(ENTRIES, st.sampled_from(["all", "neighbours"]))
def test_every_file_of_any_folder_is_mined_once_or_named(
    tmp_path: Path, params: Params, entries: list[Any], pairing: str
) -> None:
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    _build(root, entries)
    section = footage.images_section(
        params, root / "raw", pairing=pairing, stride=1, advance=1, retry_strides=(2,), group_max=6
    )
    source = sources.open_source("any", section, Path(), 224)
    assert isinstance(source, images.ImageSource)
    try:
        clips = source.clips()
    except BadInput as nothing:
        message = str(nothing)
        assert "\n" not in message
        return
    mined = [path for clip in clips for path in _in_sequences(source, clip, pairing)]
    assert max(Counter(mined).values(), default=0) <= 1
    named = {path for path in source.skipped if path not in clips}
    entries_found = list(_entries(root / "raw"))
    for path in entries_found:
        if (root / "raw" / path).is_dir() and any(
            one.startswith(f"{path}/") for one in (*mined, *source.skipped)
        ):
            # a link to a folder that is entered by no other way: what lies in it is accounted for
            continue
        by_name = sum(
            folders.shown(path) == name or folders.shown(path).startswith(f"{name}/")
            for name in named
        )
        assert (path in mined) + by_name == 1, (path, path in mined, by_name, source.skipped)
    real = Counter(os.path.realpath(root / "raw" / path) for path in mined)
    assert max(real.values(), default=0) <= 1
    _mine(source, clips, params)
    shutil.rmtree(root)


def test_your_own_data_may_be_any_folder(tmp_path: Path, params: Params) -> None:
    """Nothing but a result or one line; a folder a time, for it looks into every file."""

    @settings(max_examples=40, phases=[Phase.reuse, Phase.generate])
    @given(ENTRIES)
    def look(entries: list[tuple[str, str, str, int, int]]) -> None:
        root = Path(tempfile.mkdtemp(dir=tmp_path))
        _build(root, entries)
        try:
            found = own_sources.find_media(
                params, [root / "raw"], own_options.Options(), root / "out"
            )
        except BadInput as nothing:
            message = str(nothing)
            assert "\n" not in message
            return
        clips = [clip.shown for part in found.parts for clip in part.clips]
        assert len(clips) == len(set(clips))

    look()


def _in_sequences(source: images.ImageSource, clip: str, pairing: str) -> list[str]:
    files, _ = images._photographs(source._files(clip), source.root)
    if pairing == "neighbours":
        files = [
            file
            for sequence in sequences(files)
            if len(sequence) > 1
            for file in sequence.files
            if file not in images._alone(sequence, source._section)
        ]
    return [file.relative_to(source.root).as_posix() for file in files]


def _entries(root: Path) -> Iterator[str]:
    """Everything below a root but folders; links are entries, whatever they lead to."""
    for folder, below, files in os.walk(root):
        links = [name for name in below if (Path(folder) / name).is_symlink()]
        for name in (*files, *links):
            yield Path(folder, name).relative_to(root).as_posix()


def _mine(source: images.ImageSource, clips: list[str], params: Params) -> MiningStats:
    """All clips; what is damaged is named, what gives nothing too, and the counts add up."""
    stats, pairs = MiningStats(), 0
    for clip in clips:
        assert base.describe(source, clip)["digest"]
        found = list(loop.mine_clip(source, clip, shard_job.rule_of(params.mine), 0.0, 0, stats))
        pairs += len(found)
        assert bool(found) != (clip in stats.without_pairs)
    stats.check(pairs)
    assert bool(stats.outcomes[Outcome.UNREADABLE]) == bool(stats.unreadable_views)
    assert not stats.damaged
    assert stats.clips == len(clips)
    return stats


@contextmanager
def _without_rights() -> Iterator[None]:
    """As a user for whom permissions count: root may open everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_opened_is_named_and_the_rest_is_mined(params: Params) -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        for name, image in zip(("1", "2", "3", "4"), footage.pan(1, 4, 80), strict=True):
            pillow.fromarray(image).save(root / f"{name}.png")
        (root / "closed").mkdir()
        (root / "closed/1.png").write_bytes(_picture(".png"))
        (root / "linked.png").symlink_to("closed/1.png")
        os.chmod(root, 0o755)
        os.chmod(root / "4.png", 0o000)
        os.chmod(root / "closed", 0o000)
        source = sources.open_source(
            "any", footage.images_section(params, root, pairing="all"), Path(), 224
        )
        with _without_rights():
            clips = source.clips()
            described = base.describe(source, ".")
            stats = MiningStats()
            pairs = list(loop.mine_clip(source, ".", shard_job.rule_of(params.mine), 0.0, 0, stats))
            found = own_sources.find_media(params, [root], own_options.Options(), root / "out")
            listed = folders.files_in(root, {".png"}, dead=True)
        os.chmod(root / "closed", 0o755)
    assert clips == ["."]
    assert source.skipped == {
        "closed": "Permission denied",
        "linked.png": "a link into a folder that may not be entered (Permission denied)",
    }
    assert listed == ["1.png", "2.png", "3.png", "4.png", "linked.png"]
    assert described["error"] == "1 of 4 images cannot be opened, such as 4.png: Permission denied"
    assert len(pairs) == 2
    assert stats.unreadable_views == {(".", "4.png"): "Permission denied"}
    assert found.skipped[f"{root}/closed"] == "Permission denied"


def test_a_file_that_vanishes_is_damage(params: Params, tmp_path: Path) -> None:
    footage.folder(tmp_path / "a", footage.pan(1, 4, 80))
    source = sources.open_source(
        "any", footage.images_section(params, tmp_path, pairing="all"), Path(), 224
    )
    source.clips()
    groups = source.groups("a", np.random.default_rng(0))
    first = next(groups)
    (tmp_path / "a/frame000001.png").unlink()
    with pytest.raises(base.Unreadable, match="No such file"):
        first.views[1].read()
    shutil.rmtree(tmp_path / "a")
    stats = MiningStats()
    assert list(loop.mine_clip(source, "a", shard_job.rule_of(params.mine), 0.0, 0, stats)) == []
    assert stats.damaged == {"a": "No such file or directory"}
    assert base.describe(source, "a")["error"] == "No such file or directory"
