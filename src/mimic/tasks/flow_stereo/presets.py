"""Presets of flow and stereo: CroCo v2's runs, and the same in bf16 and scored where the sets say.

The stereo run is the one on `subtrain`, whose held-out scenes are measured; the model that was sent
to the benchmarks has seen these scenes, too. Folders are where CroCo's readme puts the sets:
another place is no deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mimic.tasks.flow_stereo.config import FlowPart, MotionPart, StereoPart


def flow_part(
    repeat: int, layout: str, folder: str, *, only: Any = None, without: Any = ()
) -> FlowPart:
    fields = {"layout": layout, "folder": Path(folder), "only": only, "without": without}
    return FlowPart.model_validate({**fields, "repeat": repeat})


def stereo_part(
    repeat: int, layout: str, folder: str, *, only: Any = None, without: Any = ()
) -> StereoPart:
    fields = {"layout": layout, "folder": Path(folder), "only": only, "without": without}
    return StereoPart.model_validate({**fields, "repeat": repeat})


SINTEL_VAL = ("temple_2", "temple_3")
ETH3D_VAL = ("delivery_area_3s", "electro_3l", "playground_3l")
FLOW_TRAIN = (
    flow_part(40, "sintel", "MPI-Sintel", without=SINTEL_VAL),
    flow_part(4, "flying_things", "SceneFlow/FlyingThings", only=("TRAIN",)),
    flow_part(4, "flying_chairs", "FlyingChairs", only=("train",)),
    flow_part(1, "tartanair", "TartanAir"),
)
FLOW_TEST = (flow_part(1, "sintel", "MPI-Sintel", only=SINTEL_VAL),)
STEREO_TRAIN = (
    stereo_part(1, "crestereo", "crenet_stereo_trainset/stereo_trainset/crestereo"),
    stereo_part(1, "sceneflow", "SceneFlow/FlyingThings", only=("TRAIN",)),
    stereo_part(1, "driving", "SceneFlow/Driving"),
    stereo_part(1, "monkaa", "SceneFlow/Monkaa"),
    stereo_part(30, "eth3d", "eth3d_lowres", without=ETH3D_VAL),
    stereo_part(50, "middlebury_2005", "middlebury/2005/train", without=("Reindeer",)),
    stereo_part(50, "middlebury_2006", "middlebury/2006", without=("Rocks1", "Wood2")),
    stereo_part(
        50, "middlebury_2014", "middlebury/2014", without=("Umbrella-imperfect", "Vintage-perfect")
    ),
    stereo_part(50, "middlebury_2021", "middlebury/2021/data", without=("traproom1", "traproom2")),
    stereo_part(50, "middlebury", "middlebury/MiddEval3_F/train", without=("Vintage",)),
    stereo_part(1, "booster", "booster_gt", without=("subval",)),
)
STEREO_TEST = (
    stereo_part(1, "middlebury", "middlebury/MiddEval3_F/train", only=("Vintage",)),
    stereo_part(1, "eth3d", "eth3d_lowres", only=ETH3D_VAL),
    stereo_part(1, "sceneflow", "SceneFlow/FlyingThings", only=("TEST",)),
)
# Pairs of each part, once: what CroCo v2's own listing insists on. Of Booster's subtrain it does
# not say.
PAIRS: dict[str, int] = {
    "sintel without temple_2, temple_3": 2 * 943,
    "sintel only temple_2, temple_3": 2 * 98,
    "flying_things only TRAIN": 2 * 40302,
    "flying_chairs only train": 22232,
    "tartanair": 306268,
    "crestereo": 200000,
    "sceneflow only TRAIN": 2 * 22390,
    "sceneflow only TEST": 2 * 4370,
    "driving": 2 * 4400,
    "monkaa": 2 * 8664,
    "eth3d without delivery_area_3s, electro_3l, playground_3l": 24,
    "eth3d only delivery_area_3s, electro_3l, playground_3l": 3,
    "middlebury_2005 without Reindeer": 45,
    "middlebury_2006 without Rocks1, Wood2": 171,
    "middlebury_2014 without Umbrella-imperfect, Vintage-perfect": 132,
    "middlebury_2021 without traproom1, traproom2": 335,
    "middlebury without Vintage": 14,
    "middlebury only Vintage": 1,
    "booster": 228,
}
FLOW_PEER: dict[str, Any] = {
    "size_px": 320,
    "width_px": 384,
    "augment": "peer",
    "head_width": 256,
    "train": FLOW_TRAIN,
    "test": FLOW_TEST,
    "masks": False,  # CroCo reads no masks: Sintel's invalid pixels are trained on and scored
    "steps": 900000,  # 240 epochs of 30,000 pairs
    "batch": 8,
    "lr": 2e-5,
    "weight_decay": 0.05,
    "betas": (0.9, 0.95),
    "layer_decay": 1.0,
    "drop_path": 0.0,
    "warmup": 0.0041666667,  # 3750 steps, an epoch
    "clip_grad": None,
    "precision": "fp32",
    "overlap": 0.9,
}
STEREO_PEER: dict[str, Any] = FLOW_PEER | {
    "size_px": 352,
    "width_px": 704,
    "train": STEREO_TRAIN,
    "test": STEREO_TEST,
    "steps": 1635680,  # 32 epochs of 51,115: 306,478 pairs and 212 to 217 of Booster
    "batch": 6,
    "lr": 3e-5,
    "warmup": 0.03125,
}
FLOW_STANDARD: dict[str, Any] = {**FLOW_PEER, "precision": "bf16", "masks": True}
STEREO_STANDARD: dict[str, Any] = {**STEREO_PEER, "precision": "bf16", "masks": True}


def described(part: MotionPart) -> str:
    """A part without its weight and its place, such as "sintel only temple_2, temple_3"."""
    only = "" if part.only is None else f" only {', '.join(part.only)}"
    without = f" without {', '.join(part.without)}" if part.without else ""
    return f"{part.layout}{only}{without}"


def mixture(parts: Sequence[MotionPart], counts: Sequence[int]) -> list[str]:
    """Each part with its weight and its pairs, and how many the published set has where it has more
    or fewer."""
    said = []
    for part, count in zip(parts, counts, strict=True):
        published = PAIRS.get(described(part), count)
        pairs = f"{count} pairs" if count == published else f"{count} of {published} pairs"
        said.append(f"{part.repeat} * {described(part)} ({pairs})")
    return said
