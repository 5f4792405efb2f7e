"""A full disk: whatever library writes, what the system said is raised; no half file is left."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import safetensors.torch
import torch

from mimic.infra.storage import is_full, write_json
from mimic.infra.writing import write_picture, writing

NOISE = np.random.default_rng(0).integers(0, 255, (500, 500, 3), np.uint8)
TENSORS = {"a": torch.zeros(200_000)}


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no right to mount a small file system: {done.stderr}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _torch(path: Path) -> None:
    with writing(path) as file:
        torch.save(TENSORS, file)


def _safetensors(path: Path) -> None:
    with writing(path) as file:
        file.write(safetensors.torch.save(TENSORS))


def _numpy(path: Path) -> None:
    with writing(path) as file:
        np.save(file, NOISE)


@pytest.mark.parametrize("write", [_torch, _safetensors, _numpy])
def test_a_full_disk_is_told_as_such(small: Path, write: Callable[[Path], None]) -> None:
    path = small / "file"
    with pytest.raises(OSError, match="No space left") as raised:
        write(path)
    assert is_full(raised.value)
    assert raised.value.filename == str(path)
    assert list(small.iterdir()) == []
    write_json(path, {"room": "for this"})


def test_a_picture_on_a_full_disk_is_told_as_such(small: Path) -> None:
    with pytest.raises(OSError, match="No space left") as raised:
        write_picture(small / "picture.png", NOISE)
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_is_what_opencv_writes(tmp_path: Path, suffix: str) -> None:
    write_picture(tmp_path / f"ours{suffix}", NOISE)
    cv2.imwrite(str(tmp_path / f"theirs{suffix}"), NOISE)
    ours, theirs = (tmp_path / f"{name}{suffix}" for name in ("ours", "theirs"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_file_is_what_the_library_writes(tmp_path: Path) -> None:
    with writing(tmp_path / "ours.npy") as file:
        np.save(file, NOISE)
    np.save(tmp_path / "theirs.npy", NOISE)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()
    with writing(tmp_path / "file.pt") as file:
        torch.save(TENSORS, file)
    assert torch.load(tmp_path / "file.pt", weights_only=True)["a"].equal(TENSORS["a"])


def test_another_error_of_the_block_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path / "file"):
        raise KeyError("x")
    assert list(tmp_path.iterdir()) == []


def test_pixels_kept_on_a_full_disk_kill_nobody(small: Path) -> None:
    """Pages of a mapped file that find no room end the process (SIGBUS), unless it was taken
    before."""
    program = f"""
import numpy as np
from pathlib import Path
from mimic.pairs import decoded

class Images:
    def __len__(self): return 100
    def pairs(self, part): raise AssertionError("before there is room")

decoded._decode(Images(), (100, 2, 64, 64, 3), Path({str(small / "pixels.npy")!r}), 1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1, done
    assert "OSError: [Errno 28] No space left on device" in done.stderr
    assert os.listdir(small) == []
