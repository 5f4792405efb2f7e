"""What every section of params.yaml is made of."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)


def _number(value: Any) -> Any:
    """`yes` and `true` are no numbers, though Python counts them as 1."""
    if isinstance(value, bool | _Word):
        raise ValueError(f"expected a number, found {str(value).lower()}")
    return value


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the first number is the smaller one (found {list(bounds)})")
    return bounds


_NUMBER = BeforeValidator(_number)

Fraction = Annotated[float, Field(ge=0.0, le=1.0), _NUMBER]

Share = Annotated[float, Field(ge=0.0, lt=1.0), _NUMBER]  # a fraction that is never the whole

NotNegative = Annotated[float, Field(ge=0.0), _NUMBER]

AboveZero = Annotated[float, Field(gt=0.0), _NUMBER]

Betas = tuple[Share, Share]  # decay of Adam's two averages: at 1 they would never see a gradient

AreaRange = Annotated[tuple[Annotated[Fraction, Field(gt=0)], Fraction], AfterValidator(_ordered)]

LengthRange = Annotated[tuple[AboveZero, AboveZero], AfterValidator(_ordered)]

Count = Annotated[int, Field(ge=0), _NUMBER]

# torch takes 64 bits with a sign; NumPy's legacy generator 32 without, of which seeds of seeds
# need some
Seed = Annotated[int, Field(ge=0, lt=2**31), _NUMBER]

Positive = Annotated[int, Field(ge=1), _NUMBER]


class Section(BaseModel):
    """Base of every section: immutable; a key that does not exist is an error, and so is a number
    that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_yes_for_a_number(cls, values: Any) -> Any:
        """Also where a number has bounds of its own, or none."""
        if not isinstance(values, dict):
            return values
        return {**values, **{name: _worded(values[name]) for name in _numbers(cls) & values.keys()}}


class _Word(str):
    """Of a truth value, where a number is wanted: nothing makes a number of it."""


def _worded(value: Any) -> Any:
    """Its truth values as words, also those of a list."""
    if isinstance(value, bool):
        return _Word(str(value).lower())
    return [_worded(one) for one in value] if isinstance(value, list) else value


@functools.cache
def _numbers(section: type[Section]) -> frozenset[str]:
    """Fields that hold a number, or several."""
    kinds = {name: set(_kinds(field.annotation)) for name, field in section.model_fields.items()}
    return frozenset(
        name for name, of in kinds.items() if of & {int, float} and not of & {bool, Any}
    )


def _kinds(wanted: Any) -> Iterator[Any]:
    """Types that a value, or one of several in it, may have, without their bounds."""
    origin = get_origin(wanted)
    if origin is Annotated:
        yield from _kinds(get_args(wanted)[0])
    elif origin in (Union, UnionType, tuple, list):
        for one in get_args(wanted):
            yield from _kinds(one)
    else:
        yield wanted
