"""Names out of files: whatever they say, nothing is read or written outside the folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimic.errors import BadInput
from mimic.infra import confined

ODD = ["..", ".", "", "/", "\\", "\0", "a", "~", "C:", "é", "\u202e", "\n", "..\\..", "%2e%2e"]
NAMES = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(ODD), max_size=8).map("/".join),
    st.lists(st.sampled_from(ODD), max_size=8).map("".join),
    st.integers(250, 5000).map(lambda length: "x" * length),
)


@given(name=NAMES)
def test_what_is_let_through_lies_below_the_folder(name: str) -> None:
    folder = Path("/srv/data/pairs")
    if not confined.is_below(name):
        with pytest.raises(BadInput, match=r"\Alist.csv: names [^\n]*\Z"):
            confined.below(folder, name, "list.csv")
        return
    path = confined.below(folder, name, "list.csv")
    assert Path(os.path.normpath(path)).is_relative_to(folder)
    assert os.path.normpath(path) != str(folder)
    assert not set(name) & {"\0", "\\"}
    assert all(len(part.encode(errors="surrogateescape")) <= 255 for part in path.parts)


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "rooms/_images/shard-00000.tar", "./a", "a..b/...c", "ü/写真 1.jpg", "a\udce9.jpg"],
)
def test_ordinary_names_pass(name: str) -> None:
    assert confined.below(Path("f"), name, "list") == Path("f") / name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("/etc/passwd", "does not begin in the folder"),
        ("C:/x", "does not begin in the folder"),
        ("..\\x", "backslash"),
        ("\\\\host\\share", "backslash"),
        ("a\0b", "zero byte"),
        ("", "empty"),
        ("x" * 256, "too long"),
        ("x/" * 2100, "too long"),
        ("\ud800", "no name of a file"),
    ],
)
def test_others_are_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        confined.below(Path("f"), name, "list")


def test_what_is_written_does_not_follow_a_link_out_of_the_folder(tmp_path: Path) -> None:
    """The folder itself may be a link: that is where its owner wants it."""
    real = tmp_path / "disk"
    (real / "rooms").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (real / "out").symlink_to(tmp_path / "elsewhere")
    (real / "round").symlink_to("round")
    folder = tmp_path / "cache"
    folder.symlink_to(real)
    assert confined.inside(folder, "rooms/a.tar", "m") == folder / "rooms/a.tar"
    for name in ("out/a.tar", "round/a.tar"):
        with pytest.raises(BadInput, match="leads out of .* by a link"):
            confined.inside(folder, name, "m")
