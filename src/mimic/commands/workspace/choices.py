"""What `mimic new` chooses for your data and this machine, each with its reason."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from mimic import config
from mimic.commands.workspace.data import Asked, FolderMedia, candidates
from mimic.commands.workspace.spacing import Spacing, choose_spacing
from mimic.config.presets import packaged_presets
from mimic.infra import cluster
from mimic.models.formats.timm_config import NORM_EPS
from mimic.models.objectives.base import Pretraining
from mimic.models.spec import ENCODER
from mimic.pairs.select import held_out
from mimic.params import profiles
from mimic.training.fit import choose_device
from mimic.training.machine import memory
from mimic.training.start import initial_model

BUDGET_S = 120.0  # of training on a laptop, all runs together
EPOCHS_MAX = 200
STEPS_MIN = 20
STEPS_MAX = 2000
LARGE_STEPS_MIN = 1000
LARGE_BATCH = 256
PATCHES_A_SIDE = 7  # of a large encoder without a GPU
LARGE_WIDTH = 384
VALIDATION = (0.2, 0.25, 0.3, 0.4, 0.5, 0.15, 0.1, 0.6)
TRACKED_BYTES_MAX = 20e9  # more is not hashed whenever `dvc repro` looks
BATCH_MIN = 4
PAIRS_A_SCENE = 100  # of rooms; the papers' houses gave more than 1,000


@dataclass(frozen=True)
class Mined:
    """How a source is read: what params.yaml says of it, and what to expect."""

    name: str
    section: dict[str, Any]
    pairs: float  # to expect; of images about one each
    clips: list[str]
    good: set[str]  # clips that gave a pair when they were sampled


def profile_of_machine() -> tuple[str, str]:
    """The profile that fits this machine, and why."""
    cores = cluster.available_cores()
    if torch.cuda.is_available():
        return "gpu", f"{torch.cuda.get_device_name()}, {cores} cores"
    return "laptop", f"no GPU, {cores} cores: a small model in minutes"


def size_px(side_px: int | None, mine: config.Mine) -> tuple[int, str]:
    """Side of the square that views are stored at."""
    if side_px is None or side_px >= mine.size_px:
        reason = "" if side_px is None else f": the pictures have {side_px} px"
        return mine.size_px, f"the papers' size{reason}"
    fitting = max(4, side_px // mine.patch_px) * mine.patch_px
    return fitting, f"the pictures have {side_px} px, less than the papers' {mine.size_px}"


def mined(media: FolderMedia, asked: Asked, mine: config.Mine) -> tuple[Mined, str]:
    """How a source is read, and the reason for its spacing."""
    section: dict[str, Any] = {
        "reader": media.section.reader,
        "root": str(media.root),
        "tracked_by": version_file(media) or str(media.root),
        "licence": asked.licence,
    }
    if isinstance(media.section, config.Videos):
        spacing = choose_spacing(media, mine, media.section.spacing_s)
        section |= {"spacing_s": spacing.spacing_s, "retry_spacing_s": 2 * spacing.spacing_s}
        pairs = candidates(media, spacing.spacing_s) * spacing.kept
        why = f"spacing {spacing.spacing_s:g} s: {spacing.why}"
        return Mined(media.kind, section, pairs, media.clips, _good(media, spacing)), why
    if isinstance(media.section, config.Images):
        stated = media.section.model_dump(mode="json")
        section |= {key: stated[key] for key in ("pairing", "advance", "stride", "retry_strides")}
        kind = "numbered frames" if stated["pairing"] == "neighbours" else "sets of photographs"
        why = f"pairing {stated['pairing']}: the folders hold {kind}"
        return Mined(media.kind, section, media.pictures, media.clips, set()), why
    why = "walked through from the floor, 8 views a position (MIMIC)"
    pairs = PAIRS_A_SCENE * len(media.clips)
    return Mined(media.kind, section, pairs, media.clips, set()), why


def _good(media: FolderMedia, spacing: Spacing) -> set[str]:
    return {path.relative_to(media.root).as_posix() for path in spacing.good}


def validation(sources: Sequence[Mined]) -> tuple[float, str]:
    """Share of the clips that is held out: the first that leaves clips with pairs on both sides;
    nothing of an only clip, which is there to be trained on."""
    count = sum(len(one.clips) for one in sources)
    if count == 1:
        return 0.0, "there is one clip, and it is trained on: add others to measure on"
    for share in VALIDATION:
        held = [
            clip
            for one in sources
            for clip, out in zip(
                one.clips, held_out(one.name, one.clips, share).tolist(), strict=True
            )
            if out
        ]
        good = {clip for one in sources for clip in one.good}
        if held and len(held) < count and (not good or 0 < len(good & set(held)) < len(good)):
            return share, f"{len(held)} of {count} clips are held out to measure on"
    return VALIDATION[0], "too few clips with pairs to choose by"


def model_of(card: Mapping[str, Any], profile: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Sizes of the model that weights can start: those of the encoder, what this machine adds, and
    why."""
    stated = card["model"]
    same = {key: stated[key] for key in ENCODER if key != "positions"}
    if same["norm_eps"] == NORM_EPS:
        del same["norm_eps"]  # every recipe's
    height, width = stated["size_px"]
    full_size = height if height == width else [height, width]
    if stated["width"] < LARGE_WIDTH or profile != "laptop":
        return same, {"size_px": full_size}, f"views of {height} x {width} px, as the weights had"
    small = min(height, PATCHES_A_SIDE * stated["patch_px"])
    why = f"views of {small} px: an encoder this large at {height} px takes a GPU"
    return same, {"size_px": small}, why


