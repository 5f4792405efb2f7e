"""What a person says of a foreign checkpoint: the options of `mimic import-weights`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Out = Annotated[
    Path,
    typer.Option(
        "--out",
        help="models/NAME; add NAME to `imported` and table.runs in params.yaml to evaluate it",
    ),
]
File = Annotated[
    Optional[Path],
    typer.Argument(help="A .pth, .pt or .safetensors file, a folder of shards or its .index.json"),
]
Timm = Annotated[
    Optional[str],
    typer.Option(help="Name of a timm model; without FILE timm downloads its weights"),
]

# Of the model, where the file does not state it.
SizePx = Annotated[
    Optional[tuple[int, int]],
    typer.Option(help="Image height and width, if the file does not state them"),
]
Heads = Annotated[
    Optional[int], typer.Option(help="Attention heads, if the width does not imply them")
]
DecoderHeads = Annotated[
    Optional[int],
    typer.Option(help="Attention heads of the decoder, if its width does not imply them"),
]
RopeBase = Annotated[
    Optional[float],
    typer.Option(help="Base of the rotary position embedding, if the file does not state it"),
]

# Where in the file the weights lie.
Key = Annotated[
    Optional[str],
    typer.Option(help="Key of the file that holds the weights, such as student or model_ema"),
]
Prefix = Annotated[
    Optional[str],
    typer.Option(help="Prefix of the encoder's parameter names; other parameters are ignored"),
]

# How it was pretrained.
Objective = Annotated[
    Optional[str], typer.Option(help="Pretraining objective, such as mae; shown in the tables")
]
Dataset = Annotated[
    Optional[str],
    typer.Option(help="Pretraining dataset, such as imagenet-1k; shown in the tables"),
]
MaskRatio = Annotated[
    Optional[float], typer.Option(help="Fraction of patches masked in its pretraining")
]
NormPixLoss = Annotated[
    Optional[bool], typer.Option(help="Whether its loss normalised the pixels of each patch")
]
Optimizer = Annotated[
    bool,
    typer.Option(
        "--optimizer", help="Also keep the AdamW state of an MAE or CroCo file, to continue it"
    ),
]
Licence = Annotated[
    Optional[str],
    typer.Option(
        help="Licence of the weights, such as CC-BY-NC-4.0 (the MAE checkpoints of its authors); "
        "`mimic licences` lists the names"
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Also replace a run of this name that was trained in this workspace"
    ),
]
