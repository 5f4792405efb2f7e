"""Every number that profiles/paper.yaml resolves to has a source, or docs/paper-numbers.md says
that it has none, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from mimic.params import resolve_params
from mimic.tasks import TASKS

MIMIC, CROCO, MAE = "MIMIC's scripts", "CroCo's scripts", "MAE's scripts"
STATED: dict[
    str, str
] = {  # pattern of paths -> who states the number; evaluation's are in the presets
    "sources.*.sharpness_min": f"{MIMIC}: VARIANCE_THRESHOLD of rendered views, none elsewhere",
    "sources.hm3d.positions": f"{MIMIC}: 3000 tries a scene",
    "sources.gibson.positions": f"{MIMIC}: 3000 tries a scene",
    "sources.matterport.positions": f"{MIMIC}: 500 tries a scene",
    "sources.*.headings": f"{MIMIC}: 8 views, 45 degrees apart",
    "sources.*.render_px": f"{MIMIC} and {CROCO}: 256",
    "sources.*.hfov_deg": "habitat-sim's default of 90 (MIMIC), CroCo's 60",
    "sources.hm3d.height_m": f"{MIMIC}: U(1.2, 1.8)",
    "sources.gibson.height_m": f"{MIMIC}: U(1.2, 1.8)",
    "sources.matterport.height_m": f"{MIMIC}: U(1.2, 1.8)",
    "sources.habitat-hm3d.height_m": f"{CROCO}: U(1.2, 1.8)",
    "sources.*.step_m": f"{MIMIC}: U(0.5, 1)",
    "sources.*.turn_deg": f"{MIMIC}: multiples of 60",
    "sources.*.island_radius_min_m": f"{MIMIC}: 6; CroCo asks for none",
    "sources.mannequin.spacing_s": f"{MIMIC}: i and i + 1 s",
    "sources.mannequin.seconds_min": f"{MIMIC}: 3 s",
    "sources.mannequin.crop_bottom": f"{MIMIC}: a fifth",
    "sources.scannet.window": f"{MIMIC}: 60 frames",
    "sources.scannet.edge": f"{MIMIC}: 10 first by 10 last",
    "sources.scannet.second_edge": f"{MIMIC}: 10 first by 10 last",
    "sources.arkitscenes.*_s": f"{MIMIC}: 1 s, then 2 s",
    "sources.arkitscenes.seconds_min": f"{MIMIC}: 5 s",
    "sources.co3d.stride": f"{MIMIC}: (i, i + 5)",
    "sources.co3d.advance": f"{MIMIC}: i += 10",
    "sources.habitat-hm3d.positions": f"{CROCO}: 1000 pairs a scene",
    "sources.habitat-*.tries": f"{CROCO}: 100",
    "sources.habitat-*.steps": f"{CROCO}: a random walk of 5",
    "sources.habitat-*.step_sigma_m": f"{CROCO}: 2 m",
    "sources.habitat-*.jitter_deg": f"{CROCO}: 3, 10, 5",
    "sources.habitat-*.valid_depth_min": f"{CROCO}: 0.7",
    "sources.habitat-*.overlap_min": f"{CROCO}: 0.5",
    "sources.habitat-*.point_distance_m": f"{CROCO}: 5 cm",
    "mine.size_px": f"{MIMIC}: 224",
    "mine.patch_px": f"{MIMIC}: 16",
    "mine.ratio": f"{MIMIC}: 0.7",
    "mine.matches_min": f"{MIMIC}: more than 10",
    "mine.ransac_px": f"{MIMIC}: 5",
    "mine.votes_per_patch": f"{MIMIC}: 100",
    "mine.overlap_*": f"{MIMIC}: 50 and 75 %",
    "mine.jpeg_quality": "OpenCV's default, which MIMIC's scripts write with",
    "datasets.mimic-*.sources.*": "MIMIC, table of sources",
    "datasets.mimic-*.test.sources.gibson": "MIMIC, table 3: 500 pairs",
    "datasets.mv-habitat.sources.*": "CroCo, list of sources",
    "pretrain.*.model.*": f"{MIMIC}, {CROCO}, {MAE}: model classes",
    "pretrain.mimic.mask_ratio": f"{MIMIC}: 0.9",
    "pretrain.croco-*.mask_ratio": f"{CROCO}: 0.9",
    "pretrain.*.batch": "4096 (MAE, MIMIC), 256 (CroCo)",
    "pretrain.*.base_lr": "1.5e-4, all of them",
    "pretrain.*.min_lr": "0, all of them",
    "pretrain.mimic.warmup": f"{MIMIC}: 20 of 200 epochs",
    "pretrain.croco-*.warmup": f"{CROCO}: 40 of 400, 12 of 125",
    "pretrain.*.horizon": "1; CroCo's cosine is twice as long as the run",
    "pretrain.*.weight_decay": "0.05, all of them",
    "pretrain.*.betas": "0.9, 0.95, all of them",
    "pretrain.*.augment.*": f"{MIMIC}, {CROCO}, {MAE}: transforms",
    "evaluate.cross-attention.temperature": "ZeroCo: 1e-4",
}
LINE = re.compile(r"- (`.+`): (.+)")


def numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Dotted paths of the numbers of a document; those of a list of numbers are one."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from numbers(part, (*path, str(name)))
    elif isinstance(value, list):
        found = {one for part in value for one in numbers(part, path)}
        yield from sorted(found)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield ".".join(path)


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs/paper-numbers.md").read_text()


@pytest.fixture(scope="module")
def document(repository: Path) -> dict[str, Any]:
    return resolve_params(repository / "profiles/paper.yaml").full()


def said(text: str) -> dict[str, dict[str, str]]:
    """Of "open" and "free" the patterns with their reasons; continued lines are joined."""
    parts = re.split(r"^## (\w+)$", re.sub(r"\n  ", " ", text), flags=re.M)
    found: dict[str, dict[str, str]] = {"open": {}, "free": {}}
    for title, part in zip(parts[1::2], parts[2::2], strict=True):
        for line in part.splitlines():
            if title.lower() in found and (match := LINE.fullmatch(line)):
                patterns = re.findall(r"`(.+?)`", match[1])
                found[title.lower()] |= dict.fromkeys(patterns, match[2])
    return found


def in_preset(path: str, document: Any) -> bool:
    """Whether a number of `evaluate` is one that the task's preset fixes, hence one with a source
    there."""
    section, name, field, *_ = (*path.split("."), "", "")
    if section != "evaluate":
        return False
    task = document["evaluate"][name]
    return field in TASKS[task["task"]].presets.get(task.get("preset", ""), {})


def test_every_number_has_a_source_or_says_that_it_has_none(
    text: str, document: dict[str, Any]
) -> None:
    comments = said(text)
    assert len(comments["open"]) > 20
    assert all(len(reason) > 3 for kind in comments.values() for reason in kind.values())
    unused = {pattern: kind for kind in comments for pattern in comments[kind]} | dict.fromkeys(
        STATED, "stated"
    )
    for path in dict.fromkeys(numbers(document)):
        stated = [pattern for pattern in STATED if fnmatchcase(path, pattern)]
        own = [
            pattern for kind in comments.values() for pattern in kind if fnmatchcase(path, pattern)
        ]
        for pattern in (*stated, *own):
            unused.pop(pattern, None)
        assert own or stated or in_preset(path, document), (
            f"{path}: no source states it, and it is not marked open or free"
        )
        assert not (own and stated), f"{path}: stated by {stated} and yet {own}"
        assert len(own) < 2, f"{path}: {own}"
    assert not unused, f"no number of the profile is called {list(unused)}"


def test_an_unmarked_number_is_noticed(text: str, document: dict[str, Any]) -> None:
    """Taking a mark away, or adding a number, fails the test above."""
    without = text.replace("- `sources.demon.views_max`: ", "- (was open): ")
    assert without != text
    with pytest.raises(AssertionError, match=r"sources.demon.views_max: no source"):
        test_every_number_has_a_source_or_says_that_it_has_none(without, document)
    more = document | {"mine": document["mine"] | {"ratio_b": 0.8}}
    with pytest.raises(AssertionError, match=r"mine.ratio_b: no source"):
        test_every_number_has_a_source_or_says_that_it_has_none(text, more)
