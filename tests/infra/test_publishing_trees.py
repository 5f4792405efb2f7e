"""Whatever lies around, whoever dies and whoever else publishes: what we did not make stays, and a
result is whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimic.errors import BadInput
from mimic.infra import marks
from mimic.infra.exchange import EARLIER, RESULT
from mimic.infra.marks import MARK, Work
from mimic.infra.publishing import marked, publish, resolve_target

WORK = Work("pretrain", "c0")
OTHERS = (Work("import", "c0"), Work("pretrain", "c1"), Work("pretrain", ""))
NAMES = (
    "a",
    "card.json",
    "deep/b",
    "deep/er/c",
    ".hidden",
    "ü n\n",
    "\udcff",
    "shard-00000.parquet",
)
NEW = {"card.json": b"new", "deep/n": b"new, too"}
PART = ".c0.1-0.part"

MARKS = (
    "none",
    "ours",
    "other",
    "damaged",
    "deep",
    "too large",
    "link",
    "folder",
    "pipe",
    "unfinished",
    "others",
)
LAID = ("nothing", "file", "dangling", "link", "empty", "folder", "folder", "folder", "folder")
LEFT = (
    "nothing",
    "file",
    "unmarked",
    "other",
    "ours",
    "ours with earlier",
    "mixed earlier",
    "link",
)


@dataclass
class Laid:
    """What a test has put somewhere, and what of it is nobody's but its own."""

    root: Path
    theirs: dict[str, bytes] = field(default_factory=dict)

    def write(self, name: str, ours: bool = False) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = name.encode(errors="surrogateescape")
        path.write_bytes(data)
        if not ours:
            self.theirs[name] = data

    def mark(self, folder: str, work: Work, files: list[str] | None) -> None:
        said = {"made_by": "mimic", "kind": work.kind, "name": work.name, "files": files}
        (self.root / folder / MARK).write_text(json.dumps(said))


def _lay_mark(laid: Laid, how: str, ours: list[str], work: Work) -> None:
    path = laid.root / "c0" / MARK
    match how:
        case "ours":
            laid.mark("c0", WORK, ours)
        case "other":
            laid.mark("c0", work, ours)
        case "unfinished":
            laid.mark("c0", WORK, None)
        case "others":
            path.write_text(
                json.dumps({"made_by": "you", "kind": "pretrain", "name": "c0", "files": ours})
            )
        case "damaged":
            laid.write(f"c0/{MARK}")
        case "deep":
            path.write_text("[" * 100_000)
        case "too large":
            laid.mark("c0", WORK, ours)
            os.truncate(path, marks.LARGEST_BYTES + 1)  # a hole, which takes no space
        case "link":
            laid.mark("elsewhere", WORK, ours)
            path.symlink_to(laid.root / "elsewhere" / MARK)
        case "folder":
            laid.write(f"c0/{MARK}/x")
        case "pipe":
            os.mkfifo(path)


def _lay_left_over(laid: Laid, how: str, work: Work) -> None:
    if how in ("nothing", "link"):
        if how == "link":
            (laid.root / PART).symlink_to("elsewhere")
        return
    if how == "file":
        laid.write(PART)
        return
    ours = how in ("ours", "ours with earlier", "mixed earlier")
    laid.write(f"{PART}/{RESULT}/half", ours=ours)
    if how == "unmarked":
        return
    laid.mark(PART, WORK if ours else work, None)
    if how in ("ours with earlier", "mixed earlier"):
        laid.write(f"{PART}/{EARLIER}/a", ours=True)
        laid.mark(f"{PART}/{EARLIER}", WORK, ["a"])
    if how == "mixed earlier":
        laid.write(f"{PART}/{EARLIER}/deep/mine")


def _lay(root: Path, draw: random.Random) -> Laid:
    laid = Laid(root)
    laid.write("elsewhere/x")
    laid.write("c1/x")
    work = draw.choice(OTHERS)
    _lay_left_over(laid, draw.choice(LEFT), work)
    out = root / "c0"
    match draw.choice(LAID):
        case "file":
            laid.write("c0")
        case "dangling":
            out.symlink_to("nowhere")
        case "link":
            out.symlink_to("elsewhere")
        case "empty":
            out.mkdir()
        case "folder":
            _lay_folder(laid, draw, work)
    return laid


