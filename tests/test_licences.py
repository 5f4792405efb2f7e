"""Licences as data: the table, names, and what several parts allow together."""

from __future__ import annotations

import pytest
import yaml

from mimic import licences
from mimic.errors import BadInput
from mimic.licences import Licence


def test_every_entry_of_the_table_answers_every_question() -> None:
    table = yaml.safe_load(licences.TABLE.read_text(encoding="utf-8"))
    for name, entry in table.items():
        unasked = set(entry) - {*licences.QUESTIONS, "url", "stated_by", "also"}
        assert not unasked, name
        assert entry["stated_by"], name
        for question in licences.QUESTIONS:
            assert entry[question] in (True, False, "unknown"), (name, question)
    assert len(table) == len(licences.known()) >= 45


def test_no_spelling_leads_to_two_licences() -> None:
    table = yaml.safe_load(licences.TABLE.read_text(encoding="utf-8"))
    for name, entry in table.items():
        for spelling in (name, *entry.get("also", ())):
            assert licences.resolve(spelling).name == name, spelling


@pytest.mark.parametrize("spelling", ["CC-BY-NC-4.0", "cc by-nc 4.0", "CC BY NC 4.0"])
def test_a_name_is_found_by_how_people_write_it(spelling: str) -> None:
    found = licences.resolve(spelling)
    assert found.name == "CC-BY-NC-4.0"
    assert (found.redistribute, found.commercial, found.derivatives) == ("yes", "no", "yes")


def test_an_unknown_name_is_one_line_with_the_nearest_names() -> None:
    with pytest.raises(BadInput) as caught:
        licences.resolve("CC-BY-4")
    assert "\n" not in str(caught.value)
    assert "did you mean CC-BY-4.0" in str(caught.value)
    assert "licences: {CC-BY-4: {redistribute:" in str(caught.value)


def test_own_terms_go_before_the_table() -> None:
    own = {"lab": licences.declared("lab", {"redistribute": False, "commercial": True})}
    found = licences.resolve("lab", own)
    assert (found.redistribute, found.commercial, found.derivatives) == ("no", "yes", "unknown")


def test_several_parts_allow_what_all_of_them_allow() -> None:
    hm3d, free, alike = map(licences.resolve, ("HM3D", "Apache-2.0", "CC-BY-SA-4.0"))
    card = licences.combine([("source a", hm3d), ("source b", free), ("weights c", alike)])
    assert card["redistribute"] == "no"
    assert card["derivatives"] == "unknown"
    assert card["share_alike"] == "yes"
    assert card["because"]["redistribute"] == ["source a"]
    assert card["because"]["share_alike"] == ["weights c"]
    assert licences.parts_of({"licences": card})[0][1].redistribute == "no"
    assert licences.summary({"licences": card})[0] == "may be handed on: no (source a: HM3D)"
    alone = licences.combine([("source b", free)])
    assert alone["because"] == {question: [] for question in licences.QUESTIONS}


def test_two_parts_of_one_name_both_count() -> None:
    """As where a source was mined twice, under two licences."""
    strict, free = map(licences.resolve, ("CC-BY-NC-4.0", "MIT"))
    card = licences.combine([("source v", strict), ("source v", free)])
    assert card["commercial"] == "no"
    assert card["because"]["commercial"] == ["source v"]
    lines = licences.summary({"licences": card})
    assert any(line.endswith(": no (source v: CC-BY-NC-4.0)") for line in lines), lines


def test_what_states_nothing_is_never_permissive() -> None:
    parts = licences.parts_of({"run": "of an earlier version"})
    assert all("unknown" in line for line in licences.summary({}))
    for wish in licences.WISHES:
        assert licences.refusals(parts, wish)


@pytest.mark.parametrize(
    ("name", "fit"),
    [
        ("MIT", {"permissive", "redistributable", "commercial"}),
        ("CC-BY-SA-4.0", {"redistributable", "commercial"}),
        ("CC-BY-ND-4.0", {"commercial"}),
        ("CC-BY-NC-4.0", {"redistributable"}),
        ("private", {"commercial"}),
        ("HM3D", set()),
        ("unknown", set()),
        ("not stated", set()),
    ],
)
def test_which_licence_does_for_which_word(name: str, fit: set[str]) -> None:
    found: Licence = licences.resolve(name)
    assert {wish for wish in licences.WISHES if not found.against(wish)} == fit
