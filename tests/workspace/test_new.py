"""`mimic new`: a workspace outside the repository that works at once, and what it says when it
cannot be made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from dvc.repo import Repo
from dvc.utils.hydra import apply_overrides
from PIL import Image

from mimic.commands.workspace import check, choices, data, new, spacing, stages, versions
from mimic.commands.workspace.choices import Mined
from mimic.geometry import overlap
from mimic.models.spec import ViTSize, encoder_differences
from mimic.pairs import select
from mimic.params import load_params, packaged
from tests.support import footage
from tests.support.command import MIMIC, call_mimic

FPS = 10
STEP_PX = 16  # a frame: at 0.4 s two frames share 1 - 64 / 224 = 0.71 of the picture


def run(folder: Path, *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MIMIC, *map(str, command)], cwd=folder, capture_output=True, text=True, timeout=600
    )


def walks(folder: Path, count: int = 3) -> Path:
    for number in range(count):
        footage.video(folder / f"walk{number}.mp4", footage.pan(number, 30, STEP_PX), fps=FPS)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A fresh workspace, and what `mimic new` printed."""
    folder = tmp_path_factory.mktemp("elsewhere")
    walks(folder / "my_videos", 4)
    words = ("--videos", "my_videos", "--steps", 2, "--licence", "CC-BY-4.0")
    done = run(folder, "new", "project", *words)
    assert done.returncode == 0, done.stderr
    return folder / "project", done.stdout


def test_the_licence_is_that_of_the_pairs_to_look_at(made: tuple[Path, str]) -> None:
    project, _ = made
    assert {source.licence for source in load_params(project / "params.yaml").sources.values()} == {
        "CC-BY-4.0"
    }
    indices = list((project / "look").glob("*.parquet"))
    assert set(pd.concat(map(pd.read_parquet, indices))["licence"]) == {"CC-BY-4.0"}


@pytest.fixture
def workspace(made: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(made[0], tmp_path / "project"))


def test_a_new_workspace_is_small_whole_and_has_a_repository_of_its_own(
    made: tuple[Path, str],
) -> None:
    project, _ = made
    assert len((project / "params.yaml").read_text().splitlines()) <= 25
    there = {".git", ".dvc", "params.yaml", "dvc.yaml", "versions.yaml", "README.md"}
    assert there <= set(os.listdir(project))
    top = subprocess.run(
        ["git", "rev-parse", "--show-toplevel"], cwd=project, capture_output=True, text=True
    )
    assert Path(top.stdout.strip()) == project.resolve()
    checked = run(project, "check")
    assert (checked.returncode, checked.stdout) == (0, "params.yaml: nothing is wrong\n")
    params = load_params(project / "params.yaml")
    assert params.runs["own"].steps == 2
    assert params.profile == "laptop"


def test_every_folder_that_the_report_needs_is_there_without_a_task(
    workspace: Path, tmp_path: Path
) -> None:
    """Stages that every workspace has make the others; also in a clone of what git keeps."""
    stage = yaml.safe_load((workspace / "dvc.yaml").read_text())["stages"]["report"]
    by_stages = {"metrics", "models", "samples", "data/pairs", "data/manifests"}
    assert set(stage["deps"]) == by_stages | {"data/tasks"}
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "add", "-A"], cwd=workspace, check=True)
    subprocess.run([*git, "commit", "-qm", "first"], cwd=workspace, check=True)
    subprocess.run(["git", "clone", "-q", workspace, tmp_path / "clone"], check=True)
    assert (tmp_path / "clone/data/tasks").is_dir()
    shutil.rmtree(workspace / "data/tasks")  # as in a workspace made before
    assert run(workspace, "upgrade").returncode == 0
    assert (workspace / "data/tasks").is_dir()


@pytest.mark.parametrize(
    "path",
    ["own-hub/config.json", "own-timm.safetensors", "own-croco.pth", ".prefect/prefect.db", ".env"],
)
def test_git_takes_no_exports_and_no_passwords(workspace: Path, path: str) -> None:
    (workspace / path).parent.mkdir(exist_ok=True)
    (workspace / path).write_text("secret or large")
    seen = subprocess.run(
        ["git", "status", "--porcelain", "--untracked-files=all"],
        cwd=workspace,
        capture_output=True,
        text=True,
        check=True,
    )
    assert path not in seen.stdout
    assert "params.yaml" in seen.stdout


