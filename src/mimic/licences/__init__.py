"""Licences as data: what may be done with data and weights, and with what is made of them.

`table.yaml` beside this file holds what publishers say; a parameter file may declare more. Three
questions count, and a fourth where something is handed on; each is answered `yes`, `no` or
`unknown`, and unknown is never taken for yes. None of this is legal advice.

A card (of a model, a dataset, an import) holds under `licences` what `combine` returns, as plain
JSON: the most restrictive answers, which parts caused them, and every part with its terms.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from mimic.errors import BadInput

Answer = Literal["yes", "no", "unknown"]

TABLE = Path(__file__).with_name("table.yaml")
QUESTIONS = ("redistribute", "commercial", "derivatives", "share_alike")
ASKED = {
    "redistribute": "may be handed on",
    "commercial": "may be used commercially",
    "derivatives": "may be changed and built upon",
    "share_alike": "what is derived keeps the same terms",
}
REFUSED = {
    ("redistribute", "no"): "no redistribution",
    ("commercial", "no"): "no commercial use",
    ("derivatives", "no"): "no modified versions",
    ("share_alike", "yes"): "only under the same terms",
    ("redistribute", "unknown"): "redistribution not stated",
    ("commercial", "unknown"): "commercial use not stated",
    ("derivatives", "unknown"): "modified versions not stated",
    ("share_alike", "unknown"): "same terms or not is not stated",
}
# What each word asks for: these answers and no others.
WISHES: dict[str, dict[str, Answer]] = {
    "permissive": {
        "redistribute": "yes",
        "commercial": "yes",
        "derivatives": "yes",
        "share_alike": "no",
    },
    "redistributable": {"redistribute": "yes", "derivatives": "yes"},
    "commercial": {"commercial": "yes"},
}
NOT_STATED = "not stated"
NEAREST = 3  # names that an error line offers


@dataclass(frozen=True)
class Licence:
    """What a licence, or a publisher's own terms, allow."""

    name: str
    redistribute: Answer
    commercial: Answer
    derivatives: Answer
    share_alike: Answer
    url: str | None = None
    stated_by: str = "params.yaml"

    def answer(self, question: str) -> Answer:
        """The answer to one of QUESTIONS."""
        answer: Answer = getattr(self, question)
        return answer

    def against(self, wish: str) -> list[str]:
        """Why it does not do for one of WISHES, in words; empty where it does."""
        return [
            REFUSED[question, answer]
            for question, wanted in WISHES[wish].items()
            if (answer := self.answer(question)) != wanted
        ]


UNSTATED = Licence(NOT_STATED, "unknown", "unknown", "unknown", "unknown", None, "nobody")


# ---------------------------------------------------------------------------- by name


def known() -> dict[str, Licence]:
    """The licences of the table, by name."""
    return dict(_table()[0])


def resolve(name: str, own: Mapping[str, Licence] | None = None) -> Licence:
    """The licence of a name; one that `own` declares goes first.

    Raises:
        BadInput: nobody knows the name; the nearest ones, in one line.
    """
    licence = find(name, own)
    if licence is not None:
        return licence
    raise BadInput(f"no licence is called {name!r}; {advice(name, own)}")


def find(name: str, own: Mapping[str, Licence] | None = None) -> Licence | None:
    """The licence of a name, or None where nobody knows it; `not stated` has no answers."""
    if own and name in own:
        return own[name]
    licences, spellings = _table()
    key = spellings.get(_plain(name))
    if key is None:
        return UNSTATED if _plain(name) in ("", _plain(NOT_STATED)) else None
    return licences[key]


def advice(name: str, own: Mapping[str, Licence] | None = None) -> str:
    """What to write instead of an unknown name, in a few words."""
    spellings = _table()[1]
    names = {**{_plain(other): other for other in own or {}}, **spellings}
    close = difflib.get_close_matches(_plain(name), names, NEAREST, 0.5)
    nearest = ", ".join(dict.fromkeys(names[key] for key in close))
    declare = (
        "or declare it in params.yaml with its answers, "
        f"`licences: {{{name}: {{redistribute: no, commercial: no, derivatives: no}}}}`"
    )
    return f"did you mean {nearest}? {declare}" if nearest else f"see `mimic licences`, {declare}"


