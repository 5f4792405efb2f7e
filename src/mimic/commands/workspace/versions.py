"""versions.yaml of a workspace: what its results rest on beside params.yaml and the data.

It holds the versions of the parts of this package, digests of its presets and of the profile that
params.yaml names, and of the stages. DVC compares these values; each stage compares them with the
installed package before it works.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from mimic.commands.workspace import stages
from mimic.config.presets import PACKAGE, packaged_presets
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.params import profiles

FILE = stages.VERSIONS
SHOWN = 3  # differences that a message names
HEAD = """\
# What the results here rest on beside params.yaml and the data: versions and presets of the mimic
# package, by digest. Written by `mimic new` and `mimic upgrade`; commit it.
"""


def current(profile: str) -> dict[str, Any]:
    """The values of the package that is installed, for a profile."""
    versions: dict[str, Any] = {}
    for room, file, keys in stages.read_from_source(stages.pipeline()):
        inside = versions
        for part in room.split("."):
            inside = inside.setdefault(part, {})
        if file == "__init__":
            module = import_module(f"mimic.{room}")
            inside |= {
                key.partition(".")[0]: getattr(module, key.partition(".")[0]) for key in keys
            }
        else:
            presets = packaged_presets(PACKAGE / room.replace(".", "/") / f"{file}.yaml").content
            inside[file] = _digests(presets)
    preset = packaged_presets(profiles.FILE).content[profile]
    sections = {section: preset[section] for section in profiles.SECTIONS}
    versions[profiles.WORD] = {"name": profile, **_digests(sections)}
    versions["stages"] = storage.fingerprint(stages.text())
    return versions


def _digests(table: dict[str, Any]) -> dict[str, str]:
    return {name: storage.fingerprint(value) for name, value in table.items()}


def text(values: dict[str, Any]) -> str:
    return HEAD + yaml.safe_dump(values, sort_keys=True)


def written(root: Path) -> dict[str, Any] | None:
    """What a workspace holds; None where it is none that `mimic new` has made.

    Raises:
        BadInput: the file is damaged.
    """
    path = root / FILE
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(f"{path}: cannot be read ({reason}); run `mimic upgrade`") from None
    if not isinstance(values, dict):
        raise BadInput(f"{path}: holds no table of versions; run `mimic upgrade`")
    return values


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, a line each, by its key."""
    old = dict(_leaves(before))
    new = dict(_leaves(now))
    return [
        f"{key}: {old.get(key, 'none')} -> {new.get(key, 'none')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def check(root: Path, profile: str | None) -> None:
    """Whether this package is the one that a workspace was last brought up to.

    Raises:
        BadInput: it is another, or another profile.
    """
    before = written(root)
    if before is None or profile is None:
        return
    changed = differences(before, current(profile))
    if not changed:
        return
    what = "; ".join(changed[:SHOWN])
    more = f"; {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    name = before.get(profiles.WORD, {})
    other = isinstance(name, dict) and name.get("name") != profile
    who = "the profile" if other else "the mimic package"
    raise BadInput(
        f"{root / FILE}: {who} has changed ({what}{more}): run `mimic upgrade`, which says what "
        "becomes stale, then `dvc repro`"
    )


def _leaves(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(values, dict):
        yield path, values
        return
    for key, value in values.items():
        yield from _leaves(value, f"{path}.{key}" if path else str(key))
