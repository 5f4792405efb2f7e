"""Every reader of the parameters is in each table that readers are looked up in."""

from __future__ import annotations

import importlib
from typing import get_args

from mimic import config
from mimic.config.presets import packaged_presets
from mimic.params.resolution import READERS as READER_PRESETS
from mimic.sources import READER_VERSIONS, READERS

PRESETS = packaged_presets(READER_PRESETS).content
TABLES = {
    "READERS in sources/__init__.py": READERS,
    "READER_VERSIONS in sources/__init__.py": READER_VERSIONS,
    "sources/presets.yaml": PRESETS,
}
# Fields that no preset states: where your data lie, and in crops, which of yours is meant.
YOURS = {"reader", "root", "tracked_by", "licence"}
GIVEN = {"crops": {"form", "images", "list"}}


def _sections() -> tuple[type[config.SourceBase], ...]:
    union, _ = get_args(config.Source)
    return get_args(union)


def _words(section: type[config.SourceBase]) -> tuple[str, ...]:
    return get_args(section.model_fields["reader"].annotation)


def test_a_reader_is_in_every_table() -> None:
    words = {word for section in _sections() for word in _words(section)}
    for name, table in TABLES.items():
        missing = sorted(words - set(table))
        unknown = sorted(set(table) - words)
        assert not missing, f"{name} has no row for {missing}"
        assert not unknown, (
            f"{name} has {unknown}; add a section to `Source` in config/sources.py, or remove it"
        )


def test_a_preset_states_all_but_what_is_yours() -> None:
    for section in _sections():
        for word in _words(section):
            missing = set(section.model_fields) - YOURS - set(PRESETS[word])
            missing -= GIVEN.get(word, set())
            assert not missing, f"{word} in sources/presets.yaml lacks {sorted(missing)}"


def test_every_row_of_the_table_names_a_class() -> None:
    for row in READERS.values():
        module, class_name = row.rsplit(".", 1)
        assert isinstance(
            getattr(importlib.import_module(f"mimic.sources.{module}"), class_name), type
        )
