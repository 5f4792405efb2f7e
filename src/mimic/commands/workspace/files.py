"""Small files of a new workspace."""

from __future__ import annotations

GITIGNORE = """\
# Made by the stages; dvc.lock, which is committed, stands for all of it.
# Of raw data, git keeps what says which they are.
/data/?*
!/data/raw/
/data/raw/?*
!/data/raw/*.dvc
!/data/raw/*.version
# The report depends on this folder, also where no task is measured.
!/data/tasks/
/data/tasks/?*
!/data/tasks/.gitkeep
/models/
/samples/
/metrics/
/runs/
/report/
/look/
/mlruns/
/mlflow.db*
/.prefect/
# Encoders that were exported without --out, and passwords.
/*-hub/
/*.safetensors
/*.pth
/.env
"""
TASKS = "data/tasks/.gitkeep"
DVCIGNORE = """\
__pycache__/
*.part
"""
DVC_CONFIG = """\
[core]
    analytics = false
    check_update = false
[cache]
    type = "reflink,hardlink,copy"
"""
README = """\
# {title}

A workspace of mimic: pairs of overlapping views are mined from
your data, an encoder is pretrained on them, and measured.

    dvc repro                                # run all that is out of date
    mimic compare                            # the results as a table
    mimic export-weights own --format hub    # the encoder, for others

| file | what it is |
|---|---|
| params.yaml | what you decide; `mimic check` says what is wrong, `mimic params` prints all |
| dvc.yaml, versions.yaml | the stages, and the versions of mimic that results rest on; generated |
| data/pairs, data/manifests | mined pairs, and which of them are trained on |
| models/NAME | a run: encoder.safetensors, card.json, log.jsonl |
| metrics, samples, report | results, pictures, report/index.html |
| look | pairs of a few clips, mined by `mimic new` to look at |

Commit params.yaml, dvc.yaml, versions.yaml and dvc.lock. To go on:

- More data: add an entry under `sources:`, and its name to `datasets.own.sources`.
- Data that have changed are noticed by `dvc repro`; where a source is `tracked_by` a file
  (`videos.version`, for data too large to be hashed), raise the number in it.
- A large model on a GPU or on SLURM: change `profile:`, run `mimic upgrade`, then `dvc repro`.
- After an update of mimic: `mimic upgrade` says what becomes stale, then `dvc repro`.
{start}"""
STARTED = """\
- `models/{name}` holds the weights that `own` starts from, imported by `mimic new`; it is not in
  git. To make it again: `mimic import-weights FILE --out models/{name}`.
"""


def readme(title: str, starts: bool, start: str) -> str:
    return README.format(title=title, start=STARTED.format(name=start) if starts else "")
