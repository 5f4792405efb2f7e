"""What one model can take from another's weights, and what of it starts afresh. Sizes and tensors
only.

The encoder is taken whole or not at all: its numbers have to be equal. Positions follow the image
size, and a class token is taken, dropped or begun. Of the decoder is taken what plays the same
part:

    objectives            taken
    the same              all of it
    mae and croco         embedding, mask token, prediction, norms; of each block self-attention and
    mae and siamese       MLP with their norms, norm2 of one being norm3 of the other; attention to
                          the other view is begun, or dropped
    croco and siamese     nothing: the blocks are named alike and run in another order
    other decoder sizes   nothing
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mimic.models.layers import TABLE_TOLERANCE, resample_positions, sincos_table
from mimic.models.objectives.base import Pretraining
from mimic.models.spec import DECODER, ViTSize, encoder_differences

TWO_VIEWS = ("croco", "siamese")


@dataclass(frozen=True)
class Ancestor:
    """A model to take from: its sizes, its objective (None: unknown) and its weights under our
    names, "encoder.*" and, where it has one, "decoder.*"."""

    size: ViTSize
    objective: str | None
    weights: Mapping[str, Tensor]

    @property
    def has_decoder(self) -> bool:
        return "decoder.mask_token" in self.weights and bool(self.size.decoder_width)


@dataclass
class Inherited:
    """What became of every tensor of a model.

    Attributes:
        taken: name here -> name there.
        fresh: as the model was initialised.
        positions: "taken", "recomputed" or "resampled" of each table; "rotary" where there is none.
        class_token: "taken", "dropped", "fresh" or "none".
        decoder: why not all of the decoder was taken; None where it was.
    """

    taken: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)
    positions: dict[str, str] = field(default_factory=dict)
    class_token: str = "none"
    decoder: str | None = None


@torch.no_grad()
def inherit(model: Pretraining, objective: str, size: ViTSize, ancestor: Ancestor) -> Inherited:
    """Copy into `model`, in place, what it can take; its encoder is of the same numbers.

    Args:
        objective, size: of `model`.

    Raises:
        ValueError: the encoders differ.
    """
    if differences := encoder_differences(ancestor.size, size):
        raise ValueError(f"the encoders differ in {', '.join(differences)}")
    result = Inherited(class_token=_class_token(ancestor.size, size))
    names = {f"encoder.{name}": f"encoder.{name}" for name in model.encoder.state_dict()}
    decoder, result.decoder = _decoder_names(model, objective, size, ancestor)
    state = model.state_dict()
    for name in state:
        source = (names | decoder).get(name)
        if name.endswith(".pos_embed") and source is not None:
            result.positions[name] = _place(state[name], ancestor, source, size)
            result.taken[name] = source
        elif source is None or source not in ancestor.weights:
            result.fresh.append(name)
        else:
            state[name].copy_(ancestor.weights[source])
            result.taken[name] = source
    if size.positions == "rope":
        result.positions["encoder"] = "rotary"
    return result


def _class_token(source: ViTSize, target: ViTSize) -> str:
    if target.class_token:
        return "taken" if source.class_token else "fresh"
    return "dropped" if source.class_token else "none"


def _place(table: Tensor, ancestor: Ancestor, source: str, size: ViTSize) -> str:
    """Fill a table of positions; how. The formula's is computed for the new grid, a learned one is
    resampled as in the field (bicubic), and one of the same grid stays as it is."""
    inherited = ancestor.weights[source]
    old = inherited[:, int(ancestor.size.class_token) :]
    if size.class_token and ancestor.size.class_token:
        table[:, :1].copy_(inherited[:, :1])
    patches = table[:, int(size.class_token) :]
    if ancestor.size.grid == size.grid:
        patches.copy_(old)
        return "taken"
    formula = sincos_table(ancestor.size.grid, old.shape[-1], class_token=False).to(old)
    if torch.allclose(old, formula, atol=TABLE_TOLERANCE, rtol=0):
        return "recomputed"  # by the formula, which the model starts with
    patches.copy_(resample_positions(old, ancestor.size.grid, size.grid))
    return "resampled"


def _decoder_names(
    model: Pretraining, objective: str, size: ViTSize, ancestor: Ancestor
) -> tuple[dict[str, str], str | None]:
    """Which tensor of the decoder comes from which, and why not all of them do."""
    if not ancestor.has_decoder:
        return {}, "the weights hold an encoder only"
    shape, wanted = ([getattr(one, key) for key in DECODER] for one in (ancestor.size, size))
    if shape != wanted:
        return {}, (
            f"it is {shape[0]} wide, {shape[1]} deep with {shape[2]} heads, and the recipe's is "
            f"{wanted[0]}, {wanted[1]} and {wanted[2]}"
        )
    names = {f"decoder.{name}": f"decoder.{name}" for name in model.decoder.state_dict()}
    if objective == ancestor.objective:
        return names, None
    pair = {objective, ancestor.objective}
    if pair == set(TWO_VIEWS) or not pair <= {"mae", *TWO_VIEWS}:
        return {}, f"{ancestor.objective} runs its blocks in another way than {objective}"
    if objective == "mae":
        renamed = {name: re.sub(r"(\.blocks\.\d+)\.norm2\.", r"\1.norm3.", name) for name in names}
        return renamed, f"attention to another view is dropped, as {objective} has one view"
    fits = {
        name: re.sub(r"(\.blocks\.\d+)\.norm3\.", r"\1.norm2.", name)
        for name in names
        if not re.search(r"\.blocks\.\d+\.(cross_attn|norm_y|norm2)\.", name)
    }
    return fits, f"attention to the other view starts afresh, as {ancestor.objective} has one view"


def groups(names: Iterable[str]) -> dict[str, int]:
    """How many tensors of each part, such as "encoder.blocks"."""
    return dict(Counter(".".join(name.split(".")[:2]) for name in sorted(names)))


class LayeredModel:
    """A pretraining model whose rates fall towards the input (`optim.layer_decay_groups`): patches,
    tokens and positions are layer 0, then the blocks of the encoder; its norm and the decoder are
    the last.

    Args:
        fresh: tensors that were not inherited, which learn as the last layer does.
    """

    def __init__(self, model: Pretraining, fresh: Iterable[str]) -> None:
        self._model = model
        self._fresh = frozenset(fresh)
        self.last_layer = model.encoder.depth + 1

    def layer_of(self, name: str) -> int:
        """The layer that decides a parameter's rate, 0 to `last_layer`."""
        first = ("encoder.patch_embed.", "encoder.cls_token", "encoder.pos_embed")
        if name in self._fresh:
            return self.last_layer
        if block := re.match(r"encoder\.blocks\.(\d+)\.", name):
            return int(block[1]) + 1
        return 0 if name.startswith(first) else self.last_layer

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        return self._model.named_parameters()
