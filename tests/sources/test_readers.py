"""Every reader of the parameters is in each table that readers are looked up in."""

from __future__ import annotations

import importlib
from typing import get_args

from mimic import config
from mimic.sources import READER_VERSIONS, READERS


def test_a_reader_is_in_every_table() -> None:
    union, _ = get_args(config.Source)
    words = {
        word
        for section in get_args(union)
        for word in get_args(section.model_fields["reader"].annotation)
    }
    assert set(READERS) == words
    assert set(READER_VERSIONS) == words


def test_every_row_of_the_table_names_a_class() -> None:
    for row in READERS.values():
        module, class_name = row.rsplit(".", 1)
        assert isinstance(
            getattr(importlib.import_module(f"mimic.sources.{module}"), class_name), type
        )
