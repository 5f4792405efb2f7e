"""What the tests of tracking share."""

from __future__ import annotations

from pathlib import Path

import pytest

from mimic.infra.tracking import store


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedded store without runs: making its tables takes seconds."""
    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    with store.opened(f"sqlite:///{path}"):
        return path
