"""What every section of params.yaml is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


def _number(value: Any) -> Any:
    """`yes` and `true` are no numbers, though Python counts them as 1."""
    if isinstance(value, bool):
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

Positive = Annotated[int, Field(ge=1), _NUMBER]


class Section(BaseModel):
    """Base of every section: immutable; a key that does not exist is an error, and so is a number
    that is none."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
