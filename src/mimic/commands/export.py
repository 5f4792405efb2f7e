"""Export a dataset for others to read: released-MIMIC folders, WebDataset tars, or a Hugging Face
folder (`mimic export`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mimic.errors import BadInput
from mimic.infra import progress, publishing, storage
from mimic.pairs import export_formats
from mimic.pairs.dataset_card import Contents
from mimic.pairs.images import PIXELS, open_pairs
from mimic.pairs.read import iter_rows, read_table
from mimic.pairs.schema import MANIFEST
from mimic.params import Params, pick


def main(
    params: Params, root: Path, name: str, form: export_formats.Form, out: Path, pairs_per_file: int
) -> None:
    """Write all splits of a dataset into a new folder, which appears when it is whole.

    Raises:
        BadInput: the dataset is not assembled, a shard is in neither the workspace nor the
            store of `cluster.shards`, or the folder holds something.
    """
    pick(params.datasets, name, "dataset")
    if pairs_per_file < 1:
        raise BadInput(f"--pairs-per-file {pairs_per_file}: must be at least 1")
    publishing.place(out, publishing.Work("export", name))
    manifest = storage.Workspace(root).manifest(name)
    contents = Contents(name, storage.file_digest(manifest))
    rows = read_table(manifest, PIXELS, MANIFEST).to_pandas()
    total = len(rows)
    images = open_pairs(rows, root, None, params.cluster.shards)
    with progress.track(f"export {name}", total, "pairs", None) as track:

        def pairs() -> Iterator[export_formats.Pair]:
            for number, row in enumerate(iter_rows(manifest, MANIFEST)):
                yield row, images.encoded(number, 0), images.encoded(number, 1)
                track.advance(1)

        def fill(folder: Path) -> None:
            export_formats.write_form(form, pairs(), folder, contents, pairs_per_file)

        publishing.publish(fill, out, publishing.Work("export", name), for_good=True)
    progress.say(f"export {name}: {total} pairs in {out}; its terms are in README.md")
