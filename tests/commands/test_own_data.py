"""`mimic pairs` and `mimic pair`, on made footage in any folder and on the real samples."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import webdataset

from mimic import config
from mimic.commands.operation import verify
from mimic.commands.own import own_data, own_options, own_sources
from mimic.errors import BadInput
from mimic.geometry import features, overlap
from mimic.infra import storage
from mimic.mining import shard_job, view_cache
from mimic.pairs import index, select
from mimic.pairs.read import iter_rows, read_image
from mimic.pairs.schema import index_path, shards_in
from mimic.params import Params, load_params
from mimic.sources import videos
from mimic.synthetic import apartments, glb_writer
from tests.support import footage, heif
from tests.support.command import MIMIC, call_mimic, run_mimic


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def test_pairs_from_any_folder_without_a_parameter_file(tmp_path: Path) -> None:
    footage.video(tmp_path / "walk.mp4", footage.pan(0, 6, 80), fps=1)
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80), "IMG_{}.jpg")
    done = run_mimic(tmp_path, "pairs", "walk.mp4", "photos", "--out", "mined", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["candidates"], result["kept"], result["clips"]) == (5 + 6, 5 + 3, 2)
    assert sum(result["outcomes"].values()) == 11
    assert result["seconds"] > 0
    assert json.loads((tmp_path / "mined/_pairs.json").read_text()) == result
    rows = pd.read_parquet(tmp_path / "mined")
    assert len(rows) == len(set(rows["key"])) == 8
    assert set(rows["clip"]) == {"walk.mp4", "."}
    assert [
        path.name
        for path in sorted((tmp_path / "mined").iterdir())
        if not path.name.startswith(".")
    ] == [
        "_images",
        "_index.html",
        "_log.jsonl",
        "_pairs.json",
        "_rejected",
        "shard-00000.parquet",
        "shard-00001.parquet",
    ]
    for tar in shards_in(tmp_path / "mined"):
        for row in iter_rows(index_path(tar)):
            assert read_image(tar, row["offset_b"], row["size_b"]).shape == (224, 224, 3)


def test_others_read_the_result_with_no_code_of_ours(tmp_path: Path, params: Params) -> None:
    """The smallest result, of one shard: as many files of ours beside it as there can be."""
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80))
    out = tmp_path / "out"
    _mined(params, out, tmp_path / "photos")
    keys = pd.read_parquet(out)["key"].tolist()
    assert len(keys) == 3
    assert (
        datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))["train"]["key"] == keys
    )
    tars = {"train": f"{out}/_images/shard-*.tar"}
    images = datasets.load_dataset(
        "webdataset", data_files=tars, cache_dir=str(tmp_path / "cache")
    )["train"]
    assert images["__key__"] == keys
    assert images[0]["a.jpg"].size == (224, 224)
    samples = webdataset.WebDataset(tars["train"].replace("*", "00000"), shardshuffle=False)
    decoded = list(samples.decode("rgb8").to_tuple("__key__", "a.jpg", "b.jpg"))
    assert [key for key, *_ in decoded] == keys
    assert {view.shape for _, *views in decoded for view in views} == {(224, 224, 3)}
    with tarfile.open(
        out / "_images/shard-00000.tar"
    ) as tar:  # WebDataset groups neighbours by what comes before the first dot
        assert tar.getnames() == [f"{key}.{view}.jpg" for key in keys for view in "ab"]


def _mined(params: Params, out: Path, *paths: Path, **said: Any) -> dict:
    own_data.pairs(params, list(paths), out, own_options.Options(**said), as_json=False)
    return json.loads((out / "_pairs.json").read_text())


def _state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Inode and bytes of every file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_ino, path.read_bytes()) for path in files}


# ---------------------------------------------------------------- whose folder it is


def test_the_same_command_again_changes_nothing_and_says_so(tmp_path: Path) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    first = run_mimic(tmp_path, "pairs", "photos", "--out", "out", "--json")
    before = _state(tmp_path / "out")
    again = run_mimic(tmp_path, "pairs", "photos", "--out", "out", "--json")
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert "nothing has changed since out was mined" in again.stderr
    assert _state(tmp_path / "out") == before


def test_the_same_paths_are_mined_again_when_something_changed(
    tmp_path: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    one = _mined(params, tmp_path / "out", tmp_path / "photos")
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80))
    two = _mined(params, tmp_path / "out", tmp_path / "photos")
    assert (one["kept"], two["kept"]) == (2, 3)
    assert "they are mined again" in capsys.readouterr().err
    (tmp_path / "out/_images/shard-00000.tar").unlink()
    (tmp_path / "out/shard-00000.parquet").unlink()
    assert _mined(params, tmp_path / "out", tmp_path / "photos")["kept"] == 3
    assert len(pd.read_parquet(tmp_path / "out")) == 3


def test_pairs_of_other_paths_are_never_replaced(tmp_path: Path, params: Params) -> None:
    for name in ("a", "b"):
        footage.folder(tmp_path / name, footage.pan(1, 3, 80))
    out = tmp_path / "out"
    _mined(params, out, tmp_path / "a")
    before = _state(out)
    with pytest.raises(
        BadInput,
        match=r"holds the pairs of other paths \(.*/a\); "
        r"name a new folder, or delete this one first$",
    ):
        _mined(params, out, tmp_path / "b")
    with pytest.raises(BadInput, match="holds the pairs of other paths"):
        _mined(params, out, tmp_path / "a", tmp_path / "b")
    assert _state(out) == before


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ("thesis.txt", "holds thesis.txt; name a new folder"),
        ("pairs.json", "holds pairs of an earlier version"),
        ("shard-00000.tar", "holds pairs of an earlier version"),
        ("shard-00000.parquet", "holds shards without a _pairs.json"),
        (".work-0123456789abcdef/log.jsonl", "holds the unfinished work of other paths"),
    ],
)
def test_nothing_that_lies_there_is_touched(
    tmp_path: Path, params: Params, there: str, message: str
) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    file = tmp_path / "out" / there
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    before = _state(tmp_path / "out")
    with pytest.raises(BadInput, match=message):
        _mined(params, tmp_path / "out", tmp_path / "photos")
    assert _state(tmp_path / "out") == before


@pytest.mark.parametrize(
    "there", ["_images/mine.tar", "_images/shard-00007.tar", "shard-00007.parquet", "notes/a.txt"]
)
def test_what_you_put_beside_a_result_is_not_lost_with_it(
    tmp_path: Path, params: Params, there: str
) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    _mined(params, tmp_path / "out", tmp_path / "photos")
    file = tmp_path / "out" / there
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80))
    before = _state(tmp_path / "out")
    with pytest.raises(BadInput, match=rf"holds {there.partition('/a')[0]}; name a new folder"):
        _mined(params, tmp_path / "out", tmp_path / "photos")
    assert _state(tmp_path / "out") == before


def test_killed_while_it_publishes_and_run_again(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier result is taken away and the new one is half there: the same command mends it,
    without mining again."""
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    whole = _mined(params, tmp_path / "out", tmp_path / "photos")
    (tmp_path / "photos/frame000002.png").touch()
    real = storage.write_json

    def killed(path: Path, value: Any) -> None:
        if path.name == "_pairs.json":
            raise KeyboardInterrupt
        real(path, value)

    monkeypatch.setattr(storage, "write_json", killed)
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80))
    with pytest.raises(KeyboardInterrupt):
        _mined(params, tmp_path / "out", tmp_path / "photos")
    monkeypatch.undo()
    monkeypatch.setattr(shard_job, "mine_shard", None)  # all shards are done
    again = _mined(params, tmp_path / "out", tmp_path / "photos")
    assert again["kept"] == whole["kept"] + 1 == len(pd.read_parquet(tmp_path / "out"))
    assert not list((tmp_path / "out").glob(".work-*"))


