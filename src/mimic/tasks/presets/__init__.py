"""The protocols that results are compared under: what `preset: peer` and `preset: standard` promise.

These are no defaults: params.yaml is complete, and whatever differs from its preset is listed in the result. `peer` is the published
procedure, warts included; `standard` is what the field would defend today. A preset fixes what decides whether
two numbers may be compared; fields that depend on the encoder or on taste (seed, samples, head width of a small model) are not in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimic.config import MotionPart, Task
from mimic.tasks.presets import depth, imagenet, motion, pose, reconstruction, relative_pose, segmentation, taskonomy

GIVEN = depth.GIVEN
PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("depth", "peer"): depth.PEER,
    ("depth", "standard"): depth.STANDARD,
    ("linear-depth", "standard"): depth.LINEAR_STANDARD,
    ("few-shot-depth", "peer"): depth.FEW_SHOT_PEER,
    ("few-shot-depth", "standard"): depth.FEW_SHOT_STANDARD,
    ("flow", "peer"): motion.FLOW_PEER,
    ("flow", "standard"): motion.FLOW_STANDARD,
    ("stereo", "peer"): motion.STEREO_PEER,
    ("stereo", "standard"): motion.STEREO_STANDARD,
    ("pose", "peer"): pose.PEER,
    ("pose", "standard"): pose.STANDARD,
    ("reconstruction", "peer"): reconstruction.PEER,
    ("reconstruction", "standard"): reconstruction.STANDARD,
    ("relative-pose", "peer"): relative_pose.PEER,
    ("relative-pose", "standard"): relative_pose.STANDARD,
    ("linear-probe", "peer"): imagenet.PROBE_PEER,
    ("linear-probe", "standard"): imagenet.PROBE_STANDARD,
    ("knn", "standard"): imagenet.KNN_STANDARD,
    ("linear-segmentation", "standard"): segmentation.LINEAR_STANDARD,
    ("few-shot-segmentation", "peer"): segmentation.FEW_SHOT_PEER,
    ("segmentation", "peer"): segmentation.PEER,
    ("segmentation", "standard"): segmentation.STANDARD,
    ("taskonomy", "peer"): taskonomy.PEER,
    ("taskonomy", "standard"): taskonomy.STANDARD,
}


def overrides(task: Task) -> dict[str, Any]:
    """The fields of a task that differ from its preset, with the task's values; empty for a task without presets.

    Where data lie is no difference: of a path only whether there is one, of the parts of a mixture all but their folders.
    """
    preset = PRESETS.get((task.task, getattr(task, "preset", "")), {})
    own = {name: _comparable(getattr(task, name)) for name in sorted(preset)}
    return {name: value for name, value in own.items() if value != _comparable(preset[name])}


def apart(changed: dict[str, Any]) -> str:
    """The end of a protocol line: which fields are not the preset's."""
    return f"; not as the preset: {', '.join(sorted(changed))}" if changed else ""


def _comparable(value: Any) -> Any:
    """A value as it is compared and written down."""
    if isinstance(value, Path):
        return GIVEN
    if isinstance(value, tuple) and value and all(isinstance(part, MotionPart) for part in value):
        return [f"{part.repeat} * {motion.described(part)}" for part in value]
    return value