def test_every_choice_is_printed_with_its_reason(made: tuple[Path, str]) -> None:
    project, said = made
    lines = said.splitlines()
    assert lines[0] == (
        f"videos: 4 clips in {project.parent.resolve() / 'my_videos'}; 12 s in all, 3 to 3 s each; "
        "10 frames a second; shorter side 224 to 224 px"
    )
    for word in ("profile laptop", "views stored at 224 px", "training", "recipe", "steps 2"):
        assert any(line.startswith(f"  {word}") and ": " in line for line in lines), word
    assert "DUSt3R/MASt3R need rotary positions: --positions rope" in said
    assert "pairs to look at, of 3 of 4 clips:" in lines
    assert lines[-1] == "next: cd project && dvc repro"
    assert (project / "look/_pairs.json").is_file()
    assert (project / "look/_index.html").is_file()
    assert "look at them: file://" in said


def test_the_spacing_is_the_one_at_which_views_overlap(made: tuple[Path, str]) -> None:
    project, _ = made
    section: Any = load_params(project / "params.yaml").sources["videos"]
    assert (section.spacing_s, section.retry_spacing_s) == (0.4, 0.8)


def test_where_nothing_overlaps_the_usual_spacing_is_kept_and_it_is_said(tmp_path: Path) -> None:
    """Two clips of frames that have nothing in common."""
    for number in range(2):
        images = [footage.plane(100 * number + frame, 224) for frame in range(12)]
        footage.video(tmp_path / f"cuts{number}.mp4", images, fps=FPS)
    asked = data.Asked(tmp_path, None, None, None, None, None, None, "private")
    (found,) = data.look(packaged(), asked, tmp_path / "project")
    chosen = spacing.choose_spacing(found, packaged().mine, 0.5)
    assert (chosen.spacing_s, chosen.kept, chosen.good) == (0.5, 0.0, frozenset())
    assert "no sampled frame pair overlaps as wanted at any distance" in chosen.why


def test_the_spacing_gives_most_pairs_a_second_not_the_largest_share(tmp_path: Path) -> None:
    """One clip pans 8 times as fast as the others: at 3.2 s all pairs of the slow ones are kept, at
    0.4 s a third of all."""
    walks(tmp_path, 1)
    for number in (1, 2):
        footage.video(tmp_path / f"slow{number}.mp4", footage.pan(number, 60, 2), fps=FPS)
    asked = data.Asked(tmp_path, None, None, None, None, None, None, "private")
    (found,) = data.look(packaged(), asked, tmp_path / "project")
    chosen = spacing.choose_spacing(found, packaged().mine, 0.5)
    assert chosen.spacing_s == 0.4
    assert 0.2 < chosen.kept < 0.4
    assert chosen.good == {tmp_path / "walk0.mp4"}
    said = re.search(
        r"most pairs a second of film: ([\d.]+) or more .*3\.2 s: (\d+) of (\d+)", chosen.why
    )
    assert said is not None, chosen.why
    assert float(said[1]) == pytest.approx(spacing.lower_share(9, 27) / 0.4, rel=0.3)
    assert int(said[2]) / int(said[3]) > 2 * chosen.kept


def test_few_comparisons_do_not_decide() -> None:
    """Wilson's bound of 3 of 12 at 0.4 s is worth more pairs a second than 2 of 6 at 3.2 s, and 1
    of 2 is not the best of all."""
    kept, rest = overlap.Outcome.KEPT, overlap.Outcome.TOO_SIMILAR
    counts = {
        0.1: Counter({rest: 14}),
        0.4: Counter({kept: 3, rest: 9}),
        0.8: Counter({kept: 1, rest: 1}),
        3.2: Counter({kept: 2, rest: 4}),
    }
    assert spacing.best_distance(counts) == 0.4
    assert spacing.best_distance({0.1: counts[0.1], 0.2: Counter()}) is None
    # Newcombe (1998), table 1: 81 of 263 and 0 of 20, two-sided 95 %
    assert spacing.lower_share(81, 263, 1.959964) == pytest.approx(0.2553, abs=5e-5)
    assert spacing.lower_share(0, 20, 1.959964) == 0.0


