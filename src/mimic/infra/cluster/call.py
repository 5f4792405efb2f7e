"""A training as data: the function, its description, and the folder that it resumes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimic.infra import storage
from mimic.infra.cluster.stop import Stop

Description = Mapping[str, Any]
Training = Callable[[Description, Path, Stop], Any]
Done = Callable[[Path, list[Any]], None]  # the run_dir of a training that ended well, its results


@dataclass(frozen=True)
class Call:
    """One training, as it is pickled for a job and for a local rank."""

    function: Training
    description: Description
    run_dir: Path
    title: str  # of the work, for people: `pretrain croco-3m`

    def run(self, stop: Stop) -> Any:
        return self.function(self.description, self.run_dir, stop)

    def fingerprint(self) -> str:
        return storage.fingerprint(
            self.function.__module__, self.function.__qualname__, self.description
        )
