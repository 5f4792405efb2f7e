"""Sections `pretrain`, `runs` and `adapt`."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mimic.config.base import (
    AboveZero,
    AreaRange,
    Betas,
    Count,
    Fraction,
    NotNegative,
    Positive,
    Section,
    Seed,
)
from mimic.config.licences import Wishing
from mimic.config.names import seed_name
from mimic.models import OBJECTIVES, Masking, ViTSize, visible_count
from mimic.models.cost import training_flops


class Model(Section):
    """Sizes of the encoder and of the decoder that only pretraining uses; tiny to ViT-L by
    numbers."""

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

    def size(self) -> ViTSize:
        """The same as the models take it."""
        return ViTSize(**self.model_dump() | {"size_px": self.height_width_px})

    @model_validator(mode="after")
    def _consistent(self) -> Model:
        if any(side % self.patch_px for side in self.height_width_px):
            raise ValueError(f"patch_px {self.patch_px} does not divide size_px {self.size_px}")
        for width, heads in ((self.width, self.heads), (self.decoder_width, self.decoder_heads)):
            if width % heads:
                raise ValueError(f"heads {heads} does not divide width {width}")
            if width % 4 or (self.positions == "rope" and width // heads % 4):
                raise ValueError(
                    f"{self.positions} positions need 4 to divide the width ({width}; rope: the "
                    "width of a head, too)"
                )
        return self


class Augment(Section):
    """What happens to the views on the device, drawn anew for every step from (seed, step)."""

    swap: Fraction  # share of pairs whose views change roles (MIMIC: 0.5)
    crop: Literal[
        "none", "window", "resized"
    ]  # window: model-sized cut at stored scale (CroCo); resized: random area and aspect (MAE)
    crop_area: AreaRange  # resized: share of the image's area
    flip: Fraction  # share mirrored; both views of a pair together
    # brightness, contrast and saturation change by factors within 1 +- this, each view on its own
    # (CroCo: 0.4)
    jitter: Fraction


class Matching(Section):
    """A loss on the mined patch correspondences beside the pixels' (ours; in none of the papers).
    For objective croco."""

    weight: Annotated[float, Field(ge=0)]  # 0 = only pixels count
    temperature: Annotated[float, Field(gt=0)]  # divides cosine similarities


class Recipe(Wishing):
    """How to pretrain: objective, model, optimiser (CroCo, appendix; MAE, appendix A; MIMIC,
    appendix)."""

    UNSAID: ClassVar[tuple[str, ...]] = (*Wishing.UNSAID, "decode_px")

    objective: str  # see `mimic.models.OBJECTIVES`; mae: every view is an image of its own
    model: Model
    mask_ratio: Annotated[float, Field(gt=0, lt=1)]
    visible_rounding: Literal[
        "down", "up"
    ]  # of 196 at 0.9: down 19 (MIMIC), up 20 (CroCo); MAE: down
    norm_pix_loss: bool
    batch: Positive  # croco: pairs, mae: images; of all processes together
    device_batch: (
        Positive | None
    )  # most that a process holds at once; what is more is accumulated; null = no limit
    base_lr: AboveZero  # learning rate = base_lr * batch / 256
    min_lr: NotNegative
    warmup: Fraction  # share of the steps
    horizon: Annotated[
        float, Field(ge=1)
    ]  # length of the cosine over that of the run: 1 ends at min_lr, 2 stops half-way (CroCo)
    weight_decay: NotNegative
    betas: Betas
    augment: Augment
    matching: Matching
    precision: Literal[
        "auto", "bf16", "fp32"
    ]  # auto: bf16 where the processor multiplies it natively, else fp32
    # auto: manual for bf16 on a CPU, else sdpa, where torch chooses the kernel; or one kernel by
    # name, an error where it does not run
    attention: Literal["auto", "sdpa", "flash", "efficient", "cudnn", "math", "manual"]
    compile: bool  # torch.compile: minutes at the start, faster steps on a GPU; on a CPU it hurts
    log_every: Positive
    pictures_every: (
        Positive | None
    )  # of the log lines, every so many-th comes with reconstructions; null = at the end only
    save_every: Positive  # steps between checkpoints
    keep: Positive  # newest checkpoints kept while training
    keep_every: (
        Positive | None
    )  # of the checkpoints, every so many-th is also kept for good; null = none
    workers: Count  # decoding threads; 0 = decode between steps
    samples: Positive  # held-out pairs in the reconstruction picture
    # images are decoded once, reduced to this side and kept as bytes (pairs/decoded.py); crops are
    # cut from those. null, or not stated: decoded at every step, crops cut from them as stored
    decode_px: Positive | None

    @model_validator(mode="after")
    def _decoded_large_enough(self) -> Recipe:
        height, width = self.model.height_width_px
        if self.decode_px is None:
            return self
        if self.augment.crop == "none" and (height, width) != (self.decode_px, self.decode_px):
            raise ValueError(
                f"decode_px {self.decode_px}: without a crop the model sees the images as they are "
                f"kept; set it to the model's size_px ({self.model.size_px}), or null"
            )
        if self.decode_px < max(height, width):
            raise ValueError(
                f"decode_px {self.decode_px} is smaller than the model's size_px "
                f"({self.model.size_px}); crops of it would be enlarged"
            )
        return self

    @field_validator("objective")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in OBJECTIVES:
            raise ValueError(f"{name!r} is none of {', '.join(OBJECTIVES)}")
        return name

    @property
    def sample_flops(self) -> float:
        """Arithmetic of one sample, an image or a pair, in training."""
        size = self.model.size()
        visible = visible_count(size.patches, self.mask_ratio, self.visible_rounding)
        return training_flops(OBJECTIVES[self.objective].forward_flops(size, visible))

    def masking(self) -> Masking:
        """What the objective hides and how it measures, as the models take it."""
        return Masking(
            mask_ratio=self.mask_ratio,
            visible_rounding=self.visible_rounding,
            norm_pix=self.norm_pix_loss,
            matching=self.matching.weight,
            temperature=self.matching.temperature,
        )


class Run(Section):
    """Pretraining, once or once a seed: recipe x dataset x steps. Zero steps is the
    random-initialised encoder.

    With `seed` it is one encoder, models/<run>; with `seeds` one each, models/<run>/seed-<k>.
    """

    recipe: str
    dataset: str
    steps: Count
    seed: Seed | None  # None: it has seeds
    seeds: tuple[Seed, ...] | None  # None: it has one

    @model_validator(mode="before")
    @classmethod
    def _seed_or_seeds(cls, entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        if entry.get("seeds") is None:
            return {**entry, "seeds": None}
        if entry.get("seed") is not None:
            raise ValueError("seed and seeds: state one of them")
        return {**entry, "seed": None}

    @field_validator("seeds")
    @classmethod
    def _told_apart(cls, seeds: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if seeds is not None and not seeds:
            raise ValueError("expected at least one seed, as in [0, 1, 2]")
        if seeds is not None and len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed is named twice in {list(seeds)}")
        return seeds

    @model_validator(mode="after")
    def _some_seed(self) -> Run:
        if self.seed is None and self.seeds is None:
            raise ValueError("seed: expected a number, or seeds: a list of them")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only the one of the two that is stated."""
        written: dict[str, Any] = serialise(self)
        unused = "seed" if self.seeds is not None else "seeds"
        return {key: value for key, value in written.items() if key != unused}

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """One number an encoder."""
        return self.seeds if self.seeds is not None else (self.only_seed,)

    @property
    def only_seed(self) -> int:
        """The seed of one encoder; to ask a run with several is an error of the caller."""
        if self.seed is None:
            raise TypeError(f"a run with seeds {self.seeds} is several trainings; ask `of`")
        return self.seed

    def of(self, seed: int) -> Run:
        """One of its trainings, as if it were a run of its own."""
        return self.model_copy(update={"seed": seed, "seeds": None})

    def encoders(self, name: str) -> dict[str, Run]:
        """Each training by the name of its encoder: `name`, or `name`/seed-<k>."""
        if self.seeds is None:
            return {name: self}
        return {seed_name(name, seed): self.of(seed) for seed in self.seeds}


class Adaptation(Run):
    """A run that starts from weights: an entry of `adapt`. Zero steps is what was taken, as it
    is."""

    init: str  # of `imported`, of `runs`, or another entry of `adapt`
    # learning rate of an inherited layer of the encoder over that of the next; 1 = all alike
    layer_decay: Annotated[float, Field(gt=0, le=1)]
    optimizer: Literal["fresh", "continued"]  # continued: with the AdamW averages of an import
