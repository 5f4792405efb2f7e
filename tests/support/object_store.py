"""A real S3 server on this machine: rclone's, which checks signatures and keeps objects as files.

Clients find it by the environment alone, as they find any other: address, key and secret stand in
`environment`, never in an argument or a file.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

STARTED = re.compile(r"Starting s3 server on \[(http://127\.0\.0\.1:\d+)/\]")
START_S = 240.0


@dataclass(frozen=True)
class ObjectStore:
    url: str  # http://127.0.0.1:<port>
    folder: Path  # of its buckets, one folder each
    key: str
    secret: str

    @property
    def environment(self) -> dict[str, str]:
        """What boto, s3fs, DVC, MLflow and rclone itself read."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "MLFLOW_S3_ENDPOINT_URL": self.url,
        }

    @property
    def client(self) -> Any:
        """Of fsspec. The server remembers what it has listed: write through it, never beside it."""
        where = {"client_kwargs": {"endpoint_url": self.url, "region_name": "us-east-1"}}
        return fsspec.filesystem("s3", key=self.key, secret=self.secret, **where)

    def bucket(self, name: str) -> str:
        """The address of a new, empty bucket."""
        self.client.mkdir(name)
        return f"s3://{name}"

    def objects(self, bucket: str) -> dict[str, Path]:
        """What lies in a bucket, by key: a look at the server's own files."""
        root = self.folder / bucket
        return {
            path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()
        }


def find_server() -> str | None:
    """The program: beside this Python, as `pip install` leaves it, or on PATH."""
    beside = Path(sys.executable).with_name("rclone")
    return str(beside) if beside.is_file() else shutil.which("rclone")


@contextmanager
def serving(program: str, folder: Path) -> Iterator[ObjectStore]:
    """A server on a free port of the loopback interface, gone afterwards."""
    key, secret = "lab", secrets.token_hex(16)
    buckets = folder / "buckets"
    buckets.mkdir()
    log = folder / "log"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RCLONE_")},
        "RCLONE_AUTH_KEY": f'"{key},{secret}"',
        "RCLONE_CONFIG": os.devnull,
    }
    with log.open("wb") as written:
        process = subprocess.Popen(
            [program, "serve", "s3", "--addr", "127.0.0.1:0", str(buckets)],
            env=environment,
            stdout=written,
            stderr=written,
            start_new_session=True,
        )
    try:
        yield ObjectStore(_address(process, log), buckets, key, secret)
    finally:
        process.terminate()
        process.wait(15)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if found := STARTED.search(log.read_text()):
            return found[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the S3 server did not start: {log.read_text()}")
