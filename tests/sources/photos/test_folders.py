"""What lies in a folder: each real file once, and everything else named with the reason."""

from __future__ import annotations

import contextlib
import inspect
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mimic.sources.photos import folders

JPG = frozenset({".jpg"})


def _touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def _tree(root: Path) -> folders.Listing:
    return folders.tree(root, lambda name: folders.has_extension(name, JPG), "an image")


def test_every_entry_is_either_listed_or_named_with_the_reason(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "10.jpg",
        "9.JPG",
        "notes.txt",
        ".hidden.jpg",
        ".git/1.jpg",
        "named.jpg/1.jpg",
        ".mimic.json",
    )
    (tmp_path / "dead.jpg").symlink_to("gone.jpg")
    (tmp_path / "round.jpg").symlink_to("round.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = _tree(tmp_path)
    assert found.files == ["9.JPG", "10.jpg", "named.jpg/1.jpg"]
    assert found.skipped == {
        "notes.txt": "not an image",
        ".hidden.jpg": "hidden",
        ".git": "hidden",
        "dead.jpg": "a dead link (No such file or directory)",
        "round.jpg": "a dead link (Too many levels of symbolic links)",
        "pipe.jpg": "neither a file nor a folder",
    }
    assert folders.files_in(tmp_path, JPG) == ["9.JPG", "10.jpg"]


def test_what_a_system_keeps_for_itself_is_named_and_not_before_clip(tmp_path: Path) -> None:
    kept = ("@eaDir", "#recycle", "$RECYCLE.BIN", "@Recycle")
    _touch(tmp_path, "a/1.jpg", *(f"a/{name}/1.jpg/thumbnail.jpg" for name in kept))
    found = _tree(tmp_path)
    assert found.files == ["a/1.jpg"]
    assert found.skipped == dict.fromkeys(
        [f"a/{name}" for name in sorted(kept)], "thumbnails or deleted files, kept by a system"
    )


@pytest.mark.parametrize("target", [".", "..", "../..", "a/b"])
def test_a_folder_is_entered_once_however_it_is_linked(tmp_path: Path, target: str) -> None:
    root = tmp_path / "x/root"
    _touch(root, "a/b/1.jpg", "a/2.jpg")
    (root / "a/loop").symlink_to(target if target != "a/b" else "b")
    found = _tree(root)
    assert found.files == ["a/2.jpg", "a/b/1.jpg"]
    assert list(found.skipped) == ["a/loop"]
    assert "a link to" in found.skipped["a/loop"]


def test_folders_elsewhere_are_read_through_their_first_link(tmp_path: Path) -> None:
    _touch(tmp_path, "store/scene/1.jpg", "root/2.jpg")
    (tmp_path / "root/a").symlink_to(tmp_path / "store/scene")
    (tmp_path / "root/b").symlink_to(tmp_path / "store")
    found = _tree(tmp_path / "root")
    assert found.files == ["2.jpg", "a/1.jpg"]
    assert found.skipped == {"b/scene": "the same folder as a"}


def test_a_file_is_listed_once_however_it_is_linked(tmp_path: Path) -> None:
    _touch(tmp_path, "root/1.jpg", "store/2.jpg", "store/blob", "root/.store/3.jpg")
    for name, target in (
        ("0.jpg", "1.jpg"),
        ("a.jpg", "../store/2.jpg"),
        ("b.jpg", "../store/2.jpg"),
        ("c.jpg", "../store/blob"),
        ("d.jpg", ".store/3.jpg"),
    ):
        (tmp_path / "root" / name).symlink_to(target)
    found = _tree(tmp_path / "root")
    assert found.files == ["1.jpg", "a.jpg", "c.jpg", "d.jpg"]
    assert found.skipped == {
        ".store": "hidden",
        "0.jpg": "a link to 1.jpg, which is mined itself",
        "b.jpg": "a link to the same file as a.jpg",
    }
    assert folders.files_in(tmp_path / "root", JPG) == found.files


def test_names_of_any_alphabet_are_listed_and_only_what_cannot_be_written_is_not(
    tmp_path: Path,
) -> None:
    names = [
        "Screenshot 3.04.05\u202fPM.jpg",
        "a\u00a0b.jpg",
        "写真\u30001.jpg",
        "خانه\u200cها.jpg",
        "👩\u200d🚀.jpg",
        "\uf022.jpg",
    ]
    _touch(tmp_path, *names)
    for raw in (b"new\nline.jpg", b"esc\x1b.jpg", b"latin\xe9.jpg"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), raw))).write_bytes(b"x")
    found = _tree(tmp_path)
    assert sorted(found.files) == sorted(names)
    assert sorted(found.skipped) == ["esc\\x1b.jpg", "latin\\udce9.jpg", "new\\nline.jpg"]
    assert all("cannot be written down" in why for why in found.skipped.values())


def test_a_socket_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.jpg")
        assert _tree(tmp_path).skipped == {"s.jpg": "neither a file nor a folder"}


def test_a_tree_may_be_deeper_than_python_recurses(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 200)
    _touch(tmp_path, f"{deep}/1.jpg")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert _tree(tmp_path).files == [f"{deep}/1.jpg"]
    finally:
        sys.setrecursionlimit(before)


def test_scenes_of_other_formats_are_named_with_what_to_do(tmp_path: Path) -> None:
    for name in ("a.glb", "b.OBJ", "c.gltf", "d.mtl"):
        (tmp_path / name).write_bytes(b"x")
    found = folders.tree(tmp_path, lambda name: name.endswith(".glb"), "a .glb scene")
    assert "convert it to .glb, for example with Blender" in found.skipped["b.OBJ"]
    assert found.skipped["c.gltf"] == found.skipped["b.OBJ"]
    assert found.skipped["d.mtl"] == "not a .glb scene"
    assert found.files == ["a.glb"]


def test_recordings_that_only_their_maker_reads_are_named_with_what_to_do(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.INSV", "c.braw", "d.lrv"):
        (tmp_path / name).write_bytes(b"x")
    found = folders.tree(tmp_path, lambda name: name.endswith(".mp4"), "a video")
    assert "reframed" in found.skipped["b.INSV"]
    assert "export it as MP4" in found.skipped["c.braw"]
    assert "preview of another recording" in found.skipped["d.lrv"]
    assert found.files == ["a.mp4"]


def test_raw_files_of_cameras_are_named_with_what_to_do(tmp_path: Path) -> None:
    for name in ("a.jpg", "IMG_1.DNG", "b.cr2", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    found = folders.tree(tmp_path, lambda name: name.endswith(".jpg"), "an image")
    said = "raw data of a camera; develop it to JPEG or PNG"
    assert found.skipped == {"IMG_1.DNG": said, "b.cr2": said, "c.txt": "not an image"}
    assert (
        folders.tree(tmp_path, lambda name: name.endswith(".jpg"), None).skipped == {}
    )  # of the layout


def test_names_of_one_number_have_an_order_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever order the disk lists them in, which a copy changes."""
    _touch(tmp_path, "img_1.jpg", "img_01.jpg", "img_001.jpg", "img_2.jpg")
    scandir = os.scandir

    @contextlib.contextmanager
    def reversed_scandir(folder: str) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(folder) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=turned)

    monkeypatch.setattr(os, "scandir", reversed_scandir)
    orders = []
    for turned in (False, True):  # noqa: B007
        orders.append(folders.files_in(tmp_path, JPG))
    assert orders[0] == orders[1] == ["img_001.jpg", "img_01.jpg", "img_1.jpg", "img_2.jpg"]
