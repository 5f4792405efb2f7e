"""What a dataset both trains on and holds out.

`select` keeps the clips of a scene group on one side, source by source. That two sources read one
folder, or that two clips hold one picture, no name tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from jaxtyping import Int8

from mimic.pairs.index import Catalogue
from mimic.pairs.select import RowStatus


@dataclass(frozen=True)
class SharedImages:
    """How many images lie on both sides, and the clips, with their sources, of one of them."""

    count: int
    trained: tuple[str, str]
    held_out: tuple[str, str]


def shared_images(catalogue: Catalogue, statuses: Int8[np.ndarray, " n"]) -> SharedImages | None:
    """Images, by their digests, of pairs to train on that are images of pairs to validate or test
    on, too: each is paired with another image there, else the pair would be a duplicate."""
    trained = np.flatnonzero(statuses == RowStatus.TRAIN)
    held_out = np.flatnonzero(np.isin(statuses, (RowStatus.VALIDATION, RowStatus.TEST)))
    shared = np.intersect1d(catalogue.images[trained], catalogue.images[held_out])
    if not len(shared):
        return None
    first, second = (
        catalogue.clips[
            catalogue.clip[rows[(catalogue.images[rows] == shared[0]).any(axis=1).argmax()]]
        ]
        for rows in (trained, held_out)
    )
    return SharedImages(len(shared), first, second)


def sources_of_one_folder(roots: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Every two sources of which one reads a folder that the other reads, or one below it.

    Args:
        roots: the folder of each source.
    """
    real = {source: path.resolve() for source, path in roots.items()}
    return [
        (one, other)
        for one, other in combinations(sorted(real), 2)
        if real[one].is_relative_to(real[other]) or real[other].is_relative_to(real[one])
    ]
