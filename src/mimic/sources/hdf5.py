"""HDF5 files that may come from anybody: nothing is read but the file itself.

A link of the format, a dataset's storage and a virtual dataset can name any other file of the
machine, which the library opens without a word.
"""

from __future__ import annotations

from typing import Any

import h5py

from mimic.sources.base import Unreadable


def item(group: h5py.Group, path: str) -> Any:
    """The group or dataset at a path below a group.

    Raises:
        Unreadable: it lies in another file.
        KeyError: there is none.
    """
    node: Any = group
    for part in path.split("/"):
        if isinstance(node.get(part, getlink=True), h5py.ExternalLink):
            raise Unreadable(f"{path} is a link to another file, which is not followed")
        node = node[part]
    elsewhere = node.file.filename != group.file.filename  # a link to a link
    if isinstance(node, h5py.Dataset):
        elsewhere = elsewhere or bool(node.external) or node.is_virtual
    if elsewhere:
        raise Unreadable(f"{path} lies in another file, which is not read")
    return node
