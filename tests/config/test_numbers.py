"""Numbers that cannot be are refused when params are read, in one line, and not after the
training."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from mimic.errors import BadInput
from mimic.params import Params, load_params, resolve_params


@pytest.fixture(scope="module")
def profiles(repository: Path) -> dict[str, dict]:
    paths = [repository / "params.yaml", *(repository / "profiles").glob("*.yaml")]
    return {path.name: resolve_params(path).full() for path in paths}


def _numbers(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where numbers are."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _numbers(part, (*path, key))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path


def _changed(raw: dict, path: tuple[Any, ...], value: Any) -> dict:
    raw = copy.deepcopy(raw)
    section: Any = raw
    for key in path[:-1]:
        section = section[key]
    assert path[-1] in section or isinstance(section, list), path
    section[path[-1]] = value
    return raw


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), "many", True])
def test_no_number_is_infinite_or_none(profiles: dict[str, dict], value: Any) -> None:
    seen = set()
    for raw in profiles.values():
        for path in _numbers(raw):
            kind = tuple(
                "*" if isinstance(key, int) or place == 1 else key for place, key in enumerate(path)
            )
            if kind in seen:
                continue
            seen.add(kind)
            whole = {**_changed(raw, path, value), "adapted": {}, "profile": None}
            with pytest.raises(ValidationError):
                Params.model_validate(whole)
    assert len(seen) > 200


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("pretrain", "mae", "betas"), [0.9, 1.0]),
        (("pretrain", "mae", "betas"), [-0.1, 0.95]),
        (("pretrain", "mae", "betas"), [1.5, 0.95]),
        (("pretrain", "mae", "base_lr"), -1.0e-3),
        (("pretrain", "mae", "base_lr"), 0),
        (("pretrain", "mae", "min_lr"), -1.0e-3),
        (("pretrain", "mae", "weight_decay"), -0.05),
        (("pretrain", "mae", "warmup"), 1.5),
        (("pretrain", "mae", "warmup"), -0.1),
        (("pretrain", "mae", "mask_ratio"), 1.0),
        (("pretrain", "mae", "mask_ratio"), 0.0),
        (("pretrain", "mae", "batch"), True),
        (("pretrain", "mae", "augment", "crop_area"), [1.0, 0.2]),
        (("pretrain", "mae", "augment", "crop_area"), [0.0, 1.0]),
        (("pretrain", "mae", "augment", "flip"), 1.1),
        (("runs", "croco-3m", "seed"), -1),
        (("mine", "seed"), -1),
        (("mine", "ratio"), 0),
        (("evaluate", "depth", "lr"), -1.0e-4),
        (("evaluate", "depth", "betas"), [0.9, 2]),
        (("evaluate", "depth", "weight_decay"), -1),
        (("evaluate", "depth", "layer_decay"), 0),
        (("evaluate", "depth", "layer_decay"), 1.2),
        (("evaluate", "depth", "drop_path"), 1),
        (("evaluate", "depth", "clip_grad"), 0),
        (("evaluate", "depth", "blocks"), [-1, 2]),
        (("evaluate", "depth", "target_std"), 0),
        (("evaluate", "depth", "units_per_m"), -1),
        (("evaluate", "depth", "depth_min_m"), -0.5),
        (("evaluate", "depth", "seed"), -1),
        (("evaluate", "imagenet", "batch"), 1),
        (("evaluate", "imagenet", "base_lr"), -0.1),
        (("evaluate", "imagenet", "momentum"), 1),
        (("evaluate", "imagenet", "crop_area"), [0.9, 0.1]),
        (("evaluate", "flow", "overlap"), 1),
        (("sources", "rooms", "height_m"), [1.8, 1.2]),
        (("sources", "rooms", "step_m"), [0, 1]),
        (("sources", "rooms", "sharpness_min"), -1),
        (("synthesize", "phone", "seconds"), 0),
    ],
)
def test_a_number_that_cannot_be_is_named(
    profiles: dict[str, dict], tmp_path: Path, path: tuple[str, ...], value: Any
) -> None:
    (tmp_path / "params.yaml").write_text(
        yaml.safe_dump(_changed(profiles["params.yaml"], path, value))
    )
    with pytest.raises(BadInput) as info:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(info.value)
    assert re.search(r"\.".join(map(re.escape, path)), str(info.value)), str(info.value)


def test_depths_that_leave_nothing_are_refused(profiles: dict[str, dict], tmp_path: Path) -> None:
    raw = _changed(
        _changed(profiles["params.yaml"], ("evaluate", "depth", "depth_min_m"), 5),
        ("evaluate", "depth", "depth_max_m"),
        2,
    )
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(BadInput, match="depth_max_m 2 is not above depth_min_m 5"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (
            "runs: {}",
            "runs: {own: {recipe: no, batch: 4}}",
            r"runs\.own\.recipe: no recipe.* False",
        ),
        ("runs: {}", "runs: {own: {recipe: 3, batch: 4}}", r"runs\.own\.recipe: "),
        ("runs: {}", f"runs: {{own: {{seed: {2**64}}}}}", r"runs\.own\.seed: .* 2147483648"),
        ("runs: {}", f"runs: {{own: {{seeds: [0, {2**31}]}}}}", r"runs\.own\.seeds\.1: "),
    ],
)
def test_a_run_that_cannot_be_is_one_line(tmp_path: Path, old: str, new: str, why: str) -> None:
    text = f"profile: laptop\n{old}\n".replace(old, new)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(BadInput) as info:
        load_params(path)
    assert re.search(why, str(info.value)), str(info.value)
