"""Named presets: YAML files of this package, and how an entry of params.yaml is laid over one.

A file of presets holds complete sets of values by name. `of: NAME` makes a preset a variant, whose
results are filed under NAME with what differs. An entry is laid over its preset: mappings key by
key, every other value as a whole. Of every value it is known which line of which file says it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mimic.errors import BadInput

PACKAGE = Path(__file__).parent.parent
MERGE = "tag:yaml.org,2002:merge"  # of the key `<<`
OF = "of"  # in a preset: the one that it is a variant of
FREE = "free"  # in a preset: values on which no comparison of two results depends
GIVEN = "given"  # in a preset: a file or a folder of yours, wherever it lies

Key = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlDocument:
    """A YAML file, with the line of each of its keys.

    name: how messages call it.
    elsewhere: file and line of what another file says of it.
    """

    name: str
    content: Any
    lines: Mapping[Key, int]
    elsewhere: Mapping[Key, str] = field(default_factory=dict)

    def where(self, path: Key) -> str:
        """File and line of a key, or of the nearest one above it that the file states."""
        if path in self.elsewhere:
            return self.elsewhere[path]
        while path and path not in self.lines:
            path = path[:-1]
        return f"{self.name}:{self.lines[path]}" if path else self.name


@dataclass
class LayeredValues:
    """Values laid over each other, and where each comes from."""

    content: dict[Any, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)

    def lay(self, values: Mapping[Any, Any], document: YamlDocument, at: Key) -> None:
        """Lay `values`, which `document` states below the key `at`, over what is here."""
        self._lay(self.content, values, document, at, ())

    def _lay(
        self,
        into: dict[Any, Any],
        values: Mapping[Any, Any],
        document: YamlDocument,
        at: Key,
        to: Key,
    ) -> None:
        for key, value in values.items():
            source = (*at, key)
            target = (*to, key)
            if isinstance(value, dict) and isinstance(into.get(key), dict):
                self._lay(into[key], value, document, source, target)
                continue
            into[key] = copy.deepcopy(value)
            self._forget(target)
            for leaf in leaves(value):
                self.origins[target + leaf] = document.where(source + leaf)

    def _forget(self, path: Key) -> None:
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]

    def without(self, key: str) -> None:
        """Forget a key and where it came from."""
        self.content.pop(key, None)
        self._forget((key,))


def leaves(value: Any) -> list[Key]:
    """The paths of a value that is no mapping, or of the values of one; an empty one is a value."""
    if not isinstance(value, dict) or not value:
        return [()]
    return [(key, *rest) for key, part in value.items() for rest in leaves(part)]


def read_document(data: bytes | str, name: str) -> YamlDocument:
    """Parse a YAML file.

    Raises:
        yaml.YAMLError: it is none.
        BadInput: a key stands twice in one mapping, of which YAML's reader keeps the last, or an
            anchor holds itself.
    """
    loader = yaml.SafeLoader(data)
    try:
        node = loader.get_single_node()
        if node is None:
            return YamlDocument(name, None, {})
        lines: dict[Key, int] = {}
        _refuse_twice(node, name, (), set())
        _note_lines(node, (), lines, ())
        return YamlDocument(name, loader.construct_document(node), lines)
    finally:
        loader.dispose()


def _refuse_twice(node: yaml.Node, name: str, above: tuple[int, ...], seen: set[int]) -> None:
    """`above`: the nodes that this one lies in; `seen`: those that were looked at."""
    if id(node) in above:
        line = node.start_mark.line + 1
        raise BadInput(f"{name}:{line}: what is anchored here holds itself; write its values out")
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    first: dict[tuple[str, str], int] = {}
    for entry in node.value:
        key, value = entry if isinstance(node, yaml.MappingNode) else (None, entry)
        if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
            line = key.start_mark.line + 1
            if (key.tag, key.value) in first:
                earlier = first[key.tag, key.value]
                raise BadInput(
                    f"{name}:{line}: {key.value} stands in line {earlier} already, in the same "
                    "mapping; take one away"
                )
            first[key.tag, key.value] = line
        _refuse_twice(value, name, (*above, id(node)), seen)


def _note_lines(node: yaml.Node, path: Key, lines: dict[Key, int], inside: tuple[int, ...]) -> None:
    """The line of each key below `node`; what is merged by `<<` counts where it is written."""
    if not isinstance(node, yaml.MappingNode) or id(node) in inside:
        return
    merged = [value for key, value in node.value if key.tag == MERGE]
    for value in merged:
        parts = value.value[::-1] if isinstance(value, yaml.SequenceNode) else [value]
        for part in parts:
            _note_lines(part, path, lines, (*inside, id(node)))
    for key, value in node.value:
        if key.tag != MERGE:
            at = (*path, key.value) if isinstance(key, yaml.ScalarNode) else path
            lines[at] = key.start_mark.line + 1
            _note_lines(value, at, lines, (*inside, id(node)))


@cache
def packaged_presets(path: Path) -> YamlDocument:
    """A file of presets of this package."""
    name = path.relative_to(PACKAGE.parent).as_posix()
    return read_document(path.read_text(encoding="utf-8"), name)


def lay_preset(layers: LayeredValues, document: YamlDocument, at: Key, name: str) -> str:
    """Lay the preset `name` of the table at `at` of a file over `layers`.

    Returns:
        The name that results are filed under.
    """
    table = document.content
    for key in at:
        table = table[key]
    preset = table[name]
    layers.lay(preset.get(FREE, {}), document, (*at, name, FREE))
    layers.lay(fixed(preset), document, (*at, name))
    for key in [key for key, value in layers.content.items() if value == GIVEN]:
        layers.without(key)
    return str(preset.get(OF, name))


def fixed(preset: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a preset on which comparisons depend."""
    return {key: value for key, value in preset.items() if key not in (OF, FREE)}
