from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import pytest

from mimic.infra import progress


def test_a_log_gets_plain_lines_and_says_where_the_details_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 3600.0)
    with progress.track("mine phone", 3, "clips", Path("runs/x/log.jsonl")) as track:
        for _ in range(3):
            track.advance(1, "7 pairs")
    first, last = capsys.readouterr().err.splitlines()
    assert first == "mine phone: 3 clips; log: runs/x/log.jsonl"
    assert last.startswith("mine phone: 3/3 clips, ")
    assert last.endswith(" in all, 7 pairs")


def test_what_is_written_can_be_read_again() -> None:
    track = progress.ProgressTracker("mine phone", 200, "clips")
    track.advance(50, "312 kept")
    assert progress.parse(track.line()) == progress.ProgressLine("mine phone", 50, 200)
    track.show(0.5, 0.0, "")
    assert progress.parse(track.line()) == progress.ProgressLine("mine phone", 50.5, 200)
    assert progress.ProgressLine("mine phone", 50, 200).percent == 25


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "slurm: job 7 of pretrain croco-3m: RUNNING on n1,n2, step 1200 of 30000, 3.1 steps/s, "
            "requeued 1 time",
            progress.ProgressLine("pretrain croco-3m", 1200, 30000),
        ),
        (
            "slurm: job 7 of pretrain croco-3m: PENDING (Resources), 12 min",
            progress.ProgressLine("pretrain croco-3m", 0, 0),
        ),
        ("mine phone: 3 clips; log: runs/x/log.jsonl", None),
        ("http://127.0.0.1/a: 1/2", None),
        ("Running stage 'mine@a':", None),
    ],
)
def test_lines_of_progress_are_told_from_others(
    line: str, shown: progress.ProgressLine | None
) -> None:
    assert progress.parse(line) == shown
    assert shown is None or 0 <= shown.percent <= 100


def test_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    track = progress.ProgressTracker("mine phone", 200, "clips")
    track.advance(60)
    assert track.line() == "mine phone: 60/200 clips, 2.0 clips/s, 1:10 left"


def test_what_is_begun_counts_but_not_for_the_rate_what_was_done_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Half of a clip was done by an earlier run; this one adds a quarter of a clip in half a
    minute."""
    clock = iter([0.0, 30.0, 60.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    track = progress.ProgressTracker("mine phone", 2, "clips")
    track.show(0.75, 0.5, "walk.mp4 at 754.500")
    assert track.line() == "mine phone: 0.75/2 clips, 0.5 clips/min, 2:30 left, walk.mp4 at 754.500"
    track.advance(1)
    assert (track.done, track.under_way) == (1, 0.0)
    assert track.line().startswith("mine phone: 1/2 clips, ")


def test_a_bar_moves_within_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with progress.track("mine phone", 2, "clips", None) as track:
        track.show(0.25, 0.0, "walk.mp4")
        (task,) = track._bar.tasks  # type: ignore[attr-defined]
        assert (task.completed, task.fields["note"]) == (0.25, "walk.mp4")


def test_looking_again_and_again_ends_with_the_block() -> None:
    looked = []
    with progress.repeating(lambda: looked.append(1), 0.01):
        deadline = time.monotonic() + 20
        while len(looked) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    count = len(looked)
    time.sleep(0.05)
    assert len(looked) == count


@pytest.mark.parametrize(("seconds", "shown"), [(5.4, "0:05"), (119.6, "2:00"), (3725, "1:02:05")])
def test_clock(seconds: float, shown: str) -> None:
    assert progress._clock(seconds) == shown


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress.track("mine phone", 2, "clips", None) as track:
        track.advance(2, "9 pairs")
    assert "2/2" in terminal.getvalue()
    assert "9 pairs" in terminal.getvalue()


def test_work_that_is_done_at_once_is_not_spoken_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(progress.counted("abc", "score", 3, "images")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)  # as if each took so long
    list(progress.counted([2, 1], "score", 3, "images", size=int))
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith("score: 2/3 images, ")
    assert last.startswith("score: 3/3 images, ")


def test_long_work_ends_with_a_line_even_if_brief(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 11.0, 11.0, 11.0, 12.0, 12.0, 12.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    list(progress.counted("ab", "score", 2, "images"))
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "score: 1/2 images",
        "score: 2/2 images",
    ]


def test_inside_work_that_is_shown_only_that_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bars on one terminal would be an error."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress.track("train", 1, "steps", None) as outer:
        assert list(progress.counted("ab", "score", 2, "images")) == ["a", "b"]
        outer.advance(1)
    assert "train" in terminal.getvalue()
    assert "score" not in terminal.getvalue()
    assert list(progress.counted("ab", "look", 2, "images")) == ["a", "b"]
    assert "look" in terminal.getvalue()
