"""Rates that a person states in a JSON file instead of having them measured (`--rates FILE`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from mimic.errors import BadInput

Rates = TypeVar("Rates")
REASON_MAX = 200  # characters of a reason that are shown


def read_rates(path: Path, parse: Callable[[Any], Rates]) -> Rates:
    """What a file of rates states; all that `mimic plan --json` printed serves as well.

    Raises:
        BadInput: the file is missing, or `parse` refuses what it holds.
    """
    try:
        raw = json.loads(path.read_text())
        return parse(raw.get("rates", raw))
    except FileNotFoundError:
        raise BadInput(f"--rates {path}: no such file") from None
    except OSError as error:
        raise BadInput(f"--rates {path}: cannot be read ({error.strerror})") from None
    except (ValidationError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:REASON_MAX]
        raise BadInput(f"--rates {path}: not a file of rates: {reason}") from None
