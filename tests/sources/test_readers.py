"""Every reader of the parameters is in each table that readers are looked up in."""

from __future__ import annotations

import subprocess
import sys
from typing import get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from mimic.config.presets import packaged_presets
from mimic.params.resolution import READERS as READER_PRESETS
from mimic.sources import READER_VERSIONS, READERS, SourceSection, section_type

PRESETS = packaged_presets(READER_PRESETS).content
TABLES = {
    "READER_VERSIONS in sources/__init__.py": READER_VERSIONS,
    "sources/presets.yaml": PRESETS,
}
# Fields that no preset states: where your data lie, and in crops, which of yours is meant.
YOURS = {"reader", "root", "tracked_by", "licence"}
GIVEN = {"crops": {"form", "images", "list"}}


def test_a_reader_is_in_every_table() -> None:
    for name, table in TABLES.items():
        missing = sorted(set(READERS) - set(table))
        unknown = sorted(set(table) - set(READERS))
        assert not missing, f"{name} has no row for {missing}"
        assert not unknown, f"{name} has {unknown}; add it to READERS, or remove it"


@pytest.mark.parametrize("reader", READERS)
def test_a_section_takes_its_own_reader(reader: str) -> None:
    field = section_type(reader).model_fields["reader"]
    assert field.annotation is str or reader in get_args(field.annotation)


@pytest.mark.parametrize("reader", READERS)
def test_a_preset_states_all_but_what_is_yours(reader: str) -> None:
    missing = set(section_type(reader).model_fields) - YOURS - set(PRESETS[reader])
    missing -= GIVEN.get(reader, set())
    assert not missing, f"{reader} in sources/presets.yaml lacks {sorted(missing)}"


def test_a_row_names_a_class_and_its_section() -> None:
    for row in READERS.values():
        assert isinstance(row.named(row.source.rpartition(".")[2]), type)


def test_parameters_import_only_the_readers_that_they_name() -> None:
    """A section that stands in its reader's file costs the others nothing."""
    code = (
        "import sys, mimic.params; mimic.params.packaged();"
        "print([name for name in sys.modules if name == 'mimic.sources.rgbd'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


ENTRY = {"root": "raw", "tracked_by": "raw", "licence": "private"}


def test_an_unknown_reader_is_one_line() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(SourceSection).validate_python({**ENTRY, "reader": "vidoes"})
    (problem,) = caught.value.errors()
    assert problem["loc"] == ("reader",)
    assert "no reader is called 'vidoes'; did you mean 'videos'?" in problem["msg"]


def test_what_is_wrong_in_an_entry_is_told_at_its_key() -> None:
    entry = {**ENTRY, **PRESETS["rgbd"], "reader": "rgbd", "reach": 0}
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(SourceSection).validate_python(entry)
    assert [problem["loc"] for problem in caught.value.errors()] == [("reach",)]


def test_an_entry_is_written_whole() -> None:
    entry = {**ENTRY, **PRESETS["co3d"], "reader": "co3d"}
    adapter = TypeAdapter(SourceSection)
    assert adapter.dump_python(adapter.validate_python(entry), mode="json") == entry