def batch(profile: str, pairs: float) -> tuple[int | None, str]:
    """Pairs a step, where it is not the recipe's; None = that one."""
    usual = recipe(profile, {})[0].batch
    train = pairs * (1 - VALIDATION[0])
    fitting = usual
    while fitting > BATCH_MIN and fitting > train / 2:
        fitting //= 2
    if fitting == usual:
        return None, f"batch {usual}: the recipe's; about {train:.0f} pairs to train on"
    return fitting, f"batch {fitting}: about {train:.0f} pairs to train on, too few for {usual}"


def device_batch(profile: str, differs: Mapping[str, Any]) -> tuple[int | None, str]:
    """Samples computed at once, where it is not what the recipe says; None = that."""
    resolved, _ = recipe(profile, differs)
    device = choose_device()
    need = memory.of_step(resolved)
    usable = memory.usable_bytes(device)
    usual = min(resolved.batch, resolved.device_batch or resolved.batch)
    what = "GPU memory" if device.type == "cuda" else "memory"
    takes = f"{usual} samples at once take at most {_gb(need.of(usual))} GB"
    if need.of(usual) <= usable:
        return None, f"{takes} of {_gb(usable)} GB of {what} to use"
    fitting = need.largest(usable)
    chosen = 1 << max(0, fitting.bit_length() - 1)  # a power of two divides the batch
    if not fitting:
        return 1, f"even one takes {_gb(need.of(1))} GB, and {_gb(usable)} GB of {what} are there"
    return chosen, f"{takes}, and {_gb(usable)} GB of {what} can be used; gradients are accumulated"


def _gb(count: float) -> str:
    return f"{count / 1e9:.2g}"


def steps(
    profile: str, differs: Mapping[str, Any], pairs: float, runs: int
) -> tuple[int, int, str]:
    """Steps of a run here, those at full size, and why."""
    resolved, run = recipe(profile, differs)
    epochs = int(EPOCHS_MAX * max(pairs, resolved.batch) / resolved.batch)
    large = max(LARGE_STEPS_MIN, int(EPOCHS_MAX * pairs / LARGE_BATCH))
    if profile != "laptop":
        return large, large, f"{EPOCHS_MAX} times through the pairs, at least {LARGE_STEPS_MIN}"
    a_step = step_seconds(resolved, run)
    fitting = int(BUDGET_S / runs / a_step)
    chosen = max(STEPS_MIN, min(fitting, epochs, STEPS_MAX))
    chosen = max(STEPS_MIN, chosen // 10 * 10)
    why = (
        f"{a_step:.2f} s a step of {resolved.batch} pairs, measured here: about "
        f"{a_step * chosen:.0f} s a run"
    )
    return chosen, large, why


def recipe(profile: str, differs: Mapping[str, Any]) -> tuple[config.Recipe, config.Run]:
    """The recipe of a profile, with what a run changes."""
    from mimic.params.resolution import RECIPES

    name = packaged_presets(profiles.FILE).content[profile]["runs"]["recipe"]
    stated = dict(packaged_presets(RECIPES).content[name])
    stated.pop("of", None)
    model = {**stated["model"], **differs.get("model", {})}
    resolved = config.Recipe.model_validate({**stated, **differs, "model": model})
    run = config.Run.model_validate({"recipe": name, "dataset": "own", "steps": 1, "seed": 0})
    return resolved, run


def step_seconds(resolved: config.Recipe, run: config.Run) -> float:
    """Time of a step on random views, from the second of two parts of its batch that are computed
    at once."""
    model: Pretraining = initial_model(resolved, run)
    height, width = resolved.model.height_width_px
    samples = min(resolved.batch, resolved.device_batch or resolved.batch)
    views = torch.rand(samples, model.views, 3, height, width)
    noise = torch.rand(samples, resolved.model.size().patches)
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        model(views, noise)[0].backward()
        seconds = time.perf_counter() - start
    return seconds * resolved.batch / samples


def version_file(media: FolderMedia, most_bytes: float = TRACKED_BYTES_MAX) -> str | None:
    """None where DVC may hash the data themselves; else the small file that stands for them."""
    return f"{media.kind}.version" if media.bytes > most_bytes else None
