"""Stage `pretrain`: a manifest and a recipe make an encoder.

    data/manifests/<dataset>.parquet  ->  models/<run>/
        encoder.safetensors   the encoder, with timm's keys
        model.safetensors     everything, decoder included
        card.json             what made it, and how to build it
        log.jsonl             loss, learning rate, gradient norm
        snapshots/<step>/     encoder.safetensors and card.json of checkpoints on the way
                              (`keep_every`)
        reconstruction.png    held-out pairs: view a, masked, reconstruction, view b (and .npz, the
                              same as arrays)

A run with several seeds makes one such folder a seed, models/<run>/seed-<k>/.

The encoder needs nothing of this project (with rotary positions, `mimic export-weights` makes what
timm reads):

    card = json.load(open("models/croco-1m/card.json"))
    vit = timm.models.VisionTransformer(**card["timm"]["kwargs"])
    vit.load_state_dict(safetensors.torch.load_file("models/croco-1m/encoder.safetensors"))

Work in progress lies in runs/pretrain/<run>/<fingerprint>/ (of a seed:
runs/pretrain/<run>/seed-<k>/<fingerprint>/) and is resumed after any interruption; what is
published is the same as if there had been none. Speeds and memory stay there, in its log.jsonl:
they are the machine's, not the model's. So do pictures/<step>.png, drawn on the way.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mimic import config
from mimic.config.names import seed_of
from mimic.errors import BadInput
from mimic.infra import earlier, kept, tracking
from mimic.infra.cluster import run_training, run_trainings
from mimic.infra.owner import all_owned, owned
from mimic.infra.progress import say
from mimic.infra.provenance import git_commit
from mimic.infra.publishing import Work, publish, resolve_target
from mimic.infra.storage import (
    Workspace,
    file_digest,
    fingerprint,
    read_json,
    write_json,
)
from mimic.licences import combine
from mimic.params import Params, lineage, pick, terms
from mimic.params.tracked import tracking_context
from mimic.params.trainings import TrainingPlan, plan_training
from mimic.training import (
    HOW,
    checkpoint,
    encoder_folder,
    reconstruct,
    start,
)
from mimic.training.fit import choose_device
from mimic.training.precision import forget_precision
from mimic.training.pretraining import (
    EXECUTION_ONLY_KEYS,
    train,
)
from mimic.training.start import starting_model

TRAINED = "trained.json"  # of a run that a sweep has trained and nobody has published


def main(params: Params, root: Path, name: str) -> None:
    """Pretrain run `name` of params.yaml and publish models/<name>/: an encoder, or one a seed.

    It trains where `cluster.pretrain` says: here, in several processes, or as a job; nothing of
    that changes what is trained. Encoders that are finished and have changed in nothing are kept;
    several seeds train one after the other here, and under `executor: slurm` as one array.

    One process at a time works on a run.

    Raises:
        BadInput: no such run, or what it needs is not there.
        ItemsFailed: some seeds failed; the others are trained.
    """
    run = pick(params.runs, name, "run")
    with owned(Workspace(root).work("pretrain", name), f"pretrain {name}"):
        _pretrain(params, root, name, run)


def _pretrain(params: Params, root: Path, name: str, run: config.Run) -> None:
    target = Workspace(root).model(name)
    work = Work("pretrain", name)
    resolve_target(target, work, recognise=earlier.model)
    plans = {encoder: plan_training(params, root, encoder) for encoder in run.encoders(name)}
    with tracking.showing(tracking_context(params), root, _shown(plans)):
        trained = _make(params, root, plans)
    below = {plan.folder: encoder[len(name) :].lstrip("/") for encoder, plan in plans.items()}
    if trained or not kept.is_published(below, target):
        publish(functools.partial(kept.link_all, below), target, work, recognise=earlier.model)
    for folder in _superseded(Workspace(root).work("pretrain", name), list(below)):
        kept.forget(folder)
    tracking.mirror_pretrain(tracking_context(params), root, name)


def _shown(plans: Mapping[str, TrainingPlan]) -> list[tracking.ShownTraining]:
    """Trainings as MLflow may show them while they go on; all seeds of their runs."""
    count = Counter(seed_of(encoder)[0] for encoder in plans)
    return [
        tracking.ShownTraining(
            encoder,
            str(plan.folder),
            lines=-(-plan.run.steps // plan.recipe.log_every),
            label=tracking.label(
                seed_of(encoder)[0],
                {"dataset": plan.run.dataset, "steps": plan.run.steps},
                count[seed_of(encoder)[0]],
            ),
        )
        for encoder, plan in plans.items()
        if plan.run.steps
    ]


def _make(params: Params, root: Path, plans: Mapping[str, TrainingPlan]) -> list[str]:
    """Make every encoder that is not there of these numbers yet; the names of those that had to
    be."""
    todo = {encoder: plan for encoder, plan in plans.items() if not _is_kept(encoder, plan)}
    for encoder in plans.keys() - todo.keys():
        say(f"pretrain {encoder}: kept, it is trained and nothing of it has changed")
        _clean(plans[encoder].folder)  # where a killed process did not come to it
    if params.cluster.executor == "slurm" and len(plans) > 1:
        _train(params, root, todo)
    for encoder, plan in todo.items():
        fill = _trained(params, root, encoder, plan)
        kept.keep(fill, plan.folder, Work("pretrain", encoder), _shows(plan.recipe))
        _clean(plan.folder)
    return list(todo)


def _is_kept(encoder: str, plan: TrainingPlan) -> bool:
    """Whether an encoder lies in its work, whole, with the log, pictures and snapshots that are
    asked for; one that is damaged goes."""
    try:
        return kept.is_kept(plan.folder, _shows(plan.recipe))
    except kept.Damaged as damage:
        say(f"pretrain {encoder}: trains again: {damage}")
        kept.forget(plan.folder)
        return False


def _shows(recipe: config.Recipe) -> dict[str, Any]:
    """What decides the files beside the weights, and no weight."""
    return recipe.model_dump(mode="json", include=EXECUTION_ONLY_KEYS - HOW - {"device_batch"})


def _superseded(work: Path, folders: Sequence[Path]) -> Iterator[Path]:
    """The folders of a run's work, of other numbers than these, that keep an encoder."""
    for above in {work, *(folder.parent for folder in folders)}:
        for path in above.glob(f"*/{kept.KEPT}"):
            if path.parent not in folders:
                yield path.parent


