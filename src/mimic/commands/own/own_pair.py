"""`mimic pair`: how two images compare under the mining rule, and why."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image as pillow
from PIL.PngImagePlugin import PngInfo

from mimic.errors import BadInput
from mimic.geometry import features, overlap
from mimic.geometry.explanation import explain
from mimic.infra import storage
from mimic.mining import shard_job, view_cache
from mimic.params import Params
from mimic.sources import base, images

PLOTS = (".png", ".jpg", ".jpeg")
DRAWN_BY = "mimic pair"  # written into every picture: only such a one is replaced


def pair(params: Params, a: Path, b: Path, as_json: bool, plot: Path | None) -> None:
    """Print how two images compare under the mining rule; the picture shows which patch of `a` is
    which of `b`, and by crosses which matches were set aside.

    Raises:
        BadInput: an image cannot be read, or the picture cannot be written.
    """
    _refuse_plot(plot)
    rule = shard_job.rule_of(params.mine)
    image_a, image_b = (_image(path, rule) for path in (a, b))
    comparison = overlap.compare(
        features.extract(image_a),
        features.extract(image_b),
        rule,
        np.random.default_rng(params.mine.seed),
    )
    if plot is not None:
        _write_plot(plot, draw(image_a, image_b, comparison, rule.patch_px))
    if as_json:
        print(json.dumps(_explained(comparison)))
        return
    print(
        f"{comparison.outcome.value}: {explain(comparison)} (kept are overlaps between "
        f"{rule.overlap_min:g} and {rule.overlap_max:g})"
    )
    if comparison.b_from_a is None:
        print(
            f"no overlap was measured; {comparison.matches} matches, {comparison.inliers} inliers"
        )
    else:
        directions = (
            f"a in b {comparison.overlap_a_to_b:.3f}, b in a {comparison.overlap_b_to_a:.3f}"
        )
        print(f"{directions}; {comparison.matches} matches, {comparison.inliers} inliers")


def _explained(comparison: overlap.Comparison) -> dict[str, Any]:
    """Plain JSON; overlaps are null where none was measured, so is the number of a homography that
    cameras do not make."""
    measured = comparison.b_from_a is not None
    assert comparison.decision is not None
    name, value, bound = comparison.decision
    return {
        "outcome": comparison.outcome.value,
        "why": explain(comparison),
        "decided_by": {"bound": name, "is": bound, "found": value if math.isfinite(value) else None}
        if name
        else None,
        "overlap": comparison.overlap if measured else None,
        "overlap_a_to_b": comparison.overlap_a_to_b if measured else None,
        "overlap_b_to_a": comparison.overlap_b_to_a if measured else None,
        "matches": comparison.matches,
        "inliers": comparison.inliers,
        "set_aside": len(comparison.aside),
        "b_from_a": None if comparison.b_from_a is None else comparison.b_from_a.tolist(),
    }


def _refuse_plot(plot: Path | None) -> None:
    if plot is None:
        return
    if plot.is_symlink() and not plot.exists():
        raise BadInput(
            f"--plot {plot}: is a link that leads nowhere; name another file, or remove the link"
        )
    if plot.is_dir():
        raise BadInput(f"--plot {plot}: is a folder; name a .png or .jpg file")
    if plot.suffix.lower() not in PLOTS:
        raise BadInput(
            f"--plot {plot}: pictures are written as {', '.join(PLOTS)}; name such a file"
        )
    if plot.exists() and not _is_ours(plot):
        raise BadInput(
            f"--plot {plot}: is there already, and no picture of this command; name another file, "
            "or move it away"
        )


def _is_ours(plot: Path) -> bool:
    """Whether a picture says that this command drew it."""
    try:
        with pillow.open(plot) as file:
            software = file.info.get("Software", file.info.get("comment", b""))
    except (OSError, ValueError):
        return False
    return software in (DRAWN_BY, DRAWN_BY.encode())


def _write_plot(plot: Path, picture: base.Image) -> None:
    _refuse_plot(plot)  # it may have come since
    target = plot.resolve()  # a link stays; what it leads to is ours
    data = io.BytesIO()
    if plot.suffix.lower() == ".png":
        metadata = PngInfo()
        metadata.add_text("Software", DRAWN_BY)
        pillow.fromarray(picture).save(data, "PNG", pnginfo=metadata)
    else:
        pillow.fromarray(picture).save(data, "JPEG", quality=95, comment=DRAWN_BY)
    try:
        storage.write_bytes(target, data.getvalue())
    except BadInput as error:
        raise BadInput(f"--plot {plot}: {str(error).removeprefix(f'{target}: ')}") from None


def draw(
    image_a: base.Image, image_b: base.Image, comparison: overlap.Comparison, patch_px: int
) -> base.Image:
    """Both views side by side, enlarged; matched patches share a colour, the others are dark.

    A white cross stands where a match does not move and was set aside.
    """
    scale = 2
    grid = image_a.shape[1] // patch_px
    views = [
        cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        for image in (image_a, image_b)
    ]
    shown = [(view * 0.35).astype(np.uint8) for view in views]
    side = patch_px * scale
    hues = (
        np.arange(len(comparison.correspondences)) * 180 // max(len(comparison.correspondences), 1)
    )
    colours = cv2.cvtColor(
        np.stack([hues, np.full_like(hues, 200), np.full_like(hues, 255)], -1).astype(np.uint8)[
            None
        ],
        cv2.COLOR_HSV2RGB,
    )[0]
    for patch_a, patch_b in enumerate(comparison.correspondences):
        if patch_b < 0:
            continue
        for view, picture, patch in zip(views, shown, (patch_a, int(patch_b)), strict=True):
            row, column = (side * part for part in divmod(patch, grid))
            square = np.s_[row : row + side, column : column + side]
            picture[square] = view[square]
            cv2.rectangle(
                picture,
                (column, row),
                (column + side - 1, row + side - 1),
                colours[patch_a].tolist(),
                1,
            )
    for x, y in np.rint((comparison.aside + 0.5) * scale).astype(int).tolist():
        for picture in shown:
            cv2.drawMarker(picture, (x, y), (255, 255, 255), cv2.MARKER_TILTED_CROSS, 7, 1)
    gap = np.full((shown[0].shape[0], 8, 3), 255, np.uint8)
    return np.hstack([shown[0], gap, shown[1]])


def _image(path: Path, rule: overlap.Rule) -> base.Image:
    try:
        return view_cache.squared(images.read(path), rule)
    except base.Unreadable as error:
        raise BadInput(f"{path}: {error}") from None
