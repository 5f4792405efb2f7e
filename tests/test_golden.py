"""What the rule, the writer, the choice of pairs, objectives, training, generators and the report
make of tiny inputs, pinned for their versions (readers, engines and tasks are pinned beside their
tests).

Numbers are given room for other processors and builds of the libraries; counts, orders, decisions
and texts are exact.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
import trimesh
import yaml
from PIL import Image as pillow
from PIL.JpegImagePlugin import JpegImageFile

from mimic import assemble, mining, report, synthesize
from mimic.geometry import likeness
from mimic.infra.storage import Workspace
from mimic.mining import loop, shard_job
from mimic.models import OBJECTIVES, Masking, ViTSize, build
from mimic.models.inheritance import Ancestor, LayeredModel, inherit
from mimic.models.layers import initialise
from mimic.models.objectives import OBJECTIVE_VERSIONS
from mimic.pairs import SELECTION_VERSION, WRITER_VERSION
from mimic.pairs.read import read_table
from mimic.pairs.schema import PAIR, clip_key, index_path
from mimic.pairs.write import encode_image, shard_writer, write_table
from mimic.params import Params, load_params
from mimic.reporting import REPORT_VERSION
from mimic.sources import Group, View
from mimic.synthetic import GENERATOR_VERSIONS
from mimic.training import LOOP_VERSION, START_VERSION
from mimic.training.optim import layer_decay_groups
from tests.support import footage, golden_values, toy_pairs, toy_runs
from tests.support.golden_values import look
from tests.support.published import publish_everything

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


# ---------------------------------------------------------------- the rule


class _Views:
    """A source of one clip: a view against others of a textured plane, and against what fails."""

    name = "tiny"
    skipped: dict[str, str] = {}

    def __init__(self) -> None:
        still = footage.pan(0, 15, 16)
        turn = cv2.getRotationMatrix2D((112, 112), 12, 0.9)
        views = {f"{16 * number}": image for number, image in enumerate(still)}
        del views["112"]  # overlaps by exactly a bound of the rule: rounding would decide
        views["turned"] = cv2.warpAffine(still[5], turn, (224, 224))
        views["blurred"] = cv2.GaussianBlur(still[5], (0, 0), 6)
        views["empty"] = np.full_like(still[0], 127)
        noise = np.random.default_rng(0).integers(-30, 31, (448, 448, 1))
        large = np.kron(still[5], np.ones((2, 2, 1), np.uint8)) + noise
        views["large"] = np.clip(large, 0, 255).astype(np.uint8)
        views["other"] = footage.pan(1, 1, 16)[0]
        self.views = views

    def clips(self) -> list[str]:
        return ["clip"]

    def groups(self, clip: str, rng: np.random.Generator) -> Iterator[Group]:
        for name in self.views:
            yield self._group("0", name)
        yield Group(self._some("0", "16", "96", "128"), ((0, 1),), retry=((0, 2), (0, 3)))

    def _group(self, a: str, b: str) -> Group:
        return Group(self._some(a, b), ((0, 1),))

    def _some(self, *names: str) -> tuple[View, ...]:
        return tuple(
            View(name, functools.partial(self.views.__getitem__, name), None) for name in names
        )


@pytest.mark.parametrize("mode", ["symmetric", "reference"])
def test_the_rule_keeps_what_its_version_did(params: Params, mode: str) -> None:
    rule = shard_job.rule_of(params.mine.model_copy(update={"mode": mode}))
    stats = loop.MiningStats()
    views: Any = _Views()
    pairs = list(loop.mine_clip(views, "clip", rule, 20.0, 0, stats))
    value = {
        "kept": [f"{pair.a.key} {pair.b.key}" for pair in pairs],
        "overlaps": [float(pair.comparison.overlap) for pair in pairs],
        "matched": [float((pair.comparison.correspondences >= 0).mean()) for pair in pairs],
        "grain": [float(np.abs(np.diff(pair.image_b / 255.0, axis=1)).mean()) for pair in pairs],
        "outcomes": {str(what): count for what, count in stats.outcomes.items() if count},
    }
    said_in = "RULE_VERSION in mining/__init__.py"
    golden_values.check(f"rule-{mode}", said_in, mining.RULE_VERSION, value, within=0.05, floor=0.1)


# ---------------------------------------------------------------- written and chosen pairs


def _steps(side: int = 64) -> np.ndarray:
    """Blocks of grey whose order no JPEG library changes."""
    order = np.random.default_rng(0).permutation(64).reshape(8, 8)
    grey = np.kron(order * 4, np.ones((side // 8, side // 8))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def test_the_writer_writes_what_its_version_did(tmp_path: Path) -> None:
    tar = tmp_path / "shard-00000.tar"
    with shard_writer(tar) as writer:
        for number, clip in enumerate(("a", "b.c/d")):
            row = toy_pairs._row(number, 32) | {"key": f"{clip_key('tiny', clip)}-00000"}
            writer.add(row, b"view a", b"view b" * (number + 1))
    table = read_table(index_path(tar)).to_pydict()
    jpeg = encode_image(_steps(), 95)
    with pillow.open(io.BytesIO(jpeg)) as image:
        assert isinstance(image, JpegImageFile)
        layout = [image.format, list(image.size), [list(one) for one in image.layer]]
        tables = {str(key): list(one) for key, one in image.quantization.items()}
    value = {
        "tar": hashlib.sha256(tar.read_bytes()).hexdigest(),
        "columns": [f"{field.name} {field.type} {field.nullable}" for field in PAIR],
        "rows": {name: table[name] for name in table if name != "overlap"},
        "jpeg": [layout, tables],
        "likeness": f"{likeness.dhash(_steps()[..., 0]):016x}",
    }
    said_in = "WRITER_VERSION in pairs/__init__.py"
    golden_values.check("writer", said_in, WRITER_VERSION, value)


def _mined(root: Path, source: str, clips: int, copies: int) -> None:
    """Shards of four pairs a clip; the first of some clips are copies of pairs of one clip, or
    look like them."""
    rows = []
    for number in range(clips):
        for index in range(4):
            key = f"{source}-clip-{number}-{index:05}"
            shas = [hashlib.sha256(f"{key}{side}".encode()).hexdigest() for side in "ab"]
            looks = [int(sha[:16], 16) for sha in shas]
            if 0 < number <= copies and index < 2:
                first = f"{source}-clip-0-{index:05}"
                same = [hashlib.sha256(f"{first}{side}".encode()).hexdigest() for side in "ab"]
                looks = [int(sha[:16], 16) ^ (0b10100 * index) for sha in same]
                shas = same if index == 0 else shas
            made = {"sha_a": shas[0], "sha_b": shas[1], "dhash_a": looks[0], "dhash_b": looks[1]}
            where = {"offset_a": 0, "size_a": 1, "offset_b": 2, "size_b": 3}
            own = {"key": key, "source": source, "clip": f"clip-{number}", "licence": source}
            rows.append(toy_pairs._row(number, 32) | own | made | where)
    tar = Workspace(root).pairs(source) / "shard-00000.tar"
    tar.parent.mkdir(parents=True)
    tar.touch()
    write_table(pa.Table.from_pylist(rows, schema=PAIR), index_path(tar))


def test_datasets_are_chosen_as_their_version_did(repository: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    small, large = raw["datasets"]["mimic-1m"], raw["datasets"]["mimic-3m"]
    test = {"sources": {"phone": 3}, "clips": 1}
    small |= {"sources": {"rooms": 12, "phone": None}, "test": test}
    large |= {"sources": {"rooms": None, "phone": None, "frames": None}, "test": test}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    found = load_params(tmp_path / "params.yaml")
    for source, clips, copies in (("rooms", 8, 3), ("phone", 6, 0), ("frames", 3, 1)):
        _mined(tmp_path, source, clips, copies)
    value = {}
    for name in ("mimic-1m", "mimic-3m"):
        assemble.main(found, tmp_path, name)
        rows = read_table(Workspace(tmp_path).manifest(name), ["key", "split"]).to_pydict()
        fates = json.loads(Workspace(tmp_path).metrics("assemble", name).read_text())["sources"]
        value[name] = {
            "rows": [f"{key} {split}" for key, split in zip(*rows.values(), strict=True)],
            "fates": {source: said["fates"] for source, said in fates.items()},
        }
    said_in = "SELECTION_VERSION in pairs/__init__.py"
    golden_values.check("selection", said_in, SELECTION_VERSION, value)


# ---------------------------------------------------------------- models and training


def _wave(*shape: int, phase: float = 0.0) -> torch.Tensor:
    """Numbers that no generator has to draw."""
    size = int(np.prod(shape))
    return torch.from_numpy(np.sin(np.arange(size) * 0.7351 + phase).reshape(shape)).float()


def _magnitude(gradient: torch.Tensor) -> float:
    """A logarithm, so that the smallest counts as much as the largest; nothing below rounding."""
    return max(-5.0, float(gradient.norm().log10()))


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_an_objective_measures_what_its_version_did(objective: str) -> None:
    size = ViTSize(**{**toy_runs.TINY, "size_px": (32, 32), "class_token": True})
    masking = Masking(mask_ratio=0.75, visible_rounding="up", norm_pix=True)
    spec = OBJECTIVES[objective]
    model = spec.build(size, masking, "manual")
    initialise(model, torch.Generator().manual_seed(0))
    weights = dict(model.named_parameters())
    spread = {name: float(one.detach().std()) for name, one in weights.items() if one.numel() > 1}
    with torch.no_grad():
        for number, one in enumerate(weights.values()):
            one.copy_(_wave(*one.shape, phase=number) / one[0].numel() ** 0.5)
    loss, prediction, mask = model(_wave(2, spec.views, 3, 32, 32), _wave(2, 16, phase=1.0))
    loss.backward()
    gradients = {name: one.grad for name, one in weights.items() if one.grad is not None}
    value = {
        "spread at the start": spread,
        "loss": float(loss),
        "prediction": [float(prediction.mean()), float(prediction.std())],
        "mask": mask.int().tolist(),
        "gradients": {name: _magnitude(grad) for name, grad in gradients.items()},
    }
    said_in = f"OBJECTIVE_VERSIONS of {objective} in models/objectives/__init__.py"
    version = OBJECTIVE_VERSIONS[objective]
    golden_values.check(f"objective-{objective}", said_in, version, value, within=5e-3)


@pytest.mark.parametrize("variant", ["croco", "mae", "cropped", "wide"])
def test_the_loop_trains_as_its_version_did(tmp_path: Path, repository: Path, variant: str) -> None:
    """Bound to the versions of the objective, too: it is trained here."""
    workspace = toy_runs.write_workspace(tmp_path, repository)
    toy_runs.change(workspace, "runs", variant, steps=6)
    toy_runs.change(workspace, "pretrain", variant, log_every=1, warmup=0.5)
    log = (toy_runs.run(workspace, variant) / "log.jsonl").read_text().splitlines()
    objective = load_params(workspace / "params.yaml").pretrain[variant].objective
    versions = [LOOP_VERSION, OBJECTIVE_VERSIONS[objective]]
    said_in = "LOOP_VERSION in training/__init__.py"
    value = [json.loads(line) for line in log]
    golden_values.check(f"loop-{variant}", said_in, versions, value, within=5e-3, floor=1e-3)


@pytest.mark.parametrize("there", OBJECTIVES)
def test_a_run_starts_from_weights_as_its_version_did(there: str) -> None:
    """Which tensor of one model becomes which of another, of another image size and with another
    class token; and the share of the rate that each learns at."""
    shape: dict[str, Any] = {
        "patch_px": 8,
        "width": 32,
        "depth": 2,
        "heads": 2,
        "positions": "sincos",
    }
    decoder: dict[str, Any] = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
    shape |= decoder | {"norm_eps": 1e-6}
    old = ViTSize(**shape, size_px=(32, 32), class_token=True)
    new = ViTSize(**shape, size_px=(16, 48), class_token=False)
    masking = Masking(mask_ratio=0.75, visible_rounding="down", norm_pix=True)
    weights = dict(build(there, old, masking).state_dict())
    weights["encoder.pos_embed"] = _wave(1, 17, 32)  # learned
    value = {}
    for here in OBJECTIVES:
        model = build(here, new, masking)
        found = inherit(model, here, new, Ancestor(old, there, weights))
        layered = LayeredModel(model, fresh=found.fresh)
        groups = layer_decay_groups(layered, 0.05, 0.5, undecayed=())
        rates = {id(p): [g["lr_scale"], g["weight_decay"]] for g in groups for p in g["params"]}
        value[here] = {
            "taken": found.taken,
            "fresh": found.fresh,
            "positions": found.positions,
            "class token": found.class_token,
            "table": _magnitude(model.encoder.state_dict()["pos_embed"]),
            "rates": {n: rates[id(p)] for n, p in layered.named_parameters() if p.requires_grad},
        }
    said_in = "START_VERSION in training/__init__.py"
    golden_values.check(f"start-{there}", said_in, START_VERSION, value, within=5e-3)


# ---------------------------------------------------------------- generated data

FLAT = {"width_m": 8.0, "depth_m": 7.0, "height_m": 2.5, "texture_px": 128}
VIEWS: dict[str, Any] = {"flat": FLAT, "train": 2, "test": 1, "width_px": 64, "height_px": 48}
TINY: dict[str, Any] = {
    "rooms": {"scenes": 1, "first_seed": 0, "flat": FLAT},
    "phone": {
        **{"videos": 1, "first_seed": 1, "flat": FLAT, "seconds": 1.2, "fps": 5},
        **{"width_px": 48, "height_px": 64, "speed_m_s": 0.4},
    },
    "frames": {
        **{"folders": 1, "first_seed": 2, "flat": FLAT, "frames": 6},
        **{"width_px": 64, "height_px": 48, "step_m": 0.06},
    },
    "nyu": {**VIEWS, "scenes": 2, "first_seed": 3},
    "tasks": {
        "ade20k": VIEWS | {"first_seed": 4},
        "coco": {
            **{"first_seed": 5, "train": 2, "test": 1},
            **{"people": 2, "width_px": 64, "height_px": 48},
        },
        "imagenet": {"first_seed": 6, "train_per_class": 1, "test_per_class": 1, "size_px": 32},
        "taskonomy": VIEWS | {"first_seed": 7, "validation": 1},
        "flow": VIEWS | {"first_seed": 8},
        "stereo": VIEWS | {"first_seed": 9},
        "seven_scenes": VIEWS | {"first_seed": 10, "scenes": 1},
    },
}


def _shown(path: Path) -> Any:
    """What a generated file holds, but for what libraries decide."""
    match path.suffix:
        case ".png" | ".jpg" | ".JPEG":
            return look(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), cells=2)
        case ".glb":
            mesh: Any = trimesh.load(path, force="mesh")
            return [len(mesh.faces), mesh.bounds.ravel().tolist(), float(mesh.area)]
        case ".mat" if h5py.is_hdf5(path):
            with h5py.File(path) as file:
                return {
                    name: [list(file[name].shape), float(np.mean(file[name]))]
                    for name in ("images", "depths", "rawDepths")
                }
        case ".mp4" | ".mov":
            frame = cv2.VideoCapture(str(path)).read()[1]
            return look(frame, cells=2)
        case ".txt" | ".csv" | ".json" | ".traj":
            words = re.split(r"[\s,:\[\]{}]+", path.read_text())
            return [_number(word) for word in words[:60]]
        case _:
            return None


def _number(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


@pytest.mark.parametrize("kind", synthesize.KINDS)
def test_generators_make_what_their_version_did(
    repository: Path, tmp_path: Path, kind: str
) -> None:
    raw = yaml.safe_load((repository / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw | {"synthesize": TINY}))
    synthesize.main(load_params(tmp_path / "params.yaml"), tmp_path, kind)
    made = tmp_path / "data/raw" / kind
    files = sorted(path for path in made.rglob("*") if path.is_file())
    value = {path.relative_to(made).as_posix(): _shown(path) for path in files}
    said_in = f"GENERATOR_VERSIONS of {kind} in synthetic/__init__.py"
    golden_values.check(f"generator-{kind}", said_in, GENERATOR_VERSIONS[kind], value, within=0.02)


# ---------------------------------------------------------------- the report


def _text(page: str) -> list[str]:
    """The words of a page."""
    without = re.sub(r"<(style|script)\b.*?</\1>|<svg\b.*?</svg>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "\n", without)).split()


def test_the_report_says_what_its_version_did(params: Params, tmp_path: Path) -> None:
    """The words of its pages, and how many pictures and charts of which parts they hold."""
    publish_everything(params, tmp_path)
    report.main(params, tmp_path)
    value: dict[str, list[Any]] = {}
    for path in sorted(Workspace(tmp_path).report.glob("*.html")):
        page = path.read_text()
        words = " ".join(_text(page))
        tags = Counter(re.findall(r"<([a-z][a-z0-9]*)", page))
        name = re.sub(r"[0-9a-f]{8,}", "#", path.name)
        value[name] = [hashlib.sha256(words.encode()).hexdigest(), dict(sorted(tags.items()))]
    for path in sorted(Workspace(tmp_path).report.glob("*/**/*.*")):
        value[path.relative_to(tmp_path).as_posix()] = path.read_text().split()
    golden_values.check("report", "REPORT_VERSION in reporting/__init__.py", REPORT_VERSION, value)
