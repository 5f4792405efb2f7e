"""Folders from before there were marks: known by all that lies in them, and what only looks like
them stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimic.errors import BadInput
from mimic.infra import earlier
from mimic.infra.publishing import Recognise, Work, entries_of, marked, publish
from mimic.pairs.schema import PAIR
from mimic.report import WORK as REPORT
from mimic.synthesize import LICENCE

Change = Callable[[Path], object]
CARD = json.dumps({"run": "c0", "model": {"width": 32}, "steps": 5})
IMPORTED = json.dumps({"run": "c0", "model": {"width": 32}, "imported": {"file": "x.pth"}})
LISTING = json.dumps([{"file": "blurred-0.jpg", "caption": "blurred", "why": "x"}])
PAGE = '<!doctype html><p class="eyebrow">Report</p>'


def _table(*sources: str, less: tuple[str, ...] = ()) -> bytes:
    """Rows of pairs of these sources, of which only what is asked for holds anything."""
    columns = [column for column in PAIR if column.name not in less]
    rows = [
        {column.name: source if column.name == "source" else None for column in columns}
        for source in sources
    ]
    schema = pa.schema([pa.field(column.name, column.type) for column in columns])
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    return bytes(sink.getvalue())


@dataclass(frozen=True)
class Kind:
    """A result as it was published: where it lay, what was in it, and who knows it."""

    place: str
    work: Work
    recognise: Recognise
    files: Mapping[str, str | bytes] = field(default_factory=dict)


ONE = _table("phone", "phone")
KINDS = {
    "run": Kind(
        "models/c0",
        Work("pretrain", "c0"),
        earlier.model,
        dict.fromkeys(
            [
                "encoder.safetensors",
                "model.safetensors",
                "log.jsonl",
                "reconstruction.npz",
                "reconstruction.png",
            ],
            "x",
        )
        | {
            "card.json": CARD,
            "snapshots/000000003/encoder.safetensors": "x",
            "snapshots/000000003/card.json": CARD,
        },
    ),
    "import": Kind(
        "models/c0",
        Work("import", "c0"),
        earlier.model,
        {"encoder.safetensors": "x", "card.json": IMPORTED},
    ),
    "pairs beside": Kind(
        "data/pairs/phone",
        Work("mine", "phone"),
        earlier.pairs,
        {"shard-00000.tar": "x", "shard-00000.parquet": ONE},
    ),
    "pairs": Kind(
        "data/pairs/phone",
        Work("mine", "phone"),
        earlier.pairs,
        {
            "_images/shard-00000.tar": "x",
            "shard-00000.parquet": ONE,
            "_lost.jsonl": '{"kind": "damaged", "clip": "c", "why": "w"}\n',
        },
    ),
    "empty shards": Kind(
        "data/pairs/phone",
        Work("mine", "phone"),
        earlier.pairs,
        {"shard-00000.tar": "", "shard-00000.parquet": _table()},
    ),
    "no pairs": Kind("data/pairs/phone", Work("mine", "phone"), earlier.pairs, {"_lost.jsonl": ""}),
    "samples": Kind(
        "samples/c0/depth",
        Work("samples", "c0/depth"),
        earlier.samples,
        {"samples.json": LISTING, "blurred-0.jpg": "x"},
    ),
    "report": Kind(
        "report",
        REPORT,
        earlier.report,
        {"index.html": PAGE, "source-0-phone.html": "x", "figure.png": "x"},
    ),
    "rooms": Kind(
        "data/raw/rooms",
        Work("synthesize", "rooms"),
        earlier.raw,
        {"LICENCE.txt": LICENCE, "room-000.glb": "x", "room-000.stage_config.json": "x"},
    ),
    "phone": Kind(
        "data/raw/phone",
        Work("synthesize", "phone"),
        earlier.raw,
        {"LICENCE.txt": LICENCE, "walk-000.mp4": "x"},
    ),
    "frames": Kind(
        "data/raw/frames",
        Work("synthesize", "frames"),
        earlier.raw,
        {"LICENCE.txt": LICENCE, "scene-000/frame-000001.color.jpg": "x"},
    ),
    "nyu": Kind(
        "data/raw/nyu",
        Work("synthesize", "nyu"),
        earlier.raw,
        {"LICENCE.txt": LICENCE, "splits.mat": "x"},
    ),
    "tasks": Kind(
        "data/raw/tasks",
        Work("synthesize", "tasks"),
        earlier.raw,
        {"LICENCE.txt": LICENCE, "coco/val2017/1.jpg": "x"},
    ),
}


def _lay(root: Path, kind: Kind) -> Path:
    for name, content in kind.files.items():
        _write(root / kind.place / name, content)
    return root / kind.place


def _write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _tree(root: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[path.relative_to(root).as_posix()] = os.readlink(path) if path.is_symlink() else data
    return found


def _publish(folder: Path, kind: Kind) -> None:
    publish(
        lambda out: (out / "new").write_text("new"), folder, kind.work, recognise=kind.recognise
    )


@pytest.mark.parametrize("name", KINDS)
def test_a_result_without_a_mark_is_known_and_replaced(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    folder = _lay(tmp_path, kind)
    assert kind.recognise(folder, entries_of(folder)) == kind.work
    _publish(folder, kind)
    assert marked(folder) == (kind.work, ["new"])
    assert set(os.listdir(folder.parent)) == {folder.name}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "foreign",
    [
        "thesis.txt",
        "deep/thesis.txt",
        ".hidden",
        "encoder.safetensors.bak",
        "shard-00000.csv",
        "room.glb",
    ],
)
def test_with_anything_else_in_it_stays(tmp_path: Path, name: str, foreign: str) -> None:
    kind = KINDS[name]
    folder = _lay(tmp_path, kind)
    _write(folder / foreign, "mine")
    _stays(tmp_path, folder, kind)


@pytest.mark.parametrize("name", KINDS)
def test_under_another_name_it_stays(tmp_path: Path, name: str) -> None:
    kind = KINDS[name]
    folder = _lay(tmp_path, kind)
    _stays(tmp_path, folder, Kind(kind.place, Work(kind.work.kind, "other"), kind.recognise))
    _stays(tmp_path, folder, Kind(kind.place, Work("export", kind.work.name), kind.recognise))


def _stays(root: Path, folder: Path, kind: Kind) -> None:
    before = _tree(root)
    with pytest.raises(BadInput, match="nothing was touched") as info:
        _publish(folder, kind)
    assert "\n" not in str(info.value)
    assert _tree(root) == before


def _without(*names: str) -> Change:
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def _with(name: str, content: str | bytes) -> Change:
    return lambda folder: _write(folder / name, content)


def _pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


LOOK_ALIKES: list[tuple[str, Change]] = [
    ("run", _without("card.json")),
    ("run", _without("encoder.safetensors")),
    ("run", _with("card.json", "no JSON")),
    ("run", _with("card.json", "[" * 100_000)),
    ("run", _with("card.json", "[]")),
    ("run", _with("card.json", '{"run": "c0"}')),  # a card, and not of a model
    ("run", _with("card.json", '{"run": 1, "model": {}}')),
    ("run", _with("snapshots/3/encoder.safetensors", "mine")),
    ("run", _pipe("card.json")),
    ("import", _with("card.json", CARD)),  # trained here
    ("pairs", _without("shard-00000.parquet")),  # tars of anybody
    ("pairs", _without("_images/shard-00000.tar")),
    ("pairs", _with("_images/shard-00001.tar", "mine")),
    ("pairs", _with("shard-00000.parquet", "no Parquet")),
    ("pairs", _with("shard-00000.parquet", _table("phone", "rooms"))),
    ("pairs", _with("shard-00000.parquet", _table("rooms"))),
    ("pairs", _with("shard-00000.parquet", _table("phone", less=("overlap", "params_digest")))),
    ("pairs", _with("shard-00000.parquet", _table("phone", less=("source",)))),
    ("pairs", _with("_lost.jsonl", "my notes")),
    ("pairs beside", _without("shard-00000.parquet")),
    ("empty shards", _without("shard-00000.parquet")),
    ("no pairs", _with("_lost.jsonl", "[1]\n")),
    ("samples", _without("samples.json")),
    ("samples", _with("samples.json", "[]")),  # it names none of the pictures
    ("samples", _with("samples.json", '{"file": "blurred-0.jpg"}')),
    ("samples", _with("samples.json", '[{"file": "blurred-0.jpg"}]')),
    ("samples", _with("blurred-1.jpg", "mine")),
    ("report", _without("index.html")),
    ("report", _with("index.html", "<h1>Report</h1>")),
    ("report", _with("source-phone.html", "mine")),
    ("rooms", _without("LICENCE.txt")),
    ("rooms", _with("LICENCE.txt", "CC-BY")),
    ("rooms", _with("walk-000.mp4", "mine")),
    ("phone", _with("holiday.mp4", "mine")),
    ("tasks", _with("kitti/1.jpg", "mine")),
    ("nyu", _with("nyu_depth_v2_labeled.mat.zip", "mine")),
]


@pytest.mark.parametrize(("name", "change"), LOOK_ALIKES)
def test_what_only_looks_like_it_stays(tmp_path: Path, name: str, change: Change) -> None:
    kind = KINDS[name]
    folder = _lay(tmp_path, kind)
    change(folder)
    assert kind.recognise(folder, entries_of(folder)) != kind.work
    _stays(tmp_path, folder, kind)


@pytest.mark.parametrize("name", KINDS)
def test_no_recogniser_knows_an_empty_folder_or_another_kind(tmp_path: Path, name: str) -> None:
    folder = _lay(tmp_path, KINDS[name])
    recognisers = {kind.recognise for kind in KINDS.values()} - {KINDS[name].recognise}
    assert [found(folder, entries_of(folder)) for found in recognisers] == [None] * len(recognisers)
    (tmp_path / "empty").mkdir()
    assert KINDS[name].recognise(tmp_path / "empty", []) is None


def test_raw_data_without_any_file_of_its_kind_stay(tmp_path: Path) -> None:
    _write(tmp_path / "data/raw/rooms/LICENCE.txt", LICENCE)
    _stays(tmp_path, tmp_path / "data/raw/rooms", KINDS["rooms"])
