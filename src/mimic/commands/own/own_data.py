"""`mimic pairs`: your own data, mined into a folder of pair shards (own_sources.py says how each
kind is read).

The folder holds `shard-*.parquet`, `_images/shard-*.tar`, `_log.jsonl` (a line a shard, with
tracebacks), `_index.html` (the page to look at), `_rejected` (its pictures of rejected
candidates) and `_pairs.json`: the counts, and by name every clip that gave nothing, every file that
was passed over and every damaged one, with the reason, and which axis of each scene was taken for
up. It belongs to the inputs that it was made of.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mimic.commands.own import own_options, own_page, own_shards, own_sources
from mimic.errors import BadInput
from mimic.infra import progress, storage
from mimic.mining import driver, privacy, reject_samples, shard_job, stats
from mimic.pairs.schema import IMAGES
from mimic.pairs.write import lay_out_shards
from mimic.params import Params
from mimic.reporting.look import PAGE, REJECTED, SUMMARY, is_ours
from mimic.sources.photos import folders

LOG = "_log.jsonl"
WORK = ".work-"
LOCK = ".lock"
SHARD = re.compile(r"shard-(\d{5,})\.(parquet|tar)")
OURS = re.compile(rf"{SUMMARY}|{REJECTED}|{LOG}|{IMAGES}|{WORK}[0-9a-f]+|{LOCK}")
BEFORE = re.compile(r"pairs\.json|shard-\d+\.tar")  # how results were laid out before
TITLE = "mimic pairs"
ELSEWHERE = "name a new folder, or delete this one first"


def pairs(
    params: Params,
    paths: Sequence[Path],
    out: Path,
    options: own_options.Options,
    as_json: bool,
    file: Path | None = None,
) -> bool:
    """Write shards of pairs, mined from the paths, into a folder; print what became of the
    candidates.

    Killed and run again with the same paths, it resumes. Run again when it is finished, it mines
    only if something has changed.

    Args:
        file: where `params` was read, if the command line names it.

    Returns:
        Whether there is a pair.

    Raises:
        BadInput: nothing to mine, or the folder holds something else already, is in use, or cannot
            be written to.
    """
    started = time.monotonic()
    inputs = own_sources.identity(paths)
    _refuse_others(out, inputs)
    media = own_sources.find_media(params, paths, options, out)
    with _locked_folder(out, inputs):
        fingerprint = _fingerprint(params, media)
        summary = _unchanged_result(out, fingerprint)
        if summary is None:
            summary = _mine(params, media, out / f"{WORK}{inputs}" / fingerprint)
            summary |= {
                "notes": own_options.flagged(media.notes()),
                "paths": [folders.shown(str(path)) for path in paths],
                "out": str(out),
                "options": own_options.as_flags(options)
                | ({} if file is None else {"--params": str(file)}),
                "inputs": inputs,
                "fingerprint": fingerprint,
                **own_page.described(params, media),
            }
            summary["seconds"] = round(time.monotonic() - started, 3)
            summary = _publish(out, inputs, fingerprint, summary)
        own_page.look(out)
    for line in stats.note_lines(summary.get("notes", {})):
        progress.say(f"{TITLE}: {line}")
    driver.report(TITLE, summary, out / SUMMARY, out / LOG)
    if as_json:
        print(json.dumps(summary))
    else:
        print(f"{summary['kept']} pairs of {summary['candidates']} candidates in {out}")
        print(f"look at them: {own_page.address(out)}")
    return bool(summary["kept"])


def _mine(params: Params, media: own_sources.MediaFound, work: Path) -> dict[str, Any]:
    """Shards in the folder of the work, and what is known of all of them."""
    work.mkdir(parents=True, exist_ok=True)
    todo = own_shards.shard_jobs(params, media, work)
    counted = driver.run(todo, params.cluster, TITLE, work / LOG)
    counted.add_skipped(media.skipped)
    storage.write_json(work / REJECTED, reject_samples.together(own_page.examples(todo)))
    summary = own_options.flagged(counted.summary())
    return {**summary, "shards": len(shard_job.with_pairs(todo))}


def _publish(out: Path, inputs: str, fingerprint: str, summary: dict[str, Any]) -> dict[str, Any]:
    """Put finished shards in the place of an earlier result of the same inputs; the summary, as it
    can be read from now on.

    Killed here, the next run does it again.
    """
    work = out / f"{WORK}{inputs}"
    (out / SUMMARY).unlink(
        missing_ok=True
    )  # says that the result is whole, so it goes first and comes last
    beside = [out / name for name in (PAGE, LOG, REJECTED)]
    for old in (*out.glob("shard-*.parquet"), *out.glob(f"{IMAGES}/shard-*.tar"), *beside):
        old.unlink(missing_ok=True)
    tars = sorted((work / fingerprint).glob("shard-*.tar"))
    lay_out_shards(tars, out)
    for name in (LOG, REJECTED):
        storage.link(work / fingerprint / name, out / name)
    storage.write_json(out / SUMMARY, {**summary, "bytes": _bytes(out)})
    shutil.rmtree(work)
    written: dict[str, Any] = json.loads((out / SUMMARY).read_text())
    return written


def _unchanged_result(out: Path, fingerprint: str) -> dict[str, Any] | None:
    """The summary of a complete result whose inputs and settings are unchanged; None where there is
    none."""
    summary = _summary(out)
    if summary is None or summary.get("fingerprint") != fingerprint:
        if summary is not None:
            progress.say(
                f"{TITLE}: {out} holds pairs of the same paths, but files, numbers or mimic "
                "changed; they are mined again"
            )
        return None
    if (
        len(list(out.glob("*.parquet"))) != summary["shards"]
        or len(list(out.glob(f"{IMAGES}/*.tar"))) != summary["shards"]
    ):
        progress.say(f"{TITLE}: shards are missing in {out}; they are mined again")
        return None
    if summary.get("bytes") not in (None, _bytes(out)):
        progress.say(
            f"{TITLE}: shards in {out} have not the size that was written; they are mined again"
        )
        return None
    progress.say(f"{TITLE}: nothing has changed since {out} was mined; it stands as it is")
    return summary


def _bytes(out: Path) -> int:
    """Of all shards: what costs next to nothing to look at, where `mimic verify` reads each."""
    shards = (*out.glob("shard-*.parquet"), *out.glob(f"{IMAGES}/shard-*.tar"))
    return sum(path.stat().st_size for path in shards)


def _summary(out: Path) -> dict[str, Any] | None:
    """What a whole result says of itself; None where there is none, or it is damaged."""
    try:
        summary = json.loads((out / SUMMARY).read_text())
        return (
            dict(summary)
            if {"inputs", "fingerprint", "shards", "paths"} <= summary.keys()
            else None
        )
    except (FileNotFoundError, ValueError, AttributeError):
        return None


# ---------------------------------------------------------------------------- whose folder it is


def _refuse_others(out: Path, inputs: str) -> None:
    """Nothing is ever replaced but an earlier result, or unfinished work, of the same inputs."""
    if folders.UNWRITABLE.search(str(out)):
        raise BadInput(
            f"--out {folders.shown(str(out))}: {folders.NOT_WRITABLE}; name another folder"
        )
    try:
        names = sorted(entry.name for entry in out.iterdir() if not _is_left(entry.name))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise BadInput(f"--out {out}: is a file, or lies below one; name a folder") from None
    except OSError as error:
        raise BadInput(
            f"--out {out}: {error.strerror}; name a folder that you can read and write"
        ) from None
    if [name for name in names if BEFORE.fullmatch(name)]:
        raise BadInput(
            f"--out {out}: holds pairs of an earlier version, which does not say what they were "
            f"made of; {ELSEWHERE}"
        )
    summary = _summary(out)
    if foreign := _foreign(out, names, summary):
        raise BadInput(
            f"--out {out}: holds {foreign}; name a new folder, so that nothing of yours is mixed "
            "up or lost"
        )
    if unfinished := [
        name for name in names if name.startswith(WORK) and name != f"{WORK}{inputs}"
    ]:
        raise BadInput(
            f"--out {out}: holds the unfinished work of other paths ({unfinished[0]}); {ELSEWHERE}"
        )
    if summary is not None and summary["inputs"] != inputs:
        made_of = ", ".join(summary["paths"][:3])
        raise BadInput(f"--out {out}: holds the pairs of other paths ({made_of}); {ELSEWHERE}")
    if summary is None and f"{WORK}{inputs}" not in names and set(names) - {LOCK}:
        raise BadInput(
            f"--out {out}: holds shards without a {SUMMARY} that says what they were made of; "
            f"{ELSEWHERE}"
        )


def _foreign(out: Path, names: list[str], summary: dict[str, Any] | None) -> str | None:
    """The first thing in the folder that this command did not put there.

    Args:
        summary: of a whole result, which says how many shards there are; None where a run was
            killed while it published.
    """
    images = out / IMAGES
    if images.is_symlink() or not images.is_dir():
        inside = [IMAGES] if IMAGES in names else []
    else:
        inside = sorted(
            path.name
            for path in images.iterdir()
            if not _is_shard(path.name, "tar", summary) and not _is_left(path.name)
        )
        inside = [f"{IMAGES}/{name}" for name in inside]
    beside = [
        name
        for name in names
        if not OURS.fullmatch(name)
        and not (name == PAGE and is_ours(out / PAGE))
        and not _is_shard(name, "parquet", summary)
    ]
    return next(iter([*beside, *inside]), None)


def _is_left(name: str) -> bool:
    """Whether a name is that of a scratch file of ours, which a killed run has left."""
    final = storage.scratch_of(name)
    return final is not None and (
        final == PAGE or OURS.fullmatch(final) is not None or SHARD.fullmatch(final) is not None
    )


def _is_shard(name: str, suffix: str, summary: dict[str, Any] | None) -> bool:
    match = SHARD.fullmatch(name)
    return (
        match is not None
        and match[2] == suffix
        and (summary is None or int(match[1]) < summary["shards"])
    )


@contextlib.contextmanager
def _locked_folder(out: Path, inputs: str) -> Iterator[None]:
    """The folder, made if need be, for this process alone."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise BadInput(
            f"--out {out}: another mimic pairs is writing there; wait for it, or name another "
            "folder"
        ) from None
    except OSError as error:
        if storage.is_full(error):
            raise
        raise BadInput(
            f"--out {out}: {error.strerror}; name a folder that you can write to"
        ) from None
    try:
        _refuse_others(out, inputs)  # it may have been another's until now
        storage.sweep(out)
        storage.sweep(out / IMAGES)
        yield
    finally:
        lock.release()


def _fingerprint(params: Params, media: own_sources.MediaFound) -> str:
    """Changes with the rule, the versions of what decides, and what is to be mined."""
    described = [
        [
            part.source,
            part.section.model_dump(),
            [(clip.name, clip.described) for clip in part.clips],
        ]
        for part in media.parts
    ]
    clips = sum(len(part.clips) for part in media.parts)
    progress.say(f"{TITLE}: {clips} clip{'s' * (clips != 1)} found")
    guard = privacy.model_digest(params.mine.privacy, Path())
    return storage.fingerprint(
        params.mine.model_dump(),
        guard,
        described,
        media.skipped,
        shard_job.libraries(),
        [shard_job.parts(part.section) for part in media.parts],
    )
