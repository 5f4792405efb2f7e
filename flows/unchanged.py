"""Which stages need no process of DVC's: those that are up to date, with all that they need.

One look at the whole graph, in this process, costs what one process for one stage costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from typing import Any

from dvc.lock import LockError
from dvc.repo import Repo


def unchanged(needs: Mapping[str, Sequence[str]], forced: Set[str] = frozenset()) -> set[str]:
    """The stages that have nothing to do.

    What a stale stage is about to write may make the next one stale, so one is certain only where
    all before it are. Whatever DVC has to say against a stage, it says when that stage's turn
    comes: the stage is not among these. Where another process holds DVC's lock for seconds, none
    is.

    Args:
        needs: stages, each after those that it needs.
        forced: those that run whatever DVC says, and may make stale what comes after them.
    """
    idle: set[str] = set()
    with suppress(LockError), Repo() as repository, repository.lock:
        stages = {stage.addressing: stage for stage in repository.index.stages}
        for name, others in needs.items():
            if (
                name not in forced
                and idle.issuperset(others)
                and not _may_have_changed(stages[name])
            ):
                idle.add(name)
    return idle


def _may_have_changed(stage: Any) -> bool:
    """Also where DVC cannot tell: another process is at the stage, or a file of its inputs is a
    link to nothing, another user's, or being replaced."""
    try:
        return bool(stage.changed())
    except Exception:
        return True
