"""Check a task's data before anything is trained on them: data/tasks/<task>.json says what was
found, and so does stdout.

The data themselves stay as downloaded and are read where they lie.
"""

from __future__ import annotations

from pathlib import Path

from mimic.errors import BadInput
from mimic.infra.owner import one_owner
from mimic.infra.storage import Workspace, write_json
from mimic.params import Params, pick
from mimic.tasks.checked_before import looked_through
from mimic.tasks.inspection import lines


@one_owner("prepare")
def main(params: Params, root: Path, task: str) -> None:
    """Check the data of `task`.

    Raises:
        BadInput: no such task; files are missing, damaged, in another unit, or not what their names
            say; or a split has nothing to train on or to score.
        Cancelled: a person cancelled the job that looks through them.
    """
    section = pick(params.evaluate, task, "task in evaluate")
    try:
        facts = looked_through(section, task, root, params.cluster)
    except BadInput as error:
        raise BadInput(f"prepare {task}: {error}") from None
    # The section whole: presets are no parameters of evaluate, and this file is what it depends on.
    asked = {"task": section.task, "section": section.model_dump(mode="json")}
    write_json(Workspace(root).checked(task), {**asked, **facts})
    for line in lines(facts):
        print(f"{task}: {line}")
