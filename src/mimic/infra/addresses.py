"""What may be shown: printed, logged, stored, sent. Addresses without their passwords, and texts
without the secrets that the environment holds."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from http.client import HTTPResponse
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

# Up to the last @ before the path: a password may hold one. A quote or an angle bracket ends an
# address in a text.
USER = re.compile(r'//[^/?#\s"<>]*@')
# A password with a bare slash is no address by the letter, and yet somebody's. What is a port and a
# path stays.
SLASHED = re.compile(r'//[^/?#\s:@"<>]*:(?!\d+[/?#])[^\s"<>]*@')
# Of a database no path holds an @, and what stands before one may begin with digits and a slash.
DATABASE = re.compile(r'\b((?:postgres|mysql|mariadb|mssql|oracle)[\w+]*:)//[^\s"<>]*@')
# Parameters of an address whose values are secrets: words within their names, and whole names
# (`sig` and `code` of Azure, `hdnts` and its like of Akamai).
GIVEN = re.compile(
    r"([?&;](?:[\w\-.]*(?:passw|pwd|token|secret|signature|credential|api_?key|access_?key)[\w\-.]*"
    r"|sig|code|key|jwt|auth|hdnts|hdnea|hdntl|hmac)=)"
    r'([^&;#\s"<>]*)',
    re.IGNORECASE,
)
# Variables that hold a secret, by what tools call them; one that names a file holds none.
SECRET = re.compile(
    r"^(?!.*_(?:FILE|PATH|DIR|HOME|CMD|COMMAND)$|GOOGLE_APPLICATION_).*(?:PASSWORD|PASSWD"
    r"|PASSPHRASE|SECRET|API_?KEY"
    r"|(?:^|_)PASS(?:_|$)|ACCESS_?KEY|ACCOUNT_?KEY|STORAGE_?KEY|AUTH_?KEY|AUTH_?STRING"
    r"|CREDENTIAL|CONNECTION_?STRING"
    r"|(?:^|_)TOKEN(?:_|$)|WEBHOOK|NOTIFY_URL)"
)
# Shorter ones go from addresses only: nobody could read a log in which each `false` is hidden.
SHORTEST = 8
HIDDEN = "***"
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def without_password(uri: str) -> str:
    """The address, or a text with addresses in it, without user, password, and secrets given as
    query parameters (their names stay)."""
    bare = GIVEN.sub(rf"\1{HIDDEN}", uri)
    return SLASHED.sub("//", USER.sub("//", DATABASE.sub(r"\1//", bare)))


def holds_secret(uri: str) -> bool:
    """Whether an address holds more than a user's name."""
    return without_password(uri) != re.sub(r'//[^/?#\s:@"<>]*@', "//", uri)


def without_secrets(text: str) -> str:
    """A text without passwords of addresses, and without anything that is a secret in this
    process's environment."""
    for secret in secrets_of(os.environ):
        text = text.replace(secret, HIDDEN)
    return without_password(text)


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The values to hide, the longest first: a secret may be a part of another."""
    secrets: set[str] = set()
    for name, value in environment.items():
        if SECRET.match(name.upper()):
            secrets.update(_readings(value))
        elif "://" in value:
            secrets.update(_passwords(value))
            for _, given in GIVEN.findall(value):
                if re.search(r"\d", given):  # a word (tokenizer=bert-base) is no secret elsewhere
                    secrets.update((given, unquote(given)))
    return sorted((one for one in secrets if len(one) >= SHORTEST), key=len, reverse=True)


def _readings(value: str) -> Iterator[str]:
    """A secret, and what of it is printed alone: behind the user's name, in an address's path."""
    yield value
    if "://" in value:
        yield value.partition("://")[2]
        yield value.partition("://")[2].partition("/")[2]
        yield from _passwords(value)
    elif ":" in value:
        yield value.partition(":")[2]


def _passwords(address: str) -> Iterator[str]:
    """As it stands there, as it is sent, and what a bare @ makes of it: a password and a host."""
    try:
        password = urlsplit(address).password
    except ValueError:  # no address by the letter: `without_password` knows such
        return
    if password:
        yield password
        yield unquote(password)
        yield from password.split("@")


def opened(request: str | Request, timeout_s: float) -> HTTPResponse:
    """What an address of HTTP answers; servers on this machine are asked past any proxy.

    Raises:
        OSError: nothing answers, or with an error.
    """
    address = request if isinstance(request, str) else request.full_url
    past = [ProxyHandler({})] if urlsplit(address).hostname in LOOPBACK else []
    answer: HTTPResponse = build_opener(*past).open(request, timeout=timeout_s)
    return answer


def hide_secrets() -> None:
    """From here on nothing that this process prints or logs, whoever wrote the line, holds a
    secret."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not hasattr(stream, "_bare"):
            _hide_in(stream)
    factory = logging.getLogRecordFactory()
    if not getattr(factory, "_bare", False):
        logging.setLogRecordFactory(_bare_records(factory))


def _hide_in(stream: TextIO) -> None:
    """Logs, warnings and tracebacks of Python go through it, too."""
    write = stream.write

    def bare(text: str) -> int:
        write(without_secrets(text))
        return len(text)

    stream.write = bare  # type: ignore[method-assign]
    stream._bare = True  # type: ignore[attr-defined]


def _bare_records(factory: Any) -> Any:
    """For logs that go elsewhere, such as to Prefect's server."""

    def record(*args: Any, **more: Any) -> logging.LogRecord:
        one: logging.LogRecord = factory(*args, **more)
        if isinstance(one.msg, str):
            one.msg = without_secrets(_message(one))
            one.args = None
        return one

    record._bare = True  # type: ignore[attr-defined]
    return record


def _message(record: logging.LogRecord) -> str:
    """A message whose arguments do not fit is shown as it is: logging fails nothing."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return f"{record.msg} {record.args}"