def _lay_folder(laid: Laid, draw: random.Random, work: Work) -> None:
    (laid.root / "c0").mkdir()
    names = draw.sample(NAMES, draw.randrange(len(NAMES)))
    how = draw.choice(MARKS)
    ours = names if draw.random() < 0.5 else names[: len(names) // 2]
    for name in names:
        laid.write(f"c0/{name}", ours=how == "ours" and name in ours)
    _lay_mark(laid, how, [*ours, "lost", "../c1/x"], work)
    if draw.random() < 0.2:
        (laid.root / "c0/a link").symlink_to(laid.root / "elsewhere/x")
    if draw.random() < 0.2:
        (laid.root / "c0/no files").mkdir()
    if draw.random() < 0.2:
        (laid.root / "c0").chmod(0o555)


def _tree(root: Path) -> dict[str, Any]:
    """Every entry and what it is; names as the file system has them."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = "folder"
        elif path.is_file():
            found[name] = (
                path.stat().st_size if path.stat().st_size > 1 << 20 else path.read_bytes()
            )
        else:
            found[name] = "pipe"
    return found


def _nothing_of_theirs_is_lost(laid: Laid) -> None:
    for name, data in laid.theirs.items():
        kept = [laid.root / name]
        if name.startswith(f"{PART}/{EARLIER}/"):  # it may have got its place back
            kept.append(laid.root / "c0" / name.removeprefix(f"{PART}/{EARLIER}/"))
        assert any(path.is_file() and path.read_bytes() == data for path in kept), (
            f"{name!r} is lost"
        )


def _fill(folder: Path) -> None:
    for name, data in NEW.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


@contextmanager
def _laid(seed: int) -> Iterator[Laid]:
    with tempfile.TemporaryDirectory() as folder:
        yield _lay(Path(folder), random.Random(seed))
        for path in Path(folder).rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


def _whole(out: Path) -> bool:
    files = {name: (out / name).read_bytes() for name in NEW if (out / name).is_file()}
    return files == NEW and marked(out) == (WORK, sorted(NEW))


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_what_we_did_not_make_stays(seed: int) -> None:
    with _laid(seed) as laid:
        before = _tree(laid.root)
        try:
            publish(_fill, laid.root / "c0", WORK)
        except BadInput as error:
            message = str(error)
            assert "\n" not in message
            if not (laid.root / PART / EARLIER).exists() and f"{PART}/{EARLIER}" not in before:
                assert _tree(laid.root) == before
        else:
            assert _whole(laid.root / "c0")
        _nothing_of_theirs_is_lost(laid)


@settings(max_examples=100)
@given(st.integers(0, 2**32), st.sampled_from(["late", "deep/late", MARK + "x"]))
def test_what_comes_while_the_work_is_done_stays(seed: int, name: str) -> None:
    with _laid(seed) as laid:

        def fill(folder: Path) -> None:
            _fill(folder)
            laid.write(f"c1/{name}")
            if not (laid.root / "c0").is_symlink():
                laid.write(f"c0/{name}")

        with suppress(BadInput, OSError):
            publish(fill, laid.root / "c0", WORK)
        _nothing_of_theirs_is_lost(laid)


def _dying(steps: int, out: Path) -> int:
    """Publish in a process that is gone before its so many-th change of the disk; its exit
    status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = steps
    try:
        for name in ("replace", "mkdir", "unlink", "rmdir"):
            step: Callable[..., None] = getattr(os, name)

            def counted(*args: object, _step: Callable[..., None] = step, **how: Any) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    os._exit(9)
                _step(*args, **how)

            setattr(os, name, counted)
        publish(_fill, out, WORK)
        os._exit(0)
    except BadInput:
        os._exit(2)
    finally:
        os._exit(1)


@pytest.mark.parametrize("earlier", [False, True])
def test_a_kill_at_any_step_loses_nothing(tmp_path: Path, earlier: bool) -> None:
    codes: list[int] = []
    unmarked: list[int] = []
    for steps in range(100):
        root = tmp_path / str(steps)
        laid = Laid(root)
        laid.write("c1/x")
        if earlier:
            laid.write("c0/a", ours=True)
            laid.write("c0/deep/b", ours=True)
            laid.mark("c0", WORK, ["a", "deep/b"])
        codes.append(_dying(steps, root / "c0"))
        out = root / "c0"
        stood = [
            folder
            for folder in (out, *root.glob(f".*.part/{EARLIER}"))
            if (folder / "deep/b").exists()
        ]
        assert _whole(out) or not earlier or stood
        publish(_fill, out, WORK)
        assert _whole(out)
        assert set(_tree(out)) == {MARK, "card.json", "deep", "deep/n"}
        for left in set(os.listdir(root)) - {
            "c0",
            "c1",
        }:  # killed before its mark was written, or after it was removed
            assert all(path.stat().st_size < 200 for path in (root / left).iterdir())
            assert marked(root / left) is None
            unmarked.append(steps)
        _nothing_of_theirs_is_lost(laid)
        if codes[-1] == 0:
            break
    assert len(unmarked) <= 6, "steps before the mark is written, and after it is removed"
    assert set(codes[:-1]) == {9}
    assert codes[-1] == 0
    assert len(codes) > 8


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 25))
def test_a_kill_among_random_trees_loses_nothing(seed: int, steps: int) -> None:
    with _laid(seed) as laid:
        assert _dying(steps, laid.root / "c0") in (0, 2, 9)
        _nothing_of_theirs_is_lost(laid)
        with suppress(BadInput):
            publish(_fill, laid.root / "c0", WORK)
        _nothing_of_theirs_is_lost(laid)


