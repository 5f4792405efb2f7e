"""`mimic import-weights`: an encoder of another project, or of timm, as models/<name>.

An import is complete or it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mimic.commands.import_card import card_of, source_of, terms_of
from mimic.config.names import wrong_with
from mimic.errors import BadInput
from mimic.infra import earlier
from mimic.infra.owner import owned
from mimic.infra.publishing import Work, publish, resolve_target
from mimic.infra.storage import Workspace
from mimic.models import build
from mimic.models.encoder import VisionTransformer
from mimic.models.formats import checkpoint_formats, timm_rope
from mimic.models.formats.checkpoint_formats import OBJECTIVE_OF, Translated
from mimic.models.objectives.base import Pretraining
from mimic.training import optimizer_state
from mimic.training.checkpoint import load_into, read_card, require_recorded, write_weights
from mimic.training.encoder_folder import write_card
from mimic.training.imported import averages
from mimic.training.imported.containers import Foreign, read_checkpoint
from mimic.training.imported.foreign import ImportOverrides, Numbers, numbers_of
from mimic.training.imported.self_description import (
    beside,
    beside_croco,
    beside_timm,
    is_of_dust3r,
    require_pixels_of,
)
from mimic.training.optimizer_state import OptimizerState

PATIENCE_S = 60.0  # for another import of this name; a training takes longer, and is named


def import_weights(
    path: Path,
    out: Path,
    overrides: ImportOverrides,
    force: bool = False,
    *,
    optimizer: bool = False,
) -> dict[str, Any]:
    """Write a foreign checkpoint as models/<name>, which `evaluate` measures like a run of ours and
    `adapt` starts from.

    Args:
        optimizer: keep the averages of AdamW beside the weights, to go on with.

    Returns:
        The card.

    Raises:
        BadInput: something else lies at `out`, or the file is damaged, holds more than weights, is
            of no known family, or does not fit whole; nothing is written.
    """
    _check_target(out, force)
    foreign = read_checkpoint(path, overrides.key, overrides.prefix)
    _require_whole_encoder(path)
    if (path / "card.json").is_file() and (path / "model.safetensors").is_file():
        left = "model.safetensors (the decoder it was pretrained with)"
        foreign = replace(foreign, left_out=[*foreign.left_out, left])
    try:
        of_dust3r = is_of_dust3r(foreign.facts, path)
        checkpoint = checkpoint_formats.translate(foreign.weights, of_dust3r)
        side_config = BESIDE[checkpoint.dialect](path) if checkpoint.dialect in BESIDE else {}
        numbers = numbers_of(checkpoint, foreign.facts | {"config": side_config}, overrides)
        checkpoint = _in_our_order(checkpoint, numbers, side_config)
        encoder = VisionTransformer(numbers.size, attention="auto")
        model = _full_model(checkpoint, numbers)
    except (ValueError, KeyError, RuntimeError, OverflowError) as error:
        raise BadInput(f"{path}: {error}") from None
    _refuse_partial(checkpoint, encoder, model, path)
    prefix = "encoder."
    load_into(
        encoder,
        {
            key.removeprefix(prefix): value
            for key, value in checkpoint.weights.items()
            if key.startswith(prefix)
        },
        path,
    )
    if model is not None:
        load_into(model, checkpoint.weights, path)
    card = card_of(path, out.name, checkpoint, foreign, numbers, overrides, model)
    state = _averages(path, checkpoint, foreign, model) if optimizer else None
    if state is not None:
        card["imported"]["beside"].remove(averages.ENTRY)
        card["imported"]["optimizer"] = {"step": state.step, "betas": list(state.betas)}

    def fill(folder: Path) -> None:
        write_weights(encoder.state_dict(), folder / "encoder.safetensors", card)
        if model is not None:
            write_weights(model.state_dict(), folder / "model.safetensors", card)
        if state is not None:
            state.write(folder / optimizer_state.FILE)
        card.update(write_card(folder, card))

    _publish(fill, out, force)
    return card


def _require_whole_encoder(path: Path) -> None:
    """Of a model in models/, given by its folder or its file, the card says what was written."""
    encoder = path / "encoder.safetensors" if path.is_dir() else path
    ours = encoder.name == "encoder.safetensors" and encoder.is_file()
    if ours and (encoder.parent / "card.json").is_file():
        require_recorded(encoder, read_card(encoder.parent))


def _averages(
    path: Path, checkpoint: Translated, foreign: Foreign, model: Pretraining | None
) -> OptimizerState:
    """The optimizer of a checkpoint by our names; it has the averages of every trained tensor.

    Raises:
        BadInput: it has not, or they cannot be told with certainty.
    """
    if model is None or checkpoint.dialect not in WITH_OPTIMIZER:
        raise BadInput(
            f"{path}: only a whole checkpoint of {', '.join(WITH_OPTIMIZER)}, decoder included, is "
            "continued with its optimizer; import it without --optimizer"
        )
    saved = averages.read_averages(path, foreign.weights)
    renamed = {
        average: checkpoint_formats.translate(values).weights
        for average, values in saved.averages.items()
    }
    state = replace(saved, averages=renamed)
    if problem := state.problem(model, state.betas):
        raise BadInput(f"{path}: its optimizer: {problem}; import it without --optimizer")
    return state


def import_timm(
    name: str, path: Path | None, out: Path, overrides: ImportOverrides, force: bool = False
) -> dict[str, Any]:
    """Write a model of timm, given by its name, as models/<name>; its weights from a file, or
    fetched by timm.

    Returns:
        The card.

    Raises:
        BadInput: timm has no such vision transformer, its weights cannot be fetched, or the file
            does not fit whole; nothing is written.
    """
    _check_target(out, force)
    # importing timm takes seconds, and no other command here needs it
    from mimic.models.formats.timm_vit import TimmEncoder

    try:
        encoder = TimmEncoder(name, overrides.size_px, pretrained=path is None)
        foreign = None
        weights = dict(encoder.state_dict())
        if path is not None:
            foreign = read_checkpoint(path, overrides.key, overrides.prefix)
            require_pixels_of(encoder.pixels, path)
            weights = encoder.fitting(foreign.weights)
    except ValueError as error:
        raise BadInput(f"{path or name}: {error}") from None
    load_into(encoder, weights, path or out)
    sizes = {
        key: getattr(encoder, key)
        for key in ("size_px", "patch_px", "width", "depth", "heads", "class_token")
    }
    source = source_of(path, "timm", foreign, [])
    card = {
        "run": out.name,
        "imported": source,
        "objective": overrides.objective,
        "dataset": overrides.dataset,
        "steps": None,
        "versions": {
            "mimic": version("mimic"),
            "torch": torch.__version__,
            "timm": version("timm"),
        },
        "model": sizes | {"timm": name, "size_px": list(encoder.size_px)},
        "licences": terms_of(out.name, overrides),
    }

    def fill(folder: Path) -> None:
        write_weights(encoder.state_dict(), folder / "encoder.safetensors", card)
        card.update(write_card(folder, card))

    _publish(fill, out, force)
    return card


def _publish(fill: Callable[[Path], None], out: Path, force: bool) -> None:
    """In a workspace models/NAME has one owner, whether NAME is trained or imported."""
    work = Workspace(out.absolute().parent.parent).work("pretrain", out.name)
    ours = out.absolute().parent.name == "models" and (work.parents[2] / "params.yaml").is_file()
    with owned(work, f"import-weights {out.name}", PATIENCE_S) if ours else nullcontext():
        made_by = Work("import", out.name)
        publish(fill, out, made_by, over=_replaceable(force), recognise=earlier.model)


def _check_target(out: Path, force: bool) -> None:
    """Refuse a name that no entry of `imported` could have, and a folder that holds anything but an
    earlier import of this name."""
    if why := wrong_with(out.name):
        raise BadInput(
            f"--out {out}: {out.name!r} cannot be the name of a model: {why}; say models/NAME"
        )
    try:
        resolve_target(
            out, Work("import", out.name), over=_replaceable(force), recognise=earlier.model
        )
    except BadInput as error:
        raise BadInput(f"--out {error}") from None


def _replaceable(force: bool) -> tuple[str, ...]:
    """The kinds that an import replaces beside its own."""
    return ("pretrain",) if force else ()


WITH_OPTIMIZER = ("mae", "mimic", "croco")
# What lies beside a file, or in its head, and says how its model is built.
BESIDE = {"vit": beside, "vit_mae": beside, "timm": beside_timm, "dust3r": beside_croco}


def _in_our_order(
    checkpoint: Translated, numbers: Numbers, side_config: Mapping[str, Any]
) -> Translated:
    """Rotary queries and keys of timm, channel by channel as ours."""
    if checkpoint.dialect != "timm" or numbers.size.positions != "rope":
        return checkpoint
    if "pos_embed" not in side_config:
        raise ValueError(
            "it holds no table of positions, and nothing beside it tells in which order its rotary "
            "channels lie; give the folder that holds its config.json, or --timm NAME"
        )
    weights = timm_rope.reordered(checkpoint.weights, numbers.size.heads)
    return replace(checkpoint, weights=weights)


def _full_model(checkpoint: Translated, numbers: Numbers) -> Pretraining | None:
    """The model with its decoder, if the file has one."""
    if not checkpoint.has_decoder or numbers.masking is None:
        return None
    return build(OBJECTIVE_OF[checkpoint.dialect], numbers.size, numbers.masking)


def _refuse_partial(
    checkpoint: Translated, encoder: VisionTransformer, model: Pretraining | None, path: Path
) -> None:
    """Refuse weights of which a key is missing or unexpected; encoder and decoder are reported
    together."""
    wanted = {f"encoder.{key}" for key in encoder.state_dict()}
    if model is not None:
        wanted = set(model.state_dict())
    missing = sorted(wanted - set(checkpoint.weights))
    unexpected = sorted(set(checkpoint.weights) - wanted)
    if not missing and not unexpected:
        return
    if "encoder.fc_norm.weight" in unexpected and "encoder.norm.weight" in missing:
        raise BadInput(
            f"{path}: fine-tuned with global pooling: its fc_norm normalises the mean of all "
            "tokens, and it has no norm of the tokens themselves, which features need; nothing was "
            "imported: use the weights from before that fine-tuning"
        )
    counts = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    raise BadInput(
        f"{path}: read as {checkpoint.dialect}, but only a part fits: {'; '.join(counts)}; nothing "
        "was imported; if timm has this model, say --timm NAME"
    )
