"""What a run was trained with, as far as its card says: one flat table of names and values, in
which two runs can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mimic.config.names import seed_of

FACTORS = ("init", "dataset", "objective", "steps", "recipe", "run")
# What follows from a factor is no difference beside it.
IMPLIED: dict[str, tuple[str, ...]] = {
    "init": ("init",),
    "dataset": ("dataset", "manifest"),
    "objective": ("objective", "recipe"),
    "steps": ("steps",),
    "recipe": ("recipe", "objective", "recipe."),
    "run": ("run",),
}
NEVER = ("seed", "run")  # what tells two trainings of one setting apart

Settings = dict[str, Any]


def settings_of(name: str, card: Mapping[str, Any]) -> Settings:
    """
    Args:
        name: of the run.
        card: of one of its encoders.
    """
    init, _ = seed_of((card.get("init") or {}).get("name") or "none")
    settings: Settings = {"run": name, "init": init}
    if "imported" in card:
        facts = {key: card.get(key) for key in ("objective", "dataset", "steps")}
        return (
            settings
            | {key: value for key, value in facts.items() if value is not None}
            | {
                "origin": "imported",
                **_flat("recipe.model", card.get("model", {})),
            }
        )
    sections = card.get("sections", {})
    recipe = sections.get("recipe", {})
    steps = card.get("steps")
    untrained = steps == 0 and settings["init"] == "none"
    settings |= {"origin": "trained here", "steps": steps}
    if untrained:  # of a recipe only the model has had a say
        return settings | {"objective": "random", **_flat("recipe.model", card.get("model", {}))}
    settings |= {
        "objective": card.get("objective"),
        "dataset": card.get("dataset"),
        "manifest": str(card.get("manifest_digest"))[:10],
        "recipe": card.get("recipe"),
        "code": _code(card),
    }
    if "init" in card:
        settings["init.sha256"] = str((card["init"] or {}).get("sha256"))[:10]
        adapted = sections.get("run", {})
        settings |= {f"init.{key}": adapted.get(key) for key in ("layer_decay", "optimizer")}
    rest = {key: value for key, value in recipe.items() if key != "model"}
    return settings | _flat("recipe", rest) | _flat("recipe.model", card.get("model", {}))


def differing(a: Settings, b: Settings, by: str | None = None) -> dict[str, tuple[Any, Any]]:
    """What two runs differ in, of what is known of both and does not follow from the factor."""
    implied = IMPLIED.get(by or "", ())
    return {
        key: (a[key], b[key])
        for key in a
        if key in b
        and key not in NEVER
        and a[key] != b[key]
        and not any(key == one or (one.endswith(".") and key.startswith(one)) for one in implied)
        and not (by == "init" and key.startswith("init."))
    }


def _code(card: Mapping[str, Any]) -> str:
    parts = {"mimic": card.get("versions", {}).get("mimic"), **card.get("parts", {})}
    return ", ".join(f"{name} {version}" for name, version in parts.items())


def _flat(name: str, values: Mapping[str, Any]) -> Settings:
    flat: Settings = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(f"{name}.{key}", value)
        else:
            flat[f"{name}.{key}"] = value
    return flat
