"""The audit of the dependencies: an answer is an answer, and silence is none."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks import audit
from tests.support.servers import free_port

Answer = Callable[[list[dict[str, Any]]], Any]
WEAK = ("jinja2", "3.1.2")


class Database(BaseHTTPRequestHandler):
    """Speaks as api.osv.dev does; `answer` says what to."""

    answer: Answer
    asked: list[Any]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append(body["queries"])
        said = json.dumps(type(self).answer(body["queries"])).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def knows(queries: list[dict[str, Any]]) -> Any:
    weak = [(one["package"]["name"], one["version"]) == WEAK for one in queries]
    return {"results": [{"vulns": [{"id": "GHSA-1"}]} if bad else {} for bad in weak]}


@pytest.fixture
def database() -> Iterator[str]:
    Database.answer = staticmethod(knows)
    Database.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Database)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def ask(folder: Path, service: str, *more: str, pins: str = "jinja2==3.1.2\n") -> int:
    path = folder / "constraints.txt"
    path.write_text(pins)
    return audit.main(["--pins", str(path), "--service", service, *more])


def test_what_is_known_fails_and_is_named(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(tmp_path, database, pins="jinja2==3.1.2  # pages\ntorch==2.11.0+cpu\n") == 1
    said = capsys.readouterr().out
    assert "jinja2 3.1.2: https://osv.dev/vulnerability/GHSA-1" in said
    assert "2 versions audited, 1 advisories" in said
    (queries,) = Database.asked
    assert queries[1] == {"package": {"name": "torch", "ecosystem": "PyPI"}, "version": "2.11.0"}
    assert ask(tmp_path, database, "--may-be-offline") == 1, "that flag excuses silence alone"
    assert ask(tmp_path, database, "--accept", "GHSA-1") == 0
    assert ask(tmp_path, database, pins="jinja2==3.1.6\n") == 0


@pytest.mark.parametrize("answer", [{}, {"results": []}, {"results": [None]}, []])
def test_an_answer_that_says_nothing_is_no_audit(
    database: str, tmp_path: Path, answer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    Database.answer = staticmethod(lambda _: answer)
    assert ask(tmp_path, database) == 2
    assert capsys.readouterr().err.startswith("NOT AUDITED: ")


def test_without_a_network_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    assert ask(tmp_path, nobody) == 2
    assert capsys.readouterr().err.startswith("NOT AUDITED: no network")
    assert ask(tmp_path, nobody, "--may-be-offline") == 0
    assert capsys.readouterr().err.startswith("NOT AUDITED: no network")


def test_every_pin_is_asked_about(database: str) -> None:
    assert audit.main(["--service", database]) == 0
    (queries,) = Database.asked
    lines = [line for line in audit.PINS.read_text().splitlines() if "==" in line]
    assert len(queries) == len(lines) > 100


@pytest.mark.parametrize("pins", ["", "jinja2>=3\n", "-r others.txt\n"])
def test_what_pins_nothing_is_no_audit(database: str, tmp_path: Path, pins: str) -> None:
    assert ask(tmp_path, database, pins=pins) == 2
    assert Database.asked == []
