"""The command line: one command a stage, and a few for people; a module for each group of `--help`.

What does the work is imported when it is called, so that `mimic --help` costs nothing.
"""

from __future__ import annotations

import codecs
import errno
import locale
import os
import sys

import typer

from mimic.cli import (
    datasets,
    installation,
    models,
    own_data,
    pipeline,
    results,
    workspace,
)
from mimic.errors import BAD_INPUT, CANCELLED, BadInput, Cancelled, WorkFailed
from mimic.infra.addresses import hide_secrets
from mimic.infra.owner.parent import ending_with_dvc
from mimic.infra.storage import NO_ROOM, is_full

GROUPS = (pipeline, workspace, own_data, datasets, models, results, installation)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Mine pairs of overlapping views from videos, images and 3-D scenes, pretrain encoders on "
    "them, and evaluate the encoders.",
)
for group in GROUPS:
    for command in group.COMMANDS:
        name = command.__name__.replace("_", "-")
        app.command(name, rich_help_panel=group.PANEL)(command)


def _in_utf8() -> None:
    """Read and write text as UTF-8 whatever the locale is (LC_ALL=C, PYTHONUTF8=0, ja_JP.eucJP):
    files that one machine writes, another reads. Python decides at its start, so it starts
    again, as the same process; what it starts itself does as it does."""
    if sys.flags.utf8_mode or codecs.lookup(locale.getencoding()).name == "utf-8":
        return
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def main() -> None:
    """Entry point: bad input, missing rights and a full disk are one line and a non-zero exit; a
    bug keeps its traceback."""
    # Threads that spin while they wait for each other make training far slower on busy cores; read
    # when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _in_utf8()
    hide_secrets()
    try:
        if "" in sys.argv[1:]:  # a path of no letters would be the current folder
            raise BadInput("an argument is empty; was a variable of the shell not set?")
        with ending_with_dvc():
            app()
    except BadInput as error:
        print(f"mimic: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except Cancelled as error:
        print(f"mimic: {error}", file=sys.stderr)
        sys.exit(CANCELLED)
    except WorkFailed as error:
        print(f"mimic: {error}", file=sys.stderr)
        sys.exit(1)
    except PermissionError as error:
        if error.filename is None:
            raise
        print(
            f"mimic: {error.filename}: {error.strerror}; it is another user's, or read-only: ask "
            "its owner for the rights, or work in a workspace of your own",
            file=sys.stderr,
        )
        sys.exit(BAD_INPUT)
    except OSError as error:
        sys.exit(_say_unwritten(error))


def _say_unwritten(error: OSError) -> int:
    """A line for a file that could not be written, and the exit status; another error is raised."""
    if error.errno == errno.EROFS and error.filename:
        line = f"{error.filename}: {error.strerror}; work in a folder that can be written to"
    elif error.errno is not None and is_full(error):
        too_large = error.errno == errno.EFBIG
        remedy = "raise the limit, or write elsewhere," if too_large else "free space"
        line = (
            f"{NO_ROOM[error.errno]} while writing {error.filename or 'the workspace'}; nothing "
            f"finished is lost: {remedy} and run the same command again"
        )
    else:
        raise error
    print(f"mimic: {line}", file=sys.stderr)
    return 1
