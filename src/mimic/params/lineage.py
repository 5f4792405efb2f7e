"""Which run starts from which: names that exist, and no circle."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

import yaml

from mimic.config.names import seed_name, seed_of
from mimic.config.presets import Key
from mimic.config.training import Adaptation, Run
from mimic.models.spec import ViTSize, encoder_differences
from mimic.params.schema import Params


def problems(params: Params, known: Collection[str]) -> Iterator[tuple[Key, str]]:
    """What is wrong with where the entries of `adapt` start: a key, and what.

    Args:
        known: imports, runs and entries of `adapt`, those that are wrong themselves included.
    """
    for name, entry in params.adapt.items():
        if params.runs[name] is not entry:
            yield ("adapt", name), "is also the name of a run; rename one of them"
        wrong = (
            _unknown(entry.init, known)
            or _seedless(entry, params.runs)
            or _circle(name, params)
            or _other_encoder(name, entry, params)
        )
        if wrong is not None:
            yield ("adapt", name, "init"), wrong


def init_of(params: Params, encoder: str) -> str | None:
    """The model that an encoder starts from: of a run with several seeds the one of its own seed,
    where none is named; None for random weights.

    Args:
        encoder: a run with one seed, or a seed of one with several.
    """
    of, _ = seed_of(encoder)
    run = params.runs[of].encoders(of)[encoder]
    if not isinstance(run, Adaptation):
        return None
    ancestor = params.runs.get(run.init)
    several = ancestor is not None and ancestor.seeds is not None
    return seed_name(run.init, run.only_seed) if several else run.init


def mismatch(init: str, source: ViTSize, target: ViTSize) -> str | None:
    """Why the encoder of a recipe cannot take these weights, and what the entry would have to say;
    None where it can."""
    differences = encoder_differences(source, target)
    if not differences:
        return None
    theirs = ", ".join(f"{key} {pair[0]}" for key, pair in differences.items())
    ours = ", ".join(f"{key} {pair[1]}" for key, pair in differences.items())
    sentence = f"the encoder of {init} has {theirs}, and that of the recipe {ours}"
    if "rope_base" in differences:
        return f"{sentence}; start from weights whose rotary positions turn alike"
    keys = {key: pair[0] for key, pair in differences.items()}
    if any(side % source.patch_px for side in target.size_px):
        keys["size_px"] = list(source.size_px)
    shown = yaml.safe_dump(keys, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"{sentence}; to take its weights, add `model: {shown}` to the entry"


def _other_encoder(name: str, entry: Adaptation, params: Params) -> str | None:
    """Of a run, its recipe tells before there are weights."""
    of, _ = seed_of(entry.init)
    runs = (of, name)
    if not all(run in params.runs and params.runs[run].recipe in params.pretrain for run in runs):
        return None
    source, target = (params.recipe(run).model.size() for run in runs)
    return mismatch(of, source, target)


def _unknown(init: str, known: Collection[str]) -> str | None:
    of, _ = seed_of(init)
    if of in known:
        return None
    close = difflib.get_close_matches(of, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
    return (
        f"{init!r} is no run and no import ({hint}); of a file of weights, make one with mimic "
        "import-weights FILE --out models/NAME and list NAME under `imported`"
    )


def _seedless(entry: Adaptation, runs: Mapping[str, Run]) -> str | None:
    """Every seed of an entry starts from the same seed of a run that has several, unless one of
    them is named."""
    of, seed = seed_of(entry.init)
    if of not in runs:
        return None if seed is None else f"{entry.init!r}: {of} is an import and has no seeds"
    seeds = runs[of].seeds
    if seeds is None:
        return None if seed is None else f"{entry.init!r}: {of} has one seed; say init: {of}"
    lacking = sorted({*entry.all_seeds} - {*seeds}) if seed is None else sorted({seed} - {*seeds})
    if not lacking:
        return None
    listed = ", ".join(map(str, seeds))
    return (
        f"{of} has the seeds {listed} and no {lacking[0]}; name one, init: "
        f"{seed_name(of, seeds[0])}"
    )


def _circle(name: str, params: Params) -> str | None:
    """A circle that a name is in, said once: of the first of its entries."""
    chain = [name]
    while chain[-1] in params.adapt:
        of, _ = seed_of(params.adapt[chain[-1]].init)
        if of in chain:
            first = next(entry for entry in params.adapt if entry in chain)
            once = of == name == first
            return f"{' > '.join([*chain, of])} goes round in a circle" if once else None
        chain.append(of)
    return None
