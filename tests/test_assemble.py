from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from mimic import assemble, config
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.pairs import select
from mimic.pairs.read import iter_rows, open_table, read_row, read_table
from mimic.pairs.schema import MANIFEST, PAIR, index_path
from mimic.pairs.write import write_table
from mimic.params import Params, load_params, resolve_params


def _shard(
    root: Path,
    source: str,
    number: int,
    clips: list[str],
    pairs: int,
    images: list[str] | None = None,
    looks: list[int] | None = None,
) -> None:
    """A shard whose tar is empty: assemble never opens it."""
    rows = []
    for clip in clips:
        for index in range(pairs):
            key = f"{source}-{clip}-{index:05}"
            shas = (
                [hashlib.sha256(f"{key}{side}".encode()).hexdigest() for side in "ab"]
                if images is None
                else images
            )
            rows.append(
                {
                    **{
                        "key": key,
                        "source": source,
                        "clip": clip,
                        "frame_a": "0",
                        "frame_b": "1",
                        "pose_a": None,
                        "pose_b": None,
                    },
                    **{
                        "overlap": 0.6,
                        "overlap_a_to_b": 0.6,
                        "overlap_b_to_a": 0.7,
                        "b_from_a": [1.0] * 9,
                        "matches": 20,
                        "inliers": 15,
                    },
                    **{"correspondences": list(range(196)), "sha_a": shas[0], "sha_b": shas[1]},
                    **{
                        f"dhash_{side}": int(shas[side == "b"][:16], 16)
                        if looks is None
                        else looks[side == "b"]
                        for side in "ab"
                    },
                    **{
                        "offset_a": 0,
                        "size_a": 1,
                        "offset_b": 2,
                        "size_b": 3,
                        "size_px": 224,
                        "patch_px": 16,
                    },
                    **{"licence": f"licence of {source}", "params_digest": "0", "versions": "{}"},
                }
            )
    tar = storage.Workspace(root).pairs(source) / f"shard-{number:05}.tar"
    tar.parent.mkdir(parents=True, exist_ok=True)
    tar.touch()
    write_table(pa.Table.from_pylist(rows, schema=PAIR), index_path(tar))


NOTHING = config.TestPairs(sources={}, clips=0.0)


def _dataset(
    contains: str | None = None, seed: int = 0, validation: float = 0.2, **sources: Any
) -> config.Dataset:
    more: dict[str, Any] = {"test": NOTHING, "near_duplicate_bits": 4, "allow_short": False}
    more["places"] = None
    more |= {key: sources.pop(key) for key in tuple(more) if key in sources}
    return config.Dataset(
        sources=sources, contains=contains, validation=validation, seed=seed, **more
    )


