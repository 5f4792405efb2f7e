"""Servers that refuse, and say back what they were sent: the message names the server, and holds no
credential."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mimic.commands.operation.doctor import services
from mimic.commands.operation.schedule_slots import held_slots
from mimic.commands.workspace.check import problems
from mimic.errors import BadInput
from mimic.infra import tracking
from mimic.pairs import remote
from mimic.pairs.remote import ShardStore, open_store
from mimic.params import load_params
from tests.support import REPOSITORY, marked
from tests.support.object_store import ObjectStore
from tests.support.servers import free_port
from tests.support.tracked_results import TOLD, publish_pretraining

USER = f"bob:{marked.secret('Password')}"
SIGNED = f"X-Amz-Signature={marked.secret('Signature')}"


class Echo(BaseHTTPRequestHandler):
    """Refuses everything, with all that it was told."""

    logins: list[str] = []
    asked: list[str] = []
    status = 403

    def answer(self) -> None:
        self.logins.append(self.headers.get("Authorization", ""))
        self.asked.append(self.path)
        self.send_response(self.status, f"refused {self.path}"[:200])
        said = f"{self.path} {self.headers} by {USER}".encode()
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(said)

    do_GET = do_POST = do_HEAD = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    """Its host and port."""
    Echo.logins = []
    Echo.asked = []
    Echo.status = 403
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()


def shown(text: str) -> str:
    """A text that may be shown."""
    assert marked.found_in(text.encode()) == [], text
    return text


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    publish_pretraining(tmp_path, "croco-1m")
    return tmp_path


@pytest.mark.parametrize(
    ("address", "says"),
    [
        (f"http://{USER}@127.0.0.1:{{port}}", "no answer"),
        (f"http://{USER}@{{echo}}", "403"),
        (f"oracle-of-old://{USER}@127.0.0.1/mlflow", "oracle-of-old"),
    ],
    ids=["away", "refusing", "unknown"],
)
def test_a_tracker_that_fails(
    workspace: Path,
    echo: str,
    address: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    uri = address.format(echo=echo, port=free_port())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(BadInput) as caught:
        tracking.mirror_all(TOLD, workspace)
    said = shown(str(caught.value))
    assert said.startswith("MLflow at ")
    assert says in said
    assert "127.0.0.1" in said
    tracking.mirror_pretrain(TOLD, workspace, "croco-1m")
    assert "is finished, but not shown in MLflow at" in shown(caplog.text)
    shown("".join(capfd.readouterr()))
    assert marked.search(workspace) == {}


def test_doctor_asks_both_servers_and_shows_no_password(
    echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{USER}@{echo}")
    monkeypatch.setenv("PREFECT_API_URL", f"http://{USER}@{echo}/api")
    for finding in (services.mlflow_server(TOLD.tracking), services.prefect_server()):
        assert "the server does not answer (HTTP Error 403" in shown(str(finding))
    assert marked.found_in(Echo.logins[-1].encode())


def test_prefect_is_asked_as_its_client_asks(echo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", USER)
    with pytest.raises(OSError, match="403"):
        held_slots(f"http://{echo}/api")
    assert marked.found_in(Echo.logins[0].encode())
    monkeypatch.setenv("PREFECT_API_KEY", "k" * 9)
    with pytest.raises(OSError, match="403"):
        held_slots(f"http://{echo}/api")
    assert Echo.logins[1] == f"Bearer {'k' * 9}"


@pytest.mark.parametrize("status", [401, 404, 500])
def test_shards_on_a_web_server_that_refuses(
    echo: str, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    Echo.status = status
    store = ShardStore(f"http://{USER}@{echo}/pairs?{SIGNED}", tmp_path / "cache", 10**6)
    with pytest.raises(BadInput) as caught:
        store.local("rooms/shard-0.tar")
    assert f"http://{echo}/pairs/rooms/shard-0.tar" in shown(str(caught.value))
    assert Echo.asked[0] == f"/pairs/rooms/shard-0.tar?{SIGNED}", "signed as it was given"
    assert marked.found_in(Echo.logins[0].encode()), "and with the password"
    assert marked.search(tmp_path) == {}


@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "bucket"])
def test_a_bucket_that_refuses(
    s3_server: ObjectStore, tmp_path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "PAUSE_S", 0.01)
    given = s3_server.environment | {"AWS_SESSION_TOKEN": marked.secret("Session")}
    for name, value in {**given, wrong: marked.secret("Wrong")}.items():
        monkeypatch.setenv(name, value)
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(BadInput) as caught:
        ShardStore("s3://no-such-bucket/pairs", tmp_path / "cache", 10**6).local("a/shard-0.tar")
    assert "s3://no-such-bucket/pairs/a/shard-0.tar" in shown(str(caught.value))
    s3fs.S3FileSystem.clear_instance_cache()


def test_an_address_with_a_password_is_given_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = load_params(REPOSITORY / "params.yaml").cluster.shards
    assert open_store(section, tmp_path) is None
    monkeypatch.setenv("MIMIC_SHARDS_URL", f"https://{USER}@host/pairs")
    store = open_store(section.model_copy(update={"url": "s3://pairs"}), tmp_path)
    assert store is not None
    assert store.url == f"https://{USER}@host/pairs"


def test_check_names_passwords_in_the_parameter_file(
    workspace: Path,
) -> None:
    path = workspace / "params.yaml"
    text = path.read_text()
    changed = text.replace("sqlite:///mlflow.db", f"postgresql://{USER}@db/mlflow")
    assert changed != text
    path.write_text(changed)
    (line,) = [line for line in problems(path) if "password" in line]
    assert line.endswith(
        "holds a password, and git keeps this file; give it in MLFLOW_TRACKING_URI instead"
    )
    shown(line)


def test_servers_of_this_machine_are_asked_past_any_proxy(
    echo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, nobody)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(OSError, match="403"):
        held_slots(f"http://{echo}/api")
    assert Echo.asked == ["/api/deployments/filter"]
    with pytest.raises(OSError, match="refused"):  # another machine is asked through it
        held_slots("http://lab.example/api")
