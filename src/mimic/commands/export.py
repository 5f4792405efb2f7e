"""Export a dataset for others to read: released-MIMIC folders, WebDataset tars, or a Hugging Face
folder (`mimic export`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mimic import licences
from mimic.errors import BadInput
from mimic.infra import progress, publishing, storage
from mimic.pairs import export_formats
from mimic.pairs.dataset_card import Contents
from mimic.pairs.images import open_pairs, read_all
from mimic.pairs.read import iter_rows
from mimic.pairs.schema import MANIFEST
from mimic.params import Params, pick, terms


def main(
    params: Params,
    root: Path,
    name: str,
    form: export_formats.Form,
    out: Path,
    pairs_per_file: int,
    despite_licences: bool = False,
) -> None:
    """Write all splits of a dataset into a new folder, which appears when it is whole.

    Args:
        despite_licences: also pictures that may not be handed on, for use by those who may use
            the sources themselves.

    Raises:
        BadInput: the dataset is not assembled, a shard is in neither the workspace nor the
            store of `cluster.shards`, the folder holds something, or the licence of a source
            forbids that pairs of it are handed on.
    """
    pick(params.datasets, name, "dataset")
    if pairs_per_file < 1:
        raise BadInput(f"--pairs-per-file {pairs_per_file}: must be at least 1")
    publishing.resolve_target(out, publishing.Work("export", name))
    manifest = storage.Workspace(root).manifest(name)
    parts = terms.of_manifest(params, manifest)
    if not despite_licences:
        _refuse_forbidden(name, parts)
    stated = licences.summary({"licences": licences.combine(parts)})
    contents = Contents(name, storage.file_digest(manifest), stated)
    rows = read_all(manifest)
    total = len(rows)
    if not total:
        raise BadInput(f"export {name}: it holds no pair; see metrics/assemble/{name}.json for why")
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
    for line in stated:
        progress.say(f"export {name}: {line}")


def _refuse_forbidden(name: str, parts: terms.Parts) -> None:
    """A set of pairs is a modified version of its sources, and an export is made to be handed on.
    What nobody has stated is not forbidden: it is said."""
    forbidden = [
        f"{what} is {licence.name!r}: {licences.REFUSED[question, 'no']}"
        for what, licence in parts
        for question in ("redistribute", "derivatives")
        if licence.answer(question) == "no"
    ]
    if forbidden:
        raise BadInput(
            f"export {name}: {'; '.join(forbidden)}; leave it out of the dataset, or say "
            "--despite-licences and hand the folder to nobody else"
        )
