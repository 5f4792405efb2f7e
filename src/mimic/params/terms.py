"""Licences of a parameter file: of its sources, of what is made of them, and who may not take
part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mimic import licences
from mimic.config.licences import OwnLicence
from mimic.config.names import seed_of
from mimic.config.presets import Key
from mimic.config.training import Adaptation, Run
from mimic.errors import BadInput
from mimic.infra.storage import Workspace
from mimic.licences import UNSTATED, Licence
from mimic.pairs.read import read_table
from mimic.pairs.schema import MANIFEST
from mimic.params.schema import Params

Parts = list[tuple[str, Licence]]  # what it is, and its terms
STATED_HERE = "params.yaml"
WAYS_OUT = "take it out, or change `licences`"


def own(declared: dict[str, OwnLicence]) -> dict[str, Licence]:
    """Section `licences`, as the table's entries are."""
    return {
        name: licences.declared(name, answers.model_dump(), STATED_HERE)
        for name, answers in declared.items()
    }


def problems(params: Params) -> Iterator[tuple[Key, str]]:
    """Every source's licence has a name that is known, and what asks for terms takes only what
    meets them: for each that does not, the key and what is wrong."""
    mine = own(params.licences)
    for name in mine:
        if licences.find(name) is not None:
            yield ("licences", name), "the table of mimic has this name; call yours otherwise"
    for name, source in params.sources.items():
        if licences.find(source.licence, mine) is None:
            advice = licences.advice(source.licence, mine)
            problem = f"no licence is called {source.licence!r}; {advice}"
            yield ("sources", name, "licence"), problem
    for name, dataset in params.datasets.items():
        parts = of_sources(params, dataset.sources)
        yield from _unmet(("datasets", name, "licences"), parts, dataset.licences)
    for name, run in params.runs.items():
        if run.recipe in params.pretrain:
            path = (params.section(name), name, "licences")
            yield from _unmet(path, learnt_from(params, name), params.recipe(name).licences)


def learnt_from(params: Params, name: str) -> Parts:
    """The terms of all sources that a run and the runs it starts from take pairs of; what imported
    weights have learnt from stands in their cards, and is asked when the run begins."""
    parts: Parts = []
    seen: set[str] = set()
    while name in params.runs and name not in seen:
        seen.add(name)
        run = params.runs[name]
        if run.steps and run.dataset in params.datasets:
            parts += of_sources(params, params.datasets[run.dataset].sources)
        name = seed_of(run.init)[0] if isinstance(run, Adaptation) else ""
    return list(dict.fromkeys(parts))


def _unmet(path: Key, parts: Parts, wish: str | None) -> Iterator[tuple[Key, str]]:
    refused = licences.refusals(parts, wish) if wish is not None else []
    if refused:
        yield path, f"{wish} is asked for, but {'; '.join(refused)}; {WAYS_OUT}"


def refuse(where: str, parts: Parts, wish: str | None) -> None:
    """Stop before any work is done where a part does not meet what is asked for.

    Raises:
        BadInput: one line that names every such part, its licence and the reason.
    """
    for path, message in _unmet((where, "licences"), parts, wish):
        raise BadInput(f"{'.'.join(map(str, path))}: {message}")


def named(params: Params, name: str) -> Licence:
    """The terms that a row of a shard names; a name that nobody knows any more answers nothing."""
    known = licences.find(name, own(params.licences))
    if known is not None:
        return known
    return Licence(name, "unknown", "unknown", "unknown", "unknown", None, "the shards")


def of_sources(params: Params, names: Iterable[str]) -> Parts:
    """The terms of sources, as the parameter file states them now."""
    in_use = [name for name in names if name in params.sources]
    return [(f"source {name}", named(params, params.sources[name].licence)) for name in in_use]


def of_rows(params: Params, stated: Iterable[tuple[str, str]]) -> Parts:
    """The terms of pairs that were mined, from their (source, licence); each once."""
    return [(f"source {source}", named(params, licence)) for source, licence in sorted(set(stated))]


def of_manifest(params: Params, manifest: Path) -> Parts:
    """The terms of the pairs that a manifest lists.

    Raises:
        BadInput: it is missing or damaged.
    """
    rows = read_table(manifest, ["source", "licence"], MANIFEST)
    distinct = rows.group_by(["source", "licence"]).aggregate([])
    sources, names = (distinct[column].to_pylist() for column in ("source", "licence"))
    return of_rows(params, zip(sources, names, strict=True))


def of_run(params: Params, space: Workspace, run: Run) -> Parts:
    """The terms of all that a run learns from: the pairs of its dataset, and what the weights that
    it starts from have learnt from. Without steps no pair is seen.

    Raises:
        BadInput: the dataset is not assembled, or the weights are not there.
    """
    parts = of_manifest(params, space.manifest(run.dataset)) if run.steps else []
    if isinstance(run, Adaptation):
        parts += of_model(params, space, run.init)
    return list(dict.fromkeys(parts))


def of_model(params: Params, space: Workspace, name: str) -> Parts:
    """The terms of a model: what its encoders' cards name, as it is answered now.

    Raises:
        BadInput: there is no such model.
    """
    # torch comes with it, and who only reads parameters shall not wait for that
    from mimic.training.checkpoint import read_card

    folders = space.encoders(name) or {name: space.model(name)}
    cards = [read_card(folder) for folder in folders.values()]
    now = [present(params, card) for card in cards]
    return list(dict.fromkeys(part for card in now for part in of_weights(name, card)))


def present(params: Params, card: Mapping[str, Any]) -> dict[str, Any]:
    """A card with the answers that the parameter file gives now to the licences that it declares;
    training again for another answer would make the same weights."""
    mine = own(params.licences)
    parts = [
        (part, mine.get(licence.name, licence) if licence.stated_by == STATED_HERE else licence)
        for part, licence in licences.parts_of(card)
    ]
    return {**card, "licences": licences.combine(parts)} if "licences" in card else dict(card)


def of_weights(name: str, card: dict[str, Any]) -> Parts:
    """The terms of a model that another one starts from."""
    return [
        (f"weights {name}" if licence is UNSTATED else part, licence)
        for part, licence in licences.parts_of(card)
    ]
