"""Your own data: mine any videos, image folders and .glb scenes (`mimic pairs`), and explain one pair (`mimic pair`).

A folder is searched for all three. The numbers are those of the first source with the same reader in the parameter file,
apart from these rules for images: a folder of more than 32 numbered frames is a sequence, and each frame is paired with the
next or, where that overlaps too much, with the 2nd, 4th, ... 32nd after it; any other folder is a set, and all its pairs are tried.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimic import config, sources
from mimic.errors import BadInput
from mimic.geometry import features, overlap
from mimic.infra import progress, storage
from mimic.sources import base, images, miner, sharding, videos

SCENE_EXTENSIONS = frozenset({".glb"})
SET_MAX = 32  # images; a larger numbered folder is a sequence
OURS = re.compile(r"shard-\d+\.(tar|parquet)|pairs\.json|\.work-[0-9a-f]+")  # what this command leaves in its output folder
DISTANCES = (1, 2, 4, 8, 16, 32)


def pairs(params: config.Params, paths: Sequence[Path], out: Path, spacing_s: float | None, as_json: bool) -> None:
    """Write shards of pairs, mined from the paths, into a folder; print what became of the candidates.

    Killed and run again with the same paths, it resumes; results of an earlier run in the folder are replaced at the end.

    Raises:
        BadInput: a path is missing or holds nothing to mine, or the folder holds something else already.
    """
    started = time.monotonic()
    parts = [part for number, path in enumerate(paths) for part in _parts(params, path, spacing_s, number)]
    scratch = out / f".work-{_fingerprint(params, parts)}"
    earlier = sorted(out.iterdir()) if out.is_dir() else []
    if foreign := [entry.name for entry in earlier if not OURS.fullmatch(entry.name)]:
        raise BadInput(f"--out {out}: holds {foreign[0]}; name a new folder, so that nothing of yours is mixed up or lost")
    scratch.mkdir(parents=True, exist_ok=True)
    todo: list[sharding.Job] = []
    for name, section, clips in parts:
        todo += sharding.jobs(name, section, params.mine, Path(), clips, scratch, first=len(todo), habitat=params.habitat)
    tally = sharding.run(todo, params.cluster, "mimic pairs", scratch / "log.jsonl")
    summary = {**tally.summary(), "seconds": round(time.monotonic() - started, 3), "out": str(out)}
    for file in earlier:
        if file.is_file():
            file.unlink()
    for file in sorted(scratch.glob("shard-*"), key=lambda file: (file.suffix == ".parquet", file.name)):
        if file.suffix != ".json":
            os.replace(file, out / file.name)
    storage.write_json(out / "pairs.json", summary)
    for work in out.glob(".work-*"):
        shutil.rmtree(work)
    sharding.report("mimic pairs", tally)
    print(json.dumps(summary) if as_json else f"{tally.kept} pairs of {tally.candidates} candidates in {out}")


def pair(params: config.Params, a: Path, b: Path, as_json: bool, plot: Path | None) -> None:
    """Print how two images compare under the mining rule; the picture shows which patch of `a` is which of `b`.

    Raises:
        BadInput: an image cannot be read.
    """
    rule = sharding.rule_of(params.mine)
    image_a, image_b = (_image(path, rule) for path in (a, b))
    found = overlap.compare(features.extract(image_a), features.extract(image_b), rule, np.random.default_rng(params.mine.seed))
    if plot is not None:
        picture = draw(image_a, image_b, found, rule.patch_px)
        good, data = cv2.imencode(plot.suffix if plot.suffix.lower() in {".png", ".jpg", ".jpeg"} else ".png", picture[..., ::-1])
        assert good
        storage.write_bytes(plot, data.tobytes())
    explained = {
        "outcome": found.outcome.value,
        "overlap": found.overlap,
        "overlap_a_to_b": found.overlap_a_to_b,
        "overlap_b_to_a": found.overlap_b_to_a,
        "matches": found.matches,
        "inliers": found.inliers,
        "b_from_a": None if found.b_from_a is None else found.b_from_a.tolist(),
    }
    if as_json:
        print(json.dumps(explained))
        return
    print(f"{found.outcome.value}: overlap {found.overlap:.3f} (kept between {rule.overlap_min} and {rule.overlap_max})")
    print(f"a in b {found.overlap_a_to_b:.3f}, b in a {found.overlap_b_to_a:.3f}; {found.matches} matches, {found.inliers} inliers")


def draw(image_a: base.Image, image_b: base.Image, found: overlap.Comparison, patch_px: int) -> base.Image:
    """Both views side by side, enlarged; matched patches share a colour, the others are dark."""
    scale, grid = 2, image_a.shape[1] // patch_px
    views = [cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for image in (image_a, image_b)]
    shown = [(view * 0.35).astype(np.uint8) for view in views]
    side = patch_px * scale
    hues = np.arange(len(found.correspondences)) * 180 // max(len(found.correspondences), 1)
    colours = cv2.cvtColor(
        np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], -1).astype(np.uint8)[None], cv2.COLOR_HSV2RGB
    )[0]
    for patch_a, patch_b in enumerate(found.correspondences):
        if patch_b < 0:
            continue
        for view, picture, patch in zip(views, shown, (patch_a, int(patch_b)), strict=True):
            row, column = (side * part for part in divmod(patch, grid))
            here = np.s_[row : row + side, column : column + side]
            picture[here] = view[here]
            cv2.rectangle(picture, (column, row), (column + side - 1, row + side - 1), colours[patch_a].tolist(), 1)
    gap = np.full((shown[0].shape[0], 8, 3), 255, np.uint8)
    return np.hstack([shown[0], gap, shown[1]])


def _image(path: Path, rule: overlap.Rule) -> base.Image:
    try:
        return miner.squared(images.read(path), rule)
    except base.Unreadable as error:
        raise BadInput(f"{path}: {error}") from None


Part = tuple[str, config.Source, list[str]]  # name of the source, how it is read, its clips


def _parts(params: config.Params, path: Path, spacing_s: float | None, number: int) -> list[Part]:
    """What a path of the command line holds."""
    if not path.exists():
        raise BadInput(f"{path}: no such file or folder")
    root = path if path.is_dir() else path.parent
    name = f"{sharding.key_of('own', path.resolve().stem)}-{number}"
    found = list(_kinds(params, root, path, spacing_s))
    if not found and path.is_dir():
        raise BadInput(f"{path}: no video, image or .glb scene in this folder")
    if not found:
        single = "for one image give its folder, or compare two with `mimic pair A B`"
        raise BadInput(f"{path}: neither a video ({' '.join(sorted(videos.EXTENSIONS))}) nor a .glb scene; {single}")
    return [(name if len(found) == 1 else f"{name}-{kind}", section, clips) for kind, (section, clips) in enumerate(found)]


def _kinds(params: config.Params, root: Path, path: Path, spacing_s: float | None) -> Iterator[tuple[config.Source, list[str]]]:
    """Videos, scenes and image folders at a path, each with the section that reads them."""
    place = {"root": root.resolve(), "tracked_by": root.resolve(), "licence": "unknown", "limit_clips": None}
    if clips := _clips(path, videos.EXTENSIONS):
        yield _spaced(_template(params, config.Videos).model_copy(update=place), spacing_s), clips
    if clips := _clips(path, SCENE_EXTENSIONS):
        yield _template(params, config.Scenes).model_copy(update=place), clips
    if not path.is_dir():
        return
    pictures = base.files_below(root, images.EXTENSIONS)
    folders = list(dict.fromkeys(Path(file).parent.as_posix() for file in pictures))
    template = _template(params, config.Images).model_copy(update={**place, "glob": "*"})
    sequence = {"pairing": "neighbours", "stride": DISTANCES[0], "retry_strides": DISTANCES[1:]}
    is_sequence = {folder: _is_sequence(root / folder) for folder in folders}
    for wanted, change in ((True, sequence), (False, {"pairing": "all"})):
        if clips := [folder for folder in folders if is_sequence[folder] is wanted]:
            yield template.model_copy(update=change), clips


def _clips(path: Path, extensions: frozenset[str]) -> list[str]:
    if path.is_dir():
        return base.files_below(path, extensions)
    return [path.name] if path.suffix.lower() in extensions else []


def _is_sequence(folder: Path) -> bool:
    files = [folder / name for name in base.files_in(folder, images.EXTENSIONS)]
    return any(len(sequence) > SET_MAX for sequence in images.sequences(files))


def _spaced(section: config.Videos, spacing_s: float | None) -> config.Videos:
    """The section with another spacing; the retry keeps its proportion to it."""
    if spacing_s is None:
        return section
    if spacing_s <= 0:
        raise BadInput(f"--spacing-s {spacing_s}: must be above 0")
    retry = None if section.retry_spacing_s is None else section.retry_spacing_s / section.spacing_s * spacing_s
    return section.model_copy(update={"spacing_s": spacing_s, "retry_spacing_s": retry})


def _template(params: config.Params, kind: type[Any]) -> Any:
    """The first source of a kind in the parameter file, else in the packaged profile."""
    for profile in (params, config.packaged()):
        for section in profile.sources.values():
            if isinstance(section, kind):
                return section
    raise BadInput(f"params.yaml: no source with the reader of {kind.__name__}; add one")


def _fingerprint(params: config.Params, parts: list[Part]) -> str:
    """Changes with the rule, the code and what is to be mined."""
    described = []
    for name, section, clips in parts:
        source = sources.open_source(name, section, Path(), params.mine.size_px, params.habitat)
        described.append([name, section.model_dump(), [(clip, source.describe(clip)) for clip in clips]])
    progress.say(f"mimic pairs: {sum(len(clips) for _, _, clips in parts)} clips found")
    return storage.fingerprint(params.mine.model_dump(), described, sharding.versions(), sharding.code_digest())
