"""Commands for data that no parameter file names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mimic.cli import pairs_options as option
from mimic.cli.options import AnyParamsFile
from mimic.params import load_here_or_packaged

PANEL = "Your own data"


def pairs(
    paths: option.Paths,
    out: option.Out,
    params: AnyParamsFile = None,
    spacing_s: option.SpacingS = None,
    crop_bottom: option.CropBottom = None,
    up: option.Up = None,
    group_max: option.GroupMax = None,
    island_radius_min_m: option.IslandRadiusMinM = None,
    texture_max_px: option.TextureMaxPx = None,
    licence: option.Licence = None,
    as_json: option.AsJson = False,
) -> None:
    """Mine the videos, image folders or .glb scenes given.

    It ends with a page to look at, OUT/_index.html. Options that are not given have the values of
    the parameter file, but for the distances between images of a folder. What could not be read is
    counted and listed in OUT/_pairs.json, and the rest is mined. Exit status: 0 if any pairs were
    mined, 1 if none were, 2 if the input was refused.
    """
    from mimic.commands.own import own_data, own_options

    options = own_options.Options(
        spacing_s, crop_bottom, up, group_max, island_radius_min_m, texture_max_px, licence
    )
    read = load_here_or_packaged(params)
    if not own_data.pairs(read, paths, out, options, as_json=as_json, file=params):
        raise typer.Exit(1)


def pair(
    a: Annotated[Path, typer.Argument(help="The first image", readable=False)],
    b: Annotated[Path, typer.Argument(help="The second image", readable=False)],
    params: AnyParamsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON")] = False,
    plot: Annotated[
        Optional[Path], typer.Option(help="Write a picture of the matched patches, .png or .jpg")
    ] = None,
) -> None:
    """Explain whether mining would keep a pair of images.

    Prints matches, homography, overlap, and the reason if the pair is rejected.
    """
    from mimic.commands.own import own_pair

    own_pair.pair(load_here_or_packaged(params), a, b, as_json=as_json, plot=plot)


COMMANDS = (pairs, pair)
