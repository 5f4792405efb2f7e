"""params.yaml, read and resolved."""

from __future__ import annotations

from pathlib import Path

import yaml

from mimic.config.presets import read_document
from mimic.errors import BadInput
from mimic.params import profiles
from mimic.params.resolution import Resolved, resolve


def resolve_params(path: Path) -> Resolved:
    """params.yaml with every entry laid over the preset that it names; nothing is checked yet.

    Raises:
        BadInput: the file is missing, cannot be read or is not YAML, or a preset is unknown.
    """
    try:
        document = read_document(path.read_bytes(), str(path))  # UTF-8 or UTF-16, as it says
    except FileNotFoundError:
        raise BadInput(
            f"{path}: no such file; run mimic in the folder that holds params.yaml, or pass "
            "--params"
        ) from None
    except OSError as error:
        raise BadInput(
            f"{path}: {error.strerror}; name a parameter file that you can read"
        ) from None
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document.content, dict):
        raise BadInput(
            f"{path}: expected sections such as 'mine:' and 'pretrain:', found "
            f"{type(document.content).__name__}"
        )
    return resolve(profiles.laid_under(document), profiles.named(document))
