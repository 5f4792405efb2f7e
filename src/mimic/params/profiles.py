"""`profile: NAME` of a params.yaml: what the file does not state, the profile does.

A profile is an entry of profiles.yaml. What params.yaml states wins, key by key; of a section of
entries (datasets, runs, adapt, evaluate) the profile states what each entry has, and the entries
are the file's alone. `profiles: {NAME: {runs: ...}}` in params.yaml itself is laid over the
packaged profile NAME, so that one file suits several machines.
"""

from __future__ import annotations

import copy
import difflib
from typing import Any

from mimic.config.presets import (
    PACKAGE,
    Key,
    LayeredValues,
    YamlDocument,
    packaged_presets,
)
from mimic.errors import BadInput

FILE = PACKAGE / "params" / "profiles.yaml"
WORD = "profile"
OWN = "profiles"
LIKE = {"datasets": "datasets", "runs": "runs", "adapt": "runs", "evaluate": "evaluate"}
# Sections of a profile that decide what a stage writes.
SECTIONS = ("mine", "datasets", "runs", "evaluate", "table", "report")
OWN_SECTIONS = ("runs", "evaluate")  # what params.yaml may say by profile: how much, not what
# Of runs: who states the first does not take the second. A task may have both.
INSTEAD = {"seeds": "seed", "seed": "seeds"}


def named(document: YamlDocument) -> str | None:
    """The profile that a parameter file names."""
    name = document.content.get(WORD)
    return None if name is None else str(name)


def laid_under(document: YamlDocument) -> YamlDocument:
    """The file with what its profile says beside it; the same file where it names none.

    Raises:
        BadInput: no such profile, or `profiles` says what it cannot.
    """
    if WORD not in document.content and OWN not in document.content:
        return document
    name = _known(document)
    profile = LayeredValues()
    packaged = packaged_presets(FILE)
    own = _own(document, name)
    runs = _left(packaged.content[name]["runs"], own.get("runs", {}), "runs")
    profile.lay({**packaged.content[name], "runs": runs}, packaged, (name,))
    profile.lay(own, document, (OWN, name))
    layers = LayeredValues()
    stated = {key: value for key, value in document.content.items() if key not in (WORD, OWN)}
    for section, value in profile.content.items():
        if section not in LIKE:
            _lay(layers, {section: value}, profile, ())
    layers.lay({key: value for key, value in stated.items() if key not in LIKE}, document, ())
    for section, like in LIKE.items():
        if section in stated or section == like:
            _lay_entries(layers, section, stated.get(section, {}), profile, like, document)
    elsewhere = {
        path: where for path, where in layers.origins.items() if path not in document.lines
    }
    return YamlDocument(document.name, layers.content, document.lines, elsewhere)


def _left(values: dict[str, Any], over: dict[str, Any], like: str) -> dict[str, Any]:
    """What a profile says of each entry, but for what `over` says another key instead of."""
    without = {INSTEAD.get(key) for key in over} if like == "runs" else set()
    return {key: value for key, value in values.items() if key not in without}


def _known(document: YamlDocument) -> str:
    names = packaged_presets(FILE).content
    name = named(document)
    if name in names:
        return str(name)
    close = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
    raise BadInput(f"{document.where((WORD,))}: profile: no profile is called {name!r}; {hint}")


def _own(document: YamlDocument, name: str) -> dict[str, Any]:
    """What the file itself says for a profile."""
    own = document.content.get(OWN, {})
    for profile, sections in own.items() if isinstance(own, dict) else [(None, None)]:
        path = (OWN,) if profile is None else (OWN, profile)
        known = packaged_presets(FILE).content
        if profile not in known or not isinstance(sections, dict):
            raise BadInput(
                f"{document.where(path)}: {OWN}: say what runs or evaluations have under the name "
                f"of a profile ({', '.join(known)})"
            )
        for section, values in sections.items():
            if section not in OWN_SECTIONS or not isinstance(values, dict):
                raise BadInput(
                    f"{document.where((*path, section))}: {OWN}.{profile}.{section}: only what "
                    f"each of {' or '.join(OWN_SECTIONS)} has can be said by profile"
                )
    chosen: dict[str, Any] = own.get(name, {})
    return chosen


def _lay_entries(
    layers: LayeredValues,
    section: str,
    entries: Any,
    profile: LayeredValues,
    like: str,
    document: YamlDocument,
) -> None:
    """The entries of the file, each over what the profile says of one."""
    if not isinstance(entries, dict) or not entries:
        layers.lay({section: entries}, document, ())
        return
    for name, entry in entries.items():
        path = (section, name)
        laid = LayeredValues()
        if isinstance(entry, dict):
            each = _left(profile.content.get(like, {}), entry, like)
            _lay(laid, each, profile, (like,))
            laid.lay(entry, document, path)
        layers.content.setdefault(section, {})[name] = laid.content or copy.deepcopy(entry)
        layers.origins |= {path + key: where for key, where in laid.origins.items()}


def _lay(into: LayeredValues, values: dict[str, Any], source: LayeredValues, at: Key) -> None:
    """Lay values of layered values over others, with where they come from."""
    into.content |= copy.deepcopy(values)
    for path, where in source.origins.items():
        if path[: len(at)] == at and path[len(at)] in values:
            into.origins[path[len(at) :]] = where
