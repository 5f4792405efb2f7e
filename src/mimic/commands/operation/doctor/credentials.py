"""Files of a workspace that show a credential to more people than they should."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mimic.infra.addresses import holds_secret

IN_GIT = ".dvc/config"
FOR_ONE = (".dvc/config.local", ".env")
OTHERS = 0o077  # the rights of group and everybody
# Options of DVC's remotes, and variables: by their last word, as `ask_password` is a switch.
OPTION = re.compile(
    r"^\s*(?:export\s+)?(\w*(?:(?<!ask_)password|passwd|secret|secret_access_key|token"
    r"|account_key|connection_string|api_key))\s*=\s*(?!(?:true|false)\s*$)\S",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Exposed:
    """A credential in a file: what it is called there, and what to do."""

    path: str
    says: str
    remedy: str


def exposed(root: Path) -> Iterator[Exposed]:
    """In what git keeps, and in files that other accounts of the machine can read."""
    name = _credential_in(root / IN_GIT)
    if name is not None:
        yield Exposed(
            IN_GIT,
            f"holds {name}, and git keeps it",
            "change it, and give it with `dvc remote modify --local`",
        )
    for path in FOR_ONE:
        name = _credential_in(root / path)
        if name is not None and (root / path).stat().st_mode & OTHERS:
            yield Exposed(path, f"holds {name}, and others can read it", f"chmod 600 {root / path}")


def _credential_in(path: Path) -> str | None:
    """What it is called; None where the file is away or holds none."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if match := OPTION.search(text):
        return match[1]
    return "an address with a password" if holds_secret(text) else None
