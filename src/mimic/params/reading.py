"""params.yaml, read and resolved."""

from __future__ import annotations

from pathlib import Path

import yaml

from mimic.config.presets import read_document
from mimic.errors import BadInput
from mimic.params import profiles
from mimic.params.resolution import Resolved, resolve

SHOWN = 60  # characters of a wrong value that a message repeats


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
    except (ValueError, OverflowError) as error:
        where = _unreadable(path)
        raise BadInput(f"{path}{where}: {error}; correct it, or put it in quotes") from None
    if not isinstance(document.content, dict):
        raise BadInput(
            f"{path}: expected sections such as 'mine:' and 'pretrain:', found "
            f"{type(document.content).__name__}"
        )
    return resolve(profiles.laid_under(document), profiles.named(document))


def _unreadable(path: Path) -> str:
    """Line and text of the first value that looks like a date or a number and is none, such as
    2024-13-01 and 0x_; nothing where it is none of the values."""
    loader = yaml.SafeLoader(path.read_bytes())
    try:
        nodes = [loader.get_single_node()]
    except ValueError:  # of an escape that is no character
        return ": not valid YAML"
    seen = set()
    for node in nodes:
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            nodes += [part for entry in node.value for part in entry]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.ScalarNode) and _is_unreadable(loader, node):
            return f":{node.start_mark.line + 1}: not valid YAML: {node.value[:SHOWN]!r}"
    return ": not valid YAML"


def _is_unreadable(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    try:
        loader.construct_object(node)
    except (ValueError, OverflowError):
        return True
    except yaml.YAMLError:
        return False
    return False
