"""params.yaml, resolved: every entry laid over the preset that it names.

Which word of an entry names its preset, and in which file:
    sources.X       reader      sources/presets.yaml
    evaluate.X      task, preset  tasks/presets.yaml, below the task's name
    runs.X          recipe      training/recipes.yaml, then `pretrain` of the file itself
    adapt.X         -, recipe   training/presets.yaml, then as a run
    pretrain.X      X           training/recipes.yaml, where there is one of that name
    synthesize.X    preset      synthetic/presets.yaml
    mine, cluster   preset      mining/presets.yaml, infra/cluster/presets.yaml

An entry that states every key needs no such word. Nothing is checked here but the words themselves.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mimic.config.presets import (
    PACKAGE,
    Key,
    LayeredValues,
    YamlDocument,
    lay_preset,
    packaged_presets,
)
from mimic.config.training import Recipe
from mimic.errors import BadInput
from mimic.tasks import TASKS

READERS = PACKAGE / "sources" / "presets.yaml"
RECIPES = PACKAGE / "training" / "recipes.yaml"
SECTIONS = {
    "mine": PACKAGE / "mining" / "presets.yaml",
    "cluster": PACKAGE / "infra" / "cluster" / "presets.yaml",
}
INHERITING = PACKAGE / "training" / "presets.yaml"
RUNS = ("runs", "adapt")  # sections whose entries are runs
GENERATED = PACKAGE / "synthetic" / "presets.yaml"
PRESET = "preset"
Layer = Callable[[YamlDocument, Key, Mapping[Any, Any]], LayeredValues]
RENAMED = {"peer": "published"}  # presets of tasks, as older files call them


@dataclass(frozen=True)
class Resolved:
    """Every section with all its values; a run holds those of its recipe, too."""

    document: YamlDocument
    content: dict[Any, Any]
    origins: dict[Key, str]
    problems: dict[Key, str]  # entries that name a preset or a recipe which does not exist
    profile: str | None

    def where(self, path: Key) -> str:
        """Which line says a value; for one that nobody says, the nearest key of the file itself."""
        return self.origins.get(path) or self.document.where(path)

    def checked(self) -> dict[Any, Any]:
        """The same as `Params` reads it: recipes by name, and apart those of runs that change
        theirs."""
        own = self.content.get("pretrain")
        sections = {section: self.content.get(section, {}) for section in RUNS}
        recipes = dict(own) if isinstance(own, dict) else {}
        adapted: dict[Any, Any] = {}
        for section, runs in sections.items():
            if isinstance(runs, dict):  # checking it says what is wrong with another
                sections[section] = _without_recipes(runs, recipes, adapted)
        named = {"pretrain": recipes} if isinstance(own, dict) else {}
        return {
            **self.content,
            **named,
            **sections,
            "adapted": adapted,
            "profile": self.profile,
        }

    def full(self) -> dict[Any, Any]:
        """A parameter file that says the same and leaves nothing to a preset."""
        full = copy.deepcopy(self.checked())
        del full["profile"]
        for name, recipe in full.pop("adapted").items():
            section = "runs" if name in full["runs"] else "adapt"
            full[section][name] |= recipe
        return full


def _without_recipes(
    runs: Mapping[Any, Any], recipes: dict[Any, Any], adapted: dict[Any, Any]
) -> dict[Any, Any]:
    """Runs without the keys of their recipes, which go to `recipes` by their name, and to `adapted`
    where a run changes its own."""
    plain = {}
    for name, run in runs.items():
        if not isinstance(run, dict):
            plain[name] = run
            continue
        recipe = {key: run[key] for key in Recipe.model_fields if key in run}
        plain[name] = {key: value for key, value in run.items() if key not in recipe}
        if not isinstance(run.get("recipe"), str):
            continue  # checking it says what is wrong
        if recipe and recipes.setdefault(run["recipe"], recipe) != recipe:
            adapted[name] = recipe
    return plain


def resolve(document: YamlDocument, profile: str | None) -> Resolved:
    """Lay every entry over its preset; one that names a preset which does not exist stays as it is,
    and what is wrong is among the problems.

    Args:
        profile: whose values the document holds beside its own (`profiles.laid_under`).
    """
    content: dict[Any, Any] = {}
    origins: dict[Key, str] = {}
    problems: dict[Key, str] = {}
    for section, value in document.content.items():
        laid = _section(document, section, value, problems)
        content[section] = laid.content[section]
        origins |= laid.origins
    return Resolved(document, content, origins, problems, profile)


def _section(
    document: YamlDocument, section: Any, value: Any, problems: dict[Key, str]
) -> LayeredValues:
    """One section, below its own name.

    Args:
        problems: grows.
    """
    entry = _ENTRIES.get(section)
    if section in SECTIONS and isinstance(value, dict):
        return _entry(document, (section,), value, _preset, problems)
    if entry is None or not isinstance(value, dict):
        return _plain(document, (section,), value)
    layers = LayeredValues({section: {}})
    for name, fields in value.items():
        path = (section, name)
        laid = _entry(document, path, fields, entry, problems)
        layers.content[section][name] = laid.content[section][name]
        layers.origins |= laid.origins
    if not value:
        layers.origins[section,] = document.where((section,))
    return layers


def _entry(
    document: YamlDocument, path: Key, fields: Any, lay: Layer, problems: dict[Key, str]
) -> LayeredValues:
    """One entry, below its path."""
    if isinstance(fields, dict):
        try:
            return _below(path, lay(document, path, fields))
        except BadInput as error:
            problems[path] = str(error)
    return _plain(document, path, fields)


def _plain(document: YamlDocument, path: Key, value: Any) -> LayeredValues:
    """What has no preset."""
    laid = LayeredValues()
    laid.lay({path[-1]: value}, document, path[:-1])
    return _below(path[:-1], laid)


def _below(path: Key, laid: LayeredValues) -> LayeredValues:
    content: Any = laid.content
    for key in reversed(path):
        content = {key: content}
    return LayeredValues(content, {path + known: where for known, where in laid.origins.items()})


# ---------------------------------------------------------------------------- one entry


def _source(document: YamlDocument, path: Key, entry: Mapping[Any, Any]) -> LayeredValues:
    readers = packaged_presets(READERS)
    laid = LayeredValues()
    reader = entry.get("reader")
    if isinstance(reader, str) and reader in readers.content:
        lay_preset(laid, readers, (), reader)
    laid.lay(entry, document, path)
    return laid


def _task(document: YamlDocument, path: Key, entry: Mapping[Any, Any]) -> LayeredValues:
    laid = LayeredValues()
    task = entry.get("task")
    word = entry.get(PRESET)
    if not isinstance(task, str) or task not in TASKS or word is None:
        laid.lay(entry, document, path)
        return laid
    presets = TASKS[task].document
    names = presets.content[task]
    word = RENAMED.get(word, word) if isinstance(word, str) else word
    _known(document, (*path, PRESET), word, names, f"preset of {task}")
    filed = lay_preset(laid, presets, (task,), word)
    laid.lay(entry, document, path)
    if PRESET in TASKS[task].section.model_fields:
        laid.content[PRESET] = filed
    else:
        laid.without(PRESET)
    return laid


def _recipe(document: YamlDocument, path: Key, entry: Mapping[Any, Any]) -> LayeredValues:
    recipes = packaged_presets(RECIPES)
    laid = LayeredValues()
    if path[-1] in recipes.content:
        lay_preset(laid, recipes, (), str(path[-1]))
    laid.lay(entry, document, path)
    return laid


def _run(document: YamlDocument, path: Key, entry: Mapping[Any, Any]) -> LayeredValues:
    recipes = packaged_presets(RECIPES)
    own = document.content.get("pretrain")
    own = own if isinstance(own, dict) else {}
    laid = LayeredValues()
    filed = name = entry.get("recipe")
    if name is not None:
        _known(document, (*path, "recipe"), name, [*own, *recipes.content], "recipe")
    if isinstance(name, str) and name in recipes.content:
        filed = lay_preset(laid, recipes, (), name)
    if name is not None and isinstance(own.get(name), dict):
        laid.lay(own[name], document, ("pretrain", name))
        filed = name
    laid.lay(entry, document, path)
    if filed is not None:
        laid.content["recipe"] = filed
    return laid


def _adaptation(document: YamlDocument, path: Key, entry: Mapping[Any, Any]) -> LayeredValues:
    laid = LayeredValues()
    lay_preset(laid, packaged_presets(INHERITING), (), "standard")
    run = _run(document, path, entry)
    laid.content |= run.content
    laid.origins |= run.origins
    return laid


def _generated(document: YamlDocument, path: Key, entry: Mapping[Any, Any]) -> LayeredValues:
    presets = packaged_presets(GENERATED)
    laid = LayeredValues()
    if PRESET in entry and path[-1] in presets.content:
        kind = str(path[-1])
        _known(document, (*path, PRESET), entry[PRESET], presets.content[kind], f"preset of {kind}")
        lay_preset(laid, presets, (kind,), entry[PRESET])
        laid.lay(entry, document, path)
        laid.without(PRESET)
        return laid
    laid.lay(entry, document, path)
    return laid


def _preset(document: YamlDocument, path: Key, section: Mapping[Any, Any]) -> LayeredValues:
    """A section that is one entry."""
    presets = packaged_presets(SECTIONS[str(path[0])])
    laid = LayeredValues()
    if PRESET in section:
        name = section[PRESET]
        _known(document, (*path, PRESET), name, presets.content, f"preset of {path[0]}")
        lay_preset(laid, presets, (), name)
    laid.lay(section, document, path)
    laid.without(PRESET)
    return laid


def _known(document: YamlDocument, path: Key, name: Any, names: Iterable[str], what: str) -> None:
    known = list(dict.fromkeys(names))
    if isinstance(name, str) and name in known:
        return
    close = difflib.get_close_matches(str(name), known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    where = ".".join(map(str, path))
    raise BadInput(f"{document.where(path)}: {where}: no {what} is called {name!r}; {hint}")


_ENTRIES: dict[Any, Layer] = {
    "sources": _source,
    "evaluate": _task,
    "runs": _run,
    "adapt": _adaptation,
    "pretrain": _recipe,
    "synthesize": _generated,
}
