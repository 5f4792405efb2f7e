"""Where the official stereo sets keep their files, below the set's folder. The first label of a
pair is its scene or split.

middlebury      <scene>/im{0,1}.png, disp0.pfm or disp0GT.pfm, mask0nocc.png (255: scored)
middlebury_2003 <scene>/im{2,6}.png, disp2.png (or .ppm, .pgm), scaled as `scale_of_2003` says
middlebury_2005, middlebury_2006
                <scene>/Illum{1,2,3}/Exp{0,1,2}/view{1,5}.png, <scene>/disp1.png, scaled as
                `scale_of_2006` says; nine pairs a scene
middlebury_2014 <scene>-{perfect,imperfect}/im0.png, disp0.pfm, and three right views of other
                light: im1.png, im1E.png, im1L.png
middlebury_2021 <scene>/ambient/<light>/im{0,1}*.png, <scene>/disp0.pfm
eth3d           train/<scene>/im{0,1}.png, train_gt/<scene>/disp0GT.pfm; as the archives unpack:
                two_view_training and two_view_training_gt, or all in <scene>
booster         train/balanced/<scene>/camera_{00,02}/*.png of several lights, disp_00.npy; the
                last two scenes are also labelled subval, as CroCo v2 holds them out
kitti           training/image_{2,3}/000000_10.png, training/disp_occ_0/000000_10.png
sceneflow       FlyingThings3D: frames_{clean,final}pass/TRAIN/A/0000/{left,right}/0006.png,
                disparity/TRAIN/A/0000/left/0006.pfm; labels: TRAIN or TEST, pass
driving         frames_{clean,final}pass/<lens>/<way>/<speed>/{left,right}/0001.png, disparity/...
monkaa          frames_{clean,final}pass/<scene>/{left,right}/0000.png, disparity/...
crestereo       <group>/<name>_{left,right}.jpg, <name>_left.disp.png in 1/32 pixels
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from mimic.errors import BadInput
from mimic.tasks.flow_stereo.files import (
    MotionPair,
    read_npy_disparity,
    read_pfm_disparity,
    read_png_disparity,
)

PASSES = ("clean", "final")
LIGHTS_2006 = [f"Illum{light}/Exp{exposure}" for light in (1, 2, 3) for exposure in (0, 1, 2)]
# Of the sets of 2001 and 2003, by their documentation: grey levels a pixel.
PLANAR = ("barn1", "barn2", "bull", "poster", "sawtooth", "venus")
SCALES: dict[str, float] = {"tsukuba": 16.0, **dict.fromkeys(PLANAR, 8.0)}
FULL_2003_PX = 1800  # wide; the usual quarter size is 450, its disparities in quarter pixels
SCENES_2003 = ("cones", "teddy")
SUBVAL_BOOSTER = 2


def scale_of_2003(scene: str) -> float | Callable[[int], float]:
    """Grey levels a pixel of disparity, for scenes of 2003 by the width of the picture.

    Raises:
        BadInput: no documentation says it of this scene.
    """
    name = scene.lower()
    if name in SCENES_2003:
        return lambda width: float(max(1, round(FULL_2003_PX / width)))
    if name not in SCALES:
        known = ", ".join((*SCENES_2003, *SCALES))
        hint = f"known are {known}; leave it out with `without`, or write a .pfm (middlebury)"
        raise BadInput(f"{scene}: how its disparity is scaled is not documented; {hint}")
    return SCALES[name]


def scale_of_2006(width: int) -> float:
    """Grey levels a pixel of the sets of 2005 and 2006: 1 at full size, 2 at half, 3 at a third.

    Their full size is 1240 to 1396 pixels wide, half 620 to 698, a third 413 to 465.
    """
    return next(scale for least, scale in ((930, 1.0), (540, 2.0), (0, 3.0)) if width >= least)


def _middlebury(folder: Path) -> list[MotionPair]:
    return [_middlebury_pair(a, a.parent) for a in sorted(folder.glob("*/im0.png"))]


def _middlebury_pair(a: Path, truths: Path) -> MotionPair:
    truth = truths / ("disp0.pfm" if (truths / "disp0.pfm").exists() else "disp0GT.pfm")
    mask = truths / "mask0nocc.png"
    scene = a.parent.name
    where = mask if mask.exists() else None
    return MotionPair((scene,), scene, a, a.with_name("im1.png"), truth, read_pfm_disparity, where)


def _eth3d(folder: Path) -> list[MotionPair]:
    for images, truths in (("train", "train_gt"), ("two_view_training", "two_view_training_gt")):
        if (folder / images).is_dir():
            views = sorted(folder.glob(f"{images}/*/im0.png"))
            return [_middlebury_pair(a, folder / truths / a.parent.name) for a in views]
    return _middlebury(folder)


def _middlebury_2003(folder: Path) -> list[MotionPair]:
    pairs = []
    for truth in sorted(path for end in ("png", "pgm") for path in folder.glob(f"*/disp2.{end}")):
        scene = truth.parent.name
        a, b = (_either(truth.with_name(name), ".png", ".ppm") for name in ("im2", "im6"))
        reader = read_png_disparity(scale_of_2003(scene), np.uint8)
        pairs.append(MotionPair((scene,), scene, a, b, truth, reader))
    return pairs


def _either(stem: Path, first: str, second: str) -> Path:
    path = stem.with_suffix(first)
    return path if path.exists() else stem.with_suffix(second)


def _middlebury_2006(folder: Path) -> list[MotionPair]:
    """Those of 2005 as well."""
    reader = read_png_disparity(scale_of_2006, np.uint8)
    pairs = []
    for truth in sorted(folder.glob("*/disp1.png")):
        scene = truth.parent.name
        for light in LIGHTS_2006:
            a, b = (truth.parent / light / f"view{view}.png" for view in (1, 5))
            name = f"{scene}-{light.replace('/', '-')}"
            pairs.append(MotionPair((scene,), name, a, b, truth, reader))
    return pairs


def _middlebury_2014(folder: Path) -> list[MotionPair]:
    pairs = []
    for a in sorted(folder.glob("*/im0.png")):
        scene = a.parent.name
        truth = a.with_name("disp0.pfm")
        for view in ("im1", "im1E", "im1L"):
            b = a.with_name(f"{view}.png")
            pairs.append(MotionPair((scene,), f"{scene}-{view}", a, b, truth, read_pfm_disparity))
    return pairs


def _middlebury_2021(folder: Path) -> list[MotionPair]:
    pairs = []
    for a in sorted(folder.glob("*/ambient/*/im0*.png")):
        scene = a.parents[2]
        b = a.with_name(a.name.replace("im0", "im1", 1))
        truth = scene / "disp0.pfm"
        name = f"{scene.name}-{a.parent.name}-{a.stem}"
        pairs.append(MotionPair((scene.name,), name, a, b, truth, read_pfm_disparity))
    return pairs


def _booster(folder: Path) -> list[MotionPair]:
    truths = sorted(folder.glob("train/balanced/*/disp_00.npy"))
    pairs = []
    for index, truth in enumerate(truths):
        scene = truth.parent
        held_out = ("subval",) if index >= len(truths) - SUBVAL_BOOSTER else ()
        for a in sorted((scene / "camera_00").glob("*.png")):
            b = scene / "camera_02" / a.name
            name = f"{scene.name}-{a.stem}"
            labels = (scene.name, *held_out)
            pairs.append(MotionPair(labels, name, a, b, truth, read_npy_disparity))
    return pairs


def _kitti(folder: Path) -> list[MotionPair]:
    reader = read_png_disparity(256.0, np.uint16)
    pairs = []
    for truth in sorted(folder.glob("training/disp_occ_0/*_10.png")):
        a, b = (folder / f"training/image_{camera}" / truth.name for camera in (2, 3))
        pairs.append(MotionPair(("all",), truth.stem, a, b, truth, reader))
    return pairs


def _rendered(depth: int, folder: Path) -> list[MotionPair]:
    """Of the sets rendered for SceneFlow, whose scenes lie `depth` folders below disparity/."""
    pairs = []
    for truth in sorted(folder.glob("/".join(("disparity", *["*"] * depth, "left", "*.pfm")))):
        scene = truth.parents[1].relative_to(folder / "disparity")
        for kind in PASSES:
            images = folder / f"frames_{kind}pass" / scene
            a, b = (images / side / f"{truth.stem}.png" for side in ("left", "right"))
            name = "-".join((kind, *scene.parts, truth.stem))
            pairs.append(MotionPair((scene.parts[0], kind), name, a, b, truth, read_pfm_disparity))
    return pairs


def _crestereo(folder: Path) -> list[MotionPair]:
    reader = read_png_disparity(32.0, np.uint16)
    pairs = []
    for truth in sorted(folder.glob("*/*_left.disp.png")):
        name = truth.name.removesuffix("_left.disp.png")
        a, b = (truth.with_name(f"{name}_{side}.jpg") for side in ("left", "right"))
        pairs.append(MotionPair((truth.parent.name,), name, a, b, truth, reader))
    return pairs


LAYOUTS: dict[str, Callable[[Path], list[MotionPair]]] = {
    "middlebury": _middlebury,
    "middlebury_2003": _middlebury_2003,
    "middlebury_2005": _middlebury_2006,
    "middlebury_2006": _middlebury_2006,
    "middlebury_2014": _middlebury_2014,
    "middlebury_2021": _middlebury_2021,
    "eth3d": _eth3d,
    "booster": _booster,
    "kitti": _kitti,
    "sceneflow": partial(_rendered, 3),
    "driving": partial(_rendered, 3),
    "monkaa": partial(_rendered, 1),
    "crestereo": _crestereo,
}
