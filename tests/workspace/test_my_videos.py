"""docs/my-videos.md: every command on the page, in its order, in an empty folder outside the
repository."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file

import mimic
from tests.support import footage

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(1800)]
BIN = Path(sys.executable).parent


def commands(page: Path) -> Iterator[str]:
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.M | re.S):
        yield from block.strip().splitlines()


@pytest.fixture(scope="module")
def project(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace, once all commands have run."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for number in range(3):
        images = footage.pan(number, 24, 16)
        footage.video(folder / f"my_videos/walk{number}.mp4", images, fps=10)
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    ran = 0
    for command in commands(repository / "docs/my-videos.md"):
        words = shlex.split(command)
        if words[0] == "cd":
            folder = folder / words[1]
            continue
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran >= 8
    return folder


def test_the_page_leads_to_a_trained_and_measured_encoder(project: Path) -> None:
    card = json.loads((project / "models/own/card.json").read_text())
    assert card["steps"] == 20
    measured = json.loads((project / "metrics/own/views.json").read_text())
    assert 0 < measured["value"] < 1
    assert (project / "report/index.html").is_file()
    status = subprocess.run(
        [BIN / "dvc", "status", "--json"], cwd=project, capture_output=True, text=True, check=True
    )
    assert json.loads(status.stdout) == {}


def test_timm_alone_reads_what_is_handed_over(project: Path) -> None:
    (exported,) = project.glob("own-timm*.safetensors")
    card = json.loads((project / "models/own/card.json").read_text())
    vit = timm.models.VisionTransformer(**card["timm"]["kwargs"]).eval()
    vit.load_state_dict(load_file(exported), strict=True)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    ours = mimic.extract_features(mimic.load_encoder(project / "models/own"), list(pixels))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    views = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
    with torch.inference_mode():
        theirs = vit.forward_features(views).numpy()
    assert np.abs(ours - theirs).max() < 1e-5
