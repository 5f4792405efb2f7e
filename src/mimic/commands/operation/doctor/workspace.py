"""The workspace itself: DVC's records, credentials that lie open, room on the disk."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from mimic.commands.operation.doctor.credentials import exposed
from mimic.commands.operation.doctor.finding import Finding, package

DISK_GB = 20  # below this, mining and pretraining soon stop


def dvc(root: Path) -> Finding:
    """A process that was killed while it wrote the record of locks leaves half of it, and DVC
    refuses every stage from then on; flows mend it."""
    finding = package("dvc", "dvc repro", False, "pip install -e . brings it")
    record = root / ".dvc/tmp/rwlock"
    try:
        json.loads(record.read_bytes())
    except FileNotFoundError:
        return finding
    except ValueError:
        problem = f"{finding.found}, but a killed process tore {record}: every stage is refused"
        return Finding(finding.name, "warning", problem, f"rm {record}, while no dvc runs")
    return finding


def credentials(root: Path) -> Finding:
    exposures = list(exposed(root))
    if not exposures:
        return Finding("credentials", "ok", "none in git, none that others can read")
    first = exposures[0]
    others = f" (and {len(exposures) - 1} more)" if len(exposures) > 1 else ""
    return Finding("credentials", "warning", f"{first.path} {first.says}{others}", first.remedy)


def disk(root: Path) -> Finding:
    free_gb = shutil.disk_usage(root.resolve()).free / 1e9
    free = f"{free_gb:.0f} GB free in the workspace"
    if free_gb >= DISK_GB:
        return Finding("disk", "ok", free)
    remedy = "free some, or move the workspace; nothing finished is lost when it runs full"
    return Finding("disk", "warning", free, remedy)
