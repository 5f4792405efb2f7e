"""Commands that train several encoders, and bring encoders in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Optional, cast

import typer

from mimic.cli import import_options as option
from mimic.cli.options import DEFAULT_PARAMS, ParamsFile
from mimic.commands.workspace import versions
from mimic.errors import BadInput
from mimic.params import load_params

PANEL = "Models"


def sweep(
    runs: Annotated[
        Optional[list[str]],
        typer.Argument(help="Names under `runs` in params.yaml; default: those of table.runs"),
    ] = None,
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Train several runs: on SLURM at once, as one job array, elsewhere one after the other.

    `dvc repro` then publishes and evaluates them without training again.
    """
    from mimic import pretrain as stage

    settings = load_params(params)
    versions.check(params.parent, settings.profile)
    names = runs or [name for name in settings.table.runs if name in settings.runs]
    trained = stage.sweep(settings, params.parent, names)
    print(
        f"trained: {', '.join(trained) or 'none, all were trained before'}; run `dvc repro` to "
        "publish and evaluate them"
    )


def import_weights(
    out: option.Out,
    file: option.File = None,
    timm: option.Timm = None,
    size_px: option.SizePx = None,
    heads: option.Heads = None,
    decoder_heads: option.DecoderHeads = None,
    objective: option.Objective = None,
    dataset: option.Dataset = None,
    key: option.Key = None,
    prefix: option.Prefix = None,
    rope_base: option.RopeBase = None,
    mask_ratio: option.MaskRatio = None,
    norm_pix_loss: option.NormPixLoss = None,
    optimizer: option.Optimizer = False,
    licence: option.Licence = None,
    force: option.Force = False,
) -> None:
    """Import an encoder of another project, to evaluate it beside yours."""
    from mimic.commands import import_weights as command
    from mimic.commands.import_card import licence_of

    if timm is None and file is None:
        raise BadInput("import-weights: name a FILE, or a timm model with --timm")
    overrides = command.ImportOverrides(
        size_px,
        heads,
        decoder_heads,
        objective,
        dataset,
        key,
        prefix,
        rope_base,
        mask_ratio,
        norm_pix_loss,
        licence_of(licence, out),
    )
    if timm is not None:
        if optimizer:
            raise BadInput("import-weights: --optimizer is for a FILE of MAE or CroCo, not --timm")
        _refuse_of_files(
            {
                "--heads": heads,
                "--decoder-heads": decoder_heads,
                "--rope-base": rope_base,
                "--mask-ratio": mask_ratio,
                "--norm-pix-loss/--no-norm-pix-loss": norm_pix_loss,
            }
            | ({} if file else {"--key": key, "--prefix": prefix})
        )
        card = command.import_timm(timm, file, out, overrides, force)
    else:
        card = command.import_weights(cast(Path, file), out, overrides, force, optimizer=optimizer)
    _print_imported(out, card)


def _refuse_of_files(options: dict[str, Any]) -> None:
    """What timm says of its models itself, and what only a FILE has."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise BadInput(f"import-weights: {', '.join(given)}: not with --timm, which says it itself")


def _print_imported(out: Path, card: dict[str, Any]) -> None:
    from mimic.commands.import_card import import_notes, terms_notes

    print(f"{out}: {_summary(card)}")
    for line in [*import_notes(card["imported"]), *terms_notes(card)]:
        print(line)


def _summary(card: dict[str, Any]) -> str:
    """What was imported, in one line."""
    size = card["model"]
    part = "encoder and decoder" if "decoder_depth" in size else "encoder"
    image = "x".join(map(str, size["size_px"]))
    return (
        f"{part} of a {card['imported']['dialect']} file, {size['depth']} blocks of "
        f"{size['width']}, {image} px"
    )


def export_weights(
    name: Annotated[
        str, typer.Argument(help="A folder in models/; of several seeds one, as NAME/seed-1")
    ],
    form: Annotated[
        Literal["timm", "hub", "mae", "croco", "dust3r", "multimae", "vitpose"],
        typer.Option(
            "--format",
            help="What will read it; hub is a folder with a model card, for timm and Hugging Face",
        ),
    ],
    out: Annotated[
        Optional[Path],
        typer.Option(
            "--out",
            help="The file to write, or the folder for hub; default: NAME-FORMAT in the current "
            "folder",
        ),
    ] = None,
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Write models/NAME in a format that another library reads, and print how to load it."""
    from mimic import licences
    from mimic.commands.hand_out import export_weights as command
    from mimic.commands.hand_out.export_hub import export_hub
    from mimic.commands.hand_out.loading_lines import loading_lines
    from mimic.infra.storage import Workspace
    from mimic.training.checkpoint import read_card

    target = out or command.default_place(name, form)
    workspace = Workspace(params.parent)
    folder = command.model_folder(workspace, name)
    if form == "hub":
        notes = export_hub(workspace, name, folder, target)
    else:
        notes = command.export_weights(folder, form, target)
    card = command.present_terms(read_card(folder), folder)
    for line in [*notes, *licences.summary(card)]:
        print(line)
    print(f"{target}; to load it:", "", sep="\n")
    for line in loading_lines(form, card, target):
        print(line)


COMMANDS = (sweep, import_weights, export_weights)
