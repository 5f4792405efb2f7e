"""docs/hand-it-out.md: every command of the page is run, every block of Python executed."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch

from mimic.models.formats.checkpoint_formats import Written
from tests.commands.test_dust3r import DUST3R, SIZES
from tests.commands.test_hand_out import apart, features, loaded, ours, run, scattered, workspace
from tests.commands.test_weights import IMAGES, publish
from tests.support.other_projects import AsymmetricCroCo3DStereo

__all__ = ["workspace"]  # a fixture


def test_the_page_does_what_it_says(workspace: Path, repository: Path) -> None:
    text = (repository / "docs/hand-it-out.md").read_text()
    publish(workspace / "models/croco-v2", "croco", False, "rope")
    scattered(workspace / "models/croco-v2")
    publish(workspace / "models/mae-1m", "mae", True, "sincos")
    publish(workspace / "models/croco-1m/seed-1", "croco", False, "sincos")
    file = workspace / "DUSt3R_ViTLarge_BaseDecoder_512_dpt.pth"
    theirs = AsymmetricCroCo3DStereo(**SIZES).state_dict()
    torch.save({"model": theirs, "args": argparse.Namespace(model=DUST3R)}, file)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.S | re.M)
    commands = [line for kind, block in blocks if not kind for line in block.splitlines()]
    assert len(commands) == 7
    for command in commands:
        name, *words = command.split()
        assert name == "mimic"
        done = run(*words)
        assert done.exit_code == 0, f"{command}: {done.output} {done.exception}"
    python = [block for kind, block in blocks if kind == "python"]
    assert len(python) == 1
    model = loaded(python[0].splitlines())["model"]
    assert apart(features(model, IMAGES), ours(workspace / "models/croco-v2", IMAGES)) < 1e-6
    back = ours(workspace / "models/from-hub", IMAGES)
    assert torch.equal(back, ours(workspace / "models/croco-v2", IMAGES))


def test_the_pages_name_every_format(repository: Path) -> None:
    for page in ("hand-it-out.md", "weights.md"):
        text = (repository / "docs" / page).read_text()
        table = "".join(line for line in text.splitlines() if line.startswith("|"))
        for form in Written.__args__:  # type: ignore[attr-defined]
            assert re.search(rf"`(--format )?{form}`", table), (page, form)
