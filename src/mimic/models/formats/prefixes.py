"""What others put around the names of a vision transformer's weights. Names in, names out.

torch.compile, data parallelism, Lightning, DINO and detection code each prepend a word; a
classifier or its statistics lie beside the encoder. One loop takes off whatever word covers all
that is no head.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

AROUND = (
    "_orig_mod.",  # torch.compile
    "module.",  # data parallelism
    "model.",  # Lightning
    "net.",
    "network.",
    "teacher.",  # DINO, flattened
    "backbone.",
    "encoder.",
    "vit.",  # Hugging Face
)
# A classifier, a projection for training, and their running statistics: no part of an encoder.
HEAD = re.compile(r"^(head|heads|head_dist|fc|classifier|pooler|projector|projection_head)\.")


def without(names: Collection[str], prefix: str | None) -> dict[str, str]:
    """The bare name of each weight.

    Args:
        prefix: take this one off and leave out all that lies outside of it; None = the words of the
            field.

    Returns:
        Name in the file to bare name; what is not part of the encoder is not in it.

    Raises:
        ValueError: nothing has that prefix.
    """
    if prefix is None:
        bare = _bare(names)
        return {name: short for name, short in bare.items() if not HEAD.match(short)}
    inside = {name: name.removeprefix(prefix) for name in names if name.startswith(prefix)}
    if not inside:
        raise ValueError(f"no key begins with --prefix {prefix}; its first keys: {few(names)}")
    return {name: short for name, short in inside.items() if not HEAD.match(short)}


def few(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    return ", ".join(name[:60] for name in list(names)[:3]) or "none at all"


def _bare(names: Collection[str]) -> dict[str, str]:
    bare = {name: name for name in names}
    while prefix := _covering(bare.values()):
        bare = {name: short.removeprefix(prefix) for name, short in bare.items()}
    return bare


def _covering(names: Collection[str]) -> str | None:
    """A known word before every name that is no head's, if there is one."""
    body = [name for name in names if not HEAD.match(name)]
    for prefix in AROUND:
        if body and all(name.startswith(prefix) for name in body):
            return prefix
    return None
