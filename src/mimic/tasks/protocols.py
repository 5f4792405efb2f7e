"""The protocols that results are compared under: what `preset: published` and `preset: standard`
promise.

Whatever differs from its preset is listed in the result. `published` is the published procedure,
warts included; `standard` is what the field would defend today. What a preset lists as `free`
depends on the machine or on taste (seed, samples), and decides no comparison.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimic.config.presets import GIVEN
from mimic.tasks import spec_of
from mimic.tasks.flow_stereo.config import MotionPart
from mimic.tasks.flow_stereo.mixture import described
from mimic.tasks.sections import TaskSection


def overrides(task: TaskSection) -> dict[str, Any]:
    """The fields of a task that differ from its preset, with the task's values; empty for a task
    without presets.

    Where data lie is no difference: of a path only whether there is one, of the parts of a mixture
    all but their folders.
    """
    preset = spec_of(task).presets.get(getattr(task, "preset", ""), {})
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
        return [f"{part.repeat} * {described(part)}" for part in value]
    return value
