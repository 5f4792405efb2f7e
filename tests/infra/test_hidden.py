"""Nothing that a process prints or logs holds a secret of its environment, whoever wrote it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mimic.infra.addresses import SHORTEST, holds_secret, secrets_of, without_secrets
from tests.support import marked

TRACKER = f"http://bob:{marked.secret('%2FTracker')}@host:5000/x"
GIVEN = {
    "MLFLOW_TRACKING_URI": TRACKER,
    "MLFLOW_TRACKING_PASSWORD": marked.secret("Password"),
    "MLFLOW_TRACKING_TOKEN": marked.secret("Token"),
    "MLFLOW_BACKEND_STORE_URI": f"postgresql://m:{marked.secret('Database')}@db/mlflow",
    "AWS_ACCESS_KEY_ID": marked.secret("Key"),
    "AWS_SECRET_ACCESS_KEY": marked.secret("Secret"),
    "AWS_SESSION_TOKEN": marked.secret("Session"),
    "AZURE_STORAGE_CONNECTION_STRING": f"AccountName=a;AccountKey={marked.secret('Azure')}",
    "DB_PASS": marked.secret("Pass"),
    "AZURE_STORAGE_KEY": marked.secret("Storage"),
    "PREFECT_API_KEY": marked.secret("Api"),
    "PREFECT_API_AUTH_STRING": f"admin:{marked.secret('Auth')}",
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql://p:{marked.secret('Tables')}@db/p",
    "MIMIC_NOTIFY_URL": f"https://hooks.example.org/services/{marked.secret('Hook')}",
    "MIMIC_SHARDS_URL": f"https://store/pairs?X-Amz-Signature={marked.secret('Signed')}",
    "AZURE_SHARDS_URL": f"https://b.core.net/c?sv=2024-11-04&sig={marked.secret('%2BShared')}",
    "AKAMAI_SHARDS_URL": f"https://edge/pairs?hdnea=exp=9~acl=/*~hmac={marked.secret('Edge')}",
    "FUNCTION_URL": f"https://f.net/api/x?code={marked.secret('Code')}",
}
# What a value is printed as: whole, or the part of it that opens a door.
SHOWN = [
    *GIVEN.values(),
    *(marked.secret(what) for what in ("%2FTracker", "/Tracker", "Database", "Auth", "Tables")),
    *(marked.secret(what) for what in ("%2BShared", "+Shared", "Code")),
    f"services/{marked.secret('Hook')}",
]
PLAIN = {
    "TOKENIZERS_PARALLELISM": "false-as-can-be",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token-of-this-machine",
    "MLFLOW_TRACKING_USERNAME": "somebody-of-the-lab",
    "OLDPWD": "/home/somebody/else",
    "GIT_ASKPASS": "/usr/bin/ask-for-it",
    "MLFLOW_TRACKING_PASSWORD": "x" * (SHORTEST - 1),
    "PREFECT_API_URL": "http://127.0.0.1:4200/api",
    "MODEL_URL": "https://hub/x?tokenizer=bert-base-uncased&key=production",
}
# Through every way that a line takes.
SAYS = """
import logging, os, sys, traceback, warnings
from rich.console import Console
logging.basicConfig(level="INFO")  # a library's handler, there before ours
from mimic.infra.addresses import hide_secrets
hide_secrets()
hide_secrets()
kept = []
class Sent(logging.Handler):  # as to Prefect's server
    def emit(self, record): kept.append(record.getMessage())
logging.getLogger("botocore").addHandler(Sent())
for text in sys.stdin.read().split():
    print("out", text)
    print("err", text, file=sys.stderr)
    logging.getLogger("botocore").info("signed with %s for %d", text, 3)
    logging.getLogger("sqlalchemy").warning(f"{text} 100%")
    logging.getLogger("odd").info("%d of", text)
    warnings.warn(text)
    Console(stderr=True).print(text, markup=False)
    try:
        raise ValueError(text)
    except ValueError:
        traceback.print_exc()
        logging.exception("it failed")
print("kept", *kept)
raise RuntimeError(os.environ["AWS_SECRET_ACCESS_KEY"] + " is wrong")
"""


def test_no_way_of_printing_shows_one() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAYS],
        env={**os.environ, **GIVEN},
        input="\n".join(SHOWN),
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert marked.found_in(said.encode()) == []
    assert "RuntimeError: *** is wrong" in said
    assert said.count("out ") == said.count("err ") == len(SHOWN)
    assert "signed with *** for 3" in done.stderr
    assert "*** 100%" in done.stderr
    assert "http://host:5000/x" in said, "where it was stays"


@pytest.mark.parametrize("name", GIVEN)
def test_each_variable_is_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, GIVEN[name])
    assert marked.found_in(without_secrets(f"it says {GIVEN[name]!r}").encode()) == []


def test_what_is_no_secret_stays() -> None:
    assert secrets_of(PLAIN) == []


def test_the_end_of_a_password_with_a_bare_at_sign_is_hidden_alone() -> None:
    """Libraries take it for the host, and say that they do not know it."""
    address = "postgresql://mimic:first-half@second-half@db:5432/mlflow"
    assert "second-half" in secrets_of({"MLFLOW_TRACKING_URI": address})


def test_a_text_with_addresses_in_quotes_stays_whole() -> None:
    text = '{"a":"http://host:5000","b":"me@home"} <a href="http://host">b@c</a>'
    assert without_secrets(text) == text


@pytest.mark.parametrize(
    ("address", "secret"),
    [
        ("sqlite:///mlflow.db", False),
        ("http://127.0.0.1:5000", False),
        ("postgresql://mlflow@db:5432/mlflow", False),
        ("s3://bucket/pairs", False),
        ("postgresql://mlflow:pw@db:5432/mlflow", True),
        ("https://bob:pw@host/pairs", True),
        ("https://host/pairs?X-Amz-Signature=abc", True),
    ],
)
def test_an_address_with_a_password_is_told_from_one_without(address: str, secret: bool) -> None:
    assert holds_secret(address) is secret


def test_the_mark_is_found_as_it_is_sent_and_packed(tmp_path: Path) -> None:
    """The search itself: Basic authentication, and git's objects."""
    import base64
    import zlib

    for user in ("a", "ab", "abc"):
        sent = base64.b64encode(f"{user}:{marked.secret('x')}".encode())
        assert marked.found_in(b"Authorization: Basic " + sent)
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects/0a").write_bytes(zlib.compress(marked.MARK * 3))
    assert marked.search(tmp_path) != {}
