"""The typed mirror of params.yaml: every number of every stage, and no default anywhere in Python.

A stage is handed its own section; pure code is handed the numbers. Fractions, not percent;
suffixes `_px`, `_deg`, `_m`, `_s`; `null` in YAML means "no limit" or "off" and is written out.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mimic.errors import BadInput

T = TypeVar("T")
PACKAGED_PROFILES = Path(__file__).parent / "profiles"
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every section: immutable, and a key that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# ---------------------------------------------------------------------------- sources: where raw data lies


class SourceBase(Section):
    root: Path  # folder that holds the raw data; never written to
    tracked_by: Path  # DVC ingests again when this changes: the root itself, or any small file beside terabytes
    licence: str  # carried into every manifest
    sharpness_min: float  # variance of the Laplacian (8-bit grey); views below it are BLURRED; 0 = off
    limit_clips: Count | None  # mine only the first clips, in order; null = all


class Videos(SourceBase):
    """Video files: frames at a fixed spacing, each paired with the next (MIMIC, appendix A)."""

    reader: Literal["videos"]
    spacing_s: Annotated[float, Field(gt=0)]
    retry_spacing_s: Annotated[float, Field(gt=0)] | None  # tried when the pair is TOO_SIMILAR
    crop_bottom: Fraction  # share of the height cut off below (captions)


class Images(SourceBase):
    """Folders of images: numbered frames (`neighbours`) or an unordered set (`all`)."""

    reader: Literal["images"]
    pairing: Literal["neighbours", "all"]
    glob: str  # which files of a folder are views, such as *.color.jpg
    stride: Positive  # neighbours: distance between the two frames of a pair
    retry_strides: tuple[Positive, ...]  # distances tried, all together, when the pair is TOO_SIMILAR
    advance: Positive  # neighbours: distance between the first frames of two pairs
    group_max: Positive  # all: a folder with more images than this is refused, its pairs would be too many


class Scenes(SourceBase):
    """Textured .glb scenes that an agent walks through (MIMIC, section 3 and appendix A)."""

    reader: Literal["scenes"]
    engine: Literal["embree"]
    up: Literal["y", "z", "auto"]  # auto: z, Habitat's rule for bare .glb, unless a stage_config.json beside it says otherwise
    positions: Positive  # tries per scene
    headings: Positive  # views per position, equally spaced over 360 degrees
    render_px: Positive  # rendered square; the centre mine.size_px of it is kept
    hfov_deg: Annotated[float, Field(gt=0, lt=180)]
    height_m: tuple[float, float]  # camera height, drawn once per scene
    step_m: tuple[float, float]  # length of each of the two steps
    turn_deg: Annotated[float, Field(gt=0)]  # turns are multiples of it
    island_radius_min_m: float  # smaller walkable islands (table tops) are skipped
    texture_max_px: Positive
    lod_bias: float  # mip level offset; negative is sharper


Source = Annotated[Videos | Images | Scenes, Field(discriminator="reader")]


# ---------------------------------------------------------------------------- stages


class Flat(Section):
    """A procedural furnished flat of three rooms (unique textures, furniture, doorways)."""

    width_m: Annotated[float, Field(ge=6)]
    depth_m: Annotated[float, Field(ge=6)]
    height_m: Annotated[float, Field(ge=2.4)]
    texture_px: Annotated[int, Field(ge=128)]  # side of a texture, which spans 8 m


class Rooms(Section):
    """Flats written as .glb scenes."""

    scenes: Positive
    first_seed: Count
    flat: Flat


class Phone(Section):
    """Phone-like videos: a hand-held camera carried through a room; portrait frames stored sideways with a display matrix."""

    videos: Positive
    first_seed: Count
    flat: Flat
    seconds: float
    fps: Positive
    width_px: Positive
    height_px: Positive
    speed_m_s: float


class Frames(Section):
    """Numbered frame folders, as ScanNet or CO3D exports leave them."""

    folders: Positive
    first_seed: Count
    flat: Flat
    frames: Positive
    width_px: Positive
    height_px: Positive
    step_m: float


class LabelledDepth(Section):
    """A labelled depth set in the NYUv2 .mat layout, from scenes no pair was mined in."""

    scenes: Annotated[int, Field(ge=2)]  # some for training, others for test
    first_seed: Count
    flat: Flat
    train: Positive
    test: Positive
    width_px: Positive
    height_px: Positive


class Synthesize(Section):
    rooms: Rooms
    phone: Phone
    frames: Frames
    nyu: LabelledDepth


class Mine(Section):
    """The mining rule (MIMIC, section 3; see docs/mining.md for the two modes)."""

    seed: int
    mode: Literal["symmetric", "reference"]
    size_px: Positive
    patch_px: Positive
    ratio: Fraction  # Lowe's ratio test
    matches_min: Positive
    ransac_px: Annotated[float, Field(gt=0)]
    votes_per_patch: Positive  # reference mode: pixels drawn per patch; symmetric mode uses all pixels
    overlap_min: Fraction
    overlap_max: Fraction
    inliers_min: Count  # symmetric mode: fewer is DEGENERATE
    inlier_share_min: Fraction  # symmetric mode: inliers / matches
    area_ratio_max: Annotated[float, Field(ge=1)]  # symmetric mode: largest change of area a homography may make
    clips_per_shard: Positive
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]

    @model_validator(mode="after")
    def _consistent(self) -> Mine:
        if self.size_px % self.patch_px:
            raise ValueError(f"patch_px {self.patch_px} does not divide size_px {self.size_px}")
        if self.overlap_min >= self.overlap_max:
            raise ValueError("overlap_min must be below overlap_max")
        return self


class Dataset(Section):
    """A recipe: how many pairs of which source. A manifest, never a copy."""

    sources: dict[str, Count | None]  # pairs of each source; null = all there are
    contains: str | None  # a smaller dataset whose rows are all in this one
    validation: Fraction  # share of the clips (scenes, videos) held out; same rule in every dataset
    seed: int


class Model(Section):
    """Sizes of the encoder and of the decoder that only pretraining uses; tiny to ViT-L by numbers."""

    size_px: Positive | tuple[Positive, Positive]  # one number for a square, or [height, width]
    patch_px: Positive
    width: Positive
    depth: Positive
    heads: Positive
    decoder_width: Positive
    decoder_depth: Positive
    decoder_heads: Positive
    class_token: bool  # MAE and MIMIC: true; CroCo: false
    positions: Literal["sincos", "rope"]  # rope: CroCo v2
    norm_eps: Annotated[float, Field(gt=0)]

    @property
    def height_width_px(self) -> tuple[int, int]:
        return self.size_px if isinstance(self.size_px, tuple) else (self.size_px, self.size_px)

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        if any(side % self.patch_px for side in self.height_width_px):
            raise ValueError(f"patch_px {self.patch_px} does not divide size_px {self.size_px}")
        for width, heads in ((self.width, self.heads), (self.decoder_width, self.decoder_heads)):
            if width % heads:
                raise ValueError(f"heads {heads} does not divide width {width}")
            if width % 4 or (self.positions == "rope" and width // heads % 4):
                raise ValueError(f"{self.positions} positions need 4 to divide the width ({width}; rope: the width of a head, too)")
        return self


class Augment(Section):
    """What happens to the views on the device, drawn anew for every step from (seed, step)."""

    swap: Fraction  # share of pairs whose views change roles (MIMIC: 0.5)
    crop: Literal["none", "window", "resized"]  # window: model-sized cut at stored scale (CroCo); resized: random area and aspect (MAE)
    crop_area: tuple[Fraction, Fraction]  # resized: share of the image's area
    flip: Fraction  # share mirrored; both views of a pair together
    jitter: Fraction  # brightness, contrast and saturation change by factors within 1 +- this, each view on its own (CroCo: 0.4)


class Recipe(Section):
    """How to pretrain: objective, model, optimiser (CroCo, appendix; MAE, appendix A; MIMIC, appendix)."""

    objective: Literal["mae", "croco"]  # mae: every view is an image of its own
    model: Model
    mask_ratio: Fraction
    visible_rounding: Literal["down", "up"]  # of 196 at 0.9: down 19 (MIMIC), up 20 (CroCo); MAE: down
    norm_pix_loss: bool
    batch: Positive  # croco: pairs, mae: images
    base_lr: float  # learning rate = base_lr * batch / 256
    min_lr: float
    warmup: Fraction  # share of the steps
    horizon: Annotated[float, Field(ge=1)]  # length of the cosine over that of the run: 1 ends at min_lr, 2 stops half-way (CroCo)
    weight_decay: float
    betas: tuple[float, float]
    augment: Augment
    precision: Literal["auto", "bf16", "fp32"]  # auto: bf16 where the processor multiplies it natively, else fp32
    attention: Literal["auto", "sdpa", "manual"]  # auto: manual for bf16 on a CPU, else sdpa
    log_every: Positive
    save_every: Positive  # steps between checkpoints
    keep: Positive  # checkpoints kept while training
    workers: Count  # decoding threads; 0 = decode between steps
    samples: Positive  # held-out pairs in the reconstruction picture


class Run(Section):
    """One pretraining: recipe x dataset x steps. Zero steps is the random-initialised encoder."""

    recipe: str
    dataset: str
    steps: Count
    seed: Count


class TrainedTask(Section):
    """A task whose head is trained, and perhaps the encoder with it (spec downstream 2.2, 2.3, 2.6)."""

    preset: Literal["peer", "standard"]  # the protocol this follows; fields that differ from it are listed in the result
    data: Path
    freeze: Literal["none", "blocks", "encoder"]  # blocks: what the peers' flag does; encoder: everything, in eval mode, without gradient
    blocks: tuple[int, ...] | None  # encoder blocks the head reads, counted from 0; null = evenly spaced, ending with the last
    head_width: Positive
    size_px: Positive
    augment: Literal["none", "flip", "peer"]  # peer: mirroring and whatever else the peers do in this task
    steps: Positive
    batch: Positive
    lr: float
    weight_decay: float
    betas: tuple[float, float]
    layer_decay: float  # learning rate of a layer relative to the next
    drop_path: Fraction
    warmup: Fraction  # share of the steps
    clip_grad: float | None
    precision: Literal["fp32", "bf16"]
    save_every: Positive | None  # steps between checkpoints of a long fine-tuning; null = none, a killed one starts again
    seed: int
    samples: Count  # pictures written for the report


class DepthTask(TrainedTask):
    """NYUv2-layout depth, DPT head (spec downstream 3.1)."""

    task: Literal["depth"]
    masks: Path | None  # folder of masks, 255 = valid; null = valid where the sensor measured
    frame: Literal[
        "crop", "whole"
    ]  # crop: the smaller side becomes size_px, then a square of it; whole: all of it, sides rounded to patches
    antialias: bool  # when images are made smaller
    units_per_m: float  # the target is (depth in metres * units_per_m - target_mean) / target_std
    target_mean: float
    target_std: float
    score_at: Literal["input", "native"]  # resolution at which prediction meets truth
    score_region: Literal["all", "eigen"]  # eigen: rows 45:471, columns 41:601 of 480 x 640; native only
    depth_min_m: float | None  # truth beyond these is not scored, predictions are clamped to them
    depth_max_m: float | None
    flip_test: bool  # average the predictions of the image and of its mirror image
    averaging: Literal["batch", "image", "global"]  # which average is the value; all three are reported
    eval_batch: Positive
    eval_ranks: Positive  # averaging by batch: the peers' batches come from this many processes

    @model_validator(mode="after")
    def _scored(self) -> DepthTask:
        if self.score_region == "eigen" and (self.score_at, self.frame) != ("native", "whole"):
            raise ValueError("score_region eigen is defined on native whole frames: set score_at: native and frame: whole")
        if self.score_at == "native" and self.frame != "whole":
            raise ValueError("score_at native needs the whole frame: set frame: whole")
        return self


class CorrespondenceTask(Section):
    """Patch-match recall between the two views of held-out pairs; needs no training (spec downstream 8, rank 1)."""

    task: Literal["correspondence"]
    dataset: str  # its validation split is used
    pairs: Positive
    batch: Positive
    block: int | None  # the block whose recall is the value, fixed beforehand; null = the last; all blocks are reported
    overlap_bins: tuple[float, ...]  # edges
    samples: Count
    seed: int  # which pairs are drawn where the split has more


Task = Annotated[DepthTask | CorrespondenceTask, Field(discriminator="task")]


class Table(Section):
    """Rows and columns of the results table: what `dvc repro` evaluates."""

    runs: tuple[str, ...]
    tasks: tuple[str, ...]


class Report(Section):
    title: str
    pairs: Count  # pairs in the gallery of each source
    columns: Positive


class Resources(Section):
    """What a job of one kind of work asks of SLURM, in sbatch's words; null = not asked for. The local executor reads nodes and tasks."""

    nodes: Positive
    tasks_per_node: Positive  # processes; training uses one per GPU
    gpus_per_node: Count
    gres: str | None  # instead of gpus_per_node, where a site wants it so
    cpus_per_task: Positive
    mem_gb: Annotated[float, Field(gt=0)]  # per node
    timeout_min: Positive
    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    exclude: str | None
    signal_delay_s: Positive  # warning before the time limit, and before a preemption where the cluster gives one
    max_timeouts: Count  # how often a job may reach its time limit and go on
    items_per_job: Positive  # arrays: items that one element works through
    array_parallelism: Positive  # arrays: elements at a time
    retries: Count  # arrays: further tries of a failed item, each alone in its job
    retry_mem_growth: Annotated[float, Field(ge=1)]  # arrays: and with this much more memory
    setup: tuple[str, ...]  # shell lines before the work: module load, source activate
    srun_args: tuple[str, ...]
    sbatch: dict[str, str | int | bool]  # any other flag of sbatch; true = a bare flag

    @model_validator(mode="after")
    def _consistent(self) -> Resources:
        if self.gpus_per_node and self.gres:
            raise ValueError("gpus_per_node and gres must not be given together")
        if self.gpus_per_node % self.tasks_per_node:
            raise ValueError(f"tasks_per_node {self.tasks_per_node} does not divide gpus_per_node {self.gpus_per_node}")
        if self.signal_delay_s >= 60 * self.timeout_min:
            raise ValueError(f"signal_delay_s {self.signal_delay_s} is not below timeout_min {self.timeout_min}")
        return self


