"""Sequences of pictures, told from the names of the files in one folder; every file is in exactly
one of them, or in none.

Files whose names differ in more than digits are different sequences (`frame-000005.color.jpg`,
`frame-000005.depth.png`). The number of a frame is the run of digits that changes most; of several
that differ for each file, the last that grows evenly, so that an index is taken and not a drawn
number beside it (`00012_58213`). Where two files then have the same number, the other digits tell
several sequences apart (`cam0_0001`, `cam1_0001`), or else the spelling of the number does
(`img_1`, `img_001`). The number of a camera, a scene or a take tells sequences apart whatever else
is written. A date with a time of day is one moment, whatever is written behind it
(`PXL_20240501_095002582.MP`): such files follow one another in time.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import numpy as np

from mimic.sources.photos.folders import numeric_order

NUMBER = re.compile(r"[0-9]+(?:\.[0-9]{1,9})?")
WHOLE = re.compile("[0-9]+")
IDENTITY = re.compile(
    r"(?:cam|camera|scene|seq|sequence|view|rig|sensor|take|clip|shot|video|lens|eye)[-_ ]?$",
    re.IGNORECASE,
)
TURNS = 4  # of so many nobody thinks that they are chance
MOMENT = re.compile(
    r"""
    (?<![0-9])
    (?P<date>(?:19|20)[0-9]{2}(?P<dash>[-_.]?)(?:0[1-9]|1[0-2])(?P=dash)(?:0[1-9]|[12][0-9]|3[01]))
    (?:[-_T\s]|\s\w{1,3}\s|,\s)?
    (?:
      (?P<time>(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9])(?:[.,]?(?P<fraction>[0-9]{1,9}))?
    | (?P<spelled>[0-9]{1,2}(?P<colon>[-_.:])[0-5][0-9](?P=colon)[0-5][0-9])
      (?:[.,](?P<part>[0-9]{1,9}))?
    )
    (?![0-9])
    (?:\s?(?P<half>[AaPp])\.?[Mm]\b)?
    """,
    re.VERBOSE,
)

Member = TypeVar("Member")
Moment = tuple[str, Decimal]  # date, seconds since midnight


@dataclass(frozen=True)
class Sequence:
    """Files that follow one another."""

    files: tuple[Path, ...]
    numbers: (
        tuple[float, ...] | None
    )  # of each file, growing, from 0; None: only their order is known

    def __len__(self) -> int:
        return len(self.files)

    def steps(self, unit: float | None) -> list[int]:
        """How many frames each file comes after the first, gaps included; their places where
        numbers are no count of frames.

        Args:
            unit: how far apart the numbers of successive frames are; None = their usual distance
                (exports keep every n-th, or times).
        """
        places = list(range(len(self)))
        if self.numbers is None or len(self) < 2:
            return places
        numbers = np.array(self.numbers)
        apart = np.diff(numbers)
        one = unit or np.median(apart)
        steps = np.rint(numbers / one)
        # Rounded times drift against their median, one way or the other: 33, 34, 33 ms. Counted
        # from frame to frame they do not.
        counted = np.concatenate([[0.0], np.cumsum(np.rint(apart / one))])
        if (np.diff(steps) < 1).any() or (unit is None and (np.diff(counted) >= 1).all()):
            steps = counted
        return places if (np.diff(steps) < 1).any() else [int(step) for step in steps]


def sequences(files: Iterable[Path]) -> list[Sequence]:
    """The sequences in a folder, each in order; files with no number in their names belong to
    none."""
    ordered: list[Sequence] = []
    moments: dict[Hashable, list[Path]] = defaultdict(list)
    for members in _split([file for file in files if NUMBER.search(file.stem)], _kind):
        if all(
            MOMENT.search(file.stem) for file in members
        ):  # else it is a number that may look like a moment
            for file in members:
                moments[_before(file), file.suffix.lower()].append(file)
        else:
            for part in _numbered(members):
                ordered += _by_number(part)
    for members in moments.values():
        for rig in _by_identity(members, _identity):
            ordered += _in_time(rig)
    return ordered


def _by_identity(members: list[Member], of: Callable[[Member], Hashable]) -> list[list[Member]]:
    """Parts of one camera, scene or take each; the whole where most would be alone."""
    parts = _split(members, of)
    return parts if len(parts) <= len(members) // 2 else [members]


def _identity(file: Path) -> Hashable:
    """The numbers of cameras, scenes and takes in a name that states a moment."""
    match = MOMENT.search(file.stem)
    assert match is not None
    return tuple(
        number[0]
        for number in NUMBER.finditer(file.stem)
        if IDENTITY.search(file.stem[: number.start()])
        and not match.start() <= number.start() < match.end()
    )


def _kind(file: Path) -> Hashable:
    return _pattern(file.stem), file.suffix.lower()


def _pattern(text: str) -> str:
    return NUMBER.sub("#", text)


# ---------------------------------------------------------------------------- moments


def _in_time(members: list[Path]) -> list[Sequence]:
    """One sequence; or one for each word behind the moment, where words share a moment (colour and
    depth of one frame)."""
    parts = _split(members, _word_behind)
    times = [{_moment(file) for file in part} for part in parts]
    if sum(map(len, times)) == len(set().union(*times)) and not _take_turns(members, len(parts)):
        parts = [members]
    return [Sequence(tuple(sorted(part, key=_in_order)), None) for part in parts]


def _take_turns(members: list[Path], count: int) -> bool:
    """Whether as many words as there are follow one another in the same order again and again, as
    those of cameras do that a clock releases: left, right, left, right."""
    words = [_word_behind(file) for file in sorted(members, key=_in_order)]
    turns = len(words) // count
    return count > 1 and turns >= TURNS and words == words[:count] * turns


def _word_behind(file: Path) -> str:
    return re.sub(r"[\W\d_]+", "", _behind(file))


def _in_order(file: Path) -> tuple[Moment, list[tuple[int, int | str]]]:
    return _moment(file), numeric_order(_behind(file))


def _moment(file: Path) -> Moment:
    """The moment that a name states."""
    match = MOMENT.search(file.stem)
    assert match is not None
    if match["time"]:
        hour = match["time"][:2]
        minute = match["time"][2:4]
        second = match["time"][4:6]
    else:
        hour, minute, second = match["spelled"].split(match["colon"])
    hours = int(hour)
    if match["half"]:
        hours = hours % 12 + (12 if match["half"] in "pP" else 0)
    seconds = Decimal(3600 * hours + 60 * int(minute) + int(second)) + Decimal(
        f"0.{match['fraction'] or match['part'] or 0}"
    )
    return re.sub("[^0-9]", "", match["date"]), seconds


def _before(file: Path) -> str:
    """What is written before the moment in a name, digits aside."""
    match = MOMENT.search(file.stem)
    assert match is not None
    return _pattern(file.stem[: match.start()])


def _behind(file: Path) -> str:
    """What is written behind it."""
    match = MOMENT.search(file.stem)
    assert match is not None
    return file.stem[match.end() :]


# ---------------------------------------------------------------------------- numbers


@dataclass(frozen=True)
class _Name:
    """A file; the numbers in its name as they are written, and what stands before each."""

    file: Path
    numbers: tuple[str, ...]
    before: tuple[str, ...]

    def number(self, column: int) -> Decimal:
        return Decimal(self.numbers[column])


def _numbered(files: list[Path]) -> list[list[_Name]]:
    """Names that differ in digits alone. `1.5` is one number, except among names that count behind
    the dot, `take1.9` and `take1.10`."""
    fractions = [number.partition(".")[2] for file in files for number in NUMBER.findall(file.stem)]
    written = [fraction for fraction in fractions if fraction]
    is_padded = len({len(fraction) for fraction in written}) < 2
    if is_padded or not any(len(one) > 1 and one.endswith("0") for one in written):
        return [[_named(file, NUMBER) for file in files]]
    parts = _split(files, lambda file: WHOLE.sub("#", file.stem))
    return [[_named(file, WHOLE) for file in part] for part in parts]


def _named(file: Path, pattern: re.Pattern[str]) -> _Name:
    matches = list(pattern.finditer(file.stem))
    before = tuple(file.stem[: match.start()] for match in matches)
    return _Name(file, tuple(match[0] for match in matches), before)


def _by_number(members: list[_Name]) -> list[Sequence]:
    """Sequences of files whose names differ in digits alone."""
    parts = _by_identity(members, _identities)
    if len(parts) > 1:
        return [sequence for part in parts for sequence in _by_number(part)]
    columns = list(zip(*(name.numbers for name in members), strict=True))
    telling = [column for column in range(len(columns)) if _differ(members, column)]
    counting = [column for column in telling if _is_even(members, column)]
    others = [column for column in range(len(columns)) if column not in telling]
    if counting or (telling and not _tell_apart(members, others)):
        return [_counted(members, (counting or telling)[-1])]
    varying = [
        column for column in others if len(set(columns[column])) > 1
    ]  # beside numbers that were drawn, if any
    if not varying:  # names that differ in the case of their endings alone
        counter = max(reversed(range(len(columns))), key=lambda column: len(set(columns[column])))
        return [_counted(layer, counter) for layer in _layers(members, counter)]
    counting = [column for column in varying if not _is_identity(members[0], column)] or varying
    counter = max(reversed(counting), key=lambda column: len(set(columns[column])))
    others = [column for column in varying if column != counter]
    parts = _split(members, lambda name: tuple(name.numbers[column] for column in others))
    if len(parts) > len(members) // 2:  # most would be alone
        files = sorted((name.file for name in members), key=lambda file: numeric_order(file.name))
        return [Sequence(tuple(files), None)]
    return [_counted(one, counter) for part in parts for one in _by_spelling(part, counter)]


def _is_even(members: list[_Name], column: int) -> bool:
    """Whether most steps of a number are about alike, as a counter's or a clock's are; those of
    drawn numbers differ more."""
    numbers = sorted(name.number(column) for name in members)
    apart = np.array([float(number - numbers[0]) for number in numbers[1:]])
    apart = np.diff(apart, prepend=0.0)
    usual = np.median(apart) if len(apart) else 0.0
    return bool((np.abs(apart - usual) <= usual / 2).sum() * 2 >= len(apart))


def _tell_apart(members: list[_Name], columns: list[int]) -> bool:
    spelled = {tuple(name.numbers[column] for column in columns) for name in members}
    return len(spelled) == len(members)


def _is_identity(name: _Name, column: int) -> bool:
    """Whether a run of digits is the number of a camera, a scene or a take, by the word before
    it."""
    return IDENTITY.search(name.before[column]) is not None


def _identities(name: _Name) -> Hashable:
    """The numbers of cameras, scenes and takes beside another number."""
    columns = range(len(name.numbers))
    numbers = tuple(name.numbers[column] for column in columns if _is_identity(name, column))
    return numbers if len(numbers) < len(columns) else ()


def _by_spelling(members: list[_Name], counter: int) -> list[list[_Name]]:
    """Files with equal numbers in different parts: numbers padded with zeros to one width apart
    from others."""
    if _differ(members, counter):
        return [members]

    def width(name: _Name) -> int:
        return len(name.numbers[counter].partition(".")[0])

    padded = {
        width(name) for name in members if name.numbers[counter].startswith("0") and width(name) > 1
    }
    parts = _split(members, lambda name: width(name) if width(name) in padded else 0)
    return [layer for part in parts for layer in _layers(part, counter)]


def _layers(members: list[_Name], counter: int) -> list[list[_Name]]:
    """The first file of each number, the second of each, and so on."""
    seen: dict[Decimal, int] = defaultdict(int)
    layers: dict[int, list[_Name]] = defaultdict(list)
    for name in members:
        number = name.number(counter)
        layers[seen[number]].append(name)
        seen[number] += 1
    return list(layers.values())


def _counted(members: list[_Name], counter: int) -> Sequence:
    """A sequence of files whose numbers differ; numbers of any length keep all their digits until
    the first is subtracted."""
    numbered = sorted(
        ((name.number(counter), name.file) for name in members), key=lambda item: item[0]
    )
    first = numbered[0][0]
    return Sequence(
        tuple(file for _, file in numbered), tuple(float(number - first) for number, _ in numbered)
    )


def _differ(members: list[_Name], counter: int) -> bool:
    return len({name.number(counter) for name in members}) == len(members)


def _split(members: list[Member], key: Callable[[Member], Hashable]) -> list[list[Member]]:
    """Parts with equal keys, in order of their first member."""
    parts: dict[Hashable, list[Member]] = defaultdict(list)
    for one in members:
        parts[key(one)].append(one)
    return list(parts.values())