KILLED = """
import os, signal, sys
import mimic.cli
replace = os.replace
def killed(source, target):
    if os.path.basename(target) == "{name}":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = killed
sys.argv[1:] = ["pairs", "photos", "--out", "out"]
mimic.cli.main()
"""


@pytest.mark.parametrize("name", ["_pairs.json", "_index.html"])
def test_killed_before_a_file_has_its_name(tmp_path: Path, name: str) -> None:
    """What it leaves is its own, and no file of somebody else's."""
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    script = [sys.executable, "-c", KILLED.format(name=name)]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert len(list(tmp_path.glob("out/.*.part"))) == 1
    (tmp_path / "out/_images/.shard-00000.tar.7-0.part").touch()
    again = run_mimic(tmp_path, "pairs", "photos", "--out", "out")
    assert again.returncode == 0, again.stderr
    assert not list(tmp_path.rglob("*.part"))
    assert len(pd.read_parquet(tmp_path / "out")) == 2
    (tmp_path / "out/.notes.txt.7-0.part").touch()
    refused = run_mimic(tmp_path, "pairs", "photos", "--out", "out")
    assert "holds .notes.txt.7-0.part; name a new folder" in refused.stderr


def test_a_shard_of_another_size_is_mined_again(
    tmp_path: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """And `mimic verify` names it, and one that has rotted at the same size."""
    out = tmp_path / "out"
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    mined = _mined(params, out, tmp_path / "photos")
    tar = out / "_images/shard-00000.tar"
    complete = tar.read_bytes()
    at = int(pd.read_parquet(out)["offset_b"].iloc[0]) + 20
    for damaged in (complete[:-20_000], complete[:at] + b"?" + complete[at + 1 :]):
        assert verify.main(params, tmp_path, [out])
        tar.write_bytes(damaged)
        assert not verify.main(params, tmp_path, [out])
        printed = capsys.readouterr().out
        assert "DAMAGED  out/_images/shard-00000.tar: " in printed
        assert f"remove {out}, and run the same mimic pairs again" in printed
        if len(damaged) < len(complete):
            again = _mined(params, out, tmp_path / "photos")
            assert {**again, "seconds": 0} == {**mined, "seconds": 0}
            assert tar.read_bytes() == complete
    tar.unlink()
    (out / "shard-00000.parquet").unlink()
    assert not verify.main(params, tmp_path, [out])
    assert "0 shards are there of the 1" in capsys.readouterr().out


def test_two_runs_at_once_are_one_and_a_line(tmp_path: Path) -> None:
    footage.video(tmp_path / "walk.mp4", footage.pan(0, 40, 80), fps=2)
    first = subprocess.Popen(
        [MIMIC, "pairs", "walk.mp4", "--out", "out"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(tmp_path.glob("out/.work-*")):
        assert first.poll() is None
        time.sleep(0.01)
    second = run_mimic(tmp_path, "pairs", "walk.mp4", "--out", "out")
    assert second.returncode == 2
    assert second.stdout == ""
    assert second.stderr.splitlines()[-1] == (
        "mimic: --out out: another mimic pairs is writing there; wait for it, or name another "
        "folder"
    )
    assert first.wait(timeout=600) == 0
    assert len(pd.read_parquet(tmp_path / "out")) > 5
    assert not list(tmp_path.glob("out/.work-*"))


def test_ended_by_a_signal_it_says_nothing_more(tmp_path: Path) -> None:
    """As a batch system or a shell that is closed ends it: no traceback, no word of Python's about
    workers and their semaphores."""
    for number in range(3):
        footage.video(tmp_path / f"clips/{number}.mp4", footage.pan(number, 40, 80), fps=2)
    words = [str(MIMIC), "pairs", "clips", "--out", "out"]
    with subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob("out/.work-*/*/shard-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        lines = process.communicate(timeout=600)[1].splitlines()
    assert process.returncode == 128 + signal.SIGTERM
    assert [line for line in lines if line and not line.startswith("mimic pairs:")] == []
    assert not (tmp_path / "out/_pairs.json").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("photos/frame000000.png", "is a file, or lies below one; name a folder"),
        ("photos/frame000000.png/out", "is a file, or lies below one; name a folder"),
        ("x" * 300, "File name too long; name a folder that you can read and write"),
        ("dead", "name a folder that you can write to"),
        ("/proc/out", "name a folder that you can write to"),
    ],
)
def test_an_output_that_cannot_be_written_is_one_line(
    tmp_path: Path, out: str, message: str
) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    (tmp_path / "dead").symlink_to("nowhere")
    done = run_mimic(tmp_path, "pairs", "photos", "--out", out)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"mimic: --out {out}: ")
    assert message in done.stderr.splitlines()[-1]


def test_the_folder_of_the_pictures_is_no_output(tmp_path: Path) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    before = _state(tmp_path)
    done = call_mimic(tmp_path, "pairs", "photos", "--out", "photos")
    assert (done.returncode, done.stdout, _state(tmp_path)) == (2, "", before)
    assert done.stderr == (
        "mimic: --out photos: holds frame000000.png; name a new folder, so that nothing of yours "
        "is mixed up or lost\n"
    )
    assert sorted(tmp_path.rglob("*")) == sorted([tmp_path / "photos", *map(Path, before)])


# ---------------------------------------------------------------- each real file once


def test_every_real_file_is_mined_once(tmp_path: Path, params: Params) -> None:
    """The same path twice, a folder inside another, a link to a file, a link to a folder, a hard
    link, a loop."""
    footage.video(tmp_path / "all/walk.mp4", footage.pan(0, 4, 80), fps=1)
    footage.folder(tmp_path / "all/photos", footage.pan(1, 3, 80))
    (tmp_path / "all/loop").symlink_to(".")
    (tmp_path / "all/again.mp4").symlink_to("walk.mp4")
    (tmp_path / "all/same").symlink_to("photos")
    (tmp_path / "hard.mp4").hardlink_to(tmp_path / "all/walk.mp4")
    paths = [
        tmp_path / "all",
        tmp_path / "all",
        tmp_path / "all/photos",
        tmp_path / "all/walk.mp4",
        tmp_path / "hard.mp4",
    ]
    result = _mined(params, tmp_path / "out", *paths)
    assert (result["clips"], result["kept"]) == (2, 3 + 2)
    rows = pd.read_parquet(tmp_path / "out")
    assert len(rows) == len(set(rows["key"])) == len(set(rows["sha_a"] + rows["sha_b"])) == 5
    assert all("mined" in why for name, why in result["skipped"].items() if "/loop/" not in name)
    assert f"{tmp_path}/hard.mp4" in result["skipped"]


def test_a_folder_of_links_is_its_images_again(tmp_path: Path, params: Params) -> None:
    """In another path of the command, links or hard links; before the folder that they lead to, or
    after."""
    footage.folder(tmp_path / "b/photos", footage.pan(1, 3, 80), "{}.png")
    for name in ("a", "c"):
        (tmp_path / name).mkdir()
    for number in range(3):
        (tmp_path / f"a/{number}.png").hardlink_to(tmp_path / f"b/photos/{number}.png")
        (tmp_path / f"c/{number}.png").symlink_to(tmp_path / f"b/photos/{number}.png")
    result = _mined(params, tmp_path / "out", *(tmp_path / name for name in "abc"))
    assert (result["clips"], result["kept"]) == (1, 2)
    why = f"all its images are links to those of {tmp_path}/a, which is mined"
    assert result["skipped"] == {f"{tmp_path}/b/photos": why, f"{tmp_path}/c": why}


def test_a_result_among_the_inputs_is_no_input(
    tmp_path: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    for _ in range(2):
        result = _mined(params, tmp_path / "photos/out", tmp_path / "photos")
        assert (result["kept"], result["skipped"]) == (2, {})
    assert "nothing has changed" in capsys.readouterr().err


def test_outputs_can_be_put_together(tmp_path: Path, params: Params) -> None:
    """Equal names, in equal folders, even equal files, and the same file mined in another way: no
    key occurs twice."""
    frames = footage.pan(0, 6, 60)
    footage.video(tmp_path / "a/walk.mp4", frames, fps=2)
    footage.video(tmp_path / "b/walk.mp4", frames, fps=2)
    footage.video(tmp_path / "c/walk.mp4", footage.pan(3, 6, 60), fps=2)
    keys = []
    for number, (path, said) in enumerate(
        (("a", {}), ("b", {}), ("c", {}), ("a", {"spacing_s": 0.501}))
    ):
        _mined(params, tmp_path / f"out-{number}", tmp_path / path / "walk.mp4", **said)
        keys += pd.read_parquet(tmp_path / f"out-{number}")["key"].tolist()
    assert len(keys) == len(set(keys)) > 10
    footage.video(tmp_path / "a/walk.mp4", footage.pan(5, 6, 60), fps=2)
    _mined(params, tmp_path / "later", tmp_path / "a/walk.mp4")
    assert not set(keys) & set(pd.read_parquet(tmp_path / "later")["key"])
    _mined(params, tmp_path / "twin", tmp_path / "a/walk.mp4")  # the same pairs have the same keys
    assert (
        pd.read_parquet(tmp_path / "twin")["key"].tolist()
        == pd.read_parquet(tmp_path / "later")["key"].tolist()
    )


# ---------------------------------------------------------------- many small ones, and none at all


def test_many_small_folders_share_shards_and_none_is_empty(tmp_path: Path, params: Params) -> None:
    still = footage.pan(9, 1, 80)[0]
    for number in range(200):  # every tenth has a pair, the others show the same twice
        frames = footage.pan(number, 2, 80) if number % 10 == 0 else [still, still]
        footage.folder(tmp_path / f"all/{number:03}", frames, "{}.jpg")
    result = _mined(params, tmp_path / "out", tmp_path / "all")
    assert (result["clips"], result["kept"]) == (200, 20)
    tables = [pq.read_metadata(path) for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert 1 < len(tables) <= 20
    assert all(table.num_rows for table in tables)
    names = [tar.name for tar in shards_in(tmp_path / "out")]
    assert names == [f"shard-{number:05}.tar" for number in range(len(tables))]


def test_a_folder_without_pairs_says_so(tmp_path: Path) -> None:
    still = footage.pan(9, 1, 80)[0]
    footage.folder(tmp_path / "photos", [still, still])
    done = run_mimic(tmp_path, "pairs", "photos", "--out", "out", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["outcomes"]["too_similar"] == 1
    assert not list((tmp_path / "out").rglob("*.parquet"))
    assert not list((tmp_path / "out").rglob("*.tar"))


# ---------------------------------------------------------------- what cannot be mined


def test_paths_of_which_some_cannot_be_mined(tmp_path: Path) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80))
    footage.folder(tmp_path / "more/photos", footage.pan(2, 3, 80))
    (tmp_path / "more/gone.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "more/gone.glb").symlink_to("nowhere.glb")
    (tmp_path / "dead").symlink_to("nowhere")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    done = run_mimic(
        tmp_path, "pairs", "dead", "empty", "notes.txt", "photos", "more", "--out", "out", "--json"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["kept"] == 3 + 2
    assert set(result["skipped"]) == {
        "dead",
        "empty",
        "notes.txt",
        "more/gone.mp4",
        "more/gone.glb",
    }
    assert result["skipped"]["empty"].startswith("no video, image or .glb scene")
    assert "skipped: empty: no video" in done.stderr
    assert "Traceback" not in done.stderr
    assert "_pairs.json" in done.stderr or len(result["skipped"]) <= 5


def test_what_may_not_be_read_is_named_and_the_rest_is_mined(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80), "{}.png")
    footage.folder(tmp_path / "photos/closed", footage.pan(2, 3, 80))
    footage.folder(tmp_path / "shut", footage.pan(3, 3, 80))
    footage.video(tmp_path / "secret.mp4", footage.pan(0, 4, 80), fps=1)
    (tmp_path / "ro").mkdir()
    for name in ("photos/3.png", "photos/closed", "shut", "secret.mp4"):
        (tmp_path / name).chmod(0)
    (tmp_path / "ro").chmod(0o555)
    powerless: list[object] = []
    if os.geteuid() == 0:  # root may read everything, unless it gives the right away
        powerless = [require_program("setpriv"), "--bounding-set=-dac_override,-dac_read_search"]

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        words = list(map(str, [*powerless, MIMIC, "pairs", *command]))
        return subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=600)

    done = run("photos", "secret.mp4", "shut", "shut/frame000000.png", "--out", "out", "--json")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    result = json.loads(done.stdout)
    assert result["kept"] == 2
    closed = ("photos/closed", "shut", "shut/frame000000.png")
    assert result["skipped"] == dict.fromkeys(closed, "Permission denied")
    assert result["damaged"] == {"secret.mp4": "Permission denied"}
    assert result["unreadable_views"] == {"photos": {"3.png": "Permission denied"}}
    for paths, out, said in (
        (["shut"], "new", "mimic: shut: Permission denied"),
        (["shut/1.mp4"], "new", "mimic: shut/1.mp4: Permission denied"),
        (
            ["photos"],
            "ro",
            "mimic: --out ro: Permission denied; name a folder that you can write to",
        ),
        (
            ["photos"],
            "ro/new",
            "mimic: --out ro/new: Permission denied; name a folder that you can write to",
        ),
    ):
        done = run(*paths, "--out", out)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1] == said


def test_names_that_cannot_be_written_down(tmp_path: Path) -> None:
    footage.video(tmp_path / "walk.mp4", footage.pan(0, 4, 80), fps=1)
    for name in (b"bad\xff.mp4", b"two\nlines.mp4", b"folder\xff/walk.mp4"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        shutil.copy(os.fsencode(tmp_path / "walk.mp4"), path)
    command: list[Any] = [
        MIMIC,
        "pairs",
        b"bad\xff.mp4",
        b"two\nlines.mp4",
        b"folder\xff",
        "walk.mp4",
        "--json",
        "--out",
    ]
    done = subprocess.run([*command, "out"], cwd=tmp_path, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["kept"], result["failed"]) == (2 * 3, {})
    assert set(result["skipped"]) == {"bad\\udcff.mp4", "two\\nlines.mp4"}
    assert len(pd.read_parquet(tmp_path / "out")) == 6
    for out in (b"out\xff", b"out\n"):
        done = subprocess.run([*command, out], cwd=tmp_path, capture_output=True, timeout=600)
        assert done.returncode == 2
        assert done.stderr.count(b"\n") == 1
        assert b"name another folder" in done.stderr


def test_equal_names_in_several_paths_are_told_apart(tmp_path: Path, params: Params) -> None:
    for name in ("a", "b"):
        footage.folder(tmp_path / f"{name}/photos", footage.pan(1, 3, 80))
        (tmp_path / name / "bad.mp4").write_text("no video")
    result = _mined(params, tmp_path / "out", tmp_path / "a", tmp_path / "b")
    assert sorted(result["damaged"]) == [f"{tmp_path}/{name}/bad.mp4" for name in ("a", "b")]


def test_damage_among_good_files_is_counted(tmp_path: Path) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80), "IMG_{}.jpg")
    (tmp_path / "photos/IMG_9.jpg").write_text("no picture")
    footage.video(tmp_path / "good.mp4", footage.pan(0, 6, 80), fps=1)
    (tmp_path / "bad.mp4").write_text("no video")
    done = run_mimic(tmp_path, "pairs", "photos", "good.mp4", "bad.mp4", "--out", "mined", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["kept"], result["outcomes"]["unreadable"]) == (3 + 5, 4 + 1)
    assert "damaged: bad.mp4: Invalid data found" in done.stderr
    assert "IMG_9.jpg: not an image that is read here" in done.stderr