class Cluster(Section):
    """Where heavy stages run. No stage lists this section, so changing it re-runs nothing."""

    executor: Literal["local", "slurm"]
    workers: Positive | None  # local: processes on this machine; null = one per core
    poll_s: Annotated[float, Field(gt=0)]  # slurm: seconds between two looks into the queue; 30 to 60 on a big cluster
    pending_limit_min: Positive | None  # slurm: a job that waits longer for its nodes is given up; null = never
    export_cpus_per_task: bool  # slurm 22.05 to 23.02: srun does not inherit cpus_per_task
    mine: Resources
    pretrain: Resources
    evaluate: Resources

    @model_validator(mode="after")
    def _consistent(self) -> Cluster:
        if self.mine.nodes * self.mine.tasks_per_node > 1:
            raise ValueError("mine: nodes and tasks_per_node must be 1; each element of the array is one process")
        for kind in ("pretrain", "evaluate"):
            if self.executor == "local" and getattr(self, kind).nodes > 1:
                raise ValueError(f"{kind}.nodes: the local executor has one node")
        return self


class Tracking(Section):
    """MLflow is a view of the files in the run folders; MLFLOW_TRACKING_URI overrides `uri`."""

    uri: str | None  # null = no tracking
    experiment_prefix: str


class Params(Section):
    """params.yaml, whole."""

    sources: dict[str, Source]
    synthesize: Synthesize
    mine: Mine
    datasets: dict[str, Dataset]
    pretrain: dict[str, Recipe]
    runs: dict[str, Run]
    evaluate: dict[str, Task]
    table: Table
    report: Report
    cluster: Cluster
    tracking: Tracking

    @model_validator(mode="after")
    def _references(self) -> Params:
        """Every name that one section uses exists in the section it points to."""
        for name, dataset in self.datasets.items():
            _known(f"datasets.{name}.sources", dataset.sources, self.sources)
            _known(f"datasets.{name}.contains", filter(None, [dataset.contains]), self.datasets)
            _nested(name, dataset, self.datasets)
        for name, run in self.runs.items():
            _known(f"runs.{name}.recipe", [run.recipe], self.pretrain)
            _known(f"runs.{name}.dataset", [run.dataset], self.datasets)
        for name, task in self.evaluate.items():
            if isinstance(task, CorrespondenceTask):
                _known(f"evaluate.{name}.dataset", [task.dataset], self.datasets)
        _known("table.runs", self.table.runs, self.runs)
        _known("table.tasks", self.table.tasks, self.evaluate)
        if not any(self.runs[name].steps == 0 for name in self.table.runs):
            raise ValueError("table.runs: no run of 0 steps; a random-initialised encoder is always evaluated beside the others")
        return self


