"""Which run starts from which: names that exist, and no circle."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping

from mimic.config.names import seed_name, seed_of
from mimic.config.presets import Key
from mimic.config.training import Adaptation, Run
from mimic.params.whole import Params


def problems(whole: Params, known: Collection[str]) -> Iterator[tuple[Key, str]]:
    """What is wrong with where the entries of `adapt` start: a key, and what.

    Args:
        known: imports, runs and entries of `adapt`, those that are wrong themselves included.
    """
    for name, entry in whole.adapt.items():
        if whole.runs[name] is not entry:
            yield ("adapt", name), "is also the name of a run; rename one of them"
        wrong = _unknown(entry.init, known) or _seedless(entry, whole.runs) or _circle(name, whole)
        if wrong is not None:
            yield ("adapt", name, "init"), wrong


def _unknown(init: str, known: Collection[str]) -> str | None:
    of, _ = seed_of(init)
    if of in known:
        return None
    close = difflib.get_close_matches(of, known, 1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"
    return (
        f"{init!r} is no run and no import ({hint}); of a file of weights, make one with mimic "
        "import-weights FILE NAME and list NAME under `imported`"
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
