"""What the published files say of runs, encoders, pretrainings and evaluations: the MLflow runs to
be. Only files are read; nothing here knows MLflow.

    run           the mean over its seeds: the headline numbers, and nothing else
      seed        of a run with several: the headline numbers of one encoder
        pretrain  curves, pictures, parameters, the machine
        evaluate  every number of one task on one encoder
      pretrain    of a run with one seed; so are its evaluations
      evaluate    of a run with several: the mean over the seeds

MLflow's charts show what is on the highest level, so there each run is one bar, and each headline
number one chart.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from mimic.infra.tracking.identity import Identity

Name = str
# A single number is at step 0; times in milliseconds, None = when the run began.
Point = tuple[float, int | None]
Curves = dict[tuple[Name, int], Point]  # by name and step
Images = dict[tuple[Name, int], Path]  # by name and step


@dataclass(frozen=True)
class Data:
    """Data that took part: MLflow's dataset input.

    Args:
        digest: any text; equal for equal data.
        context: what it was used for, `pretrain` or `evaluate`.
    """

    name: str
    digest: str
    source: str
    context: str


@dataclass(frozen=True)
class Times:
    """Milliseconds since 1970."""

    begun: int
    ended: int


@dataclass(frozen=True)
class Record:
    """One MLflow run to be.

    Args:
        level: run, seed, pretrain or evaluate.
        subject: what of; equal results of one (level, subject) are one MLflow run.
        above: (level, subject) of the run it lies below.
        fingerprint: of the result.
        training: names the unfinished work that this came of: what was shown while it trained.
        headlines: numbers that are brought up to date; all else is written once.
        is_past: it is of an encoder that was replaced, and no evaluation has replaced it yet.
    """

    level: str
    subject: str
    name: str
    fingerprint: str
    tags: dict[str, str]
    times: Times
    user: str
    above: tuple[str, str] | None = None
    training: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    headlines: dict[Name, float] = field(default_factory=dict)
    curves: Curves = field(default_factory=dict)
    data: tuple[Data, ...] = ()
    images: Images = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    is_past: bool = False

    @property
    def node(self) -> tuple[str, str]:
        return self.level, self.subject

    @property
    def run(self) -> str:
        """The run of params.yaml that this belongs to."""
        return self.subject.partition("/")[0].partition("@")[0]

    def key(self, whose: Identity) -> str:
        return f"{whose.prefix}/{self.level}/{self.subject}"

    def below(self, level: str, subject: str) -> Record:
        return replace(self, above=(level, subject))