def declared(name: str, answers: Mapping[str, Any], stated_by: str = "params.yaml") -> Licence:
    """A licence from a mapping of answers, as YAML reads it (`yes` and `no` are truth values
    there); what is not answered is unknown."""
    given = {question: _answer(answers.get(question, "unknown")) for question in QUESTIONS}
    return Licence(name, url=answers.get("url"), stated_by=stated_by, **given)


def _answer(value: Any) -> Answer:
    answers: dict[Any, Answer] = {True: "yes", False: "no", "yes": "yes", "no": "no"}
    return answers.get(value, "unknown")


@cache
def _table() -> tuple[dict[str, Licence], dict[str, str]]:
    """Licences by name, and names by every spelling."""
    licences: dict[str, Licence] = {}
    spellings: dict[str, str] = {}
    for name, answers in yaml.safe_load(TABLE.read_text(encoding="utf-8")).items():
        licences[name] = declared(name, answers, answers["stated_by"])
        for spelling in (name, *answers.get("also", ())):
            spellings[_plain(spelling)] = name
    return licences, spellings


def _plain(name: str) -> str:
    """`CC BY 4.0` and `cc-by-4.0` are one name."""
    return "-".join(name.lower().replace("_", " ").replace("-", " ").split())


# ---------------------------------------------------------------------------- several together


def combine(parts: Iterable[tuple[str, Licence]]) -> dict[str, Any]:
    """The terms of what is made of several parts, as cards hold them: plain JSON.

    Args:
        parts: what it is (`source rooms`, `weights mae-in`), and its licence; none: it is made of
            nothing that anybody else owns.
    """
    licensed = list(parts)
    answers: dict[str, str] = {}
    because: dict[str, list[str]] = {}
    for question in QUESTIONS:
        given = [(what, licence.answer(question)) for what, licence in licensed]
        answers[question] = _strictest(question, [answer for _, answer in given])
        free = "no" if question == "share_alike" else "yes"
        causes = list(dict.fromkeys(what for what, answer in given if answer == answers[question]))
        because[question] = [] if answers[question] == free else causes
    return {
        **answers,
        "because": because,
        "parts": [{"part": what, **_plain_json(licence)} for what, licence in licensed],
    }


def _strictest(question: str, answers: Iterable[Answer]) -> Answer:
    """Of no parts at all: the one that forbids nothing."""
    order: tuple[Answer, ...] = ("no", "unknown", "yes")
    if question == "share_alike":
        order = ("yes", "unknown", "no")
    return min(answers, key=order.index, default=order[-1])


def _plain_json(licence: Licence) -> dict[str, Any]:
    answers = {question: licence.answer(question) for question in QUESTIONS}
    return {"licence": licence.name, **answers, "url": licence.url, "stated_by": licence.stated_by}


def parts_of(card: Mapping[str, Any]) -> list[tuple[str, Licence]]:
    """The parts that a card names, with their terms as it says; one without `licences`, as earlier
    versions wrote it, is one part of which nothing is stated."""
    stated = card.get("licences")
    if not isinstance(stated, Mapping) or not isinstance(stated.get("parts"), list):
        return [("it", UNSTATED)]
    return [
        (part["part"], declared(part["licence"], part, part.get("stated_by", "the card")))
        for part in stated["parts"]
    ]


def summary(card: Mapping[str, Any]) -> list[str]:
    """What may be done with what a card describes, a line a question, with the parts that decide
    it. Plain text, fit for Markdown and for a terminal."""
    parts = parts_of(card)
    combined = combine(parts)
    lines = []
    for question, asked in ASKED.items():
        because = combined["because"][question]
        causes = [
            licence.name if what == "it" else f"{what}: {licence.name}"
            for what, licence in parts
            if what in because and licence.answer(question) == combined[question]
        ]
        lines.append(
            f"{asked}: {combined[question]}" + (f" ({'; '.join(causes)})" if causes else "")
        )
    return lines if parts else [*lines, "no data and no weights of others went into it"]


def refusals(parts: Iterable[tuple[str, Licence]], wish: str) -> list[str]:
    """The parts that do not do for one of WISHES, each with its licence and the reason, in words:
    `source hm3d is 'HM3D': no redistribution, modified versions not stated` (redistributable)."""
    return [
        f"{what} is {licence.name!r}: {', '.join(reasons)}"
        for what, licence in parts
        if (reasons := licence.against(wish))
    ]
