"""What a task is, what it is given, and what it hands back.

Torch is not imported here: tables of tasks are read by commands that need none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter

from mimic.config import Shards
from mimic.config.presets import OF, YamlDocument, fixed, packaged_presets
from mimic.errors import BadInput
from mimic.tasks.inspection import DataFound, Needs
from mimic.tasks.sections import TaskSection

PRESETS = Path(__file__).with_name("presets.yaml")  # complete sets of values by task and name

if TYPE_CHECKING:
    import torch

    from mimic.models.encoder import VisionTransformer
    from mimic.models.objectives.base import Pretraining


@dataclass(frozen=True)
class EvalModel:
    """What is measured: an encoder on its device, what its card says, and models/<run>, where the
    rest of the pretrained model lies."""

    encoder: VisionTransformer
    device: torch.device
    card: dict[str, Any]
    folder: Path
    checkpoint: str  # sha256 of encoder.safetensors

    def model(self) -> Pretraining:
        """The whole pretrained model, decoder included, on the same device, in eval mode.

        Raises:
            BadInput: only an encoder was published or imported.
        """
        from mimic.training.checkpoint import load_model

        return load_model(self.folder).to(self.device)

    def two_view_model(self, task: str) -> Pretraining:
        """The same of an objective whose decoder attends to a second view.

        Raises:
            BadInput: it has no cross-attention, or only an encoder was published or imported.
        """
        model = self.model()
        if not model.decoder.cross:
            raise BadInput(
                f"{task}: this model never saw a second view (objective "
                f"{self.card.get('objective')}); the task needs a run with cross-attention, such "
                "as croco"
            )
        return model


@dataclass(frozen=True)
class EvalPaths:
    """Where a task reads and writes."""

    root: Path  # the workspace
    progress: Path  # unfinished work of this evaluation; removed when it is done
    features: Path  # features of this encoder, kept for the other tasks; may be removed at any time
    shards: Shards  # where shards are that the workspace does not hold


@dataclass(frozen=True)
class Figure:
    """A picture for the report: file stem, image uint8[h, w, 3] RGB, caption in one line."""

    name: str
    image: np.ndarray
    caption: str


@dataclass(frozen=True)
class Result:
    """A task's numbers: `protocol` is one line that says how they were measured, `name` what the
    field calls the headline."""

    name: str
    headline: str  # its key in `metrics`
    higher_is_better: bool
    metrics: dict[str, Any]
    protocol: str
    selection: str  # which checkpoint, block or epoch the value belongs to, and who chose it
    test_size: int
    pictures: Sequence[Figure]
    # float64[test items], NaN where one is not scored: what each contributes to the value (see
    # `metrics.items`), always in the same order; None where a value has no such parts
    items: np.ndarray | None = None

    @property
    def value(self) -> float:
        return float(self.metrics[self.headline])


@dataclass(frozen=True)
class Later:
    """A function that is imported when it is called: a table of tasks costs no torch.

    function: family, module and name, below `mimic.tasks`.
    """

    function: str

    def resolve(self) -> Callable[..., Any]:
        module, _, name = self.function.rpartition(".")
        function: Callable[..., Any] = getattr(
            importlib.import_module(f"mimic.tasks.{module}"), name
        )
        return function

    def __call__(self, *arguments: Any) -> Any:
        return self.resolve()(*arguments)


@dataclass(frozen=True)
class TaskSpec:
    """One task: a line of the table `mimic.tasks.TASKS`.

    name: what `task:` of its section says.
    section: the fields of an entry of `evaluate`.
    run: trains what the task trains, and measures.
    needs: what it asks of its data, in words.
    look: goes through the data before anything is trained on them.
    """

    name: str
    section: type[TaskSection]
    run: Callable[[Any, EvalModel, EvalPaths], Result]
    needs: Needs
    look: Callable[[Any, Path, Needs], DataFound]

    @property
    def document(self) -> YamlDocument:
        """The file of the presets of all tasks, with its lines."""
        return packaged_presets(PRESETS)

    @property
    def presets(self) -> dict[str, dict[str, Any]]:
        """Protocols by name: the values that decide whether two numbers may be compared; a task
        whose section names none has none."""
        if "preset" not in self.section.model_fields:
            return {}
        table = self.document.content[self.name]
        return {
            name: self._typed(fixed(preset)) for name, preset in table.items() if OF not in preset
        }

    def _typed(self, values: dict[str, Any]) -> dict[str, Any]:
        """The same as the section holds them."""
        typed = {}
        for name, value in values.items():
            kind: Any = self.section.model_fields[name].annotation
            typed[name] = TypeAdapter(kind).validate_python(value)
        return typed
