"""What is known of a data set's files without reading all of them."""

from __future__ import annotations

from pathlib import Path

from mimic.tasks.engine.image_io import LOOKED_INTO, extent


def test_files_that_are_replaced_by_others_as_long_are_other_files(tmp_path: Path) -> None:
    """Pictures without compression, optical flow, depth maps."""
    files = [tmp_path / f"{number:03}.bmp" for number in range(3 * LOOKED_INTO)]
    for file in files:
        file.write_bytes(b"before")
    before = extent(files, tmp_path)
    for file in files:
        file.write_bytes(b"behind")
    after = extent(files, tmp_path)
    assert before["bytes"] == after["bytes"]
    assert before["digest"] != after["digest"]
    assert extent(reversed(files), tmp_path) == after
