"""What every section of params.yaml is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]

Count = Annotated[int, Field(ge=0)]

Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of every section: immutable, and a key that does not exist is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")
