"""The command line: one sub-command a stage, and a few for people.

Stages are imported when they are called, so that `mimic --help` costs nothing.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, Optional, cast

import typer

from mimic.errors import BadInput
from mimic.infra.storage import is_full
from mimic.params import load_here_or_packaged, load_params

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
Form = Literal["mimic", "webdataset", "huggingface"]
ParamsFile = Annotated[
    Path, typer.Option("--params", help="The parameter file; its folder is the workspace.")
]
DEFAULT_PARAMS = Path("params.yaml")
AnyParamsFile = Annotated[
    Optional[Path],
    typer.Option(
        "--params",
        help="The parameter file; default: params.yaml here, else the one that comes with mimic.",
    ),
]


@app.command(rich_help_panel="Pipeline")
def synthesize(
    kind: Annotated[str, typer.Argument(help="rooms, phone, frames, nyu or tasks")],
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Generate embedded raw data: .glb rooms, phone-like videos, numbered frames, labelled sets."""
    from mimic import synthesize as stage

    stage.main(load_params(params), params.parent, kind)


@app.command(rich_help_panel="Pipeline")
def ingest(source: str, params: ParamsFile = DEFAULT_PARAMS) -> None:
    """List what raw data a source holds: clips, bytes, frames, hashes."""
    from mimic import ingest as stage

    stage.main(load_params(params), params.parent, source)