def test_something_put_into_a_folder_at_the_moment_of_the_exchange_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(_fill, tmp_path / "c0", WORK)
    rename = os.replace

    def late(source: object, target: object) -> None:
        if Path(str(target)).name == EARLIER:
            (tmp_path / "c0/mine").write_text("x")
        rename(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", late)
    with pytest.raises(BadInput, match="holds mine beside the result of pretrain c0"):
        publish(_fill, tmp_path / "c0", WORK)
    assert (tmp_path / "c0/mine").read_text() == "x"
    assert os.listdir(tmp_path) == ["c0"]


def test_a_left_over_with_something_of_yours_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed after the exchange; somebody has put a file into the earlier result before."""
    laid = Laid(tmp_path)
    publish(_fill, tmp_path / "c0", WORK)
    _lay_left_over(laid, "mixed earlier", OTHERS[0])
    for _ in range(2):
        publish(_fill, tmp_path / "c0", WORK)
        assert "look at them, and remove it" in capsys.readouterr().err
        assert _whole(tmp_path / "c0")
        kept = {
            MARK,
            EARLIER,
            f"{EARLIER}/deep",
            f"{EARLIER}/deep/mine",
            "lock",
            RESULT,
            f"{RESULT}/half",
        }
        assert set(_tree(tmp_path / PART)) == kept
        _nothing_of_theirs_is_lost(laid)


def _racing(out: Path, number: int, start: Path) -> int:
    """A process that publishes 20 files of its own number once the other is there; its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        while not start.exists():
            time.sleep(0.0002)

        def fill(folder: Path) -> None:
            for name in range(20):
                (folder / f"{name}").write_text(str(number))
                time.sleep(random.Random(number + name).random() / 5000)

        publish(fill, out, WORK)
        code = 0
    except BaseException:
        traceback.print_exc()  # of a process that pytest does not see
    finally:
        os._exit(code)


@pytest.mark.parametrize("before", [False, True])
def test_two_processes_that_publish_one_place_mix_nothing(tmp_path: Path, before: bool) -> None:
    won = set()
    for attempt in range(50):
        root = tmp_path / str(attempt)
        root.mkdir()
        out, start = root / "c0", tmp_path / f"start-{attempt}"
        if before:
            publish(_fill, out, WORK)
        children = [_racing(out, number, start) for number in (1, 2)]
        start.touch()
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
        contents = {(out / name).read_text() for name in (marked(out) or (WORK, []))[1] or []}
        assert len(contents) == 1
        assert len(os.listdir(out)) == 21
        assert os.listdir(root) == ["c0"]
        won |= contents
        shutil.rmtree(root)
    assert won <= {"1", "2"}


@pytest.mark.parametrize("how", MARKS)
def test_a_mark_that_is_none_is_refused_at_once(tmp_path: Path, how: str) -> None:
    laid = Laid(tmp_path)
    laid.write("c0/a")
    laid.write("elsewhere/x")
    _lay_mark(laid, how, ["a"], OTHERS[0])
    before = _tree(tmp_path)
    if how == "ours":
        assert resolve_target(tmp_path / "c0", WORK) == tmp_path / "c0"
        return
    with pytest.raises(BadInput, match="nothing was touched"):
        resolve_target(tmp_path / "c0", WORK)
    assert _tree(tmp_path) == before


def test_a_mark_larger_than_any_of_ours_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(_fill, tmp_path / "c0", WORK)
    assert marked(tmp_path / "c0") == (WORK, sorted(NEW))
    monkeypatch.setattr(marks, "LARGEST_BYTES", 10)
    assert marked(tmp_path / "c0") is None
