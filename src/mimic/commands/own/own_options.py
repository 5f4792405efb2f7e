"""What the command line says about your own data instead of the parameter file; messages then name
its flags."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from mimic import config, licences
from mimic.errors import BadInput
from mimic.params import Params, packaged
from mimic.params.terms import own

SPACING_S = (0.001, 86400.0)  # least: what a container's clock tells apart

Section = TypeVar("Section", config.Videos, config.Images, config.Scenes)


@dataclass(frozen=True)
class Options:
    """What the command line says instead of the parameter file; None = nothing. Names are those of
    the parameters."""

    spacing_s: float | None = None
    crop_bottom: float | None = None
    up: Literal["y", "z", "auto"] | None = None
    group_max: int | None = None
    island_radius_min_m: float | None = None
    texture_max_px: int | None = None
    licence: str | None = None


def as_flags(options: Options) -> dict[str, str]:
    """The options of a command line, by flag."""
    return {flag(name): str(value) for name, value in vars(options).items() if value is not None}


def flagged(reasons: Any) -> Any:
    """Reasons, by whatever names (which stay as they are), with the flags of `mimic pairs` in place
    of the parameters' names."""
    if isinstance(reasons, str):
        return NAMES.sub(
            lambda match: flag(match["name"]) + (" " if match["value"] else ""), reasons
        )
    if isinstance(reasons, dict):
        return {name: flagged(reason) for name, reason in reasons.items()}
    return reasons


# `up: z` is said `--up z`. A name that is a word as well is taken for the parameter only where a
# value follows.
WORDS = "|".join(Options.__dataclass_fields__)
PLAIN = "|".join(name for name in Options.__dataclass_fields__ if "_" in name)
NAMES = re.compile(
    rf"(?<![\w-])(?P<name>(?:{WORDS})(?=(?P<value>: "
    rf")(?:[\d.]|y\b|z\b|auto\b))|(?:{PLAIN})(?!\w))(?(value): )"
)


def flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def sections(params: Params, options: Options) -> dict[type[Any], Any]:
    """How each kind is read: the parameter file's numbers, and the command line's in their
    place."""
    if options.licence is not None and licences.find(options.licence, own(params.licences)) is None:
        raise BadInput(
            f"--licence {options.licence}: no licence is called so; "
            f"{licences.advice(options.licence, own(params.licences))}"
        )
    kinds = (config.Videos, config.Scenes, config.Images)
    return {kind: _changed(_template(params, kind), options) for kind in kinds}


def _changed(section: Section, options: Options) -> Section:
    change: dict[str, Any] = {
        name: value
        for name, value in vars(options).items()
        if value is not None and name in type(section).model_fields
    }
    change.setdefault("licence", "unknown")  # that of the parameter file is of other data
    if options.spacing_s is not None and isinstance(section, config.Videos):
        least, most = SPACING_S
        if not least <= options.spacing_s <= most:
            raise BadInput(
                f"--spacing-s {options.spacing_s}: must be seconds between {least:g} and {most:g}"
            )
        if section.retry_spacing_s is not None:  # the retry keeps its proportion
            change["retry_spacing_s"] = (
                section.retry_spacing_s / section.spacing_s * options.spacing_s
            )
    try:
        return type(section).model_validate({**section.model_dump(), **change})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise BadInput(
            f"{flag(name)} {change.get(name)}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        ) from None


def _template(params: Params, kind: type[Any]) -> Any:
    """The first source of a kind in the parameter file, else in the packaged profile."""
    for profile in (params, packaged()):
        for section in profile.sources.values():
            if isinstance(section, kind):
                return section
    raise BadInput(f"params.yaml: no source with the reader of {kind.__name__}; add one")