def _nested(name: str, outer: Dataset, datasets: dict[str, Dataset]) -> None:
    """A dataset can hold all rows of the one it contains, and a clip is on the same side of the split in all of them."""
    for other, dataset in datasets.items():
        if dataset.validation != outer.validation:
            raise ValueError(
                f"datasets.{name}.validation differs from that of {other}: a clip held out in one would be trained on in the other"
            )
    seen, inner = [name], outer.contains
    while inner is not None:
        if inner in seen:
            raise ValueError(f"datasets.{name}.contains: {' > '.join([*seen, inner])} goes round in a circle")
        seen.append(inner)
        inner = datasets[inner].contains if inner in datasets else None
    for source, count in datasets[outer.contains].sources.items() if outer.contains else ():
        if source not in outer.sources:
            raise ValueError(f"datasets.{name}.sources lacks {source}, which {outer.contains} takes from")
        most = outer.sources[source]
        if most is not None and (count is None or count > most):
            raise ValueError(f"datasets.{name}.sources.{source} must not be less than in {outer.contains}, which it contains")


def _known(where: str, names: Any, known: dict[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{where}: {name!r} does not exist; known: {', '.join(known)}")


def load(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        BadInput: the file is missing, is not YAML, or a key or value is wrong; one line that names the key.
    """
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; run mimic in the folder that holds params.yaml, or pass --params") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise BadInput(f"{path}: expected sections such as 'mine:' and 'pretrain:', found {type(raw).__name__}")
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        raise BadInput(f"{path}: {_one_line(error)}") from None


def load_here_or_packaged(path: Path | None) -> Params:
    """The file named; without one, params.yaml of the current folder; without that, the laptop profile that comes with the package."""
    if path is not None:
        return load(path)
    here = Path("params.yaml")
    return load(here) if here.exists() else packaged()


def packaged() -> Params:
    """The laptop profile that comes with the package: what params.yaml holds in a fresh clone."""
    return load(PACKAGED_PROFILES / "laptop.yaml")


def pick(table: dict[str, T], name: str, what: str) -> T:
    """`table[name]`, or one line that lists what there is."""
    if name not in table:
        close = difflib.get_close_matches(name, table, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(table)}"
        raise BadInput(f"params.yaml: no {what} named {name!r}; {hint}")
    return table[name]


def _one_line(error: ValidationError) -> str:
    """The first problem, with its dotted key; further ones are counted."""
    first, *rest = error.errors()
    tags = {"videos", "images", "scenes", "depth", "correspondence"}  # pydantic adds the union's tag to the path
    where = ".".join(str(part) for part in first["loc"] if part not in tags or part == first["loc"][0])
    match first["type"]:
        case "extra_forbidden":
            message = "unknown key"
        case "missing":
            message = "missing; params.yaml is complete, Python holds no defaults"
        case "value_error":
            message = str(first["ctx"]["error"])
        case _:
            message = f"{first['msg']} (found {first['input']!r})"
    more = f" (and {len(rest)} more)" if rest else ""
    return f"{where}: {message}{more}" if where else f"{message}{more}"