def test_bad_input_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/a.mp4").write_bytes(b"no video")
    (tmp_path / "there").mkdir()
    walks(tmp_path / "walks", 1)
    for words, wrong in (
        (("--videos", "gone"), "--videos gone: no such folder"),
        (("--videos", "empty"), "empty: no video, image or .glb scene in this folder"),
        (("--videos", "broken"), "--videos broken: none of 1 can be read; a.mp4: "),
        (("--images", "walks"), "--images walks: holds none"),
        ((), "name what to mine: --videos DIR"),
        (("--videos", "."), "project: lies in the data, ., which DVC would then track"),
        (("--videos", "walks", "--depth", "."), "project: lies in the data, ., which DVC"),
        (("--videos", "walks", "--depth", "gone"), "--depth gone: no such folder"),
        (("--videos", "walks", "--depth", "empty"), "--depth: "),
        (("--videos", "walks", "--start-from", "gone.pth"), "gone.pth: no such file"),
        (("--videos", "walks", "--start-from", "walks/walk0.mp4"), "walk0.mp4: "),
        (("--videos", "walks", "--steps", "0"), "--steps 0: must be 1 or more"),
        (("--videos", "walks", "--licence", "mine"), "--licence mine: no licence is called so"),
    ):
        before = sorted(os.listdir(tmp_path))
        done = call_mimic(tmp_path, "new", "project", *words)
        assert done.returncode == 2, (words, done.stdout, done.stderr)
        assert wrong in done.stderr.splitlines()[-1], done.stderr
        assert sorted(os.listdir(tmp_path)) == before, words
    done = run(tmp_path, "new", "there", "--videos", "walks")
    assert done.returncode == 2
    assert done.stderr == (
        "mimic: there: is there already; name a new folder, nothing was touched\n"
    )
    assert os.listdir(tmp_path / "there") == []


# ---------------------------------------------------------------------------- its stages


def _whole(stage: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stages.body(stage).items() if key != "params"}


def test_its_stages_are_those_of_the_repository(repository: Path, made: tuple[Path, str]) -> None:
    theirs = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    own = yaml.safe_load((made[0] / "dvc.yaml").read_text())["stages"]
    assert set(theirs) - set(own) == {"synthesize"}
    assert not set(own) - set(theirs)
    for name, stage in own.items():
        assert _whole(stage) == _whole(theirs[name]), name
        for key in ("foreach", "matrix"):
            assert stage.get(key) == theirs[name].get(key)
        stated, listed = (
            Counter(
                entry
                for one in stages.body(of[name])["params"]
                for entry in ([one] if isinstance(one, str) else [])
            )
            for of in (theirs, own)
        )
        more = {"profile": 1, "profiles": 1} if "recipe" in name or name == "prepare" else {}
        assert listed - stated == Counter(more), name
        assert not stated - listed


@pytest.mark.parametrize("stage", ["recipe", "adapt-recipe"])
def test_what_a_run_inherits_of_a_profile_goes_into_its_recipe(stage: str) -> None:
    """A profile that changes with the package makes entries of `adapt` stale as well as runs."""
    written = yaml.safe_load(stages.text())["stages"][stage]
    held = [one for one in stages.body(written)["params"] if isinstance(one, dict)]
    assert "profile.runs" in held[-1]["versions.yaml"]


def test_every_parameter_that_dvc_reads_is_there(made: tuple[Path, str]) -> None:
    with Repo(str(made[0])) as repo:
        found = [dep for stage in repo.index.stages for dep in stage.deps if hasattr(dep, "params")]
        assert len(found) > 10
        for dep in found:
            assert dep.read_params().keys() == set(dep.params), dep.def_path


def test_what_the_repository_tracks_in_source_is_in_versions_yaml(made: tuple[Path, str]) -> None:
    """Every version, and every preset by its digest."""
    held = versions.written(made[0])
    assert held == versions.current("laptop")
    for room, file, keys in stages.read_from_source(stages.pipeline()):
        inside: Any = held
        for part in room.split("."):
            inside = inside[part]
        for key in keys:
            if file == "__init__":
                assert key.partition(".")[0] in inside
        assert file == "__init__" or len(inside[file]) >= 1
    assert held["mining"]["RULE_VERSION"] >= 1
    assert held["profile"]["name"] == "laptop"


