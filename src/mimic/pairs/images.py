"""The images of a manifest's pairs, decoded on demand, wherever their shards lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mimic import config
from mimic.errors import BadInput
from mimic.pairs.index import first_bytes
from mimic.pairs.read import decode_image, decode_into, read_bytes, read_table
from mimic.pairs.remote import ShardStore, open_store
from mimic.pairs.schema import MANIFEST

PIXELS = [
    "key",
    "shard",
    "split",
    "size_px",
    "offset_a",
    "size_a",
    "offset_b",
    "size_b",
]  # columns that locate the images of a pair
DIGESTS = ["sha_a", "sha_b"]
SEALS = ["seal_a", "seal_b"]  # the first 8 bytes of each digest: a sixteenth of its text in memory


def read_manifest(path: Path, split: str, columns: list[str] | None = PIXELS) -> pd.DataFrame:
    """Rows of one split of a manifest, in its order.

    Args:
        split: "train", "validation" or "test".
        columns: which columns to read (`split` among them), None = all.

    Raises:
        BadInput: the file is missing or damaged, or the split is empty.
    """
    manifest = read_all(path, columns)
    rows = manifest[manifest["split"] == split].reset_index(drop=True)
    if rows.empty:
        raise BadInput(
            f"{path}: no pair in its {split} split; {_remedy(path.stem, split, manifest)}"
        )
    return rows


def read_all(path: Path, columns: list[str] | None = PIXELS) -> pd.DataFrame:
    """The rows of a manifest, of all splits; where they locate images, with SEALS that prove
    these. Same errors as `read_manifest`."""
    wanted = columns
    if columns is not None and set(PIXELS) <= set(columns):
        wanted = [*columns, *(name for name in DIGESTS if name not in columns)]
    table = read_table(path, wanted, MANIFEST)
    rows = (table if columns is None else table.select(columns)).to_pandas()
    for name, digest in zip(SEALS, DIGESTS, strict=True):
        if digest in table.column_names:
            rows[name] = first_bytes(path, table[digest])
    return rows


def _remedy(dataset: str, split: str, manifest: pd.DataFrame) -> str:
    """What to do about a split that is empty."""
    if split == "train" and (manifest["split"] == "validation").any():
        return (
            "all its clips were drawn for validation, as one or two can be; mine more clips, or "
            f"set datasets.{dataset}.validation: 0 in params.yaml"
        )
    share = "test" if split == "test" else "validation"
    return f"mine more pairs, or change datasets.{dataset}.{share}"


def open_pairs(
    rows: pd.DataFrame, root: Path, size_px: tuple[int, int] | None, shards: config.Shards
) -> PairImages:
    """The images of a manifest's rows, from the workspace or from the store that `cluster.shards`
    names."""
    return PairImages(rows, root, size_px, open_store(shards, root))


class PairImages:
    """The images of a manifest's rows, decoded on demand; safe to call from many threads.

    Args:
        rows: of `read_manifest`. Where they have SEALS, each image is compared with its own when it
            is first read: 4 to 5 % of what decoding it costs (with SHA instructions), once.
        root: the workspace; shards are relative to it.
        size_px: (height, width) of what is returned; None = as stored (of several stored sizes, the
            largest).
        store: where shards are that the workspace does not hold; None = nowhere.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        root: Path,
        size_px: tuple[int, int] | None,
        store: ShardStore | None = None,
    ) -> None:
        self.keys = rows["key"].to_numpy()
        # A million rows name few shards: the path is looked up, not repeated.
        codes, names = pd.factorize(rows["shard"])
        self._shard = codes
        self._names = list(names)
        self._paths = [root / name for name in names]
        self._store = store
        self._here = [store is None or path.exists() for path in self._paths]
        self._offset = rows[["offset_a", "offset_b"]].to_numpy(np.int64)
        self._bytes = rows[["size_a", "size_b"]].to_numpy(np.int64)
        self._seals = rows[SEALS].to_numpy(np.uint64) if SEALS[0] in rows else None
        self._proved = np.zeros((len(rows), 2), bool)
        stored = int(rows["size_px"].max())
        self.size_px = size_px or (stored, stored)

    def __len__(self) -> int:
        return len(self.keys)

    def pairs(self, indices: np.ndarray) -> Tensor:
        """uint8 [b, 2, h, w, 3] RGB: views a and b of the given rows."""
        return self._decode(indices.repeat(2), np.tile([0, 1], len(indices))).unflatten(0, (-1, 2))

    def singles(self, indices: np.ndarray) -> Tensor:
        """uint8 [b, 1, h, w, 3] RGB: every view as an image of its own, 2 * len(self) of them; 2 i
        is view a of row i, 2 i + 1 view b."""
        return self._decode(indices // 2, indices % 2)[:, None]

    def _decode(self, rows: np.ndarray, views: np.ndarray) -> Tensor:
        height, width = self.size_px
        images = np.empty((len(rows), height, width, 3), np.uint8)
        for image, row, view in zip(images, rows, views, strict=True):
            data = self.encoded(int(row), int(view))
            if decode_into(data, image):
                continue
            decoded = self._decoded(data, int(row), int(view))
            if decoded.shape != image.shape:
                smaller = decoded.shape[0] >= height and decoded.shape[1] >= width
                decoded = cv2.resize(
                    decoded,
                    (width, height),
                    interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC,
                )
            image[:] = decoded
        return torch.from_numpy(images)

    def read(self, row: int, view: int) -> np.ndarray:
        """One view as stored: u8 [h, w, 3] RGB; view 0 is a, 1 is b."""
        return self._decoded(self.encoded(row, view), row, view)

    def _decoded(self, data: bytes, row: int, view: int) -> np.ndarray:
        image = decode_image(data)
        if image is None:
            raise BadInput(
                f"{self._paths[self._shard[row]]}: damaged (no JPEG at {self._offset[row, view]}); "
                "delete it and run dvc repro"
            )
        return image

    def encoded(self, row: int, view: int) -> bytes:
        """The JPEG of one view, as stored; view 0 is a, 1 is b.

        Raises:
            BadInput: there is none, or its bytes are not those that the manifest states.
        """
        shard = self._shard[row]
        span = (int(self._offset[row, view]), int(self._bytes[row, view]))
        elsewhere = self._store is not None and not self._here[shard]
        data = (
            self._store.read(self._names[shard], *span)
            if self._store is not None and elsewhere
            else read_bytes(self._paths[shard], *span)
        )
        if self._seals is not None and not self._proved[row, view]:
            if seal(data) != self._seals[row, view]:
                path = self._paths[shard]
                if self._store is not None and elsewhere:
                    path = self._store.folder / self._names[shard]
                raise damaged_image(path, f"{self.keys[row]}.{'ab'[view]}.jpg", copy=elsewhere)
            self._proved[row, view] = True
        return data


def seal(data: bytes) -> np.uint64:
    """The first 8 bytes of its sha256, as `SEALS` have them."""
    return np.uint64(int.from_bytes(hashlib.sha256(data).digest()[:8]))


def damaged_image(path: Path, name: str, *, copy: bool = False) -> BadInput:
    """
    Args:
        path: of the shard.
        copy: it was fetched from a store, and can be again.
    """
    remedy = (
        "remove this copy and run again: it is fetched anew"
        if copy
        else "`mimic verify` lists all that is damaged, and says how to mend it"
    )
    return BadInput(f"{path}: {name} is damaged, its sha256 is not that of the manifest; {remedy}")
