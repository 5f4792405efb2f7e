"""Compare what lies in the workspace with what was recorded of it (`mimic verify`).

    data/pairs, data/manifests   each picture's sha256, and where a manifest says that it lies
    results of mimic pairs       the same, where they are named
    models                       each file of weights, with the card beside it
    data/inventory               the digest of each clip of the raw data, as ingest made it
    dvc.lock, *.dvc              the md5 of every file that DVC holds, here and in its cache

All bytes are read: DVC itself trusts sizes and times, which stay where a disk rots. Nothing is
changed. What cannot be compared is counted, and said.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from mimic.commands.operation import recorded_by_dvc, verify_data
from mimic.commands.operation.verify_data import Damage, Looked
from mimic.errors import BadInput
from mimic.infra import cluster, progress
from mimic.params import Params

Check = Callable[[], Looked]


@dataclass
class Verified:
    """What all checks together say."""

    counts: dict[str, int] = field(default_factory=dict)
    damages: dict[Path, Damage] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)

    def add(self, looked: Looked) -> None:
        for what, count in looked.counts.items():
            self.counts[what] = self.counts.get(what, 0) + count
        for damage in looked.damages:
            self.damages.setdefault(damage.path, damage)
        self.unchecked += looked.unchecked


def main(params: Params, root: Path, paths: Sequence[Path]) -> bool:
    """Print what was compared and what is damaged; whether all is whole.

    Args:
        paths: only what lies at or below these; none = the whole workspace.

    Raises:
        BadInput: a path is not there, or nothing at the paths has a record.
    """
    wanted = _wanted(paths)
    records = recorded_by_dvc.read(root)
    checks = [
        *verify_data.checks(params, root, paths, wanted),
        *(_of_dvc(one) for one in records.outs if wanted(root / one.path)),
    ]
    verified = Verified(unchecked=list(records.unchecked))
    with (
        ThreadPoolExecutor(cluster.available_cores()) as pool,
        progress.track("verify", len(checks), "parts", None, brief=True) as track,
    ):
        # Hashing lets go of Python's lock: threads are enough.
        for looked in pool.map(_looked, checks):
            verified.add(looked)
            track.advance(1, f"{len(verified.damages)} damaged")
    if not verified.counts and not verified.damages:
        raise BadInput(
            f"verify: nothing with a record at {', '.join(map(str, paths)) or root}; run the "
            "pipeline first (dvc repro), or name data/pairs, data/manifests or models"
        )
    for line in _lines(verified, root, records):
        print(line)
    return not verified.damages


def _looked(check: Check) -> Looked:
    """What a check says; a file that the disk does not give ends no other check."""
    try:
        return check()
    except OSError as error:
        if error.filename is None:
            raise
        what = f"cannot be read ({error.strerror})"
        remedy = "copy what it was made from to a healthy disk, and make it again"
        return Looked(damages=[Damage(Path(os.fsdecode(error.filename)), what, remedy)])


def _wanted(paths: Sequence[Path]) -> Callable[[Path], bool]:
    for path in paths:
        if not os.path.lexists(path):
            raise BadInput(f"verify {path}: no such file or folder")
    places = [Path(os.path.abspath(path)) for path in paths]

    def wanted(path: Path) -> bool:
        """At, below or above one of the places."""
        absolute = Path(os.path.abspath(path))
        return not places or any(
            absolute.is_relative_to(named) or named.is_relative_to(absolute) for named in places
        )

    return wanted


def _of_dvc(out: recorded_by_dvc.Out) -> Check:
    return lambda: recorded_by_dvc.compare(out)


def _lines(verified: Verified, root: Path, records: recorded_by_dvc.Records) -> Iterator[str]:
    compared = ", ".join(f"{count:,} {what}" for what, count in sorted(verified.counts.items()))
    for damage in sorted(verified.damages.values(), key=lambda one: str(one.path)):
        remedy = records.remedy(damage.path, root) or damage.remedy
        yield f"DAMAGED  {_shown(damage.path, root)}: {damage.what}; {remedy}"
    for line in verified.unchecked:
        yield f"not compared: {line}"
    end = f"{len(verified.damages)} damaged" if verified.damages else "all as recorded"
    yield f"verify: {compared or 'nothing'} compared, {end}"


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
