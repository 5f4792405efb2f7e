"""`seed` and `seeds` of a run: one encoder, or one a seed."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mimic import config
from mimic.config.names import seed_of
from mimic.infra.storage import Workspace, write_json

ONE = {"recipe": "croco-tiny", "dataset": "own", "steps": 3}


def test_a_run_with_one_seed_is_written_down_as_before_there_were_seeds() -> None:
    run = config.Run.model_validate({**ONE, "seed": 4})
    assert run.model_dump(mode="json") == {**ONE, "seed": 4}
    assert run.encoders("a") == {"a": run}


def test_each_seed_is_a_training_like_one_of_its_own() -> None:
    run = config.Run.model_validate({**ONE, "seeds": [2, 0]})
    assert run.model_dump(mode="json") == {**ONE, "seeds": [2, 0]}
    assert run.encoders("a") == {
        "a/seed-2": config.Run.model_validate({**ONE, "seed": 2}),
        "a/seed-0": config.Run.model_validate({**ONE, "seed": 0}),
    }


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"seed": 0, "seeds": [1]}, "seed and seeds: state one of them"),
        ({"seeds": []}, "at least one seed"),
        ({"seeds": [1, 1]}, "named twice"),
        ({"seed": None}, "expected a number, or seeds"),
        ({}, "Field required"),
    ],
)
def test_a_wrong_seed_is_named(stated: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config.Run.model_validate({**ONE, **stated})


def test_the_encoders_of_a_run_are_found_in_the_order_of_their_seeds(tmp_path: Path) -> None:
    space = Workspace(tmp_path)
    for name in ("one", "many/seed-10", "many/seed-9", "many/seed-x"):
        write_json(space.model(name) / "card.json", {})
    assert list(space.encoders("one")) == ["one"]
    assert list(space.encoders("many")) == ["many/seed-9", "many/seed-10"]
    assert space.encoders("many/seed-9") == {"many/seed-9": tmp_path / "models/many/seed-9"}
    assert space.encoders("none") == {}


def test_the_name_of_an_encoder_says_its_run_and_seed() -> None:
    assert seed_of("a-1m/seed-12") == ("a-1m", 12)
    assert seed_of("a-1m") == ("a-1m", None)
    assert seed_of("a/b/seed-1") == ("a/b/seed-1", None)
