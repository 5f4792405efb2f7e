"""How two cameras stand to each other, from patches of a frozen encoder matched between their
views; nothing is trained."""

from __future__ import annotations

from pathlib import Path

from mimic.tasks.api import Later, TaskSpec
from mimic.tasks.inspection import TEST, DataFound, Needs, Split, each
from mimic.tasks.two_view_pose.config import TwoViewPoseTask, read_pairs


def _look(section: TwoViewPoseTask, root: Path, needs: Needs) -> DataFound:
    """Every line of the list and every image."""
    from mimic.infra.storage import Workspace, file_digest
    from mimic.tasks.engine.image_io import extent, read_photo, with_labels

    folder = Workspace(root).resolve(section.data)
    listed = Workspace(root).resolve(section.pairs)
    pairs = read_pairs(listed)
    files = sorted({folder / name for pair in pairs for name in pair.names})
    images = Split("images", TEST, needs)
    measured = Split("test", TEST, needs)
    for _ in each(images, read_photo, files):
        pass  # one that does not open ends it
    for pair in pairs:
        measured.add(1, 1, [pair.rotation_deg])
    size = with_labels(extent(files, folder), file_digest(listed))
    return DataFound(folder, [measured], {"images": len(files), **size})


SPECS = (
    TaskSpec(
        "two-view-pose",
        TwoViewPoseTask,
        Later("two_view_pose.measure.run"),
        Needs("pairs", "", "rotation_deg", "look at the list of pairs"),
        _look,
    ),
)
