"""What docker/ promises: nobody is root, nothing is written beside the volumes, images are
pinned, every service says whether it lives, and no secret stands in a command line."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import REPOSITORY
from tests.support.compose import BUILT, FOLDER, VARIABLE, filled, services, stage

FILES = sorted([*FOLDER.glob("*Dockerfile"), *FOLDER.glob("slurm/Dockerfile")])
PINNED = re.compile(r"[\w./-]+:[\w.-]*\d[\w.-]*@sha256:[0-9a-f]{64}")
SERVICES = services()
SECRETS = {"POSTGRES_PASSWORD", "S3_KEY", "S3_SECRET"}


def _bases(file: Path) -> list[str]:
    return re.findall(r"^FROM (\S+)", file.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(FOLDER).as_posix())
def test_a_base_is_a_version_and_a_digest(file: Path) -> None:
    assert _bases(file)
    assert [base for base in _bases(file) if not PINNED.fullmatch(base)] == []


def test_one_python_is_below_the_servers_and_the_worker() -> None:
    found = {base for file in FILES for base in _bases(file) if base.startswith("python:")}
    assert len(found) == 1


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_built_here_or_pinned(name: str) -> None:
    said = SERVICES[name]
    if "build" not in said:
        assert PINNED.fullmatch(said["image"])
        return
    file, target = BUILT[said["image"]]
    assert said["build"]["dockerfile"] == f"docker/{file}"
    assert said["build"].get("target") == target


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_nobody_and_gains_nothing(name: str) -> None:
    said = SERVICES[name]
    user = filled(said["user"], {"MIMIC_UID": "1000", "MIMIC_GID": "1000"})
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert said["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in said["security_opt"]
    assert not {"cap_add", "privileged", "pid", "network_mode", "devices"} & set(said)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_writes_to_its_volumes_only_and_has_limits(name: str) -> None:
    said = SERVICES[name]
    assert said["read_only"] is True
    assert any(mount.startswith("/tmp:") for mount in said["tmpfs"])
    assert said["mem_limit"]
    assert said["pids_limit"] > 0
    assert said["restart"] == "unless-stopped"
    assert said["logging"]["options"]["max-size"]


@pytest.mark.parametrize("name", SERVICES)
def test_who_needs_a_service_waits_for_its_health(name: str) -> None:
    said = SERVICES[name]
    assert {"test", "interval", "timeout", "start_period", "retries"} <= set(said["healthcheck"])
    needed = said.get("depends_on", {})
    assert all(how == {"condition": "service_healthy"} for how in needed.values())


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_stands_in_a_command_line(name: str) -> None:
    said = SERVICES[name]
    lines = [said.get("entrypoint", ""), said.get("command", ""), *said["healthcheck"]["test"]]
    used = {found[1] for line in lines for found in VARIABLE.finditer(line)}
    assert not used & SECRETS


def test_a_port_is_open_to_this_machine_only_unless_somebody_says_otherwise() -> None:
    published = [port for said in SERVICES.values() for port in said.get("ports", [])]
    assert len(published) == 3
    assert all(filled(port, {}).startswith("127.0.0.1:") for port in published)
    assert "database" not in SERVICES["worker"].get("networks", [])
    assert SERVICES["postgres"]["networks"] == ["database"]


def test_env_example_has_what_compose_asks_for() -> None:
    example = (REPOSITORY / ".env.example").read_text()
    needed = {
        found[1]
        for found in VARIABLE.finditer((FOLDER / "compose.yaml").read_text())
        if found[2] == "?"
    }
    offered = set(re.findall(r"^(\w+)=", example, flags=re.MULTILINE))
    assert needed
    assert needed <= offered
    assert SECRETS - {"S3_KEY"} == set(re.findall(r"^(\w*(?:PASSWORD|SECRET))=$", example, re.M))


def test_a_volume_of_ours_belongs_to_the_service_that_writes_it() -> None:
    """A new volume takes over the owner of the folder below it, which the image must have made."""
    for name, said in SERVICES.items():
        if said["image"] not in BUILT:
            continue
        for mount in said["volumes"]:
            source, inside = mount.split(":")[:2]
            if source.startswith("."):
                continue
            made = stage(said["image"])
            assert inside in shlex.split(made.replace("\\\n", " ")), f"{name}: {inside}"
            owner, group = said["user"].split(":")
            assert f"{owner}:{group}" in made or f"-o {owner} -g {group}" in made


def test_the_servers_image_has_no_torch_and_no_mimic() -> None:
    (line,) = re.findall(r"^RUN pip install (.*?) \\$", stage("mimic-servers:local"), re.M)
    words = line.split()
    asked = [word for at, word in enumerate(words) if at > 1]
    assert words[:2] == ["--constraint", "/srv/constraints.txt"]
    installed = _closure(asked)
    assert {"prefect", "mlflow", "psycopg2-binary", "asyncpg", "sqlalchemy"} <= installed
    assert not {"torch", "torchvision", "timm", "mimic", "dvc"} & installed
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    assert installed <= pinned


def test_gpus_are_reserved_for_the_worker() -> None:
    more: dict[str, Any] = yaml.safe_load((FOLDER / "compose.gpu.yaml").read_text())["services"]
    assert set(more) == {"worker"}
    (device,) = more["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def _closure(names: list[str]) -> set[str]:
    """These packages and all that they need, as the installed ones say it."""
    found: set[str] = set()
    waiting = [Requirement(name) for name in names]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in found:
            continue
        found.add(name)
        for line in requires(name) or []:
            further = Requirement(line)
            extras = [{"extra": extra} for extra in ("", *wanted.extras)]
            if further.marker is None or any(map(further.marker.evaluate, extras)):
                waiting.append(further)
    return found
