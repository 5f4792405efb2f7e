"""Known weaknesses of the dependencies: `make audit`.

Asks the database of https://osv.dev, in one request, about every version that constraints.txt pins;
it is the one that PyPI's advisories go to. Exit status 1: something is known, each in one line. 2:
nobody was asked, or not everything was answered, so nothing is known; only --may-be-offline makes
that 0, and it is said all the same. The request and the answer are documented at
https://google.github.io/osv.dev/post-v1-querybatch/.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PINS = Path(__file__).resolve().parents[1] / "constraints.txt"
SERVICE = "https://api.osv.dev/v1/querybatch"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9][\w.\-]*)==(?P<version>[^\s;#]+)")
WAIT_S = 60.0
VULNERABLE = 1
NOT_AUDITED = 2


class NotAudited(Exception):
    """Why nothing is known."""


@dataclass(frozen=True)
class Pin:
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def pins(path: Path) -> list[Pin]:
    """
    Raises:
        NotAudited: a line pins nothing, or there is none.
    """
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        pin = PIN.match(text)
        if pin is None:
            raise NotAudited(f"{path.name}: {text!r} pins no version")
        found.append(Pin(pin["name"], pin["version"].partition("+")[0]))  # cpu builds are the same
    if not found:
        raise NotAudited(f"{path.name} pins nothing")
    return found


def known(asked: list[Pin], service: str) -> dict[Pin, list[str]]:
    """Identifiers of the advisories about each version; those without any are left out.

    Raises:
        NotAudited: no answer, or one that does not say something of each.
    """
    queries = [
        {"package": {"name": pin.name, "ecosystem": "PyPI"}, "version": pin.version}
        for pin in asked
    ]
    results = _asked(service, {"queries": queries}).get("results")
    if not isinstance(results, list) or len(results) != len(asked):
        raise NotAudited(f"{service} did not answer for each of {len(asked)} packages")
    found = {}
    for pin, result in zip(asked, results, strict=True):
        if not isinstance(result, dict):
            raise NotAudited(f"{service} says nothing of {pin}")
        if advisories := result.get("vulns"):
            found[pin] = sorted(str(one["id"]) for one in advisories)
    return found


def _asked(service: str, question: dict[str, Any]) -> dict[str, Any]:
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(service, json.dumps(question).encode(), kind)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            said = json.load(answer)
    except (OSError, ValueError) as error:
        raise NotAudited(f"no network, or no answer from {service} ({error})") from error
    if not isinstance(said, dict):
        raise NotAudited(f"{service} answers something else")
    return said


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit", description=__doc__)
    parser.add_argument("--pins", type=Path, default=PINS, help="a file of NAME==VERSION lines")
    parser.add_argument("--service", default=SERVICE, help="another address of the database")
    parser.add_argument(
        "--accept", action="append", default=[], metavar="ID", help="an advisory that is known"
    )
    parser.add_argument(
        "--may-be-offline", action="store_true", help="exit status 0 where nobody can be asked"
    )
    options = parser.parse_args(arguments)
    try:
        asked = pins(options.pins)
        found = known(asked, options.service)
    except NotAudited as reason:
        print(f"NOT AUDITED: {reason}", file=sys.stderr)
        return 0 if options.may_be_offline else NOT_AUDITED
    return _told(asked, found, set(options.accept))


def _told(asked: list[Pin], found: dict[Pin, list[str]], accepted: set[str]) -> int:
    bad = 0
    for pin, advisories in found.items():
        for one in advisories:
            said = "accepted" if one in accepted else "KNOWN"
            bad += one not in accepted
            print(f"{said}  {pin}: https://osv.dev/vulnerability/{one}")
    print(f"{len(asked)} versions audited, {bad} advisories")
    return VULNERABLE if bad else 0


if __name__ == "__main__":
    sys.exit(main())
