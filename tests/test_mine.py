"""Ingest and mine as a user runs them: whole, killed, on a full disk, with damaged files among good
ones."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from signal import Signals

import cv2
import pandas as pd
import pytest
import yaml

from mimic import ingest, mine
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.mining import published
from mimic.pairs.read import iter_rows, read_image, read_table
from mimic.pairs.schema import index_path, shards_in
from mimic.params import load_params, resolve_params
from tests.support import footage
from tests.support.command import MIMIC, run_mimic

STEPS_PX = (
    40,
    60,
    80,
    100,
    140,
)  # of the pan in each clip: too similar at first, three that fit, too different
CLIPS = len(STEPS_PX)


def _workspace(root: Path, repository: Path, workers: int = 2) -> Path:
    """A params.yaml whose source `phone` lies here, and its raw data."""
    raw = resolve_params(repository / "params.yaml").full()
    raw["sources"]["phone"] |= {"spacing_s": 0.5, "retry_spacing_s": 1.0}
    raw["cluster"] |= {"workers": workers, "executor": "local"}
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    for number, step_px in enumerate(STEPS_PX):
        footage.video(root / f"data/raw/phone/{number}.mp4", footage.pan(number, 8, step_px))
    return root


def _files(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): storage.file_digest(file) for file in files}


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A workspace in which ingest and mine ran undisturbed."""
    root = _workspace(tmp_path_factory.mktemp("mined"), repository)
    params = load_params(root / "params.yaml")
    ingest.main(params, root, "phone")
    mine.main(params, root, "phone")
    return root


@pytest.fixture
def copy(mined: Path, tmp_path: Path) -> Path:
    """The same raw data and inventory, not mined yet."""
    root = tmp_path / "copy"
    shutil.copytree(
        mined, root, ignore=shutil.ignore_patterns("pairs", "runs", "metrics", "samples")
    )
    return root


def test_every_candidate_has_one_outcome_and_every_pair_is_stored(mined: Path) -> None:
    metrics = json.loads((mined / "metrics/mine/phone.json").read_text())
    rows = [
        row for tar in shards_in(mined / "data/pairs/phone") for row in iter_rows(index_path(tar))
    ]
    assert (
        metrics["candidates"]
        == sum(metrics["outcomes"].values())
        > metrics["kept"]
        == metrics["outcomes"]["kept"]
        == len(rows)
        > 5
    )
    assert metrics["clips"] == CLIPS
    assert len({row["key"] for row in rows}) == len(rows)
    compared = sum(
        metrics["outcomes"][name] for name in ("kept", "not_best", "too_similar", "too_different")
    )
    assert sum(metrics["overlap_histogram"].values()) == compared
    for row in rows:
        assert 0.5 < row["overlap"] < 0.75
        assert row["overlap"] == min(row["overlap_a_to_b"], row["overlap_b_to_a"])
        matched = Counter(patch for patch in row["correspondences"] if patch >= 0)
        assert len(row["correspondences"]) == 196
        assert max(matched.values()) == 1
        assert round(row["overlap"] * 196) == len(matched)
        assert set(json.loads(row["versions"])) >= {"opencv-python-headless", "mimic"}
        image = read_image(
            mined / "data/pairs/phone" / f"_images/shard-0000{row['clip'][0]}.tar",
            row["offset_a"],
            row["size_a"],
        )
        assert image.shape == (224, 224, 3)


def test_the_homography_maps_a_to_b(mined: Path) -> None:
    """The camera pans 60 px a frame: a point of a lies so much further left in b."""
    (row, *_) = iter_rows(mined / "data/pairs/phone/shard-00001.parquet")
    step_px = 60 * round((float(row["frame_b"]) - float(row["frame_a"])) / 0.5)
    assert row["b_from_a"][2] == pytest.approx(-step_px, abs=1.5)
    assert row["b_from_a"][5] == pytest.approx(0, abs=1.5)


