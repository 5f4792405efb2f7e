"""Any vision transformer of timm, by its name, as an encoder: registers, layer scale, other pixel
statistics (DINOv2), rotary positions in all their variants (DINOv3, EVA-02, RoPE-ViT).

A plain one needs none of this: its weights are our own encoder's, key by key
(`checkpoint_formats`). This is for all the others.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from timm.models import eva, vision_transformer
from torch import Tensor, nn

from mimic.models.encoder import IMAGE_MEAN, IMAGE_STD, VisionTransformer

IN_BLOCK = re.compile(r"\bblocks\.(\d+)\.")


class TimmEncoder(VisionTransformer):
    """timm's model under timm's own keys; satisfies `Encoder`.

    Images arrive normalised as everywhere here (ImageNet's statistics) and are brought to those the
    model was trained with. Positions of another grid are resampled by timm, image by image size.

    Args:
        name: of a timm model, such as "vit_small_patch14_reg4_dinov2".
        size_px: height and width; None = as it was pretrained.
        pretrained: fetch timm's weights.

    Raises:
        ValueError: timm knows no such model, or it is none whose patches keep one grid through
            numbered blocks.
    """

    plain = False
    _timm: timm.models.VisionTransformer | timm.models.Eva
    _scale: Tensor
    _shift: Tensor

    def __init__(self, name: str, size_px: tuple[int, int] | None, *, pretrained: bool) -> None:
        nn.Module.__init__(self)
        model = _created(name, size_px, pretrained)
        patch = model.patch_embed.patch_size
        grid = model.patch_embed.grid_size
        self.patch_px = patch[0]
        self.width = model.embed_dim
        self.depth = len(model.blocks)
        self.heads = model.blocks[0].attn.num_heads
        self.size_px = (grid[0] * patch[0], grid[1] * patch[1])
        self.grid = (grid[0], grid[1])
        self.class_token = model.cls_token is not None
        self.positions = "sincos" if model.pos_embed is not None else "rope"
        # The parts are ours, so that weights, layers and what is frozen go by timm's names; timm's
        # own object only computes with them.
        for key, child in model.named_children():
            self.add_module(key, child)
        for key, parameter in model.named_parameters(recurse=False):
            self.register_parameter(key, parameter)
        self.__dict__["_timm"] = model
        self.pixels = {key: tuple(model.pretrained_cfg[key]) for key in ("mean", "std")}
        mean, std = map(torch.tensor, self.pixels.values())
        ours = torch.tensor(IMAGE_MEAN), torch.tensor(IMAGE_STD)
        self.register_buffer("_scale", (ours[1] / std)[:, None, None], persistent=False)
        self.register_buffer("_shift", ((ours[0] - mean) / std)[:, None, None], persistent=False)

    def tokens(
        self, images: Float[Tensor, "b 3 h w"]
    ) -> tuple[Float[Tensor, "b c"] | None, Float[Tensor, "b n c"]]:
        """See `Encoder.tokens`; registers are left out."""
        tokens = self(images)
        return tokens[:, 0] if self.class_token else None, tokens[:, self._timm.num_prefix_tokens :]

    def forward(
        self, images: Float[Tensor, "b 3 h w"], keep: Tensor | None = None
    ) -> Float[Tensor, "b t c"]:
        """All tokens after the final norm, as timm orders them.

        Raises:
            ValueError: a part of the patches is asked for.
        """
        if keep is not None:
            raise ValueError("a timm model sees whole images")
        tokens = self._timm.forward_features(self._pixels(images))
        return tokens if self.final_norm is self.norm else self.final_norm(tokens)

    @property
    def final_norm(self) -> nn.Module:
        """timm builds a model that pools with its norm behind the pooling, as `fc_norm`; weights of
        masked image modelling (EVA), which have no classes, had it on every token."""
        pooled = getattr(self, "fc_norm", None)
        classes = cast(dict[str, Any], self._timm.pretrained_cfg).get("num_classes")
        apart = isinstance(self.norm, nn.Identity) and isinstance(pooled, nn.LayerNorm)
        return cast(nn.Module, pooled if apart and not classes else self.norm)

    def intermediates(
        self, images: Float[Tensor, "b 3 h w"], blocks: Sequence[int]
    ) -> list[Float[Tensor, "b c rows columns"]]:
        """See `Encoder.intermediates`; blocks after the last one asked for are not run."""
        order = sorted(set(blocks))
        features = self._timm.forward_intermediates(
            self._pixels(images), order, norm=False, stop_early=True, intermediates_only=True
        )
        maps = dict(zip(order, cast(list[Tensor], features), strict=True))
        return [maps[block] for block in blocks]

    def _pixels(self, images: Tensor) -> Tensor:
        self.grid_of(*images.shape[-2:])
        return images * self._scale + self._shift

    def fitting(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A checkpoint in timm's keys; timm knows how the original files of its models name them.

        Raises:
            ValueError: it is none of them, its patches have another size (timm would resample their
                weights), or the model lacks a part that its blocks have (timm would leave it out).
        """
        family = eva if isinstance(self._timm, timm.models.Eva) else vision_transformer
        self._require_patches(weights)
        try:
            fitted = {
                key: value
                for key, value in family.checkpoint_filter_fn(dict(weights), self._timm).items()
                if not key.startswith("head.")
            }
        except Exception as error:  # whatever a strange file provokes there
            raise ValueError(f"not a file of this model ({error})") from None
        if left_out := _left_out(weights, fitted):
            raise ValueError(
                f"this model has no place for {len(left_out)} tensors of the file's blocks, as "
                f"{left_out[0]}; name the model of timm that has (of DINOv3 with biases, the one "
                "that ends in _qkvb)"
            )
        return fitted

    def _require_patches(self, weights: Mapping[str, Tensor]) -> None:
        for key, value in weights.items():
            if not key.endswith("patch_embed.proj.weight") or value.ndim != 4:
                continue
            if value.shape[-2:] != (self.patch_px, self.patch_px):
                height, width = value.shape[-2:]
                raise ValueError(
                    f"its patches are of {height} x {width} px, those of the model of "
                    f"{self.patch_px}; name the model of timm that has the file's"
                )


def _left_out(weights: Mapping[str, Tensor], fitted: Mapping[str, Tensor]) -> list[str]:
    """Keys of a checkpoint's blocks whose values reached the model under no name. Zeros may be left
    out, and biases of keys: they move all of a query's scores alike, and softmax ignores that."""
    given: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    for key, value in fitted.items():
        if block := IN_BLOCK.search(key):
            given[block[1], value.numel()].append(value.flatten())
    left_out = []
    for key, value in weights.items():
        block = IN_BLOCK.search(key)
        if block is None or key.endswith(".bias_mask"):
            continue
        values = value.flatten()
        parts = [values]
        if key.endswith("qkv.bias") and not _is_among(values, given[block[1], values.numel()]):
            query, _, mixed = values.chunk(3)
            parts = [query, mixed]
        if not all(_is_among(part, given[block[1], part.numel()]) for part in parts):
            left_out.append(key)
    return left_out


def _is_among(part: Tensor, values: list[Tensor]) -> bool:
    return not part.any() or any(torch.equal(part, value) for value in values)


def _refuse_other_families(name: str, model: Any) -> None:
    blocks = getattr(model, "blocks", [])
    known = isinstance(model, timm.models.VisionTransformer | timm.models.Eva)
    if model is not None and not (
        known and all(hasattr(block, "attn") and hasattr(block, "mlp") for block in blocks)
    ):
        raise ValueError(
            f"{name!r} is a {type(model).__name__}; dense tasks read timm's VisionTransformer and "
            "Eva models"
        ) from None


def _outlined(name: str) -> Any:
    """The model without arguments and without numbers; None where timm does not know the name."""
    with contextlib.suppress(Exception), torch.device("meta"):
        return timm.create_model(name, pretrained=False)
    return None


def _created(name: str, size_px: tuple[int, int] | None, pretrained: bool) -> Any:
    sizes: dict[str, Any] = {} if size_px is None else {"img_size": size_px}
    try:
        model = timm.create_model(
            name, pretrained=False, num_classes=0, dynamic_img_size=True, **sizes
        )
    except Exception as error:
        # each family of models answers a name or an argument it does not know in its own way
        _refuse_other_families(name, _outlined(name))
        raise ValueError(
            f"timm cannot make {name!r} ({' '.join(str(error).split())[:160]})"
        ) from None
    _refuse_other_families(name, model)
    if not pretrained:
        return model
    try:
        return timm.create_model(
            name, pretrained=True, num_classes=0, dynamic_img_size=True, **sizes
        )
    except Exception as error:  # of the network, of the hub, of a cache
        why = " ".join(str(error).split())[:160]
        raise ValueError(
            f"the weights of {name!r} cannot be fetched ({why}); download the file elsewhere and "
            "name it"
        ) from None
