"""The flow: DVC's own graph, read when the run starts and never written twice, one task a stage.

    python -m mimic.flows.pipeline                    # everything, no server needed
    python -m mimic.flows.pipeline mine pretrain      # these, and whatever they need

What it finds up to date it shows as Cached. Deployments (prefect.yaml) are this flow with other
targets.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args

import yaml
from prefect import flow, get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from mimic.flows import artifacts, shift
from mimic.flows.graph import NARROWS, choices, graph, select
from mimic.flows.janitor import alive, claim
from mimic.flows.repro import environment, no_child_left_behind, repro
from mimic.flows.unchanged import unchanged
from mimic.infra.addresses import hide_secrets
from mimic.infra.progress import say

shift.leave_if_over()  # loaded by a worker that is gone by now
hide_secrets()
claim()

# Stages that run at the same time. Two fill a laptop; a login node that hands its stages to a
# cluster can wait for many more.
AT_ONCE = 2
AT_ONCE_VARIABLE = "MIMIC_STAGES_AT_ONCE"
RAISED = "Task run encountered an exception StageFailed: "
MANY = 3  # names beyond which the name of a run counts them

# What the form offers: read here, so that a deployment knows the names of its workspace.
if TYPE_CHECKING:
    Stage: TypeAlias = str
    Source: TypeAlias = str
    Dataset: TypeAlias = str
    Run: TypeAlias = str
    TaskName: TypeAlias = str
else:
    try:
        _offered = choices()
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError):
        # Damaged: the stages will say so. A flow that cannot be imported says it nowhere.
        _offered = {}

    def _one_of(what: str) -> Any:
        return Literal[tuple(_offered[what])] if _offered.get(what) else str

    Stage = _one_of("targets")
    Source = _one_of("sources")
    Dataset = _one_of("datasets")
    Run = _one_of("runs")
    TaskName = _one_of("tasks")


def _at_once() -> int:
    """A night is not lost for a number that is none."""
    given = os.environ.get(AT_ONCE_VARIABLE, "").strip() or str(AT_ONCE)
    if given.isdecimal() and int(given) > 0:
        return int(given)
    say(f"{AT_ONCE_VARIABLE}: {given!r} is no number of stages from 1; {AT_ONCE} are taken")
    return AT_ONCE


RUNNER: Any = ThreadPoolTaskRunner(max_workers=_at_once())


def title(parameters: dict[str, Any]) -> str:
    """What a run with these parameters does: `pretrain croco-3m`, `everything`."""
    targets = parameters.get("targets") or []
    names = [name for what in NARROWS for name in parameters.get(what) or []]
    shown = names if len(names) <= MANY else [*names[:MANY], f"and {len(names) - MANY} more"]
    return " ".join([*(targets or ([] if names else ["everything"])), *shown])


def _run_name() -> str:
    due = runtime.flow_run.scheduled_start_time or datetime.now(UTC)
    return f"{title(runtime.flow_run.parameters)}, {due:%d %b %H:%M}"


@flow(name="pipeline", flow_run_name=_run_name, task_runner=RUNNER)
def pipeline(
    targets: list[Stage] = [],  # noqa: B006
    sources: list[Source] = [],  # noqa: B006
    datasets: list[Dataset] = [],  # noqa: B006
    runs: list[Run] = [],  # noqa: B006
    tasks: list[TaskName] = [],  # noqa: B006
    force: bool = False,
    retries: Annotated[int, Field(ge=0)] = 0,
) -> State[Any]:
    """Bring the pipeline up to date: what is stale DVC decides, and a stage that is not shows as
    Cached.

    Args:
        targets: Stages to bring up to date, with all they need. None chosen: all of them, or those
            of the names below.
        sources: Synthesize, ingest and mine only these. Empty: each of them.
        datasets: Assemble only these. Empty: each of them.
        runs: Pretrain, adapt and evaluate only these. Empty: each of them.
        tasks: Prepare and evaluate only these. Empty: each of them.
        force: Run the targets even if nothing changed; an encoder that is finished is kept.
        retries: How often a stage that died is tried again; it resumes where it stopped.
    """
    names = {"sources": sources, "datasets": datasets, "runs": runs, "tasks": tasks}
    wanted, needs = select(graph(), targets, names)
    get_run_logger().info("%d stages: %s", len(needs), ", ".join(needs))
    shift.leave_if_over()
    with alive(str(runtime.flow_run.id)), no_child_left_behind() as children:
        _tag([*targets, *(name for some in names.values() for name in some)])
        states = _run(wanted if force else set(), needs, retries)
    if children.cancelled:
        return Cancelled(
            message="cancelled; what was running has ended, and resumes where it stopped"
        )
    failed = [
        str(state.message).removeprefix(RAISED)  # the first line is what people see
        for state in states.values()
        if state.is_failed() or state.is_crashed()
    ]
    artifacts.publish(environment(), failed)
    if failed:
        unreached = [stage for stage, state in states.items() if not state.is_final()]
        after = f"\nnot run, they need it: {', '.join(unreached)}" if unreached else ""
        return Failed(message="\n".join(failed) + after)
    counts = Counter("unchanged" if state.name == "Cached" else "ran" for state in states.values())
    return Completed(message=", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


def _run(forced: set[str], needs: dict[str, list[str]], retries: int) -> dict[str, State[Any]]:
    """Every stage as a task, after those that it needs; how each ended."""
    futures: dict[str, PrefectFuture[Any]] = {}
    idle = unchanged(needs, forced)
    # Without tags: for each of them Prefect asks the server for a slot, and where that is away for
    # half a minute the whole run would fail.
    task = repro.with_options(retries=retries, retry_delay_seconds=30)
    for stage, others in needs.items():
        futures[stage] = task.submit(
            stage,
            force=stage in forced,
            idle=stage in idle,
            return_state=False,
            wait_for=[futures[other] for other in others],
        )
    wait(list(futures.values()))
    return {stage: future.state for stage, future in futures.items()}


def _tag(names: list[str]) -> None:
    """What the run was asked for, beside the tags of its deployment."""
    new = [*runtime.flow_run.tags, *names]
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(runtime.flow_run.id, tags=list(dict.fromkeys(new)))
    except artifacts.AWAY as error:
        get_run_logger().warning("the run has no tags (%s)", error)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mimic.flows.pipeline", description="Bring the pipeline up to date."
    )
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="stage",
        help=f"any of {', '.join(map(str, get_args(Stage)))}; default: all",
    )
    for what in NARROWS:
        parser.add_argument(
            f"--{what.removesuffix('s')}",
            action="append",
            default=[],
            dest=what,
            metavar="NAME",
            help=f"only this of the {what}; may be given several times",
        )
    parser.add_argument(
        "--force", action="store_true", help="run the targets even if nothing changed"
    )
    options = vars(parser.parse_args())
    # An orderly end, so that the server that Prefect started for this run ends as well.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    state = pipeline(**options, return_state=True)
    print(state.message, file=sys.stdout if state.is_completed() else sys.stderr)
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
