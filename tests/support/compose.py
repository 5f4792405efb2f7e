"""The services of docker/compose.yaml as processes of this machine: their own commands, environment
and health checks, from the installed packages. Only addresses, ports and folders are others."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support import REPOSITORY
from tests.support.object_store import find_server
from tests.support.servers import PROGRAMS, Service, free_port, postgres_program

FOLDER = REPOSITORY / "docker"
BUILT = {  # which part of which file an image of ours is
    "mimic-servers:local": ("servers.Dockerfile", "servers"),
    "mimic-store:local": ("servers.Dockerfile", "store"),
    "mimic:local": ("Dockerfile", None),
}
VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
PORT = re.compile(r"\b(4200|5000|5432|8080|9000)\b")
HOST = re.compile(r"(?<=[/@])(?:postgres|prefect|mlflow|s3)(?=:)")


def services() -> dict[str, dict[str, Any]]:
    """As the file says it, variables not filled in."""
    return dict(yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"])


def filled(text: str, values: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?message}`, as compose reads them."""

    def value(found: re.Match[str]) -> str:
        name, kind, otherwise = found.groups()
        if values.get(name):
            return values[name]
        assert kind == "-", f"{name} is not set: {otherwise}"
        return otherwise

    return VARIABLE.sub(value, text).replace("$$", "$")


def stage(image: str) -> str:
    """The text of the part of a Dockerfile that makes an image."""
    name, target = BUILT[image]
    parts = re.split(r"^(?=FROM )", (FOLDER / name).read_text(), flags=re.MULTILINE)[1:]
    (found,) = [part for part in parts if target is None or f" AS {target}\n" in part]
    return found


def image_environment(image: str) -> dict[str, str]:
    """What `ENV` says in the image."""
    text = stage(image).replace("\\\n", " ")
    lines = re.findall(r"^ENV (.*)$", text, flags=re.MULTILINE)
    return dict(pair.split("=", 1) for line in lines for pair in shlex.split(line))


@dataclass
class Stack:
    """All services; who is asked for the same one twice gets the same process."""

    folder: Path  # for volumes, tmpfs and logs
    values: Mapping[str, str]  # of .env
    database_port: int
    ports: dict[str, int] = field(default_factory=dict)  # by the port in the container

    def __post_init__(self) -> None:
        self.ports["5432"] = self.database_port
        self.services = services()
        self.running = {name: self._service(name) for name in self.services if name != "postgres"}

    def port(self, inside: int) -> int:
        return self.ports.setdefault(str(inside), free_port())

    def healthy(self, name: str) -> bool:
        """What the health check of compose says, run as docker runs it: beside the service, in its
        environment."""
        check = self.check(name)
        done = subprocess.run(
            check, env=self.environment(name), capture_output=True, timeout=30, check=False
        )
        return done.returncode == 0

    def check(self, name: str) -> list[str]:
        kind, *command = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD", f"{name}: its check runs in a shell"
        return [self._here(name, word) for word in command]

    def command(self, name: str) -> list[str]:
        said = self.services[name]
        words = shlex.split(f"{said.get('entrypoint', '')} {said['command']}")
        return [self._here(name, word) for word in words]

    def environment(self, name: str) -> dict[str, str]:
        """What the service gets in its container: nothing of this process but the way to the
        programs."""
        said = self.services[name]
        found = image_environment(said["image"]) if said["image"] in BUILT else {}
        found |= said.get("environment", {})
        ours = {key: self._here(name, str(value)) for key, value in found.items()}
        programs = [PROGRAMS, Path(str(find_server())).parent, _of_postgres(), "/usr/bin", "/bin"]
        return {"PATH": os.pathsep.join(map(str, programs)), **ours}

    # ------------------------------------------------------------------------ substitution

    def _service(self, name: str) -> Service:
        where = self._place(name, self.services[name].get("working_dir", "/tmp"))
        where.mkdir(parents=True, exist_ok=True)
        for inside in self._mounts(name):
            if (source := FOLDER / inside[0]).is_file():
                shutil.copy(source, self._place(name, inside[1]))
            else:
                self._place(name, inside[1]).mkdir(parents=True, exist_ok=True)
        return Service(
            name,
            self.command(name),
            where,
            lambda: self.healthy(name),
            self.environment(name),
            self.folder / "logs",
        )

    def _mounts(self, name: str) -> list[tuple[str, str]]:
        """What is mounted, and where; scratch folders come from nowhere."""
        said = self.services[name]
        volumes = [mount.split(":")[:2] for mount in said.get("volumes", [])]
        scratch = [["", mount.split(":")[0]] for mount in said.get("tmpfs", [])]
        return [(source, inside) for source, inside in volumes + scratch]

    def _place(self, name: str, inside: str) -> Path:
        return self.folder / name / inside.strip("/")

    def _here(self, name: str, text: str) -> str:
        """A word of compose with the addresses, ports and folders of this machine."""
        text = filled(text, self.values)
        text = PORT.sub(lambda found: str(self.port(int(found[1]))), text)
        text = HOST.sub("127.0.0.1", text).replace("0.0.0.0", "127.0.0.1")
        for _, inside in self._mounts(name):
            if text == inside or text.startswith(f"{inside}/"):
                return str(self._place(name, text))
        return text


def _of_postgres() -> Path:
    return Path(str(postgres_program("pg_isready"))).parent
