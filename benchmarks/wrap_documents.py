"""Markdown of 100 columns: `python -m benchmarks.wrap_documents` fills paragraphs anew.

Only paragraphs and list items with a longer line are touched. Tables, code, headings and what
stands for a docstring stay; code spans and links are never broken. A paragraph means the same
however its lines are broken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks.house import REPOSITORY

COLUMNS = 100
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs")
ITEM = re.compile(r"(\s*)(?:[-*+]|\d+[.)]) +")
# what is no paragraph: a table, a heading, HTML, a quotation, a rule, mkdocstrings' directives
OTHER = re.compile(r"\s*(?:\||#|<|>|---|:::|!\[|\[\w+\]: )")
WORD = re.compile(r"(?:`+[^`]+`+|!?\[(?:[^\[\]]|`[^`]*`)*\]\([^)]*\)|[^\s`\[]|[`\[])+")
BEGINS_ANOTHER = re.compile(r"(?:[-*+]$|[|>]|#+$|\d+[.)]$|:::)")  # at the start of a line


def pages() -> list[Path]:
    """Every page of the documentation."""
    found = [REPOSITORY / name for name in PAGES]
    return [
        page for path in found for page in (sorted(path.rglob("*.md")) if path.is_dir() else [path])
    ]


def wrapped(text: str) -> str:
    """The same page, no line of a paragraph longer than 100 columns where words allow."""
    return "".join(
        line
        for block, is_prose in _blocks(text.splitlines(keepends=True))
        for line in (_filled(block) if is_prose else block)
    )


def _blocks(lines: list[str]) -> Iterator[tuple[list[str], bool]]:
    """Paragraphs and list items, whole, and every other line by itself; whether it is prose."""
    block: list[str] = []
    fence = ""
    for line in lines:
        opened = re.match(r"\s*(```+|~~~+)", line)
        is_code = bool(fence or opened)
        if opened:
            fence = "" if fence and opened[1].startswith(fence) else fence or opened[1]
        begins = ITEM.match(line) is not None or not _continues(block, line)
        if block and (is_code or begins):
            yield block, True
            block = []
        if is_code or not line.strip() or OTHER.match(line):
            yield [line], False
        else:
            block.append(line)
    if block:
        yield block, True


def _continues(block: list[str], line: str) -> bool:
    """Whether a line is the next one of the paragraph or the item before it."""
    if not block or not line.strip() or OTHER.match(line):
        return False
    return _indent(line) == _hanging(block[0])


def _hanging(first: str) -> int:
    """Columns before the further lines of a block."""
    item = ITEM.match(first)
    return len(item[0]) if item else _indent(first)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _filled(block: list[str]) -> list[str]:
    if all(len(line.rstrip("\n")) <= COLUMNS for line in block):
        return block
    hanging = _hanging(block[0])
    is_code = hanging >= 4 and not ITEM.match(block[0])
    if is_code or any(line.rstrip("\n").endswith("  ") for line in block):
        return block  # an indented line is code, two spaces at the end break a line
    start = block[0][:hanging]
    words = WORD.findall(" ".join(line[hanging:].strip() for line in block))
    lines = [start + words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= COLUMNS or BEGINS_ANOTHER.match(word):
            lines[-1] += f" {word}"
        else:
            lines.append(" " * hanging + word)
    return [f"{line}\n" for line in lines]


def main() -> None:
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = wrapped(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(REPOSITORY).as_posix())


if __name__ == "__main__":
    main()
