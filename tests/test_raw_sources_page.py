"""docs/raw-sources.md: every command on the page, in its order, with the real DVC, the real
`mimic ingest` and a real S3 server."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.support.object_store import ObjectStore

pytestmark = pytest.mark.timeout(1800)
BIN = Path(sys.executable).parent
SOMEBODY = {
    f"GIT_{who}_{what}": "x@localhost"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}


def _png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, "PNG")
    return picture.getvalue()


def _photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_png(seed))


class Page:
    """The page's blocks of commands, one after the other."""

    def __init__(self, page: Path, root: Path, environment: dict[str, str]) -> None:
        found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.M | re.S)
        self.blocks = [block for language, block in found if not language]
        (entry,) = [block for language, block in found if language == "yaml"]
        self.sources = yaml.safe_load(entry)["sources"]
        self.root = root
        self.environment = environment

    def next(self) -> str:
        return self.run(self.blocks.pop(0))

    def run(self, script: str, root: Path | None = None) -> str:
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=root or self.root,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, script + done.stdout + done.stderr
        return done.stdout

    def stale(self) -> set[str]:
        return set(json.loads(self.run("dvc status --json")))


@pytest.fixture(scope="module")
def page(
    tmp_path_factory: pytest.TempPathFactory, repository: Path, s3_server: ObjectStore
) -> Page:
    """A workspace whose stages are those that read raw data; beside it photos, scans, a bucket."""
    root = tmp_path_factory.mktemp("raw") / "project"
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "params.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, root / name)
    shutil.copytree(
        repository / "src/mimic/sources",
        root / "src/mimic/sources",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    stage = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]["ingest"]
    other = {"reader": "images", "tracked_by": "data/raw/frames"}
    stage["foreach"] = {"frames": other}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"ingest": stage}}))
    s3_server.bucket("lab")
    for number in range(4):
        _photo(root / f"data/raw/frames/walk/{number}.png", number)
        _photo(root.parent / f"photos/walk/{number}.png", 10 + number)
        _photo(root.parent / f"scans/walk/{number}.png", 20 + number)
        s3_server.client.pipe(f"lab/films/walk/{number}.png", _png(30 + number))
    _photo(root.parent / "more/4.png", 14)
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    environment = {**os.environ, **s3_server.environment, **SOMEBODY, "PATH": path}
    page = Page(repository / "docs/raw-sources.md", root, environment)
    page.run("git init -q && dvc add -q data/raw/frames")
    page.run("git add . && git commit -qm begun")
    return page


def _read_by_a_stage(page: Page, name: str, section: dict[str, str]) -> None:
    params = yaml.safe_load((page.root / "params.yaml").read_text())
    params["sources"][name] = section
    (page.root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    whole = yaml.safe_load((page.root / "dvc.yaml").read_text())
    whole["stages"]["ingest"]["foreach"][name] = section
    (page.root / "dvc.yaml").write_text(yaml.safe_dump(whole))


def _bytes_of(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in (root / "data").rglob("*")
        if path.is_file() and path.suffix != ".dvc"
    }


def test_every_command_of_the_page(page: Page, s3_server: ObjectStore) -> None:
    page.next()  # a source, versioned
    assert (page.root / "data/raw/photos.dvc").is_file()
    _read_by_a_stage(page, "photos", page.sources["photos"])
    page.run("dvc repro && git add . && git commit -qm one")
    before = (page.root / "data/inventory/photos.parquet").read_bytes()
    version = (page.root / "data/raw/photos.dvc").read_text()
    assert page.stale() == set()

    said = page.next()  # new data
    assert "ingest@photos" in said
    assert "Running stage 'ingest@photos'" in said
    assert "Running stage 'ingest@frames'" not in said
    assert page.stale() == set()
    assert (page.root / "data/inventory/photos.parquet").read_bytes() != before
    assert (page.root / "data/raw/photos.dvc").read_text() != version

    page.next()  # from an address
    films = page.sources["photos"] | {"root": "data/raw/films", "tracked_by": "data/raw/films"}
    _read_by_a_stage(page, "films", films)
    page.run("dvc repro && git add . && git commit -qm two")
    s3_server.client.pipe("lab/films/walk/4.png", _png(34))
    assert page.stale() == set()
    page.next()
    assert page.stale() == {"ingest@films"}
    page.run("dvc repro && git add . && git commit -qm three")

    fingerprint = page.blocks[0]
    page.next()
    scans = page.sources["photos"] | {
        "root": str(page.root.parent / "scans"),
        "tracked_by": "data/raw/scans.version",
    }
    _read_by_a_stage(page, "scans", scans)
    page.run("dvc repro && git add . && git commit -qm four")
    page.run(fingerprint)
    assert page.stale() == set()
    _photo(page.root.parent / "scans/walk/4.png", 24)
    page.run(fingerprint)
    assert page.stale() == {"ingest@scans"}
    page.run("dvc repro && git add . && git commit -qm five")

    page.next()  # push
    assert page.run("git status --porcelain") == ""
    said = page.next()  # the colleague
    assert "Running stage" not in said
    colleague = page.root.parent / "colleague"
    assert _bytes_of(colleague) == _bytes_of(page.root)
    committed = page.run("git grep -h . -- .dvc dvc.lock data")
    assert s3_server.secret not in committed

    kept = _pushed(s3_server)
    page.run("rm data/raw/photos/walk/0.png && dvc repro && git commit -qam six && dvc push")
    grown = _pushed(s3_server)
    assert kept < grown
    page.next()  # room
    left = _pushed(s3_server)
    assert left < grown
    assert kept - left  # what the commit before names, and the workspace does not
    page.run("rm -rf .dvc/cache data/raw/photos && dvc pull")
    assert page.stale() == set()
    assert page.blocks == []


def _pushed(store: ObjectStore) -> set[str]:
    return {key for key in store.objects("lab") if key.startswith("mimic/")}


def test_gc_with_a_folder_as_remote(page: Page, tmp_path: Path) -> None:
    """Without --cloud the remote keeps all it has; --not-in-remote spares nothing but what the
    workspace names and the remote lacks."""
    root = tmp_path / "small"
    root.mkdir()
    page.run("git init -q && dvc init -q && git commit -qm begun", root)
    for number, text in enumerate(("pushed", "never pushed", "now")):
        (root / "data").write_text(text)
        page.run("dvc add -q data && git add . && git commit -qm x", root)
        if not number:
            page.run("dvc remote add --default lab ../lab && dvc push -q", root)
    cache = root / ".dvc/cache/files/md5"
    assert _texts(cache) == {"pushed", "never pushed", "now"}
    page.run("dvc gc --workspace --not-in-remote --force", root)
    assert _texts(cache) == {"now"}
    assert _texts(tmp_path / "lab/files/md5") == {"pushed"}
    page.run("git checkout -q HEAD~2 -- data.dvc && dvc pull -q --force", root)
    assert (root / "data").read_text() == "pushed"


def _texts(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.rglob("*") if path.is_file()}
