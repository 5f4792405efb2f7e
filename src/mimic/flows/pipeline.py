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
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Annotated, Any, Literal, get_args

from dvc.repo import Repo
from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from mimic.flows.janitor import alive
from mimic.flows.repro import environment, no_child_left_behind, repro
from mimic.flows.unchanged import unchanged

# Stages that run at the same time. Two fill a laptop; a login node that hands its stages to a
# cluster can wait for many more.
AT_ONCE = int(os.environ.get("MIMIC_STAGES_AT_ONCE", "2"))

# The stages of dvc.yaml, as the UI offers them to choose from; a test holds them against the file.
Stage = Literal[
    "synthesize",
    "ingest",
    "mine",
    "assemble",
    "recipe",
    "pretrain",
    "adapt-recipe",
    "adapt",
    "prepare",
    "evaluate",
    "report",
]


def graph() -> dict[str, list[str]]:
    """Every stage of dvc.yaml with the stages it needs, those before it."""
    with Repo() as repository:
        dvc_graph = repository.index.graph
        needs = {
            stage.addressing: [
                other.addressing for other in dvc_graph.successors(stage) if other.cmd
            ]
            for stage in dvc_graph
            if stage.cmd
        }
    return {
        stage: sorted(needs[stage])
        for stage in TopologicalSorter(dict(sorted(needs.items()))).static_order()
    }


def stage_of(name: str) -> str:
    """The stage of dvc.yaml that an entry belongs to: `mine` of mine@phone."""
    return name.partition("@")[0]


def select(
    needs: dict[str, list[str]], targets: Sequence[str], names: list[str]
) -> tuple[set[str], dict[str, list[str]]]:
    """The stages asked for, and these together with everything they need, in order.

    Raises:
        ValueError: nothing has such a name.
    """
    wanted = {stage for stage in needs if not targets or stage_of(stage) in targets}
    if names:
        known = {stage.partition("@")[2] for stage in wanted} - {""}
        if unknown := set(names) - known:
            raise ValueError(
                f"no such name: {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}"
            )
        wanted = {stage for stage in wanted if stage.partition("@")[2] in names}
    needed = set(wanted)
    for stage in reversed(needs):
        if stage in needed:
            needed.update(needs[stage])
    return wanted, {stage: others for stage, others in needs.items() if stage in needed}


RUNNER: Any = ThreadPoolTaskRunner(max_workers=AT_ONCE)


@flow(name="pipeline", task_runner=RUNNER)
def pipeline(
    targets: list[Stage] = [],  # noqa: B006
    names: list[str] = [],  # noqa: B006
    force: bool = False,
    retries: Annotated[int, Field(ge=0)] = 0,
) -> State[Any]:
    """Bring the pipeline up to date: what is stale DVC decides, and a stage that is not shows as
    Cached.

    Args:
        targets: Stages to bring up to date, with all they need. None chosen: all of them.
        names: Only these of the targets (rooms, croco-3m, ...). Empty: each of them.
        force: Run the targets even if nothing changed.
        retries: How often a stage that died is tried again; it resumes where it stopped.
    """
    log = get_run_logger()
    wanted, needs = select(graph(), targets, names)
    log.info("%d stages: %s", len(needs), ", ".join(needs))
    idle = unchanged(needs)
    with alive(str(runtime.flow_run.id)), no_child_left_behind() as children:
        task = repro.with_options(retries=retries, retry_delay_seconds=30)
        futures: dict[str, PrefectFuture[Any]] = {}
        for stage, others in needs.items():
            forced = force and stage in wanted
            futures[stage] = task.submit(
                stage,
                force=forced,
                idle=stage in idle and not forced,
                return_state=False,
                wait_for=[futures[other] for other in others],
            )
        wait(list(futures.values()))
    if children.cancelled:
        return Cancelled(
            message="cancelled; what was running has ended, and resumes where it stopped"
        )
    states = {stage: future.state for stage, future in futures.items()}
    failed = [
        str(state.message) for state in states.values() if state.is_failed() or state.is_crashed()
    ]
    if failed:
        unreached = [stage for stage, state in states.items() if not state.is_final()]
        after = f"\nnot run, they need it: {', '.join(unreached)}" if unreached else ""
        return Failed(message="\n".join(failed) + after)
    publish_links()
    counts = Counter("unchanged" if state.name == "Cached" else "ran" for state in states.values())
    return Completed(message=", ".join(f"{count} {what}" for what, count in sorted(counts.items())))


def publish_links() -> None:
    """The results table and the way to MLflow, in the run's Artifacts tab."""
    table = subprocess.run(["mimic", "compare"], capture_output=True, text=True, env=environment())
    if table.returncode == 0:
        create_markdown_artifact(
            f"```\n{table.stdout}\n```", key="results", description="mimic compare"
        )
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    if tracking.startswith("http"):
        create_link_artifact(tracking, key="mlflow", link_text="MLflow")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mimic.flows.pipeline", description="Bring the pipeline up to date."
    )
    parser.add_argument(
        "targets",
        nargs="*",
        metavar="stage",
        help=f"any of {', '.join(get_args(Stage))}; default: all",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        dest="names",
        help="only this of the targets: rooms, croco-3m, ...",
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