@app.command(rich_help_panel="Pipeline")
def mine(source: str, params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Mine pairs of overlapping views from a source into shards."""
    from mimic import mine as stage

    stage.main(load_params(params), params.parent, source)


@app.command(rich_help_panel="Pipeline")
def assemble(dataset: str, params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Write a dataset's manifest: rows that point into shards, split by scene, nested, without
    duplicates."""
    from mimic import assemble as stage

    stage.main(load_params(params), params.parent, dataset)


@app.command(rich_help_panel="Pipeline")
def pretrain(run: str, params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Pretrain an encoder; re-running resumes where it stopped."""
    from mimic import pretrain as stage

    stage.main(load_params(params), params.parent, run)


@app.command(rich_help_panel="Models")
def sweep(
    runs: Annotated[
        Optional[list[str]],
        typer.Argument(help="Names under `runs` in params.yaml; default: those of table.runs"),
    ] = None,
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Train several runs at once, on SLURM as one array; `dvc repro` then finds them trained and
    publishes them."""
    from mimic import pretrain as stage

    read = load_params(params)
    trained = stage.sweep(
        read, params.parent, runs or [name for name in read.table.runs if name in read.runs]
    )
    print(
        f"trained: {', '.join(trained) or 'none, all were'}; dvc repro publishes and measures them"
    )


@app.command(rich_help_panel="Pipeline")
def prepare(task: str, params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Check a task's data before anything is trained on them: counts, units, masks, labels."""
    from mimic import prepare as stage

    stage.main(load_params(params), params.parent, task)


@app.command(rich_help_panel="Pipeline")
def evaluate(run: str, task: str, params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Measure an encoder on a task."""
    from mimic import evaluate as stage

    stage.main(load_params(params), params.parent, run, task)


@app.command(rich_help_panel="Pipeline")
def report(params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Write report/index.html: pairs, reconstructions, depth maps, losses, results."""
    from mimic import report as stage

    stage.main(load_params(params), params.parent)


@app.command(rich_help_panel="Your own data")
def pairs(
    # readable=False: one path that may not be read is named, and the rest is mined
    paths: Annotated[
        list[Path], typer.Argument(help="Videos, image folders or .glb scenes", readable=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pair shards", readable=False)],
    params: AnyParamsFile = None,
    spacing_s: Annotated[Optional[float], typer.Option(help="Seconds between video frames")] = None,
    crop_bottom: Annotated[
        Optional[float],
        typer.Option(help="Share of a video's height cut off below, such as a burned-in caption"),
    ] = None,
    up: Annotated[
        Optional[Literal["y", "z", "auto"]], typer.Option(help="Which axis of a .glb points up")
    ] = None,
    group_max: Annotated[
        Optional[int],
        typer.Option(
            help="Of a larger set of images only as many pairs are tried as this many have"
        ),
    ] = None,
    island_radius_min_m: Annotated[
        Optional[float], typer.Option(help="Smaller pieces of walkable floor in a .glb are skipped")
    ] = None,
    texture_max_px: Annotated[
        Optional[int], typer.Option(help="Larger textures of a .glb are shrunk")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print counts and reasons as JSON")
    ] = False,
) -> None:
    """Mine videos, image folders or .glb scenes given here; numbers that are not given are the
    params file's.

    What could not be read is named in OUT/_pairs.json and counted; the rest is mined. Exit status:
    0 there are pairs, 1 there are none, 2 nothing was started.
    """
    from mimic.commands import own_data, own_options

    said = own_options.Options(
        spacing_s, crop_bottom, up, group_max, island_radius_min_m, texture_max_px
    )
    if not own_data.pairs(load_here_or_packaged(params), paths, out, said, as_json=as_json):
        raise typer.Exit(1)


@app.command(rich_help_panel="Your own data")
def pair(
    a: Annotated[Path, typer.Argument(readable=False)],
    b: Annotated[Path, typer.Argument(readable=False)],
    params: AnyParamsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON")] = False,
    plot: Annotated[
        Optional[Path], typer.Option(help="Write a picture of the matched patches, .png or .jpg")
    ] = None,
) -> None:
    """Explain one pair of images: matches, homography, overlap, and what would become of it."""
    from mimic.commands import own_pair

    own_pair.pair(load_here_or_packaged(params), a, b, as_json=as_json, plot=plot)


@app.command(rich_help_panel="Datasets")
def export(
    dataset: str,
    out: Annotated[Path, typer.Option("--out", help="A new folder")],
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="Folders with CSV as MIMIC was released, WebDataset tars, Hugging Face parquet",
        ),
    ],
    params: ParamsFile = DEFAULT_PARAMS,
    pairs_per_file: Annotated[int, typer.Option(help="Pairs in each tar or parquet file")] = 5000,
) -> None:
    """Write a dataset with its images and data card into a folder for others to read."""
    from mimic.commands import export as stage

    stage.main(load_params(params), params.parent, dataset, form, out, pairs_per_file)


@app.command(rich_help_panel="Datasets")
def plan(
    what: Annotated[
        str,
        typer.Argument(help="A dataset to mine, or `pretrain` for every run of the parameter file"),
    ],
    params: ParamsFile = DEFAULT_PARAMS,
    rates: Annotated[
        Optional[Path],
        typer.Option(help="JSON file of stated rates, such as what --json printed elsewhere"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the plan, and the rates it rests on, as JSON")
    ] = False,
) -> None:
    """Say what mining a dataset, or pretraining, will take, from measured rates: days, bytes,
    files, and what is in the way."""
    if what == "pretrain":
        from mimic.commands import plan_pretrain

        plan_pretrain.main(load_params(params), params.parent, rates, as_json=as_json)
        return
    from mimic.commands import plan as stage

    stage.main(load_params(params), params.parent, what, rates, as_json=as_json)


@app.command("import-weights", rich_help_panel="Models")
def import_weights(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="models/NAME; list NAME under `imported` and table.runs to have it measured",
        ),
    ],
    file: Annotated[
        Optional[Path],
        typer.Argument(
            help="A .pth, .pt or .safetensors file, a folder of shards or its .index.json"
        ),
    ] = None,
    timm: Annotated[
        Optional[str],
        typer.Option(help="A timm model by name; without FILE timm fetches its weights"),
    ] = None,
    size_px: Annotated[
        Optional[tuple[int, int]],
        typer.Option(help="Image height and width, where the file does not tell"),
    ] = None,
    heads: Annotated[
        Optional[int], typer.Option(help="Attention heads, where the width is unusual")
    ] = None,
    decoder_heads: Annotated[
        Optional[int],
        typer.Option(help="Attention heads of the decoder, where its width is unusual"),
    ] = None,
    objective: Annotated[
        Optional[str], typer.Option(help="What it was trained for, such as mae; for the tables")
    ] = None,
    dataset: Annotated[
        Optional[str],
        typer.Option(help="What it was trained on, such as imagenet-1k; for the tables"),
    ] = None,
    key: Annotated[
        Optional[str],
        typer.Option(help="Entry of the file that holds the weights, such as student or model_ema"),
    ] = None,
    prefix: Annotated[
        Optional[str],
        typer.Option(help="What stands before the encoder's names; all else is left out"),
    ] = None,
    rope_base: Annotated[
        Optional[float], typer.Option(help="Base of rotary positions, where the file does not tell")
    ] = None,
    mask_ratio: Annotated[
        Optional[float], typer.Option(help="Share of patches hidden in its training")
    ] = None,
    norm_pix_loss: Annotated[
        Optional[bool], typer.Option(help="Whether its training normalised pixels within patches")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a run of this name that was trained here, too")
    ] = False,
) -> None:
    """Bring in another project's encoder, to be measured beside our own."""
    from mimic.commands import weights

    told = weights.Said(
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
    )
    if timm is None and file is None:
        raise BadInput("import-weights: name a FILE, or a timm model with --timm")
    card = (
        weights.import_timm(timm, file, out, told, force)
        if timm
        else weights.import_weights(cast(Path, file), out, told, force)
    )
    said, size = card["imported"], card["model"]
    part = "encoder and decoder" if "decoder_depth" in size else "encoder"
    print(
        f"{out}: {part} of a {said['dialect']} file, {size['depth']} blocks of {size['width']}, "
        f"{'x'.join(map(str, size['size_px']))} px"
    )
    for line in weights.told(said):
        print(line)


@app.command("export-weights", rich_help_panel="Models")
def export_weights(
    name: str,
    form: Annotated[
        Literal["timm", "mae", "croco", "multimae", "vitpose"],
        typer.Option("--format", help="Who is to read it"),
    ],
    out: Annotated[
        Optional[Path],
        typer.Option("--out", help="The file to write; default: NAME-FORMAT in the current folder"),
    ] = None,
    params: ParamsFile = DEFAULT_PARAMS,
) -> None:
    """Write models/NAME as other projects read it."""
    from mimic.commands import weights

    if Path(name).name != name or name in ("", ".."):
        raise BadInput(
            f"export-weights: {name!r} is no name of a folder in models/; name one that `ls "
            "models` shows"
        )
    path = out or Path(f"{name}-{form}.{'safetensors' if form == 'timm' else 'pth'}")
    for line in weights.export_weights(params.parent / "models" / name, form, path):
        print(line)
    print(path)


@app.command(rich_help_panel="Results")
def compare(
    params: ParamsFile = DEFAULT_PARAMS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON")] = False,
    with_paper: Annotated[
        bool, typer.Option("--paper", help="The paper's tables, ours beside the published values")
    ] = False,
) -> None:
    """Print the results table: runs by tasks, with dataset and digest."""
    from mimic.commands import compare as command

    show = command.print_paper_tables if with_paper else command.print_results
    show(load_params(params), params.parent, as_json=as_json)


@app.command(rich_help_panel="Results")
def track(params: ParamsFile = DEFAULT_PARAMS) -> None:
    """Mirror every published result into MLflow; results it already holds stay one run each."""
    from mimic.infra import tracking

    summary = tracking.mirror_all(load_params(params).tracking, params.parent)
    skipped_text = f", {summary.skipped} skipped" if summary.skipped else ""
    print(f"{summary.new} new, {summary.known} known{skipped_text}; {summary.where}")


@app.command(rich_help_panel="Help")
def doctor(
    params: AnyParamsFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON")] = False,
) -> None:
    """Say what works on this machine, with a remedy for what does not; fails only where the
    parameter file needs it."""
    from mimic.commands import doctor as stage

    if not stage.main(
        load_here_or_packaged(params), params.parent if params else Path(), as_json=as_json
    ):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: bad input and a full disk are one line and a non-zero exit; a bug keeps its
    traceback."""
    # Threads that spin while they wait for each other make training ten times slower on busy cores
    # (measured); read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        if "" in sys.argv[1:]:  # a path of no letters would be the current folder
            raise BadInput("an argument is empty; was a variable of the shell not set?")
        app()
    except BadInput as error:
        print(f"mimic: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if not is_full(error):
            raise
        where = error.filename or "the workspace"
        print(
            f"mimic: disk full while writing {where}; nothing finished is lost: free space and run "
            "the same command again",
            file=sys.stderr,
        )
        sys.exit(1)
