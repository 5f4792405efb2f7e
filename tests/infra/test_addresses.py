"""No address that is shown holds a password."""

from __future__ import annotations

import pytest

from mimic.infra.addresses import without_password


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("http://bob:s3cret@host:5000", "http://host:5000"),
        ("http://s3cret@host/x", "http://host/x"),
        ("http://bob:s3@cret@host:5000/p@th", "http://host:5000/p@th"),
        ("http://bob:s3/cret@host:5000/path", "http://host:5000/path"),
        ("postgresql+psycopg2://m:s3cret@db/mlflow", "postgresql+psycopg2://db/mlflow"),
        ("https://s3/x?X-Amz-Signature=s3cret&part=2", "https://s3/x?X-Amz-Signature=***&part=2"),
        ("postgresql://bob:4711/s3cret@db/mlflow", "postgresql://db/mlflow"),
        ("postgresql://db/m?user=m&password=s3cret", "postgresql://db/m?user=m&password=***"),
        ("no answer (http://a:s3cret@h/x, //b:s3cret@i)", "no answer (http://h/x, //i)"),
    ],
)  # fmt: skip
def test_the_password_goes(given: str, shown: str) -> None:
    assert without_password(given) == shown
    assert "s3" not in shown.replace("//s3/", "")


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////data/mlflow.db",
        "http://127.0.0.1:5000/#/experiments/3?compareRunsMode=CHART",
        "http://host:5000/pictures/a@2x.png",
        "http://host/a@2x.png",
        "s3://bucket/key",
        "file:///data/me@home/x",
        "somebody@example.org",
    ],
)
def test_the_rest_stays(address: str) -> None:
    assert without_password(address) == address