@pytest.fixture
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _assemble(params: Params, root: Path, **datasets: config.Dataset) -> dict[str, pa.Table]:
    params = params.model_copy(update={"datasets": datasets})
    for name in datasets:
        assemble.main(params, root, name)
    return {
        name: read_table(storage.Workspace(root).manifest(name), schema=MANIFEST)
        for name in datasets
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(4):
        _shard(
            tmp_path, "rooms", number, [f"room{2 * number}.glb", f"room{2 * number + 1}.glb"], 10
        )
    _shard(tmp_path, "phone", 0, ["a.mp4", "b.mp4"], 7)
    return tmp_path


def test_rows_point_into_shards_and_lose_nothing(root: Path, params: Params) -> None:
    table = _assemble(params, root, all=_dataset(rooms=None, phone=None))["all"]
    assert len(table) == 94
    for row in table.to_pylist()[::13]:
        original = [
            other
            for other in iter_rows(index_path(root / row["shard"]))
            if other["key"] == row["key"]
        ]
        assert original == [
            {name: value for name, value in row.items() if name not in ("shard", "split")}
        ]
    assert [
        *dict.fromkeys(zip(table["source"].to_pylist(), table["shard"].to_pylist(), strict=True))
    ][:2] == [
        ("phone", "data/pairs/phone/shard-00000.tar"),
        ("rooms", "data/pairs/rooms/shard-00000.tar"),
    ]


def test_a_larger_dataset_holds_every_row_of_the_smaller(root: Path, params: Params) -> None:
    inner, outer = _dataset(rooms=17), _dataset("inner", seed=5, rooms=40, phone=3)
    tables = _assemble(
        params,
        root,
        inner=inner,
        outer=outer,
        bigger=_dataset("outer", seed=9, rooms=None, phone=None),
    )
    keys = {name: set(table["key"].to_pylist()) for name, table in tables.items()}
    assert [len(keys[name]) for name in ("inner", "outer", "bigger")] == [17, 43, 94]
    assert keys["inner"] < keys["outer"] < keys["bigger"]


def test_a_choice_depends_on_seed_and_names_alone(root: Path, params: Params) -> None:
    chosen = [
        _assemble(params, root, some=_dataset(seed=seed, rooms=20))["some"]["key"].to_pylist()
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    manifest = storage.Workspace(root).manifest("some")
    before = manifest.read_bytes()
    _assemble(params, root, some=_dataset(seed=1, rooms=20))
    assert manifest.read_bytes() == before


def test_a_clip_is_on_one_side_in_every_dataset(root: Path, params: Params) -> None:
    apart = {
        "x": _dataset(rooms=30),
        "y": _dataset(rooms=None, phone=5),
        "z": _dataset(seed=3, phone=None),
    }
    tables = _assemble(
        params, root, **apart, around=_dataset("x", rooms=None, phone=None)
    )  # as MIMIC-3M holds MIMIC-1M
    sides: dict[tuple[str, str], set[str]] = {}
    for table in tables.values():
        for source, clip, split in zip(
            *(table[name].to_pylist() for name in ("source", "clip", "split")), strict=True
        ):
            sides.setdefault((source, clip), set()).add(split)
    assert all(len(side) == 1 for side in sides.values())
    inner = {row["key"]: row["split"] for row in tables["x"].to_pylist()}
    outer = {row["key"]: row["split"] for row in tables["around"].to_pylist()}
    assert set(inner.values()) == {"train", "validation"}
    assert inner.items() <= outer.items()
    assert {side for (source, _), (side,) in sides.items() if source == "phone"} == {
        "train",
        "validation",
    }


@pytest.mark.parametrize("clips", [2, 3, 10, 200])
def test_some_clips_are_held_out_of_any_source_that_has_several(clips: int) -> None:
    held = select.held_out("rooms", [f"scene{number}" for number in range(clips)], 0.1)
    assert 1 <= held.sum() < clips
    assert clips < 200 or 0.05 < held.mean() < 0.17


def test_one_clip_is_trained_on_and_a_share_of_zero_holds_nothing_out() -> None:
    assert not select.held_out("rooms", ["only"], 0.1).any()
    assert not select.held_out("rooms", ["one", "other"], 0.0).any()
    assert select.held_out("rooms", ["one", "other"], 1.0).all()


def test_exact_duplicates_are_left_out_in_either_order(root: Path, params: Params) -> None:
    x, y = (hashlib.sha256(name.encode()).hexdigest() for name in "xy")
    _shard(root, "frames", 0, ["p"], 1, [x, y])
    _shard(root, "frames", 1, ["q"], 2, [y, x])
    tables = _assemble(params, root, all=_dataset(frames=None, phone=None))
    assert [key for key in tables["all"]["key"].to_pylist() if key.startswith("frames")] == [
        "frames-p-00000"
    ]


def test_a_row_of_the_contained_dataset_is_not_given_up_for_its_duplicate(
    tmp_path: Path, params: Params
) -> None:
    shas = [hashlib.sha256(name.encode()).hexdigest() for name in "xy"]
    _shard(tmp_path, "rooms", 0, ["r"], 1, shas)
    _shard(tmp_path, "frames", 0, ["f"], 1, shas)  # sorts before rooms
    tables = _assemble(
        params,
        tmp_path,
        inner=_dataset(rooms=None),
        outer=_dataset("inner", rooms=None, frames=None),
    )
    assert tables["outer"]["key"].to_pylist() == ["rooms-r-00000"]


def test_near_duplicates_of_other_clips_are_left_out_and_counted(
    root: Path, params: Params
) -> None:
    looks = [0x0123456789ABCDEF, 0xFEDCBA9876543210]
    _shard(root, "frames", 0, ["p"], 2, looks=looks)  # of one clip: both stay
    _shard(
        root, "frames", 1, ["q"], 1, looks=[looks[1] ^ 0b101, looks[0] ^ 0b10]
    )  # turned round, three bits
    _shard(root, "frames", 2, ["r"], 1, looks=[looks[0] ^ 0b11, looks[1] ^ 0b111])  # five bits
    kept = {}
    for bits in (4, None):
        tables = _assemble(
            params, root, all=_dataset(frames=None, phone=None, near_duplicate_bits=bits)
        )
        kept[bits] = [key for key in tables["all"]["key"].to_pylist() if key.startswith("frames")]
        statuses = json.loads((root / "metrics/assemble/all.json").read_text())["sources"][
            "frames"
        ]["fates"]
        assert statuses["near_duplicate"] == 4 - len(kept[bits])
    assert kept[4] == ["frames-p-00000", "frames-p-00001", "frames-r-00000"]
    assert len(kept[None]) == 4


def test_fewer_places_are_a_part_of_more_and_held_out_ones_stay(
    tmp_path: Path, params: Params
) -> None:
    for number in range(40):
        _shard(tmp_path, "frames", number, [f"c{number:02}"], 3)
    tables = _assemble(
        params,
        tmp_path,
        one=_dataset(frames=None, places=1e-9),
        few=_dataset("one", frames=None, places=0.25),
        some=_dataset("few", frames=None, places=0.5),
        whole=_dataset("some", frames=None),
    )
    clips = {
        (name, split): {
            clip
            for clip, of_split in zip(
                table["clip"].to_pylist(), table["split"].to_pylist(), strict=True
            )
            if of_split == split
        }
        for name, table in tables.items()
        for split in ("train", "validation")
    }
    trained_on = [clips[name, "train"] for name in tables]
    assert len(trained_on[0]) == 1
    assert trained_on[0] < trained_on[1] < trained_on[2] < trained_on[3]
    assert 3 <= len(trained_on[1]) <= 14, "about a quarter of 32"
    assert len({frozenset(clips[name, "validation"]) for name in tables}) == 1
    said = {
        name: json.loads((tmp_path / f"metrics/assemble/{name}.json").read_text())["sources"]
        for name in tables
    }
    fates = said["few"]["frames"]["fates"]
    assert fates["other_place"] == 3 * (len(trained_on[3]) - len(trained_on[1]))
    assert sum(fates.values()) == 120
    assert "other_place" not in said["whole"]["frames"]["fates"]


def test_a_dataset_of_all_places_is_written_as_before(params: Params) -> None:
    entry = next(iter(params.datasets.values())).model_dump(mode="json")
    assert "places" not in entry
    assert config.Dataset(**entry).places is None
    assert config.Dataset(**entry, places=0.5).model_dump(mode="json")["places"] == 0.5


def test_a_near_duplicate_goes_only_for_a_row_that_stays(tmp_path: Path, params: Params) -> None:
    """p is near q, q is near r, p is not near r: q goes, p and r stay; with q in the contained
    dataset, q stays alone."""
    for number, (clip, look) in enumerate({"p": 0, "q": 0b1111, "r": 0b11111111}.items()):
        _shard(tmp_path, "frames", number, [clip], 1, looks=[look, 0])
    (keys,) = (
        table["key"].to_pylist()
        for table in _assemble(params, tmp_path, x=_dataset(frames=None)).values()
    )
    assert keys == ["frames-p-00000", "frames-r-00000"]
    _shard(tmp_path, "phone", 0, ["q"], 1, looks=[0b1111, 0])
    tables = _assemble(
        params,
        tmp_path,
        inner=_dataset(phone=None),
        outer=_dataset("inner", frames=None, phone=None),
    )
    assert tables["outer"]["key"].to_pylist() == ["phone-q-00000"]


def test_test_pairs_are_of_scenes_in_no_other_split_and_the_same_in_every_dataset(
    root: Path, params: Params
) -> None:
    test = config.TestPairs(sources={"rooms": 7}, clips=0.3)
    tables = _assemble(
        params,
        root,
        x=_dataset(rooms=20, test=test),
        y=_dataset("x", rooms=None, phone=None, test=test, seed=4),
    )
    tested = {}
    for name, table in tables.items():
        rows = table.select(["key", "clip", "split"]).to_pylist()
        tested[name] = {row["key"] for row in rows if row["split"] == "test"}
        scenes = {row["clip"] for row in rows if row["split"] == "test"}
        assert scenes
        assert not scenes & {row["clip"] for row in rows if row["split"] != "test"}
    assert tested["x"] == tested["y"]
    assert len(tested["x"]) == 7
    counts = json.loads((root / "metrics/assemble/x.json").read_text())
    assert counts["splits"]["test"] == 7
    assert counts["pairs"] == 20


@pytest.mark.parametrize("looks", [None, [0b1, 0]])
def test_what_shows_a_tested_pair_is_not_trained_on_for_a_contained_dataset(
    tmp_path: Path, params: Params, looks: list[int] | None
) -> None:
    """The contained dataset lacks the source that is tested on."""
    shas = [hashlib.sha256(name.encode()).hexdigest() for name in "xy"]
    test = config.TestPairs(sources={"rooms": 1}, clips=1.0)
    _shard(tmp_path, "rooms", 0, ["r"], 1, shas, looks and [0, 0])
    _shard(tmp_path, "phone", 0, ["p"], 1, None if looks else shas, looks)
    _shard(tmp_path, "phone", 1, ["q"], 1)
    tables = _assemble(
        params,
        tmp_path,
        inner=_dataset(phone=None),
        outer=_dataset("inner", rooms=None, phone=None, test=test),
    )
    splits = dict(
        zip(*(tables["outer"][name].to_pylist() for name in ("key", "split")), strict=True)
    )
    assert splits["rooms-r-00000"] == "test"
    assert "phone-p-00000" not in splits
    assert splits["phone-q-00000"] in ("train", "validation")
    assert "phone-p-00000" in tables["inner"]["key"].to_pylist()


def test_an_image_on_both_sides_is_counted_and_named(
    tmp_path: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """Paired with another image on each side: no duplicates."""
    wall, door, window, roof = (
        hashlib.sha256(name).hexdigest() for name in (b"1", b"2", b"3", b"4")
    )
    held = {
        source: dict(zip("ab", select.held_out(source, ["a", "b"], 1e-9).tolist(), strict=True))
        for source in ("phone", "rooms")
    }
    trained = next(clip for clip, out in held["phone"].items() if not out)
    held_out = next(clip for clip, out in held["rooms"].items() if out)
    for number, clip in enumerate("ab"):
        _shard(tmp_path, "phone", number, [clip], 1, [wall, door] if clip == trained else None)
        _shard(tmp_path, "rooms", number, [clip], 1, [window, roof] if clip == held_out else None)
    apart: dict[str, Any] = {"validation": 1e-9, "near_duplicate_bits": None}
    _assemble(params, tmp_path, x=_dataset(phone=None, rooms=None, **apart))
    assert "trained on and held out" not in capsys.readouterr().err
    _shard(tmp_path, "rooms", "ab".index(held_out), [held_out], 1, [window, wall])
    _assemble(params, tmp_path, x=_dataset(phone=None, rooms=None, **apart))
    assert (
        json.loads((tmp_path / "metrics/assemble/x.json").read_text())["images_on_both_sides"] == 1
    )
    assert (
        f"1 images are trained on and held out, such as one of phone, clip {trained}, and rooms, "
        f"clip {held_out}"
    ) in capsys.readouterr().err


def test_two_sources_of_one_folder_are_named(
    root: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    """A link, and a folder below the other."""
    (root / "data/walks/park").mkdir(parents=True)
    (root / "links").symlink_to(root / "data")
    some = next(iter(params.sources.values()))
    for phone, named in (("links/walks/park", True), ("data", True), ("data/walk", False)):
        sources = {
            name: some.model_copy(update={"root": Path(folder)})
            for name, folder in (("rooms", "data/walks"), ("phone", phone))
        }
        params = params.model_copy(update={"sources": sources})
        _assemble(params, root, x=_dataset(phone=None, rooms=None))
        assert ("sources phone and rooms read one folder" in capsys.readouterr().err) == named
        _assemble(params, root, x=_dataset(phone=None, rooms=None, validation=0))
        assert "read one folder" not in capsys.readouterr().err


def test_every_mined_pair_has_a_counted_fate(root: Path, params: Params) -> None:
    _assemble(params, root, x=_dataset(rooms=30, phone=None))
    counts = json.loads((root / "metrics/assemble/x.json").read_text())
    rooms = counts["sources"]["rooms"]
    assert sum(rooms["fates"].values()) == rooms["mined"] == 80
    assert rooms["fates"]["surplus"] == 50
    assert rooms["pairs"] == 30 == sum(rooms["overlap_histogram"].values())
    assert rooms["licences"] == ["licence of rooms"]
    assert counts["splits"] == {
        "train": 44 - counts["splits"]["validation"],
        "validation": counts["splits"]["validation"],
        "test": 0,
    }


def test_a_short_source_is_taken_whole_if_that_is_allowed(
    root: Path, params: Params, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = _assemble(params, root, x=_dataset(rooms=3, phone=20, allow_short=True))
    assert len(tables["x"]) == 17
    assert "phone has 14 of the 20 pairs wanted, 6 too few" in capsys.readouterr().err
    assert (
        json.loads((root / "metrics/assemble/x.json").read_text())["sources"]["phone"]["short"] == 6
    )


def test_a_random_row_is_read_without_the_table(
    root: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "ROW_GROUP", 8)
    table = _assemble(params, root, x=_dataset(rooms=None))["x"]
    path = storage.Workspace(root).manifest("x")
    for index in (0, 7, 8, len(table) - 1):
        assert read_row(path, index) == table.slice(index, 1).to_pylist()[0]
    with pytest.raises(IndexError, match="has 80 rows"):
        read_row(path, 80)


def test_a_source_that_cannot_fill_its_count_says_by_how_much(root: Path, params: Params) -> None:
    message = (
        r"datasets.x.sources.phone: wants 20 pairs, but 14 distinct ones were mined, 6 too few; "
        r"mine more of it"
    )
    with pytest.raises(BadInput, match=message):
        _assemble(params, root, x=_dataset(rooms=3, phone=20))
    assert not storage.Workspace(root).manifest("x").exists()


def test_a_source_that_was_not_mined_says_so(root: Path, params: Params) -> None:
    with pytest.raises(BadInput, match=r"data/pairs/frames: no such folder; mine the source first"):
        _assemble(params, root, x=_dataset(frames=None))


def test_a_dataset_without_pairs_is_an_empty_manifest(tmp_path: Path, params: Params) -> None:
    _shard(tmp_path, "rooms", 0, [], 0)
    assert len(_assemble(params, tmp_path, x=_dataset(rooms=None))["x"]) == 0


def test_rows_are_written_in_groups_of_one_size(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "ROW_GROUP", 8)
    for number, pairs in enumerate((3, 0, 20, 1, 8)):
        _shard(tmp_path, "rooms", number, [f"room{number}"], pairs)
    _assemble(params, tmp_path, x=_dataset(rooms=None))
    with open_table(storage.Workspace(tmp_path).manifest("x"), MANIFEST) as file:
        assert [
            file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)
        ] == [8, 8, 8, 8]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"outer": {"sources": {"phone": None}}},
            r"datasets.outer.sources: lacks rooms, which inner takes from",
        ),
        (
            {"outer": {"sources": {"rooms": 3}}},
            r"datasets.outer.sources.rooms: must not be less than in inner",
        ),
        ({"outer": {"validation": 0.3}}, r"validation: differs from that of"),
        (
            {"outer": {"test": {"sources": {"rooms": 5}, "clips": 0.1}}},
            r"test: differs from that of",
        ),
        (
            {"outer": {"near_duplicate_bits": 3}},
            r"near_duplicate_bits: differs from that of inner, which it contains",
        ),
        (
            {"inner": {"places": 0.5}, "outer": {"places": 0.25}},
            r"datasets.outer.places: must not be less than in inner, which it contains",
        ),
        ({"outer": {"places": 0.25}}, r"datasets.outer.places: must not be less than in inner"),
        ({"inner": {"contains": "outer"}}, r"goes round in a circle"),
        ({"outer": {"contains": "nothing"}}, r"'nothing' does not exist"),
    ],
)
def test_recipes_that_cannot_nest_are_refused(
    repository: Path, tmp_path: Path, change: Any, message: str
) -> None:
    raw = resolve_params(repository / "params.yaml").full()
    names = list(raw["datasets"])
    plain = {**raw["datasets"][names[0]], "sources": {"rooms": 10}}
    recipes = {
        "inner": plain | change.get("inner", {}),
        "outer": plain | {"contains": "inner"} | change.get("outer", {}),
    }
    raw["datasets"] = {**dict.fromkeys(names, plain), **recipes}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(BadInput, match=message):
        load_params(tmp_path / "params.yaml")
