"""`mimic check`: all that is wrong with a parameter file, and with what it points to, at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from mimic.commands.workspace import asked
from mimic.config.base import Section
from mimic.config.presets import Key
from mimic.errors import BadInput
from mimic.infra.addresses import holds_secret
from mimic.infra.storage import Workspace, short
from mimic.params import Params, resolve_params
from mimic.params.checking import look_through
from mimic.params.messages import located
from mimic.params.resolution import Resolved
from mimic.sources import READER_VERSIONS, READERS, open_source

# Path-valued keys that are relative to another key, which is looked at itself.
BELOW = ("videos", "index", "list", "images", "folder", "pairs")


def problems(path: Path) -> list[str]:
    """A line for each problem: keys, values, names, readers, paths.

    Raises:
        BadInput: the file is missing, or no YAML.
    """
    resolved = resolve_params(path)
    params, lines = look_through(resolved)
    lines = list(lines)
    lines += _readers(resolved)
    lines += _lost_quotes(path)
    if params is not None:
        lines += _credentials(resolved, params)
        lines += _refused(resolved, params, path.parent)
        lines += [located(resolved, key, message) for key, message in asked.missing(path)]
        space = Workspace(path.parent)
        for key, path_in_file, what in _paths(params):
            if not space.resolve(path_in_file).exists() and not _is_made(path_in_file, params):
                lines.append(
                    located(resolved, key, f"{path_in_file}: no such file or folder; {what}")
                )
    return lines


def _lost_quotes(path: Path) -> Iterator[str]:
    """Words that `dvc exp run -S` would make unreadable to DVC: it writes the file anew without
    quotes, and its reader takes no colon in a bare word inside braces or brackets."""
    flow = [False]  # of the collections that are open
    for event in yaml.parse(path.read_bytes(), yaml.CSafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            flow.append(bool(event.flow_style))
        elif isinstance(event, yaml.CollectionEndEvent):
            flow.pop()
        elif isinstance(event, yaml.ScalarEvent) and flow[-1] and _is_quoted_for_a_colon(event):
            line = event.start_mark.line + 1 if event.start_mark else "?"
            yield (
                f"{path}:{line}: {short(event.value)}: a colon inside braces; give its key a line "
                "of its own, or `dvc exp run -S` leaves a file that DVC cannot read"
            )


def _is_quoted_for_a_colon(word: yaml.ScalarEvent) -> bool:
    return bool(word.style) and ":" in word.value


def _credentials(resolved: Resolved, params: Params) -> Iterator[str]:
    """Addresses with a password: git keeps this file, and whoever clones reads it."""
    for path, address, variable in (
        (("tracking", "uri"), params.tracking.uri, "MLFLOW_TRACKING_URI"),
        (("cluster", "shards", "url"), params.cluster.shards.url, "MIMIC_SHARDS_URL"),
    ):
        if address is not None and holds_secret(address):
            message = f"holds a password, and git keeps this file; give it in {variable} instead"
            yield located(resolved, path, message)


def _readers(resolved: Resolved) -> Iterator[str]:
    """Sources whose reader has no version; one that is unknown is a wrong value."""
    sources = resolved.content.get("sources")
    for name, source in sources.items() if isinstance(sources, dict) else ():
        reader = source.get("reader") if isinstance(source, dict) else None
        if reader in READERS and reader not in READER_VERSIONS:
            message = f"{reader!r} has no row in READER_VERSIONS"
            yield located(resolved, ("sources", name, "reader"), message)


def _refused(resolved: Resolved, params: Params, root: Path) -> Iterator[str]:
    """Sources whose numbers the reader itself refuses; it is not asked for its data."""
    for name, section in params.sources.items():
        try:
            open_source(name, section, root, params.mine.size_px, params.habitat)
        except BadInput as error:
            message = str(error).removeprefix(f"sources.{name}.")
            yield located(resolved, ("sources", name), message)


def _paths(params: Params) -> Iterator[tuple[Key, Path, str]]:
    """Every path that the file names, its key, and what to do where it is missing."""
    yours = "correct it, or put the data there"
    for name, source in params.sources.items():
        yield from ((key, path, yours) for key, path in _of(source, ("sources", name)))
    for name, task in params.evaluate.items():
        yield from ((key, path, yours) for key, path in _of(task, ("evaluate", name)))
    for key, path in _of(params.mine.privacy, ("mine", "privacy")):
        yield key, path, yours
    for number, name in enumerate(params.imported):
        make = f"`mimic import-weights FILE --out models/{name}` makes it"
        yield ("imported", number), Path("models") / name, make


def _of(section: Section, path: Key) -> Iterator[tuple[Key, Path]]:
    for field in type(section).model_fields:
        value = getattr(section, field)
        if isinstance(value, Path) and field not in BELOW:
            yield (*path, field), value


def _is_made(path: Path, params: Params) -> bool:
    """Whether a stage makes it."""
    outputs = [Path("data/manifests") / f"{name}.parquet" for name in params.datasets]
    outputs += [Path("models") / name for name in params.runs]
    synthesized = params.synthesize.model_dump() if params.synthesize else {}
    outputs += [Path("data/raw") / kind for kind in synthesized]
    return any(path == one or one in path.parents for one in outputs)
