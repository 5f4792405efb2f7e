"""Where a run starts: random weights, or those of a model that is there (`init` of an entry of
`adapt`).

Every rank reads the same files, and a run in progress goes on from its own checkpoint instead.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mimic import config
from mimic.errors import BadInput
from mimic.infra.storage import file_digest
from mimic.models import ViTSize, build
from mimic.models.inheritance import Ancestor, Inherited, groups, inherit
from mimic.models.layers import initialise
from mimic.models.objectives.base import Pretraining
from mimic.training.checkpoint import DECODER_KEYS, network_of, read_card, read_published
from mimic.training.optimizer_state import FILE, OptimizerState

ENCODER = "encoder."


@dataclass(frozen=True)
class Start:
    """A published model that a run starts from.

    Attributes:
        name: of the run or import.
        folder: models/<name>.
        digest: sha256 of the file of weights.
    """

    name: str
    folder: Path
    digest: str
    optimizer_digest: str | None

    @classmethod
    def of_json(cls, stated: dict[str, Any]) -> Start:
        return cls(**stated | {"folder": Path(stated["folder"])})

    def as_json(self) -> dict[str, Any]:
        """The same for a process elsewhere."""
        return asdict(self) | {"folder": str(self.folder.resolve())}

    def optimizer_state(self) -> OptimizerState | None:
        """The averages of AdamW to go on with, where they are asked for."""
        return OptimizerState.read(self.folder / FILE) if self.optimizer_digest else None

    @property
    def made_by(self) -> list[str]:
        """What of it decides the weights that follow."""
        return [self.digest, *([self.optimizer_digest] if self.optimizer_digest else [])]


def find(name: str, folder: Path, *, optimizer: bool) -> Start:
    """The start of a run: its files are there.

    Args:
        optimizer: the averages of AdamW are wanted, too.

    Raises:
        BadInput: they are not.
    """
    if not (folder / "card.json").exists():
        raise BadInput(
            f"{folder}: there are no weights to start from; make them first: mimic pretrain {name} "
            f"for a run, mimic import-weights FILE --out models/{name} for an import"
        )
    kept = folder / FILE
    if optimizer and not kept.exists():
        raise BadInput(
            f"{folder}: keeps no optimizer to go on with; import the file with mimic "
            "import-weights --optimizer, or say optimizer: fresh"
        )
    digest = file_digest(weights_file(folder))
    return Start(name, folder, digest, file_digest(kept) if optimizer else None)


def weights_file(folder: Path) -> Path:
    """The file with the decoder where there is one."""
    full_model = folder / "model.safetensors"
    return full_model if full_model.exists() else folder / "encoder.safetensors"


def read(start: Start) -> Ancestor:
    """Its sizes and weights.

    Raises:
        BadInput: a file is damaged, or it is a model that pretraining cannot build.
    """
    size = encoder_size(start)
    card = read_card(start.folder)
    path = weights_file(start.folder)
    weights = read_published(path, card)
    if path.name == "encoder.safetensors":
        weights = {ENCODER + name: value for name, value in weights.items()}
    for name in (card.get("imported") or {}).get("zero") or []:
        if name.startswith("decoder.pred."):  # the file had none, and zeros are no start
            weights.pop(name, None)
    known = all(key in card for key in DECODER_KEYS)
    return Ancestor(size, network_of(card) if known else None, weights)


def encoder_size(start: Start) -> ViTSize:
    """The numbers of its encoder, from the card alone.

    Raises:
        BadInput: the card does not say them, or it is a model that pretraining cannot build.
    """
    card = read_card(start.folder)
    if "timm" in card["model"]:
        raise BadInput(
            f"{start.folder}: is timm's {card['model']['timm']}, which only evaluation runs; start "
            "from plain weights (mimic import-weights FILE, without --timm)"
        )
    try:
        return ViTSize.of_card(card["model"])
    except ValueError as error:
        raise BadInput(f"{start.folder / 'card.json'}: {error}") from None


def initial_model(recipe: config.Recipe, run: config.Run) -> Pretraining:
    """The model of a recipe with the initial weights of a run's seed, on the CPU.

    Raises:
        BadInput: numbers that do not go together.
    """
    try:
        model = build(
            recipe.objective, recipe.model.size(), recipe.masking(), attention=recipe.attention
        )
    except ValueError as error:
        raise BadInput(f"params.yaml: recipe {run.recipe}: {error}") from None
    initialise(model, torch.Generator().manual_seed(run.only_seed))
    return model


def starting_model(
    recipe: config.Recipe, run: config.Run, begin: Start | None
) -> tuple[Pretraining, Inherited | None]:
    """The same with what it takes from its start, and what that is.

    Raises:
        BadInput: numbers that do not go together, or weights that are damaged or others than they
            were when the run began.
    """
    model = initial_model(recipe, run)
    if begin is None:
        return model, None
    if file_digest(weights_file(begin.folder)) != begin.digest:
        raise BadInput(
            f"{begin.folder}: was made anew while a run that starts from it was trained; run mimic "
            "pretrain again"
        )
    try:
        return model, inherit(model, recipe.objective, recipe.model.size(), read(begin))
    except (ValueError, RuntimeError) as error:
        raise BadInput(f"{begin.folder}: {error}") from None


# ---------------------------------------------------------------------------- what is said of it


def record(start: Start, inherited: Inherited, recipe: config.Recipe) -> dict[str, Any]:
    """`init` of a card."""
    card = read_card(start.folder)
    size = ViTSize.of_card(card["model"])
    source = card.get("imported")
    init: dict[str, Any] = {
        "name": start.name,
        "weights": weights_file(start.folder).name,
        "sha256": start.digest,
        "objective": card.get("objective"),
        "steps": card.get("steps"),
        "file": source and {"name": source["file"], "sha256": source["sha256"]},
        "taken": groups(inherited.taken),
        "fresh": groups(inherited.fresh),
        "positions": {
            "from": list(size.grid),
            "to": list(recipe.model.size().grid),
            "how": inherited.positions,
        },
        "class_token": inherited.class_token,
        "decoder": inherited.decoder or "taken",
    }
    if earlier := card.get("init"):  # the whole way back to a file or to random weights
        init["before"] = earlier
    if start.optimizer_digest:
        state = OptimizerState.read(start.folder / FILE)
        init["optimizer"] = {"sha256": start.optimizer_digest, "step": state.step}
    return init


def lines(init: dict[str, Any]) -> list[str]:
    """What was taken and what is fresh, in a few lines, from `init` of a card."""
    file = init["file"]
    source = f", from {file['name']} (sha256 {str(file['sha256'])[:12]})" if file else ""
    taken = sum(count for part, count in init["taken"].items() if part.startswith(ENCODER))
    extra = [_positions(init["positions"]), _class_token(init["class_token"])]
    described = [
        f"starts from {init['name']}{source}: {taken} tensors of the encoder; "
        + "; ".join(filter(None, extra))
    ]
    decoder = {key: one for key, one in init["taken"].items() if not key.startswith(ENCODER)}
    why = "" if init["decoder"] == "taken" else f" ({init['decoder']})"
    fresh = sum(count for part, count in init["fresh"].items() if not part.startswith(ENCODER))
    described.append(f"decoder: {sum(decoder.values())} tensors taken, {fresh} fresh{why}")
    if optimizer := init.get("optimizer"):
        described.append(f"optimizer: AdamW goes on after its step {optimizer['step']}")
    return described


def _positions(inherited: dict[str, Any]) -> str:
    how = inherited["how"].get("encoder.pos_embed", "rotary")
    grids = " to ".join(
        f"{rows} x {columns}" for rows, columns in (inherited["from"], inherited["to"])
    )
    if how == "rotary":
        return "rotary positions need nothing"
    if how == "taken":
        return "positions taken"
    by = "by the sine-cosine formula" if how == "recomputed" else "bicubic"
    return f"positions {how} from {grids} patches ({by})"


def _class_token(what: str) -> str | None:
    return {
        "taken": "class token taken",
        "dropped": "its class token is dropped, as the recipe has none",
        "fresh": "the class token is fresh, as the weights have none",
    }.get(what)