def test_photographs_of_a_phone_that_writes_heic_are_mined(tmp_path: Path, params: Params) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, image in enumerate(footage.pan(1, 4, 80)):
        photo = heif.coded(1, image, tmp_path / "scratch")
        heif.written(photos / f"IMG_{number:04}.HEIC", [photo], 1)
    result = _mined(params, tmp_path / "out", photos)
    assert (result["clips"], result["skipped"]) == (1, {})
    rows = pd.read_parquet(tmp_path / "out")
    neighbours = {(f"IMG_{n:04}.HEIC", f"IMG_{n + 1:04}.HEIC") for n in range(3)}
    assert set(zip(rows["frame_a"], rows["frame_b"], strict=True)) == neighbours


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("",), "an argument is empty; was a variable of the shell not set?"),
        (("walk.mp4", ""), "an argument is empty; was a variable of the shell not set?"),
        (
            ("https://example.org/walk.mp4",),
            "https:/example.org/walk.mp4: no such file or folder; fetch it first",
        ),
        (("photo.jpg",), "photo.jpg: neither a video nor a .glb scene"),
        (("pipe.mp4",), "pipe.mp4: neither a file nor a folder"),
        (("endless.mp4",), "endless.mp4: neither a file nor a folder"),
    ],
)
def test_paths_that_are_none_are_one_line(
    tmp_path: Path, words: tuple[str, str] | tuple[str], said: str
) -> None:
    """An empty path would be the current folder: all that lies there would be mined."""
    footage.video(tmp_path / "walk.mp4", footage.pan(0, 6, 80), fps=1)
    (tmp_path / "photo.jpg").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "endless.mp4").symlink_to("/dev/zero")
    done = run_mimic(tmp_path, "pairs", *words, "--out", "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_long_numbered_folder_is_a_sequence(tmp_path: Path, params: Params) -> None:
    footage.folder(
        tmp_path / "frames", footage.pan(1, 40, 12)
    )  # neighbours overlap by 95 %, the 8th after by 57 %
    own_data.pairs(
        params, [tmp_path / "frames"], tmp_path / "out", own_options.Options(), as_json=False
    )
    rows = list(iter_rows(tmp_path / "out/shard-00000.parquet"))
    distances = {int(row["frame_b"][5:11]) - int(row["frame_a"][5:11]) for row in rows}
    assert len(rows) >= 6
    assert distances == {8}


def test_each_frame_of_a_sequence_is_paired_whatever_the_file_says(
    tmp_path: Path, params: Params
) -> None:
    """The first source with the reader may take every tenth."""
    for number in range(40):
        (tmp_path / f"frame{number:06}.png").touch()
    template = next(one for one in params.sources.values() if isinstance(one, config.Images))
    sparse = template.model_copy(update={"advance": 10})
    read = params.model_copy(update={"sources": {"frames": sparse}})
    said = own_options.Options()
    [part] = own_sources.find_media(read, [tmp_path], said, tmp_path / "out").parts
    assert isinstance(part.section, config.Images)
    assert (part.section.pairing, part.section.advance) == ("neighbours", 1)


def test_folders_that_were_mined_together_stay_apart(tmp_path: Path, params: Params) -> None:
    """Each is a source whose only clip is ".": of one clip nothing could be held out."""
    rooms = ("kitchen", "garden", "street")
    for seed, name in enumerate(rooms):
        footage.folder(tmp_path / name, footage.pan(seed, 4, 60))
    space = storage.Workspace(tmp_path)
    out = space.pairs("mine")
    paths = [tmp_path / name for name in rooms]
    own_data.pairs(params, paths, out, own_options.Options(), as_json=False)
    section = next(one for one in params.sources.values() if isinstance(one, config.Images))
    rows = index.read({"mine": section}, space)
    assert [(source, clip.split("-")[1]) for source, clip in sorted(rows.clips)] == [
        ("mine", name) for name in sorted(rooms)
    ]
    assert len({group for _, group in rows.scene_groups}) == 3
    assert 0 < select.held_out_clips(rows, 0.3).sum() < 3


def test_what_is_said_on_the_command_line_comes_before_the_parameter_file(
    tmp_path: Path, params: Params
) -> None:
    footage.video(tmp_path / "walk.mp4", footage.pan(0, 8, 40), fps=2)
    footage.folder(tmp_path / "photos", footage.pan(0, 8, 40))
    for spacing_s, frames in ((0.5, 8), (1.0, 4)):
        said = own_options.Options(spacing_s=spacing_s, crop_bottom=0.25, group_max=7)
        video, photos = (
            part.section
            for part in own_sources.find_media(params, [tmp_path], said, tmp_path / "out").parts
        )
        assert isinstance(video, config.Videos)
        assert isinstance(photos, config.Images)
        assert video.retry_spacing_s == 2 * video.spacing_s == 2 * spacing_s
        assert len(list(videos.sample(tmp_path / "walk.mp4", spacing_s))) == frames
        assert (video.crop_bottom, photos.group_max) == (0.25, 7)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        *(
            ("--spacing-s", value, "must be seconds between 0.001 and 86400")
            for value in ("nan", "inf", "0", "-1", "1e-9")
        ),
        *(("--crop-bottom", value, "input should be") for value in ("nan", "1", "-0.1")),
        ("--group-max", "0", "input should be greater than or equal to 1"),
        *(("--island-radius-min-m", value, "input should be") for value in ("inf", "-1")),
    ],
)
def test_numbers_out_of_range_are_one_line(
    tmp_path: Path, flag: str, value: str, message: str
) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    done = run_mimic(tmp_path, "pairs", "photos", "--out", "out", flag, value)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"mimic: {flag} ")
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_messages_name_flags(tmp_path: Path, params: Params) -> None:
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80))
    result = _mined(params, tmp_path / "out", tmp_path / "photos", group_max=3)
    ((name, why),) = result["skipped"].items()
    assert name == str(tmp_path / "photos")
    assert "4 images make 6 pairs" in why
    assert "raise --group-max" in why
    assert result["candidates"] == 3  # of each of 4 only the next, as many as 3 images have pairs
    assert result["damaged"] == {}
    said = "lower island_radius_min_m, not my_group_max or up there, up: z and spacing_s: 2"
    assert own_options.flagged({"group_max/a.jpg": {"why": "raise group_max"}}) == {
        "group_max/a.jpg": {"why": "raise --group-max"}
    }
    assert (
        own_options.flagged(said)
        == "lower --island-radius-min-m, not my_group_max or up there, --up z and --spacing-s 2"
    )


