"""Everything that only a GPU can tell, in one call, on a machine that was never seen before.

    python -m benchmarks.gpu --out FOLDER [--minutes 10] [--study DIR]    on a machine with one GPU
    python -m benchmarks.gpu --out FOLDER --rehearse                      a toy model, any device
    python -m benchmarks.gpu --pack DIR --study WORKSPACE                 what to carry there

Correctness (exact resume, bf16, every attention kernel, compiled code), share of the card's peak
with and without our loader, images a second of loading and encoding, memory; then cells of the
study until the time is over. Each check writes FOLDER/<check>.json when it ends, so that a call
that is cut off leaves what it found; the last line printed is all of it as JSON. The exit status is
1 if a check failed. Nothing has to be installed but the packages: without `pip install`, put src
into PYTHONPATH.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.gpu import carried, correctness, speed
from benchmarks.gpu.subject import Subject, subject
from benchmarks.pretraining import stack
from mimic.errors import BadInput
from mimic.infra.storage import write_json

Check = Callable[[Subject], dict[str, Any]]
# The quick and decisive ones first: a call may be cut off.
CHECKS: dict[str, Check] = {
    "precision": correctness.precision,
    "resume": correctness.resume,
    "attention": correctness.attention,
    "training": speed.training,
    "loading": speed.loading,
    "compiled": correctness.compiled,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--rehearse", action="store_true", help="a model of toy size")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all of it")
    parser.add_argument("--study", type=Path, help="a workspace of profiles/study.yaml")
    parser.add_argument("--pack", type=Path, help="copy what --study needs to this folder")
    parser.add_argument("--without", nargs="*", default=[], help="tasks not to be packed")
    asked = parser.parse_args()
    try:
        if asked.pack:
            if asked.study is None:
                raise BadInput("--pack: name the workspace with --study")
            print(f"{asked.pack}: {carried.pack(asked.study, asked.pack, asked.without):.1f} MB")
            return
        if asked.out is None:
            raise BadInput("--out: name a folder for the results")
        found = measure(asked.out, asked.rehearse, asked.minutes, asked.study)
    except BadInput as problem:
        parser.error(str(problem))
    print(json.dumps(found))
    sys.exit(0 if found["ok"] else 1)


def measure(out: Path, rehearse: bool, minutes: float, study: Path | None) -> dict[str, Any]:
    """Every check in turn; one that raises has failed, and the others run."""
    deadline = time.monotonic() + 60 * minutes
    out.mkdir(parents=True, exist_ok=True)
    what = subject(rehearsal=rehearse)
    if what.device.type != "cuda" and not rehearse:
        raise BadInput("no GPU is found here; --rehearse tries everything on a toy model")
    found: dict[str, Any] = {"rehearsal": rehearse, "stack": stack(what.device)}
    found["matrix_tflop_per_second"] = round(speed.matrix_rate(what) / 1e12, 3)
    for name, check in CHECKS.items():
        found[name] = kept(out, name, functools.partial(check, what))
    if study is not None:
        work = functools.partial(carried.cells, study, out / "study", deadline)
        found["study"] = kept(out, "study", work)
    found["ok"] = all(found[name]["ok"] for name in CHECKS)
    write_json(out / "all.json", found)
    return found


def kept(out: Path, name: str, check: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a check found, also on disk."""
    started = time.monotonic()
    try:
        result = check()
    except Exception:  # a check that breaks must not take the others with it: the GPU is lent
        result = {"ok": False, "failed": traceback.format_exc().splitlines()[-12:]}
    result["seconds_in_all"] = round(time.monotonic() - started, 1)
    write_json(out / f"{name}.json", result)
    print(f"{name}: {'ok' if result['ok'] else 'FAILED'}", file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    main()