def test_progress_is_cleared_when_it_is_published_but_the_log_stays(mined: Path) -> None:
    (folder,) = (mined / "runs/mine/phone").iterdir()
    assert [file.name for file in folder.iterdir()] == ["log.jsonl"]
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["shard"] for line in lines] == [f"shard-0000{number}" for number in range(CLIPS)]
    assert all(line["seconds"] > 0 for line in lines)
    assert not list(mined.rglob("*.part"))


def test_pairs_that_dvc_has_not_recorded_are_not_mined_again(
    mined: Path, copy: Path, repository: Path
) -> None:
    """As of a `dvc repro` that is killed while DVC reads what the stage has made."""
    _put_under_dvc(copy, repository)
    assert run_mimic(copy, "mine", "phone").returncode == 0
    (log,) = copy.glob("runs/mine/phone/*/log.jsonl")
    once = log.read_text()
    published.clear_recorded(copy)  # nothing is recorded yet
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", "mine@phone"],
        cwd=copy,
        env={**os.environ, "PATH": os.pathsep.join([str(MIMIC.parent), os.environ["PATH"]])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Running stage 'mine@phone'" in done.stdout
    assert log.read_text() == once
    assert _files(copy / "data/pairs/phone") == _files(mined / "data/pairs/phone")
    assert len(list(log.parent.glob("shard-*.tar"))) > 1
    published.clear_recorded(copy)
    assert [file.name for file in log.parent.iterdir()] == ["log.jsonl"]


def test_shards_of_earlier_numbers_go_when_others_are_published(
    copy: Path, repository: Path
) -> None:
    _put_under_dvc(copy, repository)
    params = load_params(copy / "params.yaml")
    mine.main(params, copy, "phone")
    (before,) = (copy / "runs/mine/phone").iterdir()
    numbers = params.mine.model_copy(update={"overlap_max": 0.65})
    mine.main(params.model_copy(update={"mine": numbers}), copy, "phone")
    assert [file.name for file in before.iterdir()] == ["log.jsonl"]


def test_an_experiment_in_a_copy_takes_its_shards_up_again(
    mined: Path, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They lie in the workspace that the copy was made from."""
    root = tmp_path / ".dvc/tmp/exps/tmpabc"
    shutil.copytree(copy, root)
    (root / ".dvc").mkdir()
    params = load_params(root / "params.yaml")
    mine.main(params, root, "phone")
    assert "is published again" not in capsys.readouterr().err
    shutil.rmtree(root / "data/pairs")
    mine.main(params, root, "phone")
    (work,) = tmp_path.glob("runs/experiments/*/mine/phone")
    said = capsys.readouterr().err
    assert (
        f"mine phone: what was mined of these very numbers is published again (rm -r {work} "
        in said
    )
    assert _files(root / "data/pairs/phone") == _files(mined / "data/pairs/phone")


def _put_under_dvc(root: Path, repository: Path) -> None:
    for name in (
        *(".dvc/config", ".dvcignore", "src/mimic/mining/presets.yaml"),
        *("src/mimic/mining/__init__.py", "src/mimic/pairs/__init__.py"),
        "src/mimic/sources/presets.yaml",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, root / name)
    graph = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"mine": graph["mine"]}}))
    subprocess.run(["git", "init", "-q", root], check=True)


@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_writes_the_same_bytes(mined: Path, copy: Path, workers: int) -> None:
    params = load_params(copy / "params.yaml")
    params = params.model_copy(
        update={"cluster": params.cluster.model_copy(update={"workers": workers})}
    )
    mine.main(params, copy, "phone")
    assert _files(copy / "data/pairs/phone") == _files(mined / "data/pairs/phone")
    assert _files(copy / "metrics/mine") == _files(mined / "metrics/mine")
    assert _files(copy / "samples/mine/phone") == _files(mined / "samples/mine/phone")


@pytest.mark.parametrize("done", [0, 2, 3])
def test_killed_anywhere_and_run_again_gives_the_same_bytes(
    mined: Path, copy: Path, done: int
) -> None:
    """kill -9 when some shards are done: no worker stays, those shards are not mined again, and the
    end is the same."""
    process = subprocess.Popen(
        [MIMIC, "mine", "phone"], cwd=copy, stderr=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 400
    while len(before := list(copy.glob("runs/mine/phone/*/shard-*.json"))) < done or not list(
        copy.glob("runs/mine/phone/*/log.jsonl")
    ):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    inodes = {
        tar.stat().st_ino for tar in (file.with_suffix(".tar") for file in before) if tar.exists()
    }
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    while _in_session(process.pid):
        assert time.monotonic() < deadline, "a worker outlived the run"
        time.sleep(0.02)
    again = run_mimic(copy, "mine", "phone")
    assert again.returncode == 0, again.stderr
    assert _files(copy / "data/pairs/phone") == _files(mined / "data/pairs/phone")
    assert _files(copy / "metrics/mine") == _files(mined / "metrics/mine")
    assert _files(copy / "samples/mine/phone") == _files(mined / "samples/mine/phone")
    assert inodes <= {tar.stat().st_ino for tar in shards_in(copy / "data/pairs/phone")}
    assert not list(copy.rglob("*.part"))


def _in_session(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, process_session = status.read_text().rsplit(")", 1)[1].split()[:4]
        except OSError:
            continue
        if int(process_session) == session and state != "Z":
            found.append(int(status.parent.name))
    return found


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_interrupting_leaves_no_worker_and_no_noise(copy: Path, signal_number: Signals) -> None:
    process = subprocess.Popen(
        [MIMIC, "mine", "phone"],
        cwd=copy,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 400
    while not list(copy.glob("runs/mine/phone/*/shard-*.json")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal_number)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 128 + signal_number
    assert [
        line
        for line in said.splitlines()
        if line and not line.startswith(("mine phone:", "Aborted"))
    ] == []
    while _in_session(process.pid):
        assert time.monotonic() < deadline, "a worker outlived the run"
        time.sleep(0.02)
    again = run_mimic(copy, "mine", "phone")
    assert again.returncode == 0
    assert not list(copy.rglob("*.part"))


def test_a_full_disk_is_one_line_and_loses_nothing(
    mined: Path, copy: Path, require_program: Callable[[str], str]
) -> None:
    """A real one: runs/ on a file system of 250 kB, then of enough."""
    (copy / "runs").mkdir()
    script = f"""
        mount -t tmpfs -o size=250k tmpfs runs || exit 77
        {MIMIC} mine phone; echo "first $?"
        ls data; mount -o remount,size=100m runs
        {MIMIC} mine phone; echo "second $?"
        find . -name '*.part'
    """
    done = subprocess.run(
        [require_program("unshare"), "-rm", "sh", "-c", script],
        cwd=copy,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no private mounts on this machine: {done.stderr}")
    assert "first 1" in done.stdout, done.stdout + done.stderr
    assert "second 0" in done.stdout, done.stdout + done.stderr
    assert [
        line
        for line in done.stderr.splitlines()
        if line.startswith("mimic: disk full while writing")
    ]
    assert "Traceback" not in done.stderr
    assert "pairs" not in done.stdout.split("second")[0].split()
    assert ".part" not in done.stdout
    assert _files(copy / "data/pairs/phone") == _files(mined / "data/pairs/phone")


def test_damaged_files_are_counted_and_named_and_the_rest_is_mined(mined: Path, copy: Path) -> None:
    raw = copy / "data/raw/phone"
    (raw / "0a.mp4").write_text("no video")
    whole = (raw / "1.mp4").read_bytes()
    (raw / "9.mp4").write_bytes(whole[: len(whole) // 2])
    first, second = run_mimic(copy, "ingest", "phone"), run_mimic(copy, "mine", "phone")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert "ingest phone: 0a.mp4: Invalid data found" in first.stderr
    assert "damaged: 0a.mp4: Invalid data found" in second.stderr
    assert "damaged: 9.mp4" in second.stderr
    metrics = json.loads((copy / "metrics/mine/phone.json").read_text())
    assert metrics["outcomes"]["unreadable"] == 2
    assert sorted(metrics["damaged"]) == ["0a.mp4", "9.mp4"]
    assert metrics["kept"] == json.loads((mined / "metrics/mine/phone.json").read_text())["kept"]


# Python reads this first in every worker process: clip 1 kills it, as a decoder with a bug or a
# hunger for memory would.
KILLER = """
import os, sys
if "--multiprocessing-fork" in sys.orig_argv:
    from mimic.mining import loop
    whole = loop.walk_clip
    def walk_clip(source, clip, *rest):
        {what}
        yield from whole(source, clip, *rest)
    loop.walk_clip = walk_clip
"""


# The same for a reader with a bug.
FAILER = """
import sys
if "--multiprocessing-fork" in sys.orig_argv:
    from mimic.sources.videos import VideoSource
    whole = VideoSource.groups
    def groups(self, clip, rng):
        {what}
        yield from whole(self, clip, rng)
    VideoSource.groups = groups
"""


def _run_killed(copy: Path, what: str, how: str = KILLER) -> subprocess.CompletedProcess[str]:
    (copy / "site").mkdir()
    (copy / "site/sitecustomize.py").write_text(how.format(what=what))
    raw = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(raw.replace("clips_per_shard: 1", "clips_per_shard: 3"))
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(copy / "site"), os.environ.get("PYTHONPATH", "")])
    }
    return subprocess.run(
        [MIMIC, "mine", "phone"], cwd=copy, capture_output=True, text=True, timeout=600, env=env
    )


def test_a_clip_that_kills_its_worker_is_named_and_skipped_and_its_shard_is_mined(
    mined: Path, copy: Path
) -> None:
    done = _run_killed(copy, 'clip == "1.mp4" and os.kill(os.getpid(), 9)')
    assert done.returncode == 0, done.stderr
    assert "damaged: 1.mp4: skipped: worker processes died in it" in done.stderr
    metrics = json.loads((copy / "metrics/mine/phone.json").read_text())
    assert list(metrics["damaged"]) == ["1.mp4"]
    assert metrics["clips"] == CLIPS
    assert metrics["outcomes"]["unreadable"] == 1
    keys = {}
    for root in (mined, copy):
        rows = (
            row
            for tar in shards_in(root / "data/pairs/phone")
            for row in iter_rows(index_path(tar))
        )
        keys[root] = [row["key"] for row in rows if row["clip"] != "1.mp4"]
    assert keys[copy] == keys[mined] != []
    assert not list(copy.glob("runs/**/*.trace"))


def test_rejected_candidates_can_be_looked_at(mined: Path) -> None:
    folder = mined / "samples/mine/phone"
    listing = json.loads((folder / "samples.json").read_text())
    outcomes = json.loads((mined / "metrics/mine/phone.json").read_text())["outcomes"]
    shown = Counter(entry["outcome"] for entry in listing)
    assert shown["too_similar"]
    assert "kept" not in shown
    assert all(0 < count <= min(4, outcomes[outcome]) for outcome, count in shown.items())
    assert {file.name for file in folder.iterdir()} == {
        ".mimic.json",
        "samples.json",
        *(entry["file"] for entry in listing),
    }
    for entry in listing:
        assert cv2.imread(str(folder / entry["file"])).shape == (112, 228, 3)
        assert entry["outcome"] != "too_similar" or entry["overlap"] >= 0.75


def test_a_clip_on_which_the_program_fails_is_named_and_the_rest_is_mined(
    mined: Path, copy: Path
) -> None:
    """An exception nobody thought of, in a reader: the shard and the stage go on, and the traceback
    is kept."""
    done = _run_killed(copy, "clip == '1.mp4' and [][1]", FAILER)
    assert done.returncode == 0, done.stderr
    assert "failed: 1.mp4: IndexError: list index out of range" in done.stderr
    metrics = json.loads((copy / "metrics/mine/phone.json").read_text())
    assert metrics["failed"] == {"1.mp4": "IndexError: list index out of range"}
    assert metrics["outcomes"]["failed"] == 1
    assert metrics["candidates"] == sum(metrics["outcomes"].values())
    assert metrics["clips"] == CLIPS
    keys = {}
    for root in (mined, copy):
        rows = (
            row
            for tar in shards_in(root / "data/pairs/phone")
            for row in iter_rows(index_path(tar))
        )
        keys[root] = [row["key"] for row in rows if row["clip"] != "1.mp4"]
    assert keys[copy] == keys[mined] != []
    (log,) = copy.glob("runs/mine/phone/*/log.jsonl")
    (traceback,) = [
        text
        for line in map(json.loads, log.read_text().splitlines())
        for text in line["tracebacks"].values()
    ]
    assert "sitecustomize.py" in traceback
    assert "IndexError" in traceback


def test_a_stage_in_which_every_clip_fails_fails_and_is_tried_again(copy: Path) -> None:
    done = _run_killed(copy, "[][1]", FAILER)
    assert done.returncode == 2
    assert "the program failed on every clip, first on 0.mp4: IndexError" in done.stderr
    assert not (copy / "data/pairs").exists()
    lines = [line for line in done.stderr.splitlines() if not line.startswith("mine phone:")]
    assert [line.partition(" ")[0] for line in lines] == ["mimic:"]
    shutil.rmtree(copy / "site")
    again = run_mimic(copy, "mine", "phone")
    assert again.returncode == 0, again.stderr
    assert json.loads((copy / "metrics/mine/phone.json").read_text())["kept"] > 5


def test_workers_that_die_anywhere_end_the_stage_in_one_line(copy: Path) -> None:
    done = _run_killed(
        copy,
        "clip == f'{len(os.listdir()) % 3}.mp4' and (open(f'{os.getpid()}', 'w'), "
        "os.kill(os.getpid(), 9))",
    )
    assert done.returncode == 2
    assert "a worker process died twice on shard-00000" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_wrong_is_one_line(copy: Path) -> None:
    for command, message in (
        (("mine", "phones"), "mimic: params.yaml: no source named 'phones'; did you mean 'phone'?"),
        (
            ("mine", "frames"),
            "mimic: data/inventory/frames.parquet: no such file; run the stage that makes it (dvc "
            "repro)",
        ),
        (
            ("ingest", "frames"),
            "mimic: sources.frames.root: no folder data/raw/frames; put the raw data there, or "
            "correct the path",
        ),
    ):
        done = run_mimic(copy, *command)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith(message)
    raw = (copy / "params.yaml").read_text()
    (copy / "params.yaml").write_text(raw.replace("\nmine:\n", "\nmine:\n  ransac_pixels: 5\n"))
    done = run_mimic(copy, "mine", "phone")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "mine.ransac_pixels: unknown key" in done.stderr


def test_other_numbers_other_progress(mined: Path, copy: Path) -> None:
    params = load_params(copy / "params.yaml")
    narrow = params.model_copy(
        update={"mine": params.mine.model_copy(update={"overlap_max": 0.65})}
    )
    mine.main(narrow, copy, "phone")
    assert {folder.name for folder in (copy / "runs/mine/phone").iterdir()} != {
        folder.name for folder in (mined / "runs/mine/phone").iterdir()
    }
    (digest,) = set(pd.read_parquet(copy / "data/pairs/phone")["params_digest"])
    (before,) = set(pd.read_parquet(mined / "data/pairs/phone")["params_digest"])
    assert digest != before


def test_ingest_is_the_same_twice_and_obeys_the_limit(mined: Path, tmp_path: Path) -> None:
    inventory = mined / "data/inventory/phone.parquet"
    before = inventory.read_bytes()
    params = load_params(mined / "params.yaml")
    ingest.main(params, mined, "phone")
    assert inventory.read_bytes() == before
    limited = params.sources["phone"].model_copy(
        update={"limit_clips": 2, "root": mined / "data/raw/phone"}
    )
    ingest.main(params.model_copy(update={"sources": {"phone": limited}}), tmp_path, "phone")
    assert read_table(tmp_path / "data/inventory/phone.parquet", schema=ingest.NOTED)[
        "clip"
    ].to_pylist() == ["0.mp4", "1.mp4"]


def test_mining_before_ingest_says_so(copy: Path) -> None:
    (copy / "data/inventory/phone.parquet").unlink()
    with pytest.raises(BadInput, match="run the stage that makes it"):
        mine.main(load_params(copy / "params.yaml"), copy, "phone")
