"""A published folder replaces an earlier result of the same kind and name, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from mimic.errors import BadInput
from mimic.infra import exchange, storage
from mimic.infra.exchange import settle_all
from mimic.infra.publishing import MARK, Work, marked, publish, resolve_target

WORK = Work("pretrain", "c0")


def _write(**files: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        for name, text in files.items():
            path = folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return fill


def _tree(folder: Path) -> dict[str, str]:
    """Every entry below a folder, links as what they say."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[name] = path.read_text()
        else:
            found[name] = "folder"
    return found


def _refused(folder: Path, out: Path, match: str, work: Work = WORK, **how: Any) -> None:
    before = _tree(folder)
    asked: list[Any] = []
    for attempt in (
        lambda: resolve_target(out, work, **how),
        lambda: publish(asked.append, out, work, **how),
    ):
        with pytest.raises(BadInput, match=match) as info:
            attempt()
        assert "\n" not in str(info.value)
        assert _tree(folder) == before
    assert asked == [], "work was spent before the refusal"


def test_an_earlier_result_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "models/c0"
    publish(_write(a="1", deep__b="2"), out, WORK)
    assert marked(out) == (WORK, ["a", "deep/b"])
    publish(_write(c="3"), out, WORK)
    assert _tree(tmp_path / "models").keys() == {"c0", f"c0/{MARK}", "c0/c"}


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        publish(_write(b="2", a="1"), tmp_path / name, WORK)
    assert _tree(tmp_path / "one") == _tree(tmp_path / "two")


@pytest.mark.parametrize(
    "foreign",
    [
        {"thesis.txt": "mine"},
        {MARK: "no JSON"},
        {MARK: '{"made_by": "someone", "kind": "pretrain", "name": "c0", "files": ["x"]}', "x": ""},
        {MARK: '{"made_by": "mimic", "kind": "pretrain", "name": "c0", "files": null}', "x": ""},
        {".hidden": ""},
        {"deep/er/x": ""},
    ],
)
def test_what_bears_no_mark_of_ours_stays(tmp_path: Path, foreign: dict[str, str]) -> None:
    out = tmp_path / "models/c0"
    _write(**{name.replace("/", "__"): text for name, text in foreign.items()})(out)
    _refused(tmp_path, out, "nothing was touched")


def test_another_kind_or_name_stays(tmp_path: Path) -> None:
    publish(_write(a="1"), tmp_path / "c0", WORK)
    _refused(
        tmp_path,
        tmp_path / "c0",
        "holds pretrain c0, which import c0 does not replace",
        Work("import", "c0"),
    )
    _refused(
        tmp_path, tmp_path / "c0", "holds pretrain c0, which pretrain c1", Work("pretrain", "c1")
    )
    publish(_write(b="2"), tmp_path / "c0", Work("import", "c0"), over={"pretrain"})
    assert marked(tmp_path / "c0") == (Work("import", "c0"), ["b"])


@pytest.mark.parametrize("entry", ["notes.txt", "deep/notes.txt", "empty/", "link"])
def test_something_put_into_our_result_stays(tmp_path: Path, entry: str) -> None:
    out = tmp_path / "c0"
    publish(_write(a="1", deep__b="2"), out, WORK)
    (tmp_path / "elsewhere").mkdir()
    if entry == "link":
        (out / entry).symlink_to(tmp_path / "elsewhere")
    elif entry.endswith("/"):
        (out / entry).mkdir()
    else:
        (out / entry).write_text("mine")
    _refused(tmp_path, out, "beside the result of pretrain c0")


def test_a_result_that_has_lost_files_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "c0"
    publish(_write(a="1", deep__b="2"), out, WORK)
    (out / "deep/b").unlink()
    publish(_write(c="3"), out, WORK)
    assert set(_tree(out)) == {MARK, "c"}


def test_what_comes_while_the_work_is_done_stays(tmp_path: Path) -> None:
    out = tmp_path / "c0"

    def fill(folder: Path) -> None:
        out.mkdir()
        (out / "thesis.txt").write_text("mine")

    with pytest.raises(BadInput, match="nothing was touched"):
        publish(fill, out, WORK)
    assert _tree(tmp_path) == {"c0": "folder", "c0/thesis.txt": "mine"}