# ---------------------------------------------------------------- real data


def test_kitchen_video_pairs_agree_with_the_table(real_data: Path, params: Params) -> None:
    """The 14 pairs one second (30 frames) apart in the table beside the video: 9 are kept, and
    overlap follows true co-visibility."""
    kitchen = real_data / "seven_scenes_kitchen"
    with (kitchen / "pairs_reference.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    images = {
        round(time_s * 30): image
        for time_s, image in videos.sample(kitchen / "kitchen_000000-000299_30fps.mp4", 1 / 30)
    }
    assert sorted(images) == list(range(300))
    rule = shard_job.rule_of(params.mine)
    numbers = {int(row[name]) for row in rows for name in ("frame_i", "frame_j")}
    seen = {
        number: features.extract(view_cache.squared(images[number], rule)) for number in numbers
    }
    found = [
        overlap.compare(seen[int(row["frame_i"])], seen[int(row["frame_j"])], rule, None)
        for row in rows
    ]
    second = [
        one
        for row, one in zip(rows, found, strict=True)
        if int(row["frame_j"]) - int(row["frame_i"]) == 30
    ]
    assert len(second) == 14
    assert abs(sum(one.outcome is overlap.Outcome.KEPT for one in second) - 9) <= 2
    matched = [
        (float(row["covis_min"]), one.overlap)
        for row, one in zip(rows, found, strict=True)
        if one.b_from_a is not None
    ]
    assert len(matched) > 60
    assert np.corrcoef(np.array(matched).T)[0, 1] >= 0.9


