"""Memory that a step of pretraining takes, what there is of it, and what to say where it ends."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from mimic import config
from mimic.errors import BadInput
from mimic.models.objectives import build
from mimic.models.objectives.base import Pretraining

WEIGHT_BYTES = 4 * 4  # weight, gradient and AdamW's two averages, all fp32
PASSING = 1.4  # times what is kept for the backward pass: what comes and goes beside it
USABLE_GPU = 0.9  # the rest is the libraries'
USABLE_CPU = 0.5  # the rest is for decoding, file caches and everything else on the machine
CPU_FULL = "can't allocate memory"  # of torch's allocator; a GPU's has an exception of its own
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step takes, at most: whatever its size, and of each sample computed at once."""

    fixed: int
    a_sample: int

    def of(self, samples: int) -> int:
        return self.fixed + self.a_sample * samples

    def largest(self, limit: float) -> int:
        """Most samples at once, 0 where the model alone is too large."""
        return max(0, int((limit - self.fixed) / self.a_sample))


def of_step(recipe: config.Recipe) -> StepMemory:
    """Computed, not measured: what the backward pass keeps, in fp32 and with whole matrices of
    attention. bf16 and fused attention take about half of it.

    Raises:
        ValueError: numbers that do not go together.
    """
    model = build(
        recipe.objective, recipe.model.size(), recipe.masking(), attention=recipe.attention
    ).to("meta")
    one, two = (_kept_bytes(model, recipe, samples) for samples in (1, 2))
    weights = sum(parameter.numel() for parameter in model.parameters())
    a_sample = int((two - one) * PASSING)
    return StepMemory(weights * WEIGHT_BYTES + int(one * PASSING) - a_sample, a_sample)


def _kept_bytes(model: Pretraining, recipe: config.Recipe, samples: int) -> int:
    """Storages that a forward pass keeps for the backward pass, beside the weights."""
    height, width = recipe.model.height_width_px
    views = torch.rand(samples, model.views, 3, height, width, device="meta")
    noise = torch.rand(samples, recipe.model.size().patches, device="meta")
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held: a freed one's number would come again

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = model(views, noise)[0]
    del loss
    return sum(storage.nbytes() for storage in kept.values())


def usable_bytes(device: torch.device) -> float:
    """What a training here may take of a GPU, or of this machine."""
    if device.type == "cuda":
        return USABLE_GPU * torch.cuda.mem_get_info(device)[0]
    return USABLE_CPU * min([_of_machine(), *_of_cgroups(), *_of_process()])


def _of_machine() -> int:
    """Bytes that can be had without swapping; all there are where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except FileNotFoundError:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    known = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    return known["MemAvailable"]


def _of_cgroups() -> Iterator[int]:
    """What containers and jobs may take beyond what they hold (version 2 of the interface)."""
    try:
        own = Path("/proc/self/cgroup").read_text()
    except FileNotFoundError:
        return
    group = next((line[3:] for line in own.splitlines() if line.startswith("0::")), "/")
    folder = CGROUPS / group.strip("/")
    for each in (folder, *folder.parents):
        if each.is_relative_to(CGROUPS) and (each / "memory.max").is_file():
            most = (each / "memory.max").read_text().strip()
            if most != "max":
                yield int(most) - _held(each)


def _held(cgroup: Path) -> int:
    """Bytes that it cannot give up: a cache of files that were read goes first."""
    stated = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    return int((cgroup / "memory.current").read_text()) - int(stated["inactive_file"])


def _of_process() -> Iterator[int]:
    """What `ulimit -v` leaves."""
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        yield max(0, most - pages * os.sysconf("SC_PAGE_SIZE"))


@contextmanager
def advised(advice: str) -> Iterator[None]:
    """One line where memory ends.

    Raises:
        BadInput: ran out of memory.
    """
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_full(error):
            raise
        raise BadInput(f"out of memory: {advice}") from error


def _is_full(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or CPU_FULL in str(error)


def lower_device_batch(where: str, samples: int, batch: int) -> str:
    """Advice to a pretraining that computed so many samples at once.

    Args:
        where: the section of params.yaml.
    """
    if samples > 1:
        return (
            f"{samples} samples were computed at once; set {where}.device_batch: {samples // 2} "
            f"(the batch stays {batch}, the rest is accumulated)"
        )
    return f"a single sample is too large; lower {where}.model.size_px, width or depth"


def lower_batch(what: str, batch: int) -> str:
    """Advice to a task, which has no micro-batches."""
    if batch > 1:
        return (
            f"{what} took {batch} samples a step; set batch: {batch // 2} in the task's entry "
            "under evaluate (its result says so)"
        )
    return f"{what}: a single sample is too large; lower size_px in the task's entry"