def test_links_are_followed_or_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "models").symlink_to("disk")
    publish(_write(a="1"), tmp_path / "models/c0", WORK)
    assert (tmp_path / "disk/c0/a").read_text() == "1"
    assert (tmp_path / "models").is_symlink()
    (tmp_path / "disk/big").mkdir()
    (tmp_path / "models/c1").symlink_to(tmp_path / "disk/big")
    for text in ("1", "2"):
        publish(_write(a=text), tmp_path / "models/c1", Work("pretrain", "c1"))
        assert (tmp_path / "disk/big/a").read_text() == text
        assert (tmp_path / "models/c1").is_symlink()
    for name, target in {"gone": "nowhere", "loop": "loop"}.items():
        (tmp_path / name).symlink_to(target)
        _refused(tmp_path, tmp_path / name, "link to")
        _refused(tmp_path, tmp_path / name / "c0", "link to")


def test_what_cannot_be_a_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    _refused(tmp_path, tmp_path / "file", "is a file")
    _refused(tmp_path, tmp_path / "file/c0", "is a file where a folder has to be")
    _refused(tmp_path, tmp_path / ("n" * 300), "File name too long")
    _refused(tmp_path, tmp_path / "a\0b", "null byte")


def test_the_folder_one_is_in_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    _refused(tmp_path, Path("."), "the folder you are in")


def test_left_overs_of_a_killed_run_go_and_look_alikes_stay(tmp_path: Path) -> None:
    ours = tmp_path / ".c0.123-0.part"
    ours.mkdir()
    storage.write_json(
        ours / MARK, {"made_by": "mimic", "kind": "pretrain", "name": "c0", "files": None}
    )
    (ours / "half").write_text("x")
    for name in (".c0.notes.part", ".c0.7-0.part", ".c0.8-0.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("x")
    storage.write_json(
        tmp_path / ".c0.8-0.part" / MARK,
        {"made_by": "mimic", "kind": "pretrain", "name": "other", "files": None},
    )
    (tmp_path / ".c0.9-0.part").write_text("a file")
    publish(_write(a="1"), tmp_path / "c0", WORK)
    assert not ours.exists()
    assert {path.name for path in tmp_path.iterdir()} == {
        "c0",
        ".c0.notes.part",
        ".c0.7-0.part",
        ".c0.8-0.part",
        ".c0.9-0.part",
    }


def test_a_kill_between_the_two_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(_write(a="1"), tmp_path / "c0", WORK)
    aside = tmp_path / ".c0.123-0.part"
    aside.mkdir()
    storage.write_json(
        aside / MARK, {"made_by": "mimic", "kind": "pretrain", "name": "c0", "files": None}
    )
    os.replace(tmp_path / "c0", aside / exchange.EARLIER)

    def fails(folder: Path) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        publish(fails, tmp_path / "c0", WORK)
    assert set(_tree(tmp_path)) == {"c0", f"c0/{MARK}", "c0/a"}


def test_a_failed_work_leaves_the_earlier_one(tmp_path: Path) -> None:
    publish(_write(a="1"), tmp_path / "c0", WORK)
    before = _tree(tmp_path)

    def fails(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        publish(fails, tmp_path / "c0", WORK)
    assert _tree(tmp_path) == before


def test_names_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127):
        publish(_write(a="1"), tmp_path / name, WORK)
        storage.write_bytes(tmp_path / name[:-1], b"x") if len(name) < 200 else None
        assert (tmp_path / name / "a").read_text() == "1"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read_a_file(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with storage.replacing(tmp_path / "weights") as scratch:
            scratch.touch(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == mode


def test_a_file_takes_no_folders_resolve_target(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / f".new.{os.getpid()}-0.part").write_text("somebody's")
    with pytest.raises(BadInput, match="is a folder"):
        storage.write_bytes(tmp_path / "out", b"x")
    storage.write_bytes(tmp_path / "new", b"x")
    assert (tmp_path / f".new.{os.getpid()}-0.part").read_text() == "somebody's"


def test_what_killed_processes_left_is_settled_by_any_stage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC may take a stage's result from its cache, and its own command never runs again."""
    program = f"""
import os, signal
from pathlib import Path
from mimic.infra.publishing import Work, publish

def fill(folder):
    (folder / "half").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)

publish(fill, Path({str(tmp_path / "frames")!r}), Work("synthesize", "frames"))
"""
    subprocess.run([sys.executable, "-c", program])
    foreign = tmp_path / ".mine.1-0.part"
    foreign.mkdir()
    (foreign / "notes").write_text("of somebody")
    (left,) = tmp_path.glob(".frames.*.part")
    with FileLock(left / "lock"):  # at work
        settle_all([tmp_path])
        assert (left / "result/half").exists()
    settle_all([tmp_path])
    assert [path.name for path in tmp_path.iterdir()] == [foreign.name]
    assert (foreign / "notes").exists()
    said = f"{left}: unfinished work of synthesize frames, which was killed; removed\n"
    assert capsys.readouterr().err == said