# ---------------------------------------------------------------------------- another package


def _older(workspace: Path, old: str, new: str) -> None:
    path = workspace / "versions.yaml"
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def test_a_stage_refuses_another_package_until_upgrade_says_what_is_stale(
    workspace: Path,
) -> None:
    assert run(workspace, "ingest", "videos").returncode == 0
    _older(workspace, "RULE_VERSION: ", "RULE_VERSION: 1")
    for command in (["mine", "videos"], ["recipe", "own"], ["report"]):
        refused = run(workspace, *command)
        assert refused.returncode == 2, command
        (line,) = refused.stderr.splitlines()
        assert "versions.yaml: the mimic package has changed (mining.RULE_VERSION: 1" in line
        assert line.endswith("run `mimic upgrade`, which says what becomes stale, then `dvc repro`")
    upgraded = run(workspace, "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    assert "mining.RULE_VERSION: 1" in upgraded.stdout
    assert versions.written(workspace) == versions.current("laptop")
    assert run(workspace, "recipe", "own").returncode == 0
    again = run(workspace, "upgrade")
    assert again.stdout == "nothing has changed; `dvc repro` runs what is stale\n"


def test_another_profile_is_refused_until_upgrade(workspace: Path) -> None:
    params = workspace / "params.yaml"
    params.write_text(params.read_text().replace("profile: laptop", "profile: gpu", 1))
    refused = run(workspace, "recipe", "own")
    assert refused.returncode == 2
    assert "versions.yaml: the profile has changed" in refused.stderr
    assert run(workspace, "upgrade").returncode == 0
    assert run(workspace, "recipe", "own").returncode == 0
    assert load_params(params).recipe("own").model.width == 768
    assert load_params(params).runs["own"].steps == 1000


def test_upgrade_elsewhere_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("profile: laptop\nsources: {}\n")
    done = run(tmp_path, "upgrade")
    assert done.returncode == 2
    assert "`mimic new` makes a workspace, and this folder is none" in done.stderr


def test_folders_of_images_are_a_source_and_those_of_another_kind_are_named(
    tmp_path: Path,
) -> None:
    numbered = [tmp_path / "photos" / f"walk{number}" for number in range(2)]
    for folder in numbered:
        _save(folder, [f"{index:04d}.jpg" for index in range(40)])
    _save(tmp_path / "photos" / "square", ["fountain.jpg", "old gate.jpg", "tower.jpg"])
    done = run(tmp_path, "new", "project", "--images", "photos", "--steps", 2)
    assert done.returncode == 0, done.stderr
    (source,) = yaml.safe_load((tmp_path / "project/params.yaml").read_text())["sources"].values()
    assert source["pairing"] == "neighbours"
    assert "1 folders hold images of another kind (square), and are paired like" in done.stdout
    assert "80 images in all" in done.stdout
    assert "batch 32: the recipe's; about 64 pairs to train on" in done.stdout


def test_a_damaged_picture_in_front_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "photos/walk"
    _save(folder, [f"{index:04d}.jpg" for index in range(4)])
    first = folder / "0000.jpg"
    first.write_bytes(first.read_bytes()[: first.stat().st_size // 2])
    asked = data.Asked(None, tmp_path / "photos", None, None, None, None, None, "unknown")
    (media,) = data.look(packaged(), asked, tmp_path / "project")
    assert media.sides_px == [224]


def _save(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name, frame in zip(names, footage.pan(len(names), len(names), STEP_PX), strict=True):
        Image.fromarray(frame).save(folder / name)


def test_data_too_large_to_be_hashed_are_stood_for_by_a_number(tmp_path: Path) -> None:
    walks(tmp_path / "my_videos", 1)
    asked = data.Asked(
        tmp_path / "my_videos", None, None, None, None, None, None, licence="unknown"
    )
    (found,) = data.look(packaged(), asked, tmp_path / "project")
    assert choices.version_file(found) is None
    assert choices.version_file(found, most_bytes=10.0) == "videos.version"


def test_an_experiment_changes_a_new_workspace_and_leaves_it_readable(workspace: Path) -> None:
    """The profile in params.yaml says how long runs train: DVC changes it like any other number."""
    for command in (
        ("add", "."),
        ("-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"),
    ):
        subprocess.run(["git", *command], cwd=workspace, check=True)
    before = (workspace / "params.yaml").read_text().splitlines()
    change = "profiles.laptop.runs.steps=3"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", "run", "-S", change, "-n", "longer", "recipe@own"],
        cwd=workspace,
        env={**os.environ, "PATH": os.pathsep.join([str(MIMIC.parent), os.environ["PATH"]])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert load_params(workspace / "params.yaml").runs["own"].steps == 3
    assert check.problems(workspace / "params.yaml") == []
    after = (workspace / "params.yaml").read_text().splitlines()
    assert len(after) <= len(before) + 12, "DVC breaks lines after 80 columns, and nothing else"


def test_a_path_with_a_colon_survives_the_rewriting_of_an_experiment(tmp_path: Path) -> None:
    section = {"reader": "videos", "root": "/films/12:30", "spacing_s": 0.4}
    path = tmp_path / "params.yaml"
    path.write_text(f"sources:\n  {new._entry('walks', section)}\n")
    apply_overrides(path, ["sources.walks.spacing_s=0.8"])
    assert yaml.safe_load(path.read_text())["sources"]["walks"] == section | {"spacing_s": 0.8}
    assert new._entry("walks", {"root": "films"}) == "walks: {root: films}"


@pytest.mark.parametrize("norm_eps", [1e-6, 1e-12])
def test_a_model_that_starts_from_weights_has_every_number_of_their_encoder(
    norm_eps: float,
) -> None:
    """Weights of Hugging Face's ViT-MAE have 1e-12."""
    size = ViTSize(
        size_px=(224, 224),
        patch_px=16,
        width=192,
        depth=12,
        heads=3,
        class_token=True,
        positions="sincos",
        norm_eps=norm_eps,
    )
    model, local, _ = choices.model_of({"model": size.as_card()}, "laptop")
    resolved, _ = choices.recipe("laptop", {"model": {**model, **local}})
    assert not encoder_differences(size, resolved.model.size())


@pytest.mark.parametrize("name", ["GX010001.MP4", "street.mp4", "walk.mp4"])
def test_an_only_clip_is_trained_on(name: str) -> None:
    """By its name it may be drawn for validation, and then nothing is left to train on."""
    one = Mined("videos", {}, 100.0, [name], {name})
    assert choices.validation([one])[0] == 0
    two = Mined("videos", {}, 100.0, [name, "other.mp4"], {name, "other.mp4"})
    share = choices.validation([two])[0]
    assert select.held_out("videos", two.clips, share).sum() == 1


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (30, {0.1: 0.1, 0.2: 0.2, 0.4: 0.4, 0.8: 0.8, 1.6: 1.6, 3.2: 3.2}),
        (2, {0.4: 0.5, 0.8: 1.0, 1.6: 2.0, 3.2: 3.5}),
        (1, {0.8: 1.0, 1.6: 2.0, 3.2: 4.0}),
    ],
)
def test_the_spacing_of_a_slow_film_is_judged_by_its_own_times(
    fps: int, expected: dict[float, float]
) -> None:
    """Every frame of it comes where one is asked for each tenth of a second."""
    gap = max(1 / fps, 0.1)
    times = [round(number * gap * fps) / fps for number in range(round(8 / gap))]
    found = {distance: times[other] - times[0] for distance, other in spacing.partners(times, 0)}
    assert found == pytest.approx(expected, abs=0.04)


def test_a_few_small_folders_are_looked_at(tmp_path: Path) -> None:
    """Not one that holds others: a look at it would be one at all of them."""
    sizes = {".": 1, "a": 200, "b": 150, "c": 20, "d": 160, "d/e": 3}
    for name, count in sizes.items():
        (tmp_path / name).mkdir(exist_ok=True, parents=True)
        for number in range(count):
            (tmp_path / name / f"{number}.png").touch()
    section = packaged().sources["frames"]
    media = data.FolderMedia("images", section, tmp_path, list(sizes), {}, 0)
    assert [path.name for path in new._short_clips(media)] == ["e", "c", "b"]
    alone = data.FolderMedia("images", section, tmp_path, ["a"], {}, 0)
    assert [path.name for path in new._short_clips(alone)] == ["a"]
