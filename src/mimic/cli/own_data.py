"""Commands for data that no parameter file names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mimic.cli.options import AnyParamsFile
from mimic.params import load_here_or_packaged

PANEL = "Your own data"


def pairs(
    # readable=False: one path that may not be read is reported, and the rest is mined
    paths: Annotated[
        list[Path], typer.Argument(help="Videos, image folders or .glb scenes", readable=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pair shards", readable=False)],
    params: AnyParamsFile = None,
    spacing_s: Annotated[Optional[float], typer.Option(help="Seconds between video frames")] = None,
    crop_bottom: Annotated[
        Optional[float],
        typer.Option(
            help="Fraction of a video's height to crop at the bottom, for burned-in captions"
        ),
    ] = None,
    up: Annotated[
        Optional[Literal["y", "z", "auto"]], typer.Option(help="The up axis of a .glb scene")
    ] = None,
    group_max: Annotated[
        Optional[int],
        typer.Option(
            help="Limit the pairs tried in a larger set of images to as many as a set of this many "
            "images has"
        ),
    ] = None,
    island_radius_min_m: Annotated[
        Optional[float],
        typer.Option(help="Skip pieces of walkable floor of a .glb scene that are smaller"),
    ] = None,
    texture_max_px: Annotated[
        Optional[int], typer.Option(help="Downscale textures of a .glb scene that are larger")
    ] = None,
    licence: Annotated[
        Optional[str],
        typer.Option(
            help="Under which licence the data stands: an SPDX name, own, private, or another name "
            "that `mimic licences` lists"
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print counts and reasons as JSON")
    ] = False,
) -> None:
    """Mine the videos, image folders or .glb scenes given.

    It ends with a page to look at, OUT/_index.html. Options that are not given have the values of
    the parameter file. What could not be read is
    counted and listed in OUT/_pairs.json, and the rest is mined. Exit status: 0 if any pairs were
    mined, 1 if none were, 2 if the input was refused.
    """
    from mimic.commands.own import own_data, own_options

    options = own_options.Options(
        spacing_s, crop_bottom, up, group_max, island_radius_min_m, texture_max_px, licence
    )
    if not own_data.pairs(load_here_or_packaged(params), paths, out, options, as_json=as_json):
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
