"""Faces are blurred and unwanted pictures withheld before anything is written; on without a model
is an error, not a shrug."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from mimic import config, ingest, sources
from mimic import mine as stage
from mimic.errors import BadInput
from mimic.geometry.overlap import Outcome
from mimic.infra.storage import Workspace, file_digest, read_json
from mimic.mining import loop, privacy, shard_job
from mimic.pairs.read import iter_rows
from mimic.params import Params, load_params, resolve_params
from tests.support import footage
from tests.support.truth import BASE

JUDGE = """
import struct, sys
while True:
    head = sys.stdin.buffer.read(4)
    if not head: break
    data = sys.stdin.buffer.read(struct.unpack("<I", head)[0])
    assert data[:2] == b"\\xff\\xd8"
    print({answer}, flush=True)
"""


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


class Detector:
    """Stands for YuNet: one face where the picture is brightest red, in pixels of what it is
    shown."""

    shown: list[tuple[int, int]] = []

    def setInputSize(self, size: tuple[int, int]) -> None:
        self.shown.append(size)

    def detect(self, image: np.ndarray) -> tuple[int, np.ndarray | None]:
        red = (image[..., 2] > 240) & (image[..., 0] < 30)
        if not red.any():
            return 1, None
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        box = [columns[0], rows[0], len(columns), len(rows)]
        return 1, np.array([[*box, *[0.0] * 10, 0.9]], np.float32)


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *arguments: Detector())
    (tmp_path / "face.onnx").write_bytes(b"model")
    return Path("face.onnx")


def _privacy(params: Params, **change: Any) -> config.Privacy:
    return params.mine.privacy.model_copy(update=change)


def test_a_face_leaves_a_few_cells_and_the_rest_is_untouched(
    params: Params, detector: Path, tmp_path: Path
) -> None:
    guard = privacy.open_guard(_privacy(params, blur_faces=True, face_model=detector), tmp_path)
    assert guard is not None
    image = np.random.default_rng(0).integers(40, 200, (224, 224, 3), np.uint8)
    image[100:120, 50:66] = (255, 0, 0)
    image[104:116:2, 54:62] = (255, 20, 10)  # features of the face
    seen = guard(image)
    assert seen is not None
    assert Detector.shown[-1] == (448, 448)
    changed = (seen != image).any(axis=2)
    assert changed[96:124, 47:69].any()
    assert not changed[:95].any()
    assert not changed[126:].any()
    assert not changed[:, 70:].any()
    np.testing.assert_array_equal(guard(seen * 0 + 90), seen * 0 + 90)  # no face, no change


def test_blurring_is_irreversible_and_stays_within_the_picture() -> None:
    first, second = (
        np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in (1, 2)
    )
    second[:] = np.roll(first.reshape(-1, 3), 1, axis=0).reshape(first.shape)
    boxes = np.array(
        [[-20.0, -20.0, 200.0, 200.0], [500.0, 10.0, 5.0, 5.0], [10.0, 10.0, 0.0, 0.0]]
    )
    covered = privacy.blurred(first, boxes, 0.2)
    assert len(np.unique(covered.reshape(-1, 3), axis=0)) > 1
    assert np.abs(np.diff(covered.astype(int), axis=1)).max() < 30  # nothing sharp is left
    assert (privacy.blurred(first, np.empty((0, 4)), 0.2) == first).all()


def test_on_without_a_model_is_an_error(repository: Path, params: Params, tmp_path: Path) -> None:
    raw = resolve_params(repository / "params.yaml").full()
    raw["mine"]["privacy"]["blur_faces"] = True
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(
        BadInput, match=r"mine\.privacy: blur_faces is on, but face_model names no detector"
    ):
        load_params(tmp_path / "params.yaml")
    missing = _privacy(params, blur_faces=True, face_model=Path("gone.onnx"))
    for ask in (privacy.open_guard, privacy.model_digest):
        with pytest.raises(BadInput, match=r"no file .*gone\.onnx"):
            ask(missing, tmp_path)
    (tmp_path / "wrong.onnx").write_bytes(b"not a model")
    with pytest.raises(BadInput, match=r"wrong\.onnx is no YuNet model"):
        privacy.open_guard(
            _privacy(params, blur_faces=True, face_model=Path("wrong.onnx")), tmp_path
        )
    assert privacy.open_guard(params.mine.privacy, tmp_path) is None


def _pairs(
    params: Params, tmp_path: Path, change: dict
) -> tuple[list[loop.Pair], loop.MiningStats]:
    if not (tmp_path / "raw").exists():
        footage.folder(tmp_path / "raw", footage.pan(3, 13, 16))
    section = footage.images_section(params, tmp_path / "raw", stride=6, advance=6)
    source = sources.open_source("frames", section, Path(), 224)
    guard = privacy.open_guard(_privacy(params, **change), tmp_path)
    stats = loop.MiningStats()
    pairs = list(loop.mine_clip(source, ".", shard_job.rule_of(params.mine), 0.0, 0, stats, guard))
    stats.check(len(pairs))
    return pairs, stats


def _command(answer: str) -> tuple[str, ...]:
    return (sys.executable, "-c", JUDGE.replace("{answer}", answer))


def test_pictures_that_a_program_scores_high_are_withheld_and_counted(
    params: Params, tmp_path: Path
) -> None:
    free, _ = _pairs(params, tmp_path, {})
    passed, _ = _pairs(params, tmp_path, {"nsfw_command": _command("0.2")})
    none, stats = _pairs(params, tmp_path, {"nsfw_command": _command("0.9")})
    assert len(free) == len(passed) == 2
    assert (free[0].image_a == passed[0].image_a).all()
    assert not none
    assert stats.outcomes[Outcome.WITHHELD] == 2
    assert stats.kept == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("no-such-program",), "cannot start 'no-such-program'"),
        (_command("'yes'"), "answered b'yes', not a score"),
        (_command("2"), "not a score from 0 to 1"),
        ((sys.executable, "-c", ""), "the program has ended"),
    ],
)
def test_a_program_that_fails_stops_the_mining(
    params: Params, tmp_path: Path, command: tuple[str, str, str] | tuple[str], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        _pairs(params, tmp_path, {"nsfw_command": command})


# Answers the first picture late, and each of the others at once: 1 to a bright one.
LATE = """
import os, struct, sys, time
for number in range(100):
    (size,) = struct.unpack("<I", sys.stdin.buffer.read(4))
    data = sys.stdin.buffer.read(size)
    if number == 0 and not os.path.exists("{seen}"):
        open("{seen}", "w").close()
        time.sleep(1)
    print(float(size > {size}), flush=True)
