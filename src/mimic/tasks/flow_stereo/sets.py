"""Where the official sets of true motion keep their files, and which part of a set is meant.

A pair carries labels; `only` and `without` choose by them. Layouts of flow, below the set's folder:
    sintel          training/{clean,final}/<scene>/frame_0001.png,
                    training/flow/<scene>/frame_0001.flo,
                    training/invalid (255: unknown); labels: scene, pass (clean, final)
    flying_chairs   data/00001_{img1.ppm,img2.ppm,flow.flo}; FlyingChairs_train_val.txt (also called
                    chairs_split.txt; 1 and 2) gives the labels train and val
    flying_things   frames_{clean,final}pass/TRAIN/A/0000/left/0006.png,
                    optical_flow/.../into_{future,past}/left/
                        OpticalFlowInto{Future,Past}_0006_L.pfm;
                    labels: TRAIN or TEST, pass, direction (into_future, into_past)
    tartanair       <place>/<place>/{Easy,Hard}/P000/image_left/000000_left.png,
                    .../flow/000000_000001_flow.npy; labels: place, Easy or Hard
    kitti           training/image_2/000000_{10,11}.png, training/flow_occ/000000_10.png
    middlebury      other-data/<scene>/frame{10,11}.png, other-gt-flow/<scene>/flow10.flo
Layouts of stereo are in `stereo_sets`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path

from mimic.errors import BadInput
from mimic.tasks.engine.image_io import REMEDY
from mimic.tasks.flow_stereo import stereo_sets
from mimic.tasks.flow_stereo.config import FlowTask, MotionPart, StereoTask
from mimic.tasks.flow_stereo.files import (
    MotionPair,
    read_flo,
    read_kitti_flow,
    read_npy_flow,
    read_pfm_flow,
)

PASSES = ("clean", "final")
SPLIT_FILES = ("FlyingChairs_train_val.txt", "chairs_split.txt")
SHOWN = 8  # labels named in a message


def list_pairs(task: str, layout: str, folder: Path) -> list[MotionPair]:
    """The pairs of a set, in the order of their names.

    Raises:
        BadInput: none is there.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder}: no such folder; {REMEDY}")
    pairs = LAYOUTS[task, layout](folder)
    if not pairs:
        hint = "is it the folder that the archive unpacks to?"
        raise BadInput(f"{folder}: no pair in the layout {layout} of {task}; {hint}")
    return pairs


def chosen_pairs(task: str, part: MotionPart, data: Path) -> list[MotionPair]:
    """The pairs of a part, each once.

    Raises:
        BadInput: the set, or a folder of it that the part needs, is not there, or nothing is left.
    """
    folder = data / part.folder
    listed = list_pairs(task, part.layout, folder)
    chosen = [pair for pair in listed if _wanted(pair, part)]
    if not chosen:
        known = sorted({label for pair in listed for label in pair.labels})[:SHOWN]
        raise BadInput(f"{folder}: no scene is left by only and without; there are {known}")
    gone = sorted(
        path for path in {one for p in chosen for one in p.folders()} if not path.is_dir()
    )
    if gone:
        few = [pair for pair in chosen if pair.folders() & set(gone)]
        labels = sorted(set.intersection(*(set(pair.labels) for pair in few)))
        hint = f"download it, or leave it out with `without`: its pairs are called {labels}"
        size = f"{len(few)} of {len(chosen)} pairs lack their files"
        raise BadInput(f"{folder}: {size}, first {gone[0].relative_to(folder)}; {hint}")
    return chosen


def _wanted(pair: MotionPair, part: MotionPart) -> bool:
    named = part.only is None or not set(pair.labels).isdisjoint(part.only)
    return named and set(pair.labels).isdisjoint(part.without)


# ---------------------------------------------------------------------------- layouts of flow


def _sintel(folder: Path) -> list[MotionPair]:
    return [
        _sintel_pair(folder, truth, kind)
        for truth in sorted(folder.glob("training/flow/*/frame_*.flo"))
        for kind in PASSES
    ]


def _sintel_pair(folder: Path, truth: Path, kind: str) -> MotionPair:
    scene = truth.parent.name
    number = int(truth.stem[6:])
    images = folder / "training" / kind / scene
    a, b = (images / f"frame_{frame:04d}.png" for frame in (number, number + 1))
    mask = folder / f"training/invalid/{scene}/{truth.stem}.png"
    where = mask if mask.exists() else None
    name = f"{kind}-{scene}-{number:04d}"
    return MotionPair((scene, kind), name, a, b, truth, read_flo, where, mask_valid=0)


