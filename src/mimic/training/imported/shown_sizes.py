"""Sizes that the weights show by their shapes, against those that are said of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHOWN = {  # by our names: the names under which files state them, and what they are
    "depth": ("enc_depth", "number of blocks"),
    "width": ("enc_embed_dim", "width"),
    "patch_px": ("patch_size", "side of a patch"),
    "decoder_depth": ("dec_depth", "number of blocks of the decoder"),
    "decoder_width": ("dec_embed_dim", "width of the decoder"),
}


def require_as_stated(shown: Mapping[str, Any], stated: Mapping[str, Any]) -> None:
    """A file that was cut, or edited, holds fewer blocks than it says, in the right shapes.

    Args:
        shown: sizes by our names; without those of a decoder where there is none.
        stated: numbers under CroCo's names.

    Raises:
        ValueError: the two differ.
    """
    for ours, (theirs, what) in SHOWN.items():
        if ours not in shown or theirs not in stated:
            continue
        size = stated[theirs]
        if isinstance(size, list | tuple) and size and all(side == size[0] for side in size):
            size = size[0]  # sides of a patch
        if size != shown[ours]:
            raise ValueError(
                f"what is said of it ({theirs} {str(size)[:20]}) and its weights ({shown[ours]}) "
                f"differ in the {what}: a part is missing, or the description is of another model; "
                "fetch both again"
            )
