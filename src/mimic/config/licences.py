"""Section `licences`, and the terms that a dataset or a recipe asks of what it takes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mimic.config.base import Section


def _word(value: Any) -> Any:
    """YAML reads `yes` and `no` as truth values."""
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


Answer = Annotated[Literal["yes", "no", "unknown"], BeforeValidator(_word)]
# What the name of a licence may be: it stands in a row of each pair, and in lines of messages.
LicenceName = Annotated[str, Field(min_length=1, max_length=200)]


class OwnLicence(Section):
    """Terms that no table knows, such as an agreement of your laboratory, with their answers."""

    redistribute: Answer  # may the data be handed on?
    commercial: Answer  # may it be used commercially?
    derivatives: Answer  # may modified versions, as pairs are, be made and handed on?
    share_alike: Answer  # must what is derived keep the same terms? where it is not said: no
    url: str | None  # where it is not said: none

    @model_validator(mode="before")
    @classmethod
    def _three_answers(cls, entry: Any) -> Any:
        """Three of them are asked for, and the rest may be said."""
        beside = {"share_alike": "no", "url": None}
        return {**beside, **entry} if isinstance(entry, dict) else entry


class Wishing(Section):
    """What takes data or weights of others, and may ask for terms that all of them meet."""

    # Keys that may be absent, as they are in files of earlier versions, and are not written where
    # they are null. Of several serialisers of one model, pydantic calls the last alone: a subclass
    # names its keys here instead.
    UNSAID: ClassVar[tuple[str, ...]] = ("licences",)

    # permissive, redistributable or commercial: a source or weights that are not are refused;
    # null, or no such line = whatever their terms
    licences: Literal["permissive", "redistributable", "commercial"] | None

    @model_validator(mode="before")
    @classmethod
    def _may_be_absent(cls, entry: Any) -> Any:
        return {**dict.fromkeys(cls.UNSAID), **entry} if isinstance(entry, dict) else entry

    @model_serializer(mode="wrap")
    def _stated(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An entry is written as earlier versions wrote it, where it says nothing new."""
        entry: dict[str, Any] = written(self)
        silent = {key for key in self.UNSAID if entry.get(key) is None}
        return {key: value for key, value in entry.items() if key not in silent}
