"""What was found of one thing, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

MARKS = {"ok": "ok     ", "note": "-      ", "warning": "warning", "missing": "MISSING"}


@dataclass(frozen=True)
class Finding:
    """One line of the report. A note is of what is absent and not needed; missing is what is absent
    and needed."""

    name: str
    state: Literal["ok", "note", "warning", "missing"]
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{MARKS[self.state]}  {self.name:<12}{self.found}{remedy}"


def absent(needed: bool) -> Literal["missing", "note"]:
    return "missing" if needed else "note"


def package(name: str, what_for: str, needed: bool, remedy: str) -> Finding:
    """Whether a package is installed."""
    installed = version_of(name)
    if installed:
        return Finding(name, "ok", installed)
    return Finding(name, absent(needed), f"not installed ({what_for})", remedy)


def version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def shortened(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
