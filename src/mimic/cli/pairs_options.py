"""What a person says of their own data: the options of `mimic pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

# readable=False: one path that may not be read is reported, and the rest is mined.
Paths = Annotated[
    list[Path], typer.Argument(help="Videos, image folders or .glb scenes", readable=False)
]
Out = Annotated[Path, typer.Option("--out", help="Folder for the pair shards", readable=False)]
SpacingS = Annotated[Optional[float], typer.Option(help="Seconds between video frames")]
CropBottom = Annotated[
    Optional[float],
    typer.Option(help="Fraction of a video's height to crop at the bottom, for burned-in captions"),
]
Up = Annotated[
    Optional[Literal["y", "z", "auto"]], typer.Option(help="The up axis of a .glb scene")
]
GroupMax = Annotated[
    Optional[int],
    typer.Option(
        help="Limit the pairs tried in a larger set of images to as many as a set of this many "
        "images has"
    ),
]
IslandRadiusMinM = Annotated[
    Optional[float],
    typer.Option(help="Skip pieces of walkable floor of a .glb scene that are smaller"),
]
TextureMaxPx = Annotated[
    Optional[int], typer.Option(help="Downscale textures of a .glb scene that are larger")
]
Licence = Annotated[
    Optional[str],
    typer.Option(
        help="Under which licence the data stands: an SPDX name, own, private, or another name "
        "that `mimic licences` lists"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print counts and reasons as JSON")]