def _trained(params: Params, root: Path, name: str, plan: TrainingPlan) -> Callable[[Path], None]:
    """Train one encoder; what writes its folder."""
    run = plan.run
    recipe = plan.recipe
    folder = plan.folder
    model, inherited = starting_model(recipe, run, plan.begin)
    begun = {}
    if plan.begin is not None and inherited is not None:
        begun = {"init": start.record(plan.begin, inherited, recipe)}
        for line in start.lines(begun["init"]):
            say(f"pretrain {name}: {line}")
    precision = recipe.precision
    if run.steps:
        results = _by_a_sweep(folder) or run_training(
            train,
            plan.description(params, root, name),
            folder,
            params.cluster.pretrain,
            params.cluster,
            f"pretrain {name}",
        )
        precision = results[0]["precision"]
    if checkpoint.restore_newest_model(folder, model) != run.steps:
        (folder / TRAINED).unlink(missing_ok=True)
        raise BadInput(
            f"{folder}: no whole checkpoint of step {run.steps}; run mimic pretrain {name} again"
        )
    card = encoder_folder.describe(name, recipe, run, model, precision) | {
        **_made_of(params, root, name, plan),
        **begun,
    }
    model.to(choose_device())
    pictures = reconstruct.held_out(plan.manifest, root, recipe, run, params.cluster.shards)(model)
    _require_unchanged(name, plan)
    snapshot_every = recipe.keep_every and recipe.keep_every * recipe.save_every
    return functools.partial(encoder_folder.fill, model, card, pictures, folder, snapshot_every)


