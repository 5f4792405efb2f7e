"""How MLflow is reached: its address, its settings, and an embedded database that several processes
write."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from mimic import config
from mimic.errors import BadInput
from mimic.infra.addresses import without_password, without_secrets
from mimic.infra.progress import say
from mimic.infra.tracking.identity import home_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow imports its settings: quiet, silent towards the outside, and quick to give up on a server
# that is down.
SETTINGS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}
EXAMPLE = "sqlite:///mlflow.db"
ARTIFACTS = "mlruns"
FILE_ADDRESSES = (  # tables and columns of MLflow's database
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
CONNECT_S = 10  # within which a database answers
# They write an error with its traceback, or doubt a code, and then raise what `reason` tells of.
LOUD = ("mlflow.store.db.utils", "mlflow.exceptions")
LOCKED = "database is locked"  # SQLite's words
# Its lines "View run ... at" repeat the address as it was given, password included.
SILENT = "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"
VARIABLE = "MLFLOW_TRACKING_URI"
PAGE = "runs?workflowType=machine_learning&compareRunsMode=CHART"


def address(tracking: config.Tracking, root: Path) -> str | None:
    """MLFLOW_TRACKING_URI goes first; a relative database lies in the workspace, wherever the
    command is run from, and wherever DVC runs it."""
    uri = os.environ.get(VARIABLE) or tracking.uri
    relative = re.fullmatch(r"sqlite:///([^/].*)", uri or "")
    return f"sqlite:///{home_of(root) / relative[1]}" if relative else uri


@contextmanager
def opened(uri: str) -> Iterator[MlflowClient]:
    """A client; for an embedded database also its lock, as two processes that both create its
    tables break it."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ[SILENT] = "true"
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it tells of every retry
    from mlflow import MlflowClient

    for name in LOUD:  # only now: the import sets all levels anew
        logging.getLogger(name).setLevel(logging.CRITICAL)
    database = sqlite_file(uri)
    if database is None or not database.name:
        _connect_once(uri)
        yield MlflowClient(uri)
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(database.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _connect_once(uri)
        yield MlflowClient(uri)


def sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _connect_once(uri: str) -> None:
    """Ask a database that MLflow is to open here: one that refuses it would try for two minutes.

    Raises:
        BadInput: its password holds a bare @, and would be read, and printed, as part of the host;
            or it would lie in memory.
        sqlalchemy.exc.SQLAlchemyError: it cannot be reached, refuses, or is no database.
    """
    from mlflow.store.db.db_types import DATABASE_ENGINES, MYSQL, POSTGRES

    kind = uri.split(":", 1)[0].split("+", 1)[0]
    if kind not in DATABASE_ENGINES:
        return
    if uri.rstrip("/") == "sqlite:":
        raise BadInput(f"{uri}: names no file, so all would be gone at once; say {EXAMPLE}")
    if urlsplit(uri).netloc.count("@") > 1:
        raise BadInput("the password of the database's address holds an @; write it as %40")
    from sqlalchemy import create_engine, inspect
    from sqlalchemy.pool import NullPool

    # other drivers do not know the option
    patience = {"connect_timeout": CONNECT_S} if kind in (POSTGRES, MYSQL) else {}
    engine = create_engine(uri, poolclass=NullPool, connect_args=patience)
    inspect(engine).get_schema_names()


def experiment(client: MlflowClient, uri: str, name: str) -> str:
    """Its number; made where it is not there, called back where somebody deleted it."""
    existing = client.get_experiment_by_name(name)
    # a server decides for itself; without one, artifacts lie beside the database
    database = sqlite_file(uri)
    folder = database.parent.absolute() / ARTIFACTS / name if database else None
    if existing is None:
        artifacts = folder.as_uri() if folder else None
        # else MLflow 3 takes it for one of language models, and opens it on pages for those
        kind = {"mlflow.experimentKind": "custom_model_development"}
        return str(client.create_experiment(name, artifacts, tags=kind))
    if database and folder:
        _follow(database, existing.artifact_location, folder)
    if existing.lifecycle_stage == "deleted":
        client.restore_experiment(existing.experiment_id)
    return str(existing.experiment_id)


def _follow(database: Path, stated: str, folder: Path) -> None:
    """Let an embedded database that was moved or copied with its workspace lead to the files that
    went with it. MLflow keeps whole paths and has no call that changes them; what is written later
    would go to the former place, and appear there anew."""
    former = Path(unquote(urlsplit(stated).path))
    moved = former != folder and former.parts[-2:] == folder.parts[-2:]
    if not moved or (former.exists() and not folder.exists()):
        return
    old = former.parent.as_uri()
    new = folder.parent.as_uri()
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        for table, column in FILE_ADDRESSES:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                f" WHERE substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old) + 1, f"{old}/"),
            )
    say(f"tracking: {database} was moved or copied: its files are those in {folder.parent}")


def where(uri: str, experiment_id: str) -> str:
    """How to look at the chart: a link, or a command and a link."""
    page = f"#/experiments/{experiment_id}/{PAGE}"
    if uri.startswith("http"):
        return f"{without_password(uri).rstrip('/')}/{page}"
    return (
        f"mlflow server --backend-store-uri {without_password(uri)} --workers 1, "
        f"then http://127.0.0.1:5000/{page}"
    )


def reason(error: Exception) -> str:
    """In one short line; the text of a network error repeats the address, password included."""
    text = str(error).strip()
    if "Max retries exceeded" in text:
        status = re.search(r"too many (\d+) error responses", text)
        return f"the server answers with error {status[1]}" if status else "no answer"
    if LOCKED in text:  # in the midst of what MLflow was about to do
        return f"the {LOCKED} by another process"
    line = text.splitlines()[0] if text else "no message"
    return without_secrets(f"{type(error).__name__}: {line}")[:200]