def _chairs(folder: Path) -> list[MotionPair]:
    candidates = [parent / name for parent in (folder, folder.parent) for name in SPLIT_FILES]
    splits = next((path for path in candidates if path.exists()), None)
    numbers = [] if splits is None else splits.read_text().split()
    pairs = []
    for truth in sorted(folder.glob("data/*_flow.flo")):
        name = truth.name.removesuffix("_flow.flo")
        split = "all"
        if splits is not None:
            if not name.isdecimal() or not 1 <= int(name) <= len(numbers):
                raise BadInput(f"{splits}: {len(numbers)} lines, none of pair {name}; {REMEDY}")
            split = _CHAIRS.get(numbers[int(name) - 1], "none")
        a, b = (truth.with_name(f"{name}_img{view}.ppm") for view in (1, 2))
        pairs.append(MotionPair((split,), name, a, b, truth, read_flo))
    return pairs


_CHAIRS = {"1": "train", "2": "val"}


def _things(folder: Path) -> list[MotionPair]:
    truths = sorted(
        folder.glob("optical_flow/*/*/*/into_future/left/OpticalFlowIntoFuture_*_L.pfm")
    )
    pairs: list[MotionPair] = []
    for scene, files in groupby(truths, key=lambda path: path.parents[2]):
        numbers = [int(path.stem.split("_")[1]) for path in files]
        for number in numbers[:-1]:  # the last frame of a scene has flow, and nowhere to go
            pairs += _things_pairs(folder, scene, number)
    return pairs


def _things_pairs(folder: Path, scene: Path, number: int) -> Iterator[MotionPair]:
    """Both passes of the step from frame `number` to the next, and of the step back."""
    split, letter, scene_name = scene.relative_to(folder / "optical_flow").parts
    for kind in PASSES:
        images = folder / f"frames_{kind}pass" / split / letter / scene_name / "left"
        for direction, first, second in (
            ("future", number, number + 1),
            ("past", number + 1, number),
        ):
            file = f"OpticalFlowInto{direction.capitalize()}_{first:04d}_L.pfm"
            truth = scene / f"into_{direction}/left/{file}"
            a, b = (images / f"{frame:04d}.png" for frame in (first, second))
            name = f"{kind}-{letter}-{scene_name}-{first:04d}-{direction}"
            labels = (split, kind, f"into_{direction}")
            yield MotionPair(labels, name, a, b, truth, read_pfm_flow)


def _tartanair(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(folder.glob("*/*/*/P*/flow/*_flow.npy")):
        sequence = truth.parents[1]
        environment = sequence.parts[-4]
        difficulty = sequence.parts[-2]
        first, second = truth.name.split("_")[:2]
        a, b = (sequence / f"image_left/{frame}_left.png" for frame in (first, second))
        name = f"{environment}-{difficulty}-{sequence.name}-{first}"
        pairs.append(MotionPair((environment, difficulty), name, a, b, truth, read_npy_flow))
    return pairs


def _kitti(folder: Path) -> list[MotionPair]:
    images = folder / "training/image_2"
    return [
        MotionPair(
            ("all",),
            path.stem,
            images / path.name,
            images / f"{path.stem[:-2]}11.png",
            path,
            read_kitti_flow,
        )
        for path in sorted(folder.glob("training/flow_occ/*_10.png"))
    ]


def _middlebury(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(folder.glob("other-gt-flow/*/flow10.flo")):
        scene = truth.parent.name
        a, b = (folder / "other-data" / scene / f"frame{frame}.png" for frame in (10, 11))
        pairs.append(MotionPair((scene,), scene, a, b, truth, read_flo))
    return pairs


LAYOUTS: dict[tuple[str, str], Callable[[Path], list[MotionPair]]] = {
    ("flow", "sintel"): _sintel,
    ("flow", "flying_chairs"): _chairs,
    ("flow", "flying_things"): _things,
    ("flow", "tartanair"): _tartanair,
    ("flow", "kitti"): _kitti,
    ("flow", "middlebury"): _middlebury,
    **{("stereo", name): layout for name, layout in stereo_sets.LAYOUTS.items()},
}


def listed_parts(
    task: FlowTask | StereoTask, parts: tuple[MotionPart, ...], data: Path
) -> list[list[MotionPair]]:
    """The pairs of each part, each once.

    Raises:
        BadInput: parts whose data are not there or not whole; all of them are named at once.
    """
    if not parts:
        raise BadInput(f"{task.task}: train and test each need a set")
    listed: list[list[MotionPair]] = []
    missing: list[str] = []
    for part in parts:
        try:
            listed.append(chosen_pairs(task.task, part, data))
        except BadInput as absent:
            missing.append(str(absent))
    if missing:
        count = f"{len(missing)} of {len(parts)} sets of {task.task} are not there: "
        raise BadInput(f"{count if len(missing) > 1 else ''}{'; '.join(missing)}")
    return listed


def mixed(parts: tuple[MotionPart, ...], pairs: list[list[MotionPair]]) -> list[MotionPair]:
    """An epoch: the pairs of each part as often as it says."""
    return [
        pair for part, listed in zip(parts, pairs, strict=True) for pair in listed * part.repeat
    ]
