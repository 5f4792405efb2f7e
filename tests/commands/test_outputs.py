"""The places that somebody names on the command line: whatever lies there and is not ours is as it
was, and one line says so."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import save_file

from mimic import cli
from mimic.commands.hand_out import export_weights
from mimic.commands.own import own_pair
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.infra.publishing import Work, marked, publish
from mimic.params import load_params, resolve_params
from tests.commands.test_weights import foreign
from tests.commands.test_weights import publish as write_model
from tests.support import footage
from tests.support.command import run_mimic

Refused = Callable[..., None]


def _tree(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = path.read_bytes() if path.is_file() else None
    return found


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """The command line, run here: it ends with status 2 and one line that says why, and nothing in
    the folder has changed."""

    def run(folder: Path, why: str, *words: str) -> None:
        before = _tree(folder)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["mimic", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        assert ended.value.code == 2, said.err
        assert why in said.err, said.err
        assert said.err.count("\n") == 1
        assert said.out == ""
        assert _tree(folder) == before

    return run


def _put(name: str = "weights") -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / name).write_text(name)

    return fill


@pytest.fixture
def space(tmp_path: Path) -> Path:
    """A workspace with a run, another import, and what somebody else has put there."""
    save_file(foreign("timm"), tmp_path / "vit.safetensors")
    publish(_put(), tmp_path / "models/c0", Work("pretrain", "c0"))
    publish(_put(), tmp_path / "models/c1", Work("pretrain", "other"))
    publish(_put(), tmp_path / "models/shared", Work("pretrain", "shared"))
    publish(_put(), tmp_path / "models/theirs", Work("import", "theirs"), for_good=True)
    (tmp_path / "models/shared/thesis.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/film.mp4").write_text("mine")
    (tmp_path / "models/file").write_text("mine")
    (tmp_path / "models/gone").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("models", "the layout of the workspace uses this word"),
        ("data", "the layout of the workspace uses this word"),
        (".", "cannot be the name of a model: it is empty"),
        ("models/..", "cannot be the name of a model"),
        ("models/c1", "--out models/c1: holds pretrain other, which import c1 does not replace"),
        ("models/shared", "--out models/shared: holds "),
        (
            "models/theirs",
            "--out models/theirs: holds weights, which is no earlier result of import theirs",
        ),
        ("models/file", "--out models/file: is a file"),
        ("models/gone", "is a link to nowhere"),
    ],
)
def test_import_weights_replaces_nothing_that_is_not_its_own(
    space: Path, out: str, why: str, force: list[str], refused: Refused
) -> None:
    refused(space, why, "import-weights", "vit.safetensors", "--out", out, *force)


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize("end", ["", "/", "/."])
def test_import_weights_never_replaces_the_workspace_by_its_whole_path(
    space: Path, end: str, force: list[str], refused: Refused
) -> None:
    """Its last word would do as the name of a model."""
    words = ("import-weights", "vit.safetensors", "--out", f"{space}{end}")
    refused(space, "the folder you are in", *words, *force)


def test_a_run_of_this_name_is_replaced_by_force_alone(space: Path, refused: Refused) -> None:
    words = ("import-weights", "vit.safetensors", "--out", "models/c0")
    refused(space, "--out models/c0: holds pretrain c0, which import c0 does not replace", *words)
    done = run_mimic(space, *words, "--force")
    assert done.returncode == 0, done.stderr
    assert marked(space / "models/c0") == (
        Work("import", "c0"),
        ["card.json", "encoder.safetensors"],
    )
    again = run_mimic(space, *words)
    assert again.returncode == 0, again.stderr
    assert json.loads((space / "models/c0/card.json").read_text())["run"] == "c0"
    others = {
        name: content for name, content in _tree(space).items() if not name.startswith("models/c0")
    }
    assert others["models/shared/thesis.txt"] == b"mine"
    assert others["data/film.mp4"] == b"mine"
    assert not any(".part" in name for name in others)


def test_force_is_an_option_of_no_other_command() -> None:
    with_force = [
        command.name or command.callback.__name__
        for command in cli.app.registered_commands
        if command.callback and "force" in command.callback.__annotations__
    ]
    assert with_force == ["import-weights"], (
        "what another command replaces by force needs its test here"
    )


@pytest.mark.parametrize("there", ["file", "dangling", "link", "folder"])
def test_export_weights_replaces_nothing(tmp_path: Path, there: str) -> None:
    write_model(tmp_path / "models/ours", "mae", True, "sincos")
    out, thesis = tmp_path / "out.pth", tmp_path / "thesis.txt"
    thesis.write_text("mine")
    if there == "file":
        out.write_text("mine")
    elif there == "folder":
        out.mkdir()
    else:
        out.symlink_to("nowhere" if there == "dangling" else "thesis.txt")
    before = _tree(tmp_path)
    with pytest.raises(BadInput, match=r"out\.pth: is there already; name a new file"):
        export_weights.export_weights(tmp_path / "models/ours", "mae", out)
    assert _tree(tmp_path) == before


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_replaces_nothing_that_came_while_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def no_links(source: object, target: object) -> None:
        raise PermissionError

    if not links:
        monkeypatch.setattr(os, "link", no_links)

    def write_late() -> None:
        with storage.replacing(tmp_path / "out", new=True) as scratch:
            scratch.write_text("ours")
            (tmp_path / "out").write_text("mine")

    with pytest.raises(BadInput, match="is there already"):
        write_late()
    assert _tree(tmp_path) == {"out": b"mine"}
    with storage.replacing(tmp_path / "new", new=True) as scratch:
        scratch.write_text("ours")
    assert _tree(tmp_path) == {"new": b"ours", "out": b"mine"}


def test_a_plot_replaces_a_plot_and_no_link(tmp_path: Path, repository: Path) -> None:
    params = load_params(repository / "params.yaml")
    footage.folder(tmp_path, footage.pan(0, 2, 80), "{}.png")
    a, b = tmp_path / "0.png", tmp_path / "1.png"

    def plot(name: str) -> None:
        own_pair.pair(params, a, b, as_json=True, plot=tmp_path / name)

    plot("plot.png")
    (tmp_path / "link.png").symlink_to("plot.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "text.png").write_text("mine")
    (tmp_path / "to-a.png").symlink_to("0.png")
    before = _tree(tmp_path)
    for name in ("0.png", "gone.png", "text.png", "to-a.png"):
        with pytest.raises(BadInput, match=f"--plot .*{name}: is"):
            plot(name)
    plot("plot.png")
    plot("link.png")
    assert _tree(tmp_path) == before, "drawn again, it is the same picture, and the link is a link"


@pytest.mark.parametrize("out", ["models", "models/c0", "data", "models/file", "."])
def test_pairs_are_put_into_no_folder_of_other_things(
    space: Path, out: str, refused: Refused
) -> None:
    footage.folder(space / "photos", footage.pan(1, 2, 80))
    refused(space, f"--out {out}: ", "pairs", "photos", "--out", out)


@pytest.mark.parametrize("out", ["models", "models/c0", "data", "models/file", ".", "models/gone"])
def test_an_export_is_put_into_no_folder_of_other_things(
    space: Path, repository: Path, out: str, refused: Refused
) -> None:
    (space / "params.yaml").write_text((repository / "params.yaml").read_text())
    for form in ("mimic", "webdataset"):
        refused(space, f"{out}: ", "export", "mimic-1m", "--format", form, "--out", out)


def test_track_passes_over_what_is_not_named_as_ours(tmp_path: Path, repository: Path) -> None:
    raw = resolve_params(repository / "params.yaml").full()
    raw["tracking"]["uri"] = "sqlite:///mlflow.db"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    for name in ("my models", "ü", ".old", "a:b", "new\nline"):
        storage.write_json(tmp_path / "models" / name / "card.json", {"run": name})
        storage.write_json(tmp_path / "metrics" / name / "depth.json", {"value": 1})
    storage.write_json(tmp_path / "metrics/c0/my notes.json", {"value": 1})
    (tmp_path / "models/file").write_text("mine")
    (tmp_path / "models/c9").symlink_to("nowhere")
    (tmp_path / "mlflow.db.lock").write_text("mine")
    before = _tree(tmp_path)
    done = run_mimic(tmp_path, "track")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "0 new, 0 known, 11 skipped" in done.stdout
    assert "'models/my models': skipped" in done.stderr
    assert r"models/new\nline" in done.stderr
    assert before.items() <= _tree(tmp_path).items()
