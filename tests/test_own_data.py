"""`mimic pairs` and `mimic pair`, on made footage in any folder and on the real samples."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import footage
import numpy as np
import pytest

from mimic import config, own_data
from mimic.errors import BadInput
from mimic.geometry import features, overlap
from mimic.infra import shards
from mimic.sources import miner, sharding, videos

MIMIC = Path(sys.executable).with_name("mimic")


@pytest.fixture(scope="module")
def params(repository) -> config.Params:
    return config.load(repository / "params.yaml")


def _run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([MIMIC, *map(str, command)], cwd=folder, capture_output=True, text=True, timeout=200)


def test_pairs_from_any_folder_without_a_parameter_file(tmp_path):
    footage.video(tmp_path / "walk.mp4", footage.pan(0, 6, 80), fps=1)
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80), "IMG_{}.jpg")
    done = _run(tmp_path, "pairs", "walk.mp4", "photos", "--out", "mined", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["candidates"], result["kept"], result["clips"]) == (5 + 6, 5 + 3, 2)
    assert sum(result["outcomes"].values()) == 11 and result["seconds"] > 0
    assert json.loads((tmp_path / "mined/pairs.json").read_text()) == result
    rows = [row for tar in shards.shards_in(tmp_path / "mined") for row in shards.rows(shards.twin(tar))]
    assert len(rows) == len({row["key"] for row in rows}) == 8
    assert {row["clip"] for row in rows} == {"walk.mp4", "."}
    assert sorted(path.name for path in (tmp_path / "mined").iterdir()) == [
        "pairs.json",
        *(f"shard-0000{number}.{kind}" for number in range(2) for kind in ("parquet", "tar")),
    ]


def test_nothing_of_yours_is_overwritten_but_an_earlier_result_is(tmp_path, params):
    footage.folder(tmp_path / "photos", footage.pan(1, 3, 80))
    out = tmp_path / "out"
    for _ in range(2):
        own_data.pairs(params, [tmp_path / "photos"], out, spacing_s=None, as_json=False)
    before = sorted(path.name for path in out.iterdir())
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"holds thesis.txt; name a new folder"):
        own_data.pairs(params, [tmp_path / "photos"], out, spacing_s=None, as_json=False)
    assert sorted(path.name for path in out.iterdir()) == sorted([*before, "thesis.txt"])


def test_damage_among_good_files_is_counted(tmp_path):
    footage.folder(tmp_path / "photos", footage.pan(1, 4, 80), "IMG_{}.jpg")
    (tmp_path / "photos/IMG_9.jpg").write_text("no picture")
    footage.video(tmp_path / "good.mp4", footage.pan(0, 6, 80), fps=1)
    (tmp_path / "bad.mp4").write_text("no video")
    done = _run(tmp_path, "pairs", "photos", "good.mp4", "bad.mp4", "--out", "mined", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["kept"], result["outcomes"]["unreadable"]) == (3 + 5, 4 + 1)
    assert "damaged: bad.mp4: Invalid data found" in done.stderr


def test_a_long_numbered_folder_is_a_sequence(tmp_path, params):
    footage.folder(tmp_path / "frames", footage.pan(1, 40, 12))  # neighbours overlap by 95 %, the 8th after by 57 %
    own_data.pairs(params, [tmp_path / "frames"], tmp_path / "out", spacing_s=None, as_json=False)
    rows = list(shards.rows(tmp_path / "out/shard-00000.parquet"))
    distances = {int(row["frame_b"][5:11]) - int(row["frame_a"][5:11]) for row in rows}
    assert len(rows) >= 6 and distances == {8}


def test_spacing_can_be_given(tmp_path, params):
    footage.video(tmp_path / "walk.mp4", footage.pan(0, 8, 40), fps=2)
    for spacing_s, frames in ((0.5, 8), (1.0, 4)):
        part = next(own_data._kinds(params, tmp_path, tmp_path / "walk.mp4", spacing_s))[0]
        assert part.retry_spacing_s == 2 * part.spacing_s
        assert len(list(videos.sample(tmp_path / "walk.mp4", spacing_s))) == frames


@pytest.mark.parametrize(
    ("path", "message"),
    [("gone", "gone: no such file or folder"), ("empty", "empty: no video, image or .glb scene"), ("a.txt", "a.txt: neither a video")],
)
def test_paths_without_anything_to_mine_are_one_line(tmp_path, path, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    done = _run(tmp_path, "pairs", path, "--out", "mined")
    assert done.returncode == 2 and done.stderr.startswith(f"mimic: {message}") and done.stderr.count("\n") == 1
    assert not (tmp_path / "mined").exists()


def test_one_pair_explained(tmp_path):
    footage.folder(tmp_path, footage.pan(0, 3, 80), "{}.png")
    done = _run(tmp_path, "pair", "0.png", "1.png", "--json", "--plot", "plot.png")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == {"outcome", "overlap", "overlap_a_to_b", "overlap_b_to_a", "matches", "inliers", "b_from_a"}
    assert found["outcome"] == "kept"
    assert found["overlap"] == pytest.approx(1 - 80 / 224, abs=0.05)
    assert np.allclose(found["b_from_a"], [[1, 0, -80], [0, 1, 0], [0, 0, 1]], atol=1)
    assert cv2.imread(str(tmp_path / "plot.png")).shape == (448, 904, 3)
    swapped = json.loads(_run(tmp_path, "pair", "1.png", "0.png", "--json").stdout)
    assert (swapped["outcome"], swapped["overlap"]) == (found["outcome"], found["overlap"])


def test_a_pair_without_a_homography_has_none(tmp_path, params, capsys):
    footage.folder(tmp_path, [footage.pan(0, 1, 8)[0], footage.pan(5, 1, 8)[0]], "{}.png")
    own_data.pair(params, tmp_path / "0.png", tmp_path / "1.png", as_json=True, plot=tmp_path / "p.jpg")
    found = json.loads(capsys.readouterr().out)
    assert found["b_from_a"] is None and found["overlap"] == 0
    (tmp_path / "bad.png").write_text("x")
    with pytest.raises(BadInput, match=r"bad.png: not an image"):
        own_data.pair(params, tmp_path / "0.png", tmp_path / "bad.png", as_json=True, plot=None)


# ---------------------------------------------------------------- real data


def test_kitchen_video_pairs_agree_with_the_table(real_data, params):
    """The 14 pairs one second (30 frames) apart in the table beside the video: 9 are kept, and overlap follows true co-visibility."""
    kitchen = real_data / "seven_scenes_kitchen"
    with (kitchen / "pairs_reference.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    images = {round(time_s * 30): image for time_s, image in videos.sample(kitchen / "kitchen_000000-000299_30fps.mp4", 1 / 30)}
    assert sorted(images) == list(range(300))
    rule = sharding.rule_of(params.mine)
    numbers = {int(row[name]) for row in rows for name in ("frame_i", "frame_j")}
    seen = {number: features.extract(miner.squared(images[number], rule)) for number in numbers}
    found = [overlap.compare(seen[int(row["frame_i"])], seen[int(row["frame_j"])], rule, None) for row in rows]
    second = [one for row, one in zip(rows, found, strict=True) if int(row["frame_j"]) - int(row["frame_i"]) == 30]
    assert len(second) == 14
    assert abs(sum(one.outcome is overlap.Outcome.KEPT for one in second) - 9) <= 2
    matched = [(float(row["covis_min"]), one.overlap) for row, one in zip(rows, found, strict=True) if one.b_from_a is not None]
    assert len(matched) > 60
    assert np.corrcoef(np.array(matched).T)[0, 1] >= 0.9


def test_kitchen_video_as_a_user_mines_it(real_data, tmp_path, params):
    """Ten frames, nine candidates: of the first second the view hardly changes, so frame 0 is paired with frame 2 instead."""
    own_data.pairs(
        params, [real_data / "seven_scenes_kitchen/kitchen_000000-000299_30fps.mp4"], tmp_path / "out", spacing_s=1.0, as_json=False
    )
    result = json.loads((tmp_path / "out/pairs.json").read_text())
    assert abs(result["kept"] - 7) <= 2 and result["candidates"] == 9
    assert next(shards.rows(tmp_path / "out/shard-00000.parquet"))["frame_b"] == "2.000"


def test_all_real_videos_are_mined_or_counted(real_data, tmp_path, params):
    own_data.pairs(params, [real_data / "videos"], tmp_path / "out", spacing_s=1.0, as_json=False)
    result = json.loads((tmp_path / "out/pairs.json").read_text())
    assert result["clips"] == 6 and result["damaged"] == {}
    assert sum(result["outcomes"].values()) == result["candidates"] >= 6