def test_kitchen_video_as_a_user_mines_it(real_data: Path, tmp_path: Path, params: Params) -> None:
    """Ten frames, nine candidates: of the first second the view hardly changes, so frame 0 is
    paired with frame 2 instead."""
    own_data.pairs(
        params,
        [real_data / "seven_scenes_kitchen/kitchen_000000-000299_30fps.mp4"],
        tmp_path / "out",
        own_options.Options(spacing_s=1.0),
        as_json=False,
    )
    result = json.loads((tmp_path / "out/_pairs.json").read_text())
    assert abs(result["kept"] - 7) <= 2
    assert result["candidates"] == 9
    assert next(iter_rows(tmp_path / "out/shard-00000.parquet"))["frame_b"] == "2.000"


def test_all_real_videos_are_mined_or_counted(
    real_data: Path, tmp_path: Path, params: Params
) -> None:
    own_data.pairs(
        params,
        [real_data / "videos"],
        tmp_path / "out",
        own_options.Options(spacing_s=1.0),
        as_json=False,
    )
    result = json.loads((tmp_path / "out/_pairs.json").read_text())
    assert result["clips"] == 6
    assert result["damaged"] == {}
    assert sum(result["outcomes"].values()) == result["candidates"] >= 6


def _room(path: Path) -> None:
    """A generated flat, y up, and nothing beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(glb_writer.to_glb(apartments.build(0, 11.0, 8.0, 2.6, 256)))


def test_a_scene_stands_upright_as_gltf_says_and_the_result_says_so(
    tmp_path: Path, params: Params, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same pairs as where a stage_config.json says what glTF says already."""
    _room(tmp_path / "bare/room.glb")
    _room(tmp_path / "said/room.glb")
    (tmp_path / "said/room.stage_config.json").write_text(
        json.dumps(glb_writer.stage_config("room.glb"))
    )
    sources = {
        name: section.model_copy(update={"positions": 1})
        for name, section in params.sources.items()
        if name == "rooms"
    }
    few = params.model_copy(update={"sources": {**params.sources, **sources}})
    bare = _mined(few, tmp_path / "out-bare", tmp_path / "bare/room.glb")
    said = _mined(few, tmp_path / "out-said", tmp_path / "said")
    assert said["skipped"] == {}  # what is read with the scene is not passed over
    assert bare["kept"] == 1
    assert bare["outcomes"] == said["outcomes"]
    pictures = [read_all(tmp_path / out) for out in ("out-bare", "out-said")]
    assert pictures[0] == pictures[1]
    shown = str(tmp_path / "bare/room.glb")
    assert bare["notes"] == {shown: "y is up, as glTF 2.0 says (`--up z` says otherwise)"}
    assert f"mimic pairs: {shown}: {bare['notes'][shown]}\n" in capfd.readouterr().err
    assert list(said["notes"].values()) == ["y is up, as its stage_config.json says"]
    lying = _mined(few, tmp_path / "out-lying", tmp_path / "bare/room.glb", up="z")
    assert list(lying["notes"].values()) == ["z is up, as `--up z` says"]


def read_all(out: Path) -> list[bytes]:
    """The images of a result, in order."""
    images = []
    for tar in shards_in(out):
        for row in iter_rows(index_path(tar)):
            images += [
                read_image(tar, row[f"offset_{view}"], row[f"size_{view}"]).tobytes()
                for view in "ab"
            ]
    return images


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("room.gltf", "convert it to .glb"),
        ("room.obj", "convert it to .glb"),
        ("room.ply", "convert it to .glb"),
        ("room.usdz", "convert it to .glb"),
        ("a.nef", "develop it to JPEG"),
    ],
)
def test_a_file_of_another_format_is_told_what_to_do_with_it(
    params: Params, tmp_path: Path, name: str, remedy: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(BadInput, match=remedy) as raised:
        own_sources.find_media(params, [tmp_path / name], own_options.Options(), tmp_path / "out")
    assert str(raised.value).startswith(f"{tmp_path / name}: ")
