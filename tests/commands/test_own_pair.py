"""`mimic pair`: two images explained."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from mimic.commands.own import own_pair
from mimic.errors import BadInput
from mimic.params import Params, load_params
from tests.support import footage
from tests.support.command import run_mimic


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def test_one_pair_explained(tmp_path: Path) -> None:
    footage.folder(tmp_path, footage.pan(0, 3, 80), "{}.png")
    done = run_mimic(tmp_path, "pair", "0.png", "1.png", "--json", "--plot", "plot.png")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) >= {
        "outcome",
        "overlap",
        "overlap_a_to_b",
        "overlap_b_to_a",
        "matches",
        "inliers",
        "b_from_a",
    }
    assert found["decided_by"] == {"bound": "overlap_max", "is": 0.75, "found": found["overlap"]}
    assert found["outcome"] == "kept"
    assert found["overlap"] == pytest.approx(1 - 80 / 224, abs=0.05)
    assert np.allclose(found["b_from_a"], [[1, 0, -80], [0, 1, 0], [0, 0, 1]], atol=1)
    assert cv2.imread(str(tmp_path / "plot.png")).shape == (448, 904, 3)
    swapped = json.loads(run_mimic(tmp_path, "pair", "1.png", "0.png", "--json").stdout)
    assert (swapped["outcome"], swapped["overlap"]) == (found["outcome"], found["overlap"])


def captioned(image: np.ndarray) -> np.ndarray:
    out = image.copy()
    cv2.rectangle(out, (0, 192), (224, 224), (0, 0, 0), -1)
    cv2.putText(
        out, "GPS 48.137 N 11.575 E", (4, 213), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255)
    )
    return out


def test_what_is_burned_in_is_told_and_drawn(
    tmp_path: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    fog = np.full((224, 224, 3), 150, np.uint8)
    views = [captioned(view) for view in (*footage.pan(0, 2, 80), fog)]
    footage.folder(tmp_path, views, "{}.png")
    plot = tmp_path / "plot.png"
    own_pair.pair(params, tmp_path / "0.png", tmp_path / "1.png", as_json=True, plot=plot)
    found = json.loads(capsys.readouterr().out)
    assert found["outcome"] == "kept"
    assert found["set_aside"] >= 4
    assert found["why"].endswith(f"; {found['set_aside']} matches that do not move set aside")
    drawn = cv2.imread(str(plot))
    for left in (0, 448 + 8):  # white crosses on the dark strip, in both views
        strip = drawn[2 * 192 :, left : left + 448]
        assert (strip.min(axis=2) == 255).sum() >= found["set_aside"]
    own_pair.pair(params, tmp_path / "0.png", tmp_path / "2.png", as_json=False, plot=None)
    said = capsys.readouterr().out
    assert said.startswith("static: ")
    assert "matches do not move; they reach" in said


def test_a_pair_without_a_homography_says_which_test_failed(
    tmp_path: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    footage.folder(tmp_path, [footage.pan(0, 1, 8)[0], footage.pan(5, 1, 8)[0]], "{}.png")
    own_pair.pair(
        params, tmp_path / "0.png", tmp_path / "1.png", as_json=True, plot=tmp_path / "p.jpg"
    )
    found = json.loads(capsys.readouterr().out)
    assert found["b_from_a"] is None
    assert found["overlap"] is None
    assert found["outcome"] == "few_matches"
    assert found["decided_by"] == {"bound": "matches_min", "is": 11, "found": found["matches"]}
    own_pair.pair(params, tmp_path / "0.png", tmp_path / "1.png", as_json=False, plot=None)
    said = capsys.readouterr().out
    assert f"{found['matches']} matches, fewer than matches_min 11" in said
    assert "no overlap was measured" in said
    assert "0.000" not in said
    (tmp_path / "bad.png").write_text("x")
    with pytest.raises(BadInput, match=r"bad.png: not an image"):
        own_pair.pair(params, tmp_path / "0.png", tmp_path / "bad.png", as_json=True, plot=None)


@pytest.mark.parametrize("name", ["plot.png", "plot.jpg"])
def test_only_a_picture_of_this_command_is_replaced(
    tmp_path: Path, params: Params, name: str
) -> None:
    footage.folder(tmp_path, footage.pan(0, 3, 80), "{}.png")
    plot = tmp_path / name
    for other in ("1.png", "2.png"):
        own_pair.pair(params, tmp_path / "0.png", tmp_path / other, as_json=True, plot=plot)
    drawn = cv2.imread(str(plot))
    assert drawn.shape == (448, 904, 3)
    cv2.imwrite(str(plot), drawn)  # somebody else's now
    before = plot.read_bytes()
    with pytest.raises(BadInput, match="is there already, and no picture of this command"):
        own_pair.pair(params, tmp_path / "0.png", tmp_path / "1.png", as_json=True, plot=plot)
    assert plot.read_bytes() == before


@pytest.mark.parametrize(
    ("plot", "message"),
    [
        ("folder", "is a folder; name a .png or .jpg file"),
        ("x.gif", "pictures are written as .png, .jpg, .jpeg; name such a file"),
        ("x", "pictures are written as"),
        ("0.png/x.png", "name another place"),
    ],
)
def test_a_picture_that_cannot_be_written_is_one_line(
    tmp_path: Path, plot: str, message: str
) -> None:
    footage.folder(tmp_path, footage.pan(0, 2, 80), "{}.png")
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.iterdir())
    done = run_mimic(tmp_path, "pair", "0.png", "1.png", "--plot", plot)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"mimic: --plot {plot}: ")
    assert message in done.stderr
    assert sorted(tmp_path.iterdir()) == before