def _require_unchanged(name: str, plan: TrainingPlan) -> None:
    """
    Raises:
        BadInput: the manifest or the weights that it began with are others by now, and so would be
            the terms and pictures beside the weights.
    """
    begun_with = [(plan.manifest, plan.digest)]
    if plan.begin is not None:
        begun_with.append((start.weights_file(plan.begin.folder), plan.begin.digest))
    for path, digest in begun_with:
        if file_digest(path) != digest:
            raise BadInput(
                f"{path}: was made anew while pretrain {name} was under way, whose checkpoints "
                "stay; make it again as it was and run this again, or train on what it is now"
            )


def _made_of(params: Params, root: Path, name: str, plan: TrainingPlan) -> dict[str, Any]:
    """What a card says of the numbers, pairs and code that made an encoder."""
    as_written = params.recipe(seed_of(name)[0]).model_dump(
        mode="json", exclude=EXECUTION_ONLY_KEYS
    )
    return {
        "sections": {"run": plan.run.model_dump(mode="json"), "recipe": as_written},
        "manifest_digest": plan.digest,
        "params_digest": fingerprint(as_written, plan.made_by[1]),
        "progress": plan.folder.name,
        "parts": plan.parts,
        "git_commit": git_commit(root),
        "pairs": plan.pairs,
        "licences": combine(terms.of_run(params, Workspace(root), plan.run)),
    }


def _clean(folder: Path) -> None:
    """Nothing goes on from the checkpoints of an encoder that is whole."""
    (folder / TRAINED).unlink(missing_ok=True)
    checkpoint.remove_all(folder)
    forget_precision(folder)


def sweep(params: Params, root: Path, names: Sequence[str]) -> list[str]:
    """Train several runs at once, on a cluster as one array, and leave publishing them to `main`,
    which finds them trained.

    Args:
        names: runs; all seeds of a run that has several.

    Returns:
        The encoders that were trained; those without steps, those that wait to be published, and
        finished seeds need none, and those that start from one that is not published are told of.

    Raises:
        ItemsFailed: some failed; the others are done.
    """
    runs = {name: pick(params.runs, name, "run") for name in names}
    space = Workspace(root)
    with all_owned([space.work("pretrain", name) for name in names], f"sweep {' '.join(names)}"):
        return _sweep(params, root, names, runs)


def _sweep(
    params: Params, root: Path, names: Sequence[str], runs: Mapping[str, config.Run]
) -> list[str]:
    plans = {}
    for encoder in [encoder for name, run in runs.items() for encoder in run.encoders(name)]:
        if before := _waits_for(params, root, encoder, names):
            of, _ = seed_of(encoder)
            say(f"sweep {encoder}: waits for {before} to be published; then: mimic sweep {of}")
        else:
            plans[encoder] = plan_training(params, root, encoder)
    with tracking.showing(tracking_context(params), root, _shown(plans)):
        return _train(params, root, plans)


def _waits_for(params: Params, root: Path, encoder: str, swept: Sequence[str]) -> str | None:
    """The encoder that this one starts from, where a run has yet to make it, or makes it anew in
    this sweep."""
    init = lineage.init_of(params, encoder)
    if init is None or init in params.imported:
        return None
    card = read_json(Workspace(root).model(init) / "card.json")
    if card is None or (seed_of(init)[0] in swept and _waits_for(params, root, init, swept)):
        return init
    anew = seed_of(init)[0] in swept and plan_training(params, root, init).folder.name
    return init if anew and card.get("progress") != anew else None


def _train(params: Params, root: Path, plans: Mapping[str, TrainingPlan]) -> list[str]:
    """Bring encoders to their last step, all at once; the names of those that had to be."""
    todo = {
        name: plan
        for name, plan in plans.items()
        if plan.run.steps and not (plan.folder / TRAINED).exists() and not _is_kept(name, plan)
    }
    trainings = {plan.folder: plan.description(params, root, name) for name, plan in todo.items()}
    titles = {plan.folder: f"pretrain {name}" for name, plan in todo.items()}

    def done(folder: Path, results: list[Any]) -> None:
        write_json(folder / TRAINED, results)

    run_trainings(train, trainings, params.cluster.pretrain, params.cluster, titles, done)
    return list(todo)


def _by_a_sweep(folder: Path) -> list[dict[str, Any]] | None:
    path = folder / TRAINED
    return json.loads(path.read_text()) if path.exists() else None
