"""Which rows a dataset takes, and why not the others: every row has one status.

- A dataset holds every row of the dataset it `contains`; beyond those, a source's count is filled
  in an order that depends on the pairs' images and the seed alone.
- A scene group, with all its clips (`scene_group` of its section), is on the same side in every
  dataset. It is held out when the hash of source and scene group falls below `validation`; where
  that takes none of a source that has several, the one with the lowest hash is. Scene groups set
  aside for the `test` split come from the other end of the hash: they are in no dataset's train or
  validation split. Of the others, a dataset that wants a share of the `places` takes those with the
  lowest of another hash, so that a smaller share lies in a larger one.
- Exact duplicates (the same two images, in either order) are left out, and near ones of other clips
  (see geometry.likeness). A test row stays before a row of the contained dataset, that before any
  other, and the first of equals before the second. A row is only left out for one that stays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Int8, Int64, UInt64

from mimic import config
from mimic.errors import BadInput
from mimic.geometry import likeness
from mimic.pairs.index import Catalogue


class RowStatus(IntEnum):
    """What becomes of a mined pair in a dataset."""

    TRAIN = 0
    VALIDATION = 1
    TEST = 2
    DUPLICATE = 3
    NEAR_DUPLICATE = 4
    RESERVED = 5  # of a scene set aside for testing, beyond the test pairs wanted
    SURPLUS = 6  # beyond the count of its source
    ELSEWHERE = 7  # its source is not in the recipe
    OTHER_PLACE = 8  # of a place beyond the share that is wanted


SPLITS = ("train", "validation", "test")  # by status
SALT = 0x7E57  # test pairs are drawn the same way in every dataset


@dataclass(frozen=True, eq=False)
class Duplicates:
    """Which rows show the same, found once for all datasets."""

    rows: Int64[np.ndarray, " m"]  # rows whose two images another row has as well
    group: Int64[np.ndarray, " m"]  # equal for those that have the same
    near_pairs: Int64[
        np.ndarray, "l 2"
    ]  # rows of different clips that look the same, each pair once


def compare(catalogue: Catalogue, near_duplicate_bits: int | None) -> Duplicates:
    """Find duplicates among all rows; None = no near ones."""
    mixed = _mixed(catalogue.images, 0)
    order = np.argsort(mixed, kind="stable")
    same = mixed[order[1:]] == mixed[order[:-1]]
    group = np.cumsum(np.concatenate([[0], ~same])) if len(order) else np.empty(0, np.int64)
    several = np.zeros(len(order), bool)
    several[1:] |= same
    several[:-1] |= same
    near_pairs = np.empty((0, 2), np.int64)
    if near_duplicate_bits is not None:
        near_pairs = likeness.near_duplicate_pairs(
            catalogue.dhashes, catalogue.clip.astype(np.int64), near_duplicate_bits
        )
    return Duplicates(order[several], group[several], near_pairs)


def choose(
    datasets: Mapping[str, config.Dataset], name: str, catalogue: Catalogue, duplicates: Duplicates
) -> Int8[np.ndarray, " n"]:
    """The status of every row.

    Args:
        catalogue: holds the sources of the dataset, and may hold others.

    Raises:
        BadInput: a source has fewer pairs than the recipe wants, and the recipe does not allow it.
    """
    dataset = datasets[name]
    statuses = _of_test(name, dataset, catalogue, duplicates)
    inner = np.zeros(len(statuses), bool)
    if dataset.contains is not None:
        contained = choose(datasets, dataset.contains, catalogue, duplicates)
        inner = np.isin(contained, (RowStatus.TRAIN, RowStatus.VALIDATION))
    held_out = held_out_clips(catalogue, dataset.validation)[catalogue.clip]
    if dataset.places is not None:
        trained_on = (statuses == RowStatus.SURPLUS) & ~held_out
        taken = places_taken(catalogue, dataset.places, np.unique(catalogue.clip[trained_on]))
        statuses[trained_on & ~taken[catalogue.clip]] = RowStatus.OTHER_PLACE
    candidates = np.isin(statuses, (RowStatus.TEST, RowStatus.SURPLUS))
    inner &= ~_like_tested(statuses, inner, duplicates)
    _drop_duplicates(statuses, candidates, inner, duplicates)
    side = np.where(held_out, RowStatus.VALIDATION, RowStatus.TRAIN).astype(np.int8)
    statuses[inner] = side[inner]
    for source, count in dataset.sources.items():
        mine = catalogue.source == catalogue.sources.index(source)
        free = np.flatnonzero((statuses == RowStatus.SURPLUS) & mine)
        already = int((inner & mine).sum())
        quota = _Quota(f"datasets.{name}.sources.{source}", dataset.allow_short, already)
        wanted = None if count is None else count - already
        _fill(statuses, free, wanted, side, catalogue, dataset.seed, quota)
    return statuses


def _of_test(
    name: str, dataset: config.Dataset, catalogue: Catalogue, duplicates: Duplicates
) -> Int8[np.ndarray, " n"]:
    """The status of every row before any is trained on: tested on, set aside, another source's, or
    free (SURPLUS)."""
    statuses = np.full(len(catalogue), RowStatus.ELSEWHERE, np.int8)
    numbers = {source: catalogue.sources.index(source) for source in dataset.sources}
    within = np.isin(catalogue.source, list(numbers.values()))
    statuses[within] = RowStatus.SURPLUS
    reserved = within & reserved_clips(catalogue, dataset.test)[catalogue.clip]
    statuses[reserved] = RowStatus.RESERVED
    _drop_duplicates(statuses, reserved, np.zeros(len(statuses), bool), duplicates)
    for source, pairs in dataset.test.sources.items():
        if source in numbers:
            mine = catalogue.source == numbers[source]
            free = np.flatnonzero((statuses == RowStatus.RESERVED) & mine)
            quota = _Quota(f"datasets.{name}.test.sources.{source}", dataset.allow_short)
            _fill(statuses, free, pairs, RowStatus.TEST, catalogue, SALT, quota)
    return statuses


def held_out_clips(catalogue: Catalogue, validation: float) -> Bool[np.ndarray, " clips"]:
    """Which clips are kept for validation, source by source."""
    held = np.zeros(len(catalogue.clips), bool)
    owners = np.array([source for source, _ in catalogue.clips])
    for source in catalogue.sources:
        mine = np.flatnonzero(owners == source)
        held[mine] = held_out(
            source, [catalogue.scene_groups[clip][1] for clip in mine], validation
        )
    return held


def held_out(source: str, groups: list[str], validation: float) -> Bool[np.ndarray, " clips"]:
    """Which clips of a source, given by the scene group of each, are held out: at least one scene
    group of several, unless the share is 0."""
    hashes = np.array([_hash(f"{source}\0{group}") for group in groups], np.uint64)
    held = hashes < int(validation * 2**64) if validation < 1 else np.ones(len(groups), bool)
    if validation > 0 and len(set(groups)) > 1 and not held.any():
        held = hashes == hashes.min()
    return held


def places_taken(
    catalogue: Catalogue, share: float, clips: Int64[np.ndarray, " m"]
) -> Bool[np.ndarray, " clips"]:
    """Which of these clips, by number, lie in the share of each source's places that is trained on:
    at least one place."""
    hashes = np.array(
        [_hash(f"place\0{source}\0{group}") for source, group in catalogue.scene_groups], np.uint64
    )
    owners = np.array([source for source, _ in catalogue.clips])
    taken = np.zeros(len(hashes), bool)
    for source in catalogue.sources:
        mine = clips[owners[clips] == source]
        taken[mine] = hashes[mine] < int(share * 2**64) if share < 1 else True
        if len(mine) and not taken[mine].any():
            taken[mine] = hashes[mine] == hashes[mine].min()
    return taken


def reserved_clips(catalogue: Catalogue, test: config.TestPairs) -> Bool[np.ndarray, " clips"]:
    """Which clips are set aside for testing; at least one of several, where any are asked for."""
    hashes = np.array(
        [_hash(f"{source}\0{group}") for source, group in catalogue.scene_groups], np.uint64
    )
    owners = np.array([source for source, _ in catalogue.clips])
    reserved = np.zeros(len(hashes), bool)
    for source in test.sources:
        mine = np.flatnonzero(owners == source)
        reserved[mine] = ~hashes[mine] < int(test.clips * 2**64)
        if test.clips > 0 and len(np.unique(hashes[mine])) > 2 and not reserved[mine].any():
            reserved[mine] = hashes[mine] == hashes[mine].max()
    return reserved


@dataclass(frozen=True)
class _Quota:
    """Where in the parameters a count is written, for the message when it cannot be met."""

    key: str
    allow_short: bool
    already: int = 0


def _fill(
    statuses: np.ndarray,
    free: np.ndarray,
    count: int | None,
    status: int | np.ndarray,
    rows: Catalogue,
    seed: int,
    quota: _Quota,
) -> None:
    """Give `count` of the free rows (None = all) their status, the same ones every time."""
    if count is not None and count < len(free):
        free = free[np.argsort(_mixed(rows.images[free], seed), kind="stable")[:count]]
    elif count is not None and count > len(free) and not quota.allow_short:
        raise BadInput(
            f"{quota.key}: wants {count + quota.already} pairs, but {len(free) + quota.already} "
            "distinct ones were mined,"
            f" {count - len(free)} too few; mine more of it, lower the count (null takes all there "
            "are), or set allow_short"
        )
    statuses[free] = status[free] if isinstance(status, np.ndarray) else status


def _like_tested(
    statuses: np.ndarray, inner: np.ndarray, duplicates: Duplicates
) -> Bool[np.ndarray, " n"]:
    """Inner rows that show what a test row shows: the contained dataset may lack the source that is
    tested on, and so know nothing of it."""
    tested = statuses == RowStatus.TEST
    if not tested.any() or not inner.any():
        return np.zeros_like(inner)
    against = statuses.copy()
    _drop_duplicates(against, tested | inner, inner, duplicates)
    return inner & np.isin(against, (RowStatus.DUPLICATE, RowStatus.NEAR_DUPLICATE))


def _drop_duplicates(
    statuses: np.ndarray, among: np.ndarray, inner: np.ndarray, duplicates: Duplicates
) -> None:
    """Mark rows of `among` that show what another of them shows; test rows stay first, then inner
    ones."""
    rank = np.arange(len(statuses)) + len(statuses) * np.where(
        statuses == RowStatus.TEST, 0, np.where(inner, 1, 2)
    )
    rows, group = (array[among[duplicates.rows]] for array in (duplicates.rows, duplicates.group))
    order = np.lexsort((rank[rows], group))
    rows = rows[order]
    group = group[order]
    statuses[rows[1:][group[1:] == group[:-1]]] = RowStatus.DUPLICATE
    alive = among & (statuses != RowStatus.DUPLICATE)
    near_pairs = duplicates.near_pairs[alive[duplicates.near_pairs].all(axis=1)]
    near_pairs = np.where(
        (rank[near_pairs[:, :1]] < rank[near_pairs[:, 1:]]), near_pairs, near_pairs[:, ::-1]
    )  # the one that stays first
    for stays, goes in near_pairs[np.argsort(rank[near_pairs[:, 1]], kind="stable")].tolist():
        if alive[stays]:  # decided already: it ranks before `goes`
            alive[goes] = False
            statuses[goes] = RowStatus.NEAR_DUPLICATE


def _hash(text: str) -> int:
    """64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _mixed(images: UInt64[np.ndarray, "n 2"], seed: int) -> UInt64[np.ndarray, " n"]:
    """A number for each pair of images that dhashes random and depends on them and the seed alone
    (the finaliser of SplitMix64)."""
    mixed = images[:, 0] ^ np.uint64(_hash(f"seed {seed}"))
    for other in (images[:, 1], np.uint64(0)):
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9) + other
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
