"""`mimic new`: a workspace for your own data, which works at once outside the repository.

It holds params.yaml, dvc.yaml, versions.yaml, README.md, a git repository with DVC, and the weights
to start from, if any. It appears whole, or not at all.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mimic import licences
from mimic.commands import import_weights
from mimic.commands.own import own_data, own_options
from mimic.commands.workspace import choices, data, files, stages, versions
from mimic.commands.workspace.data import Asked, FolderMedia
from mimic.errors import BadInput
from mimic.infra import publishing
from mimic.infra.storage import short
from mimic.params import Params, load_params, packaged
from mimic.tasks.checked_before import looked_through
from mimic.tasks.inspection import lines as found_lines

START = "start"  # models/start: the weights to start from
LOOK = "look"  # pairs of a few clips, and a page of them
LOOK_CLIPS = 3
LOOK_PICTURES = 300  # in it, of folders of images, about
LOOK_S = 120.0  # seconds of video in it, about


@dataclass
class Plan:
    """What the workspace says, and why, line by line."""

    profile: str
    mine: dict[str, Any] = field(default_factory=lambda: {"preset": "standard"})
    sources: list[choices.Mined] = field(default_factory=list)
    validation: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)
    local: dict[str, Any] = field(default_factory=dict)  # what runs have on this machine
    large_steps: int = 0
    starts: bool = False
    depth: Path | None = None

    def say(self, what: str, why: str) -> None:
        print(f"  {what}: {why}")


def main(project: Path, asked: Asked) -> None:
    """Look at the data, choose, write the workspace, and mine a few clips to look at.

    Raises:
        BadInput: there is something at `project`, or a folder or the weights cannot be read.
    """
    _refuse(project, asked)
    template = packaged()
    media = data.look(template, asked, project)
    for one in media:
        print(data.described(one))
    made_by = publishing.Work("new", project.name)

    def fill(folder: Path) -> None:
        _write(folder, project, _plan(folder, template, media, asked))

    publishing.publish(fill, project, made_by, for_good=True)
    print(f"{project}: params.yaml, dvc.yaml, versions.yaml, README.md")
    _look_at_pairs(project, media, asked.licence)
    print(f"next: cd {project} && dvc repro")


def _refuse(project: Path, asked: Asked) -> None:
    if os.path.lexists(project):
        raise BadInput(f"{project}: is there already; name a new folder, nothing was touched")
    if not list(asked.folders()):
        raise BadInput("new: name what to mine: --videos DIR, --images DIR or --scenes DIR")
    if asked.steps is not None and asked.steps < 1:
        raise BadInput(f"--steps {asked.steps}: must be 1 or more")
    if licences.find(asked.licence) is None:
        raise BadInput(
            f"--licence {short(asked.licence)}: no licence is called so; "
            f"{licences.advice(asked.licence)}"
        )
    if asked.start_from is not None and not Path(asked.start_from).exists():
        raise BadInput(
            f"--start-from {short(asked.start_from)}: no such file; of a model of timm, save its "
            "weights with torch.save(model.state_dict(), FILE) and name the file"
        )
    if asked.depth is not None and not asked.depth.is_dir():
        raise BadInput(f"--depth {asked.depth}: no such folder")
    data_folders = [folder for _, folder in asked.folders()]
    for folder in [*data_folders, *([asked.depth] if asked.depth else [])]:
        if project.resolve().is_relative_to(folder.resolve()):
            raise BadInput(
                f"{project}: lies in the data, {folder}, which DVC would then track with all that "
                "the workspace makes; name a folder outside it"
            )


# ---------------------------------------------------------------------------- choosing


def _plan(folder: Path, template: Params, media: Sequence[FolderMedia], asked: Asked) -> Plan:
    profile, why = choices.profile_of_machine()
    plan = Plan(profile)
    print("chosen:")
    plan.say(f"profile {profile}", why)
    size_px, why = choices.size_px(data.typical_side_px(media), template.mine)
    plan.say(f"views stored at {size_px} px", why)
    if size_px != template.mine.size_px:
        plan.mine["size_px"] = size_px
    for one in media:
        source, why = choices.mined(one, asked, template.mine)
        plan.sources.append(source)
        plan.say(f"source {source.name}", why)
        if one.others:
            plan.say(f"source {source.name}", one.others)
        if not Path(stands_for := source.section["tracked_by"]).is_absolute():
            plan.say(
                f"tracked by {stands_for}",
                "too large to be hashed; raise its number when the data change",
            )
    plan.validation, why = choices.validation(plan.sources)
    plan.say(f"validation {plan.validation:g}", why)
    _choose_model(plan, folder, asked)
    _choose_training(plan, asked)
    plan.depth = asked.depth
    return plan


def _choose_model(plan: Plan, folder: Path, asked: Asked) -> None:
    if asked.start_from is not None:
        card = _imported(asked.start_from, folder / "models" / START)
        plan.starts = True
        plan.model, plan.local["model"], why = choices.model_of(card, plan.profile)
        plan.say(f"model: {plan.model['depth']} blocks of {plan.model['width']}", why)
        positions = _inherited(card, asked)
    else:
        positions = asked.positions or "sincos"
    if positions == "rope":
        plan.model["positions"] = "rope"
        plan.say("positions rope", "DUSt3R and MASt3R can load the encoder; CroCo v1 cannot")
        return
    instead = "start from weights that have them" if plan.starts else "--positions rope"
    plan.say(
        "positions sincos",
        "timm and CroCo v1 can load the encoder; DUSt3R/MASt3R need rotary positions: " + instead,
    )


def _inherited(card: dict[str, Any], asked: Asked) -> str:
    """The positions of the weights to start from, which training cannot change."""
    positions = str(card["model"]["positions"])
    if asked.positions not in (None, positions):
        raise BadInput(
            f"--positions {asked.positions}: the weights of --start-from have {positions} "
            "positions, which an encoder keeps; leave --positions out, or start from others (CroCo "
            "v2 and DUSt3R have rotary ones)"
        )
    return positions


def _imported(start: str, out: Path) -> dict[str, Any]:
    nothing = import_weights.ImportOverrides(None, None, None, None, None)
    return import_weights.import_weights(Path(start), out, nothing)


def _choose_training(plan: Plan, asked: Asked) -> None:
    pairs = sum(source.pairs for source in plan.sources)
    batch, why = choices.batch(plan.profile, pairs)
    plan.say("training", why)
    if batch is not None:
        plan.local["batch"] = batch
    differs = dict(plan.local)
    if plan.model or "model" in differs:
        differs["model"] = {**plan.model, **plan.local.get("model", {})}
    at_once, why = choices.device_batch(plan.profile, differs)
    plan.say(f"device_batch {at_once or 'as in the recipe'}", why)
    if at_once is not None:
        plan.local["device_batch"] = differs["device_batch"] = at_once
    resolved, run = choices.recipe(plan.profile, differs)
    plan.say(
        f"recipe {run.recipe}", f"{resolved.objective}, as the profile says; `mimic params runs`"
    )
    runs = 2 if plan.starts else 1
    steps, plan.large_steps, why = choices.steps(plan.profile, differs, pairs, runs)
    if asked.steps is not None:
        steps = asked.steps
        why = "as --steps says"
    plan.local["steps"] = steps
    plan.say(f"steps {steps}", why)


# ---------------------------------------------------------------------------- writing


def _write(folder: Path, project: Path, plan: Plan) -> None:
    for name, text in {
        "params.yaml": _params_text(project.name, plan),
        "dvc.yaml": stages.text(),
        "versions.yaml": versions.text(versions.current(plan.profile)),
        "README.md": files.readme(project.name, plan.starts, START),
        ".gitignore": files.GITIGNORE,
        ".dvcignore": files.DVCIGNORE,
        files.TASKS: "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for source in plan.sources:
        if not Path(source.section["tracked_by"]).is_absolute():
            (folder / source.section["tracked_by"]).write_text("1\n")
    for command in (["git", "init", "--quiet"], [sys.executable, "-m", "dvc", "init", "--quiet"]):
        _run(command, folder)
    (folder / ".dvc/config").write_text(files.DVC_CONFIG)
    params = load_params(folder / "params.yaml")
    if plan.depth is not None:
        try:
            seen = looked_through(params.evaluate["depth"], "depth", folder)
        except BadInput as error:
            raise BadInput(f"--depth: {error}") from None
        for line in found_lines(seen):
            print(f"depth: {line}")


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise BadInput(f"{command[0]}: not installed; a workspace needs it") from None
    if done.returncode:
        output = " ".join((done.stderr or done.stdout).split())
        raise BadInput(f"{' '.join(command[-3:])}: {output}")


def _params_text(title: str, plan: Plan) -> str:
    """At most 25 lines, with a comment where a name does not say it."""
    profile_of_machine = {"runs": _local_runs(plan)}
    model = {"model": plan.model} if plan.model else {}
    large = {"runs": {"steps": plan.large_steps, **model}}
    own = dict.fromkeys(("gpu", "cluster"), large) | {plan.profile: profile_of_machine}
    lines = [
        "# `mimic params` prints every value and where it comes from; `mimic check` what is wrong.",
        f"profile: {plan.profile}  # laptop, gpu or cluster (SLURM); then: mimic upgrade",
        "profiles:  # what runs have, by profile",
        *(f"  {name}: {_flow(values)}" for name, values in sorted(own.items())),
        f"mine: {_flow(plan.mine)}",
        "sources:",
        *(f"  {_entry(one.name, one.section)}" for one in plan.sources),
        "datasets:",
        f"  own: {_flow(_dataset(plan))}",
        "pretrain: {}",
        *_run_lines(plan),
        *_task_lines(plan),
        _entry("report", {"title": title}),
    ]
    return "\n".join(lines) + "\n"


def _local_runs(plan: Plan) -> dict[str, Any]:
    if not plan.model:
        return plan.local
    return {**plan.local, "model": {**plan.model, **plan.local.get("model", {})}}


def _dataset(plan: Plan) -> dict[str, Any]:
    return {
        "sources": {one.name: None for one in plan.sources},
        "validation": plan.validation,
    }


def _run_lines(plan: Plan) -> list[str]:
    fresh = "fresh" if plan.starts else "own"
    lines = [
        "runs:  # one pretraining each; 0 steps = random initialisation",
        f"  random: {_flow({'dataset': 'own', 'steps': 0})}",
        f"  {fresh}: {_flow({'dataset': 'own'})}",
    ]
    if plan.starts:
        lines += [
            f"imported: [{START}]",
            "adapt:  # the same, started from weights",
            f"  own: {_flow({'init': START, 'dataset': 'own'})}",
        ]
    return lines


def _task_lines(plan: Plan) -> list[str]:
    tasks = {}
    if sum(len(one.clips) for one in plan.sources) > 1:
        tracked = "data/manifests/own.parquet"
        tasks["views"] = {"task": "correspondence", "dataset": "own", "tracked_by": tracked}
    if plan.depth is not None:
        where = str(plan.depth.resolve())
        tasks["depth"] = {"task": "depth", "data": where, "tracked_by": where}
    runs = ["random", *(["fresh"] if plan.starts else []), "own"]
    table = {"runs": runs, "tasks": list(tasks), "checkpoints": "last"}
    head = ["evaluate:  # what encoders are measured on"] if tasks else ["evaluate: {}"]
    return [
        *head,
        *(f"  {_entry(name, task)}" for name, task in tasks.items()),
        f"table: {_flow(table)}",
    ]


def _entry(name: str, values: dict[str, Any]) -> str:
    """On one line, unless a word of it holds a colon, which `dvc exp run -S` leaves bare."""
    if not any(isinstance(value, str) and ":" in value for value in values.values()):
        return f"{name}: {_flow(values)}"
    lines = yaml.safe_dump(values, sort_keys=False, width=100_000, allow_unicode=True)
    return "\n".join([f"{name}:", *(f"    {line}" for line in lines.splitlines())])


def _flow(values: dict[str, Any]) -> str:
    return str(
        yaml.safe_dump(
            values, default_flow_style=True, sort_keys=False, width=100_000, allow_unicode=True
        )
    ).strip()


# ---------------------------------------------------------------------------- looking


def _look_at_pairs(project: Path, media: Sequence[FolderMedia], licence: str) -> None:
    """Mine a few clips into a folder of the workspace, with its page."""
    params = load_params(project / "params.yaml")
    paths = [path for one in media for path in _short_clips(one)]
    if not paths:
        return
    clips = sum(len(one.clips) for one in media if one.kind != "scenes")
    print(f"pairs to look at, of {len(paths)} of {clips} clip{'s' * (clips != 1)}:", flush=True)
    options = own_options.Options(licence=licence)
    own_data.pairs(params, paths, project / LOOK, options, as_json=False)


def _short_clips(media: FolderMedia) -> list[Path]:
    """The shortest clips, of a few minutes or some hundred pictures in all."""
    if media.kind == "scenes":
        return []
    if media.kind == "images":
        return _small_folders(media)
    taken: list[Path] = []
    seconds = 0.0
    for film in sorted(media.films, key=lambda film: film.seconds or LOOK_S):
        seconds += film.seconds or LOOK_S
        if len(taken) == LOOK_CLIPS or (taken and seconds > LOOK_S):
            break
        taken.append(film.path)
    return taken


def _small_folders(media: FolderMedia) -> list[Path]:
    """Folders of images without others below: looking at a folder looks at those, too."""
    folders = [media.root / name for name in media.clips]
    above = {parent for folder in folders for parent in folder.parents}
    sizes = {folder: len(list(folder.iterdir())) for folder in folders if folder not in above}
    taken: list[Path] = []
    for folder in sorted(sizes, key=lambda folder: sizes[folder]):
        if len(taken) == LOOK_CLIPS or (
            taken and sum(sizes[one] for one in (*taken, folder)) > LOOK_PICTURES
        ):
            break
        taken.append(folder)
    return taken
