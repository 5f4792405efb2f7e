"""A disk that fills up under `mimic pairs`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.support import footage
from tests.support.command import MIMIC, run_mimic

SCRIPT = """
mount -t tmpfs -o size={size} tmpfs out || exit 77
{mimic} pairs photos --out out; echo "first $?"
echo "then" $(ls out); mount -o remount,size=100m out
{mimic} pairs photos --out out; echo "second $?"
find out -name '*.part' -o -name '.work-*'
cp -r out kept
"""


@pytest.mark.parametrize("size", ["8k", "120k"])
def test_it_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, require_program: Callable[[str], str], size: str
) -> None:
    """A real one: before the first shard, and in the midst of one."""
    footage.folder(tmp_path / "photos", footage.pan(1, 12, 80))
    (tmp_path / "out").mkdir()
    script = SCRIPT.format(size=size, mimic=MIMIC)
    done = subprocess.run(
        [require_program("unshare"), "-rm", "sh", "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"no private mounts on this machine: {done.stderr}")
    assert "first 1" in done.stdout, done.stdout + done.stderr
    (full,) = [line for line in done.stderr.splitlines() if line.startswith("mimic: ")]
    assert full.startswith("mimic: disk full while writing")
    assert "run the same command again" in full
    assert "Traceback" not in done.stderr
    assert "then\n" in done.stdout, "a result that is not whole"
    assert done.stdout.endswith("second 0\n"), done.stdout + done.stderr
    assert run_mimic(tmp_path, "pairs", "photos", "--out", "elsewhere").returncode == 0
    kept, whole = (pd.read_parquet(tmp_path / name) for name in ("kept", "elsewhere"))
    pd.testing.assert_frame_equal(kept, whole)


def test_a_file_that_may_not_become_so_large_is_one_line(tmp_path: Path) -> None:
    """As on FAT32 above 4 GiB, or under `ulimit -f`."""
    footage.folder(tmp_path / "photos", footage.pan(1, 12, 80))
    script = f"ulimit -f 40; exec {MIMIC} pairs photos --out out"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("mimic: ")]
    assert line.startswith("mimic: file larger than its file system or `ulimit -f` allows, while")
    assert run_mimic(tmp_path, "pairs", "photos", "--out", "out").returncode == 0
