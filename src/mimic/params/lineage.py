"""Which run starts from which: names that exist, and no circle."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

import yaml

from mimic.config.names import seed_name, seed_of
from mimic.config.presets import Key
from mimic.config.training import Adaptation, Run
from mimic.models.spec import ViTSize, encoder_differences
from mimic.params.whole import Params


def problems(whole: Params, known: Collection[str]) -> Iterator[tuple[Key, str]]:
    """What is wrong with where the entries of `adapt` start: a key, and what.

    Args:
        known: imports, runs and entries of `adapt`, those that are wrong themselves included.
    """
    for name, entry in whole.adapt.items():
        if whole.runs[name] is not entry:
            yield ("adapt", name), "is also the name of a run; rename one of them"
        wrong = (
            _unknown(entry.init, known)
            or _seedless(entry, whole.runs)
            or _circle(name, whole)
            or _other_encoder(name, entry, whole)
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
    there = params.runs.get(run.init)
    several = there is not None and there.seeds is not None
    return seed_name(run.init, run.only_seed) if several else run.init


def mismatch(init: str, there: ViTSize, here: ViTSize) -> str | None:
    """Why the encoder of a recipe cannot take these weights, and what the entry would have to say;
    None where it can."""
    found = encoder_differences(there, here)
    if not found:
        return None
    theirs = ", ".join(f"{key} {pair[0]}" for key, pair in found.items())
    ours = ", ".join(f"{key} {pair[1]}" for key, pair in found.items())
    said = f"the encoder of {init} has {theirs}, and that of the recipe {ours}"
    if "rope_base" in found:
        return f"{said}; start from weights whose rotary positions turn alike"
    keys = {key: pair[0] for key, pair in found.items()}
    if any(side % there.patch_px for side in here.size_px):
        keys["size_px"] = list(there.size_px)
    shown = yaml.safe_dump(keys, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"{said}; to take its weights, add `model: {shown}` to the entry"


def _other_encoder(name: str, entry: Adaptation, whole: Params) -> str | None:
    """Of a run, its recipe tells before there are weights."""
    of, _ = seed_of(entry.init)
    runs = (of, name)
    if not all(run in whole.runs and whole.runs[run].recipe in whole.pretrain for run in runs):
        return None
    there, here = (whole.recipe(run).model.size() for run in runs)
    return mismatch(of, there, here)


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
    there = runs[of].seeds
    if there is None:
        return None if seed is None else f"{entry.init!r}: {of} has one seed; say init: {of}"
    lacking = sorted({*entry.all_seeds} - {*there}) if seed is None else sorted({seed} - {*there})
    if not lacking:
        return None
    found = ", ".join(map(str, there))
    return (
        f"{of} has the seeds {found} and no {lacking[0]}; name one, init: {seed_name(of, there[0])}"
    )


def _circle(name: str, whole: Params) -> str | None:
    """A circle that a name is in, said once: of the first of its entries."""
    chain = [name]
    while chain[-1] in whole.adapt:
        of, _ = seed_of(whole.adapt[chain[-1]].init)
        if of in chain:
            first = next(entry for entry in whole.adapt if entry in chain)
            once = of == name == first
            return f"{' > '.join([*chain, of])} goes round in a circle" if once else None
        chain.append(of)
    return None