"""


def test_a_late_answer_is_not_taken_for_that_of_the_next_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SLURM the same process goes on with the next shard."""
    monkeypatch.setattr(privacy, "ANSWER_S", 0.5)
    plain = np.zeros((64, 64, 3), np.uint8)
    rich = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    text = LATE.replace("{seen}", str(tmp_path / "seen")).replace("{size}", "2000")
    judge = privacy.CommandJudge((sys.executable, "-c", text))
    with pytest.raises(BadInput, match=r"did not answer within 0\.5 s"):
        judge.score(rich)
    monkeypatch.setattr(privacy, "ANSWER_S", 60.0)
    time.sleep(1)  # by now it would have answered
    assert [judge.score(image) for image in (plain, rich, plain, rich)] == [0, 1, 0, 1]


def test_a_program_that_answers_more_than_it_is_asked_is_refused() -> None:
    twice = "print('0.1\\n0.9', flush=True)"
    judge = privacy.CommandJudge(
        (sys.executable, "-c", f"import sys\nsys.stdin.buffer.read(10)\n{twice}\nsys.stdin.read()")
    )
    image = np.zeros((64, 64, 3), np.uint8)
    assert judge.score(image) == 0.1
    with pytest.raises(BadInput, match="answers more than one line a picture"):
        judge.score(image)


def test_what_is_written_has_passed(params: Params, tmp_path: Path) -> None:
    """Through the stages: the shard holds pairs of the pictures that the program let through, and
    the counts say so."""
    footage.folder(tmp_path / "raw", footage.pan(3, 13, 16))
    first_only = JUDGE.replace("{answer}", "0.9 if data == first else 0.1").replace(
        "while True:", "first = None\nwhile True:", 1
    )
    first_only = first_only.replace("    assert", "    first = first or data\n    assert")
    mine = params.mine.model_copy(
        update={"privacy": _privacy(params, nsfw_command=(sys.executable, "-c", first_only))}
    )
    section = footage.images_section(
        params, tmp_path / "raw", stride=6, advance=6, **{"licence": BASE["licence"]}
    )
    cluster = params.cluster.model_copy(update={"workers": 1})
    params = params.model_copy(
        update={"mine": mine, "sources": {"frames": section}, "cluster": cluster}
    )
    ingest.main(params, tmp_path, "frames")
    stage.main(params, tmp_path, "frames")
    rows = [
        row
        for file in Workspace(tmp_path).pairs("frames").glob("*.parquet")
        for row in iter_rows(file)
    ]
    assert [(row["frame_a"], row["frame_b"]) for row in rows] == [
        ("frame000006.png", "frame000012.png")
    ]


def test_the_metrics_say_which_detector_looked(
    params: Params, tmp_path: Path, real_data: Path
) -> None:
    model = real_data.parent / "models/face_detection_yunet_2023mar.onnx"
    footage.folder(tmp_path / "raw", footage.pan(3, 13, 16))
    section = footage.images_section(params, tmp_path / "raw", stride=6, advance=6)
    looked = _privacy(params, blur_faces=True, face_model=model)
    params = params.model_copy(
        update={
            "mine": params.mine.model_copy(update={"privacy": looked}),
            "sources": {"frames": section},
        }
    )
    ingest.main(params, tmp_path, "frames")
    stage.main(params, tmp_path, "frames")
    said = read_json(Workspace(tmp_path).metrics("mine", "frames"))
    assert said is not None
    assert said["face_model_sha256"] == file_digest(model)
