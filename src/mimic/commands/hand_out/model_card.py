"""README.md of an exported model: what it is, what it was trained on and under which terms, how it
was measured, how to load it. The head is YAML that Hugging Face reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from mimic.reporting.results import SavedResult
from mimic.training import start

UNKNOWN = "not recorded"
NAMES = {"mae": "MAE", "croco": "CroCo", "siamese": "SiamMAE", "mimic": "MIMIC"}


@dataclass(frozen=True)
class About:
    """All that a model card tells.

    Attributes:
        name: of the folder it lies in.
        card: card.json of the model.
        data: lines on data and their terms.
        results: by the name of the task.
        hardware, hours: of its training; None = not recorded.
        loading: lines of Python.
        positions_resampled: whether another image size changes its table of positions.
    """

    name: str
    card: Mapping[str, Any]
    data: Sequence[str]
    results: Mapping[str, SavedResult]
    hardware: str | None
    hours: float | None
    loading: Sequence[str]
    positions_resampled: bool


def write(facts: About) -> str:
    """The page, as Markdown."""
    card = facts.card
    size = card["model"]
    sides = " x ".join(map(str, size["size_px"]))
    code = "\n".join(facts.loading)
    return f"""---
{yaml.safe_dump(_head(card), sort_keys=False, allow_unicode=True).strip()}
---

# {facts.name}

A vision transformer ({size["depth"]} blocks of {size["width"]} channels, {size["heads"]} heads,
patches of {size["patch_px"]} px, images of {sides} px, {_tokens(size)}), {_pretrained(card)}.
Made with `mimic`.

## How to load it

With `timm` alone, from the folder that holds this one, without a network:

```python
{code}
```

`model.forward_features(images)` gives all tokens after the final norm, `model(images)` their
{"class token" if size.get("class_token") else "mean"}. `transform` makes the images that it
expects: RGB, normalised with the mean and deviation of `config.json`.

## Data

{_bullets(facts.data)}

## Training

{_table(("", ""), _training(facts))}

## Results

{_results(facts.results)}

## Limits

{_bullets(_limits(facts))}
"""


def _head(card: Mapping[str, Any]) -> dict[str, Any]:
    tags = ["image-feature-extraction", "timm", "self-supervised"]
    if card.get("objective"):
        tags.append(str(card["objective"]))
    head: dict[str, Any] = {
        "license": "other",
        "license_name": "terms-of-its-data",
        "library_name": "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": tags,
    }
    if card.get("dataset"):
        head["datasets"] = [str(card["dataset"])]
    return head


def _tokens(size: Mapping[str, Any]) -> str:
    token = "with a class token" if size.get("class_token") else "without a class token"
    if size.get("positions") == "rope":
        return f"{token}, rotary positions"
    return token


def _pretrained(card: Mapping[str, Any]) -> str:
    objective = card.get("objective")
    name = NAMES.get(str(objective), str(objective))
    if card.get("imported"):
        file = card["imported"].get("file") or "weights that timm fetched"
        return f"imported from {file}" + (f", pretrained with {name}" if objective else "")
    dataset = card.get("dataset") or "data that are not recorded"
    return f"pretrained with {name} on {dataset} for {card.get('steps') or 0:,} steps"


def _training(facts: About) -> list[tuple[str, str]]:
    card = facts.card
    recipe = card.get("sections", {}).get("recipe", {})
    chosen = ("base_lr", "warmup", "weight_decay", "betas", "precision")
    numbers = ", ".join(f"{key} {recipe[key]}" for key in chosen if key in recipe)
    hours = None if facts.hours is None else f"{facts.hours:.3g}"
    rows = {
        "start weights": start_weights(card),
        "objective": card.get("objective"),
        "recipe": f"{card['recipe']} ({numbers})" if card.get("recipe") else None,
        "steps, batch": f"{card.get('steps')}, {card['batch']}" if "batch" in card else None,
        "share of patches hidden": card.get("mask_ratio"),
        "seed": card.get("seed"),
        "precision": card.get("precision"),
        "hardware": facts.hardware,
        "hours": hours,
        "code": _code(card),
        "digest of the dataset": card.get("manifest_digest"),
    }
    return [(name, UNKNOWN if value is None else str(value)) for name, value in rows.items()]


def _code(card: Mapping[str, Any]) -> str | None:
    release = card.get("versions", {}).get("mimic")
    if release is None:
        return None
    commit = card.get("git_commit")
    return f"mimic {release}, workspace at commit {commit or UNKNOWN}"


def start_weights(card: Mapping[str, Any]) -> str:
    """Where the training started, in words."""
    init = card.get("init")
    if card.get("imported"):
        digest = card["imported"].get("sha256")
        return f"the file itself, sha256 {digest}" if digest else "those of timm"
    if not init:
        return "random"
    lines = [*start.lines(dict(init)), f"sha256 {init['sha256']}"]
    if earlier := init.get("before"):
        lines.append(f"before that: {start_weights({'init': earlier})}")
    return "; ".join(lines)


def _results(results: Mapping[str, SavedResult]) -> str:
    if not results:
        return "It was not measured."
    rows = [
        (
            task,
            f"{saved.name} {saved.value:.4g}{_spread(saved)}",
            "higher" if saved.higher_is_better else "lower",
            UNKNOWN if saved.test_size is None else f"{saved.test_size:,}",
            saved.protocol or UNKNOWN,
        )
        for task, saved in sorted(results.items())
    ]
    return _table(("task", "result", "better", "n (test items)", "protocol"), rows)


def _spread(saved: SavedResult) -> str:
    """How far a number may be off: over test items, and over seeds where several were measured."""
    parts = [] if saved.error is None else [f"± {saved.error:.2g} (standard error)"]
    over_seeds = saved.raw.get("over_seeds")
    if over_seeds is not None:
        sd = "" if over_seeds["sd"] is None else f", sd {over_seeds['sd']:.2g}"
        parts.append(f"(mean of {over_seeds['n']} seeds {over_seeds['value']:.4g}{sd})")
    return "".join(f" {part}" for part in parts)


def _limits(facts: About) -> list[str]:
    lines = [
        "Features of a self-supervised encoder: no classes, no text, no head.",
        "Its terms follow from those of its data and start weights, above; nobody has checked more "
        "than what stands there.",
    ]
    if facts.positions_resampled:
        lines.append(
            "Its table of positions is that of the image size above. timm resamples it for others "
            "with antialiasing, `mimic` without: features then differ slightly."
        )
    seed = facts.card.get("seed")
    if seed is not None:
        lines.append(f"One training, seed {seed}: another seed gives other results.")
    return lines


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
