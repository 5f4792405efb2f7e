"""Which classes the masks of a folder have, and what stands for them in a mask: a whole number or a
colour.

    classes.txt     a line a class: `NAME`, whose number is that of the line from 0, or `7 NAME`, or
                    `128 64 0 NAME` for a colour (`NAME 7`, `NAME 128 64 0` and commas as well); `#`
                    comments
    classes.json    ["NAME", ...], {"NAME": 7}, {"NAME": [128, 64, 0]} or {"7": "NAME"}
    neither         the whole numbers that masks hold

What is called `ignore` is no class: such pixels are neither trained on nor scored.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimic.errors import BadInput

FILES = ("classes.txt", "classes.json")
IGNORE = "ignore"  # in any case
MOST = 255  # classes, as labels are 8 bits and 255 is none
Key = int | tuple[int, int, int]
NUMBERED = re.compile(r"(\d+)[\s:,;=]+(?!\d+[\s,;]+\d+[\s,;]+)(\D.*)")
LAST = re.compile(r"(\D.*?)[\s:,;=]+(\d+)")
COLOUR = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
COLOURED = re.compile(rf"{COLOUR}[\s:,;=]+(\S.*)")
NAMED_FIRST = re.compile(rf"(\S.*?)[\s:,;=]+{COLOUR}[\s:;]*")


@dataclass(frozen=True)
class Classes:
    """Names of the classes, and the number or colour of each in masks, in the order of labels."""

    names: tuple[str, ...]
    keys: tuple[Key, ...]
    source: str  # where they stand
    ignored: tuple[Key, ...] = ()  # what stands for no class

    @property
    def coloured(self) -> bool:
        return isinstance(self.keys[0], tuple)

    def __len__(self) -> int:
        return len(self.names)


def listed(folder: Path) -> Classes | None:
    """What a file beside the images lists; None without one.

    Raises:
        BadInput: it is no list of classes.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        return None
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    pairs = _of_json(path, text) if path.suffix == ".json" else _of_lines(text)
    return _checked(path, pairs)


def of_numbers(numbers: list[int]) -> Classes:
    """Classes that are called after the numbers that masks hold."""
    return Classes(
        tuple(f"class {number}" for number in numbers), tuple(numbers), "the masks' numbers"
    )


def packed(colours: np.ndarray) -> np.ndarray:
    """int32[h, w] of uint8[h, w, 3]: a colour as one number."""
    wide = colours.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def number_of(key: Key) -> int:
    """The same of a class: what a mask holds, or its colour `packed`."""
    return key if isinstance(key, int) else key[0] << 16 | key[1] << 8 | key[2]


def _of_lines(text: str) -> list[tuple[str, Key]]:
    stripped = (line.strip() for line in text.splitlines())
    lines = [line for line in stripped if line and not line.startswith("#")]
    return _numbered_last(lines) or [_of_line(line, number) for number, line in enumerate(lines)]


def _numbered_last(lines: list[str]) -> list[tuple[str, Key]]:
    """Of lines that all end in a number, behind names that differ without it: `zone 1`, `zone 2`
    are names."""
    if any(COLOURED.fullmatch(line) or NAMED_FIRST.fullmatch(line) for line in lines):
        return []
    matches = [match for line in lines if (match := LAST.fullmatch(line))]
    if len({match[1] for match in matches}) < len(lines):
        return []
    return [(match[1], int(match[2])) for match in matches]


def _of_line(line: str, number: int) -> tuple[str, Key]:
    if match := COLOURED.fullmatch(line):
        return match[4], (int(match[1]), int(match[2]), int(match[3]))
    if match := NAMED_FIRST.fullmatch(line):
        return match[1], (int(match[2]), int(match[3]), int(match[4]))
    if match := NUMBERED.fullmatch(line):
        return match[2], int(match[1])
    return line, number


def _of_json(path: Path, text: str) -> list[tuple[str, Key]]:
    try:
        content: Any = json.loads(text)
    except ValueError:
        raise BadInput(f"{path}: not JSON; mend it, or write classes.txt") from None
    if isinstance(content, list):
        return [(str(name), number) for number, name in enumerate(content)]
    if not isinstance(content, dict):
        raise BadInput(f'{path}: expected ["NAME", ...], {{"NAME": 7}} or {{"NAME": [r, g, b]}}')
    return [_of_entry(path, name, value) for name, value in content.items()]


def _of_entry(path: Path, name: str, value: Any) -> tuple[str, Key]:
    match value:
        case int() if not isinstance(value, bool):
            return name, value
        case [int(), int(), int()]:
            return name, (value[0], value[1], value[2])
        case str() if name.isdigit():
            return value, int(name)
    raise BadInput(f"{path}: {name!r} is neither a number nor a colour [r, g, b]: {value!r}")


def _checked(path: Path, listed_pairs: list[tuple[str, Key]]) -> Classes:
    ignored = tuple(key for name, key in listed_pairs if name.strip().lower() == IGNORE)
    pairs = [(name, key) for name, key in listed_pairs if name.strip().lower() != IGNORE]
    names = [name.strip() for name, _ in pairs]
    keys = [key for _, key in pairs]
    if not 2 <= len(pairs) <= MOST:
        raise BadInput(f"{path}: {len(pairs)} classes; 2 to {MOST} are needed")
    if len({isinstance(key, int) for key in (*keys, *ignored)}) > 1:
        raise BadInput(f"{path}: some classes have a number and some a colour; give all the same")
    for what, values in (("name", names), ("number or colour", [*keys, *ignored])):
        twice = [one for one, count in Counter(values).items() if count > 1]
        if twice:
            raise BadInput(f"{path}: two classes with the {what} {twice[0]}; each needs its own")
    colours = [key for key in (*keys, *ignored) if isinstance(key, tuple)]
    if any(not 0 <= part <= 255 for colour in colours for part in colour):
        raise BadInput(f"{path}: a colour is three numbers from 0 to 255")
    order = range(len(pairs))
    if isinstance(keys[0], int):
        order = sorted(order, key=lambda index: number_of(keys[index]))  # type: ignore[assignment]
    return Classes(
        tuple(names[index] for index in order),
        tuple(keys[index] for index in order),
        path.name,
        ignored,
    )
