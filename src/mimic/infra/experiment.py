"""A workspace that lives for one experiment, and the one that it was made from.

`dvc exp run --queue` and `--temp` run the stages in a copy below <workspace>/.dvc/tmp/exps, and
remove it at the end. DVC takes from it what the stages publish. What DVC does not know of belongs
in the workspace: unfinished work, and what MLflow keeps.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

NAME = "DVC_EXP_NAME"  # in the environment of what DVC runs
COPY = re.compile(r"(?P<of>.+)/\.dvc/tmp/exps/(?P<folder>[^/]+)(?:/.*)?", re.DOTALL)


def home(root: Path) -> Path:
    """The workspace that outlives a run in `root`: `root` itself, or what it is a copy of."""
    copy = COPY.fullmatch(str(root.resolve()))
    return Path(copy["of"]) if copy else root


def name(root: Path) -> str | None:
    """The experiment that a copy was made for; None in a workspace that stays."""
    copy = COPY.fullmatch(str(root.resolve()))
    return (os.environ.get(NAME) or copy["folder"]) if copy else None
