"""What five seeds of a few-shot task cost in features, against one pass of the encoder over its
images.

    python -m benchmarks.probes <folder in the NYUv2 layout> [--json]

Timed in one process on an encoder of ViT-S/16's size with random weights: a run of one seed and a
run of five, each with nothing kept and again with everything kept. The heads' own cost, which no
kept feature can spare, is the time of the second run; what features cost is what the first takes
longer, plus looking up what was kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from mimic.config import Shards
from mimic.models import ViTSize
from mimic.models.encoder import VisionTransformer
from mimic.models.layers import initialise
from mimic.tasks import TASKS
from mimic.tasks.api import EvalModel, EvalPaths
from mimic.tasks.depth import finetune, frozen
from mimic.tasks.depth.config import FewShotDepthTask
from mimic.tasks.depth.sets import open_depth

SEEDS = 5
STEPS = 2  # of each head: they are not what is measured


NOWHERE = Shards(url=None, cache=Path("cache"), cache_gb=1.0)


def measure(data: Path, shots: int) -> dict[str, Any]:
    """`five_seeds_over_feature_pass`: all that five seeds spend on features / one pass of the
    encoder over the images."""
    task = _task(data, shots)
    encoder = _encoder()
    seen = [0]
    encoder.patch_embed.register_forward_hook(
        lambda _, inputs, __: seen.__setitem__(0, seen[0] + len(inputs[0]))
    )
    with tempfile.TemporaryDirectory() as scratch:
        _, pass_s = _timed(lambda: _keep(task, encoder, Path(scratch) / "pass"))
        images = seen[0]
        seen[0] = 0
        _, look_up_s = _timed(lambda: _keep(task, encoder, Path(scratch) / "pass"))
        _, cold_s = _timed(lambda: _run(task, encoder, Path(scratch) / "seeds"))
        five_images = seen[0]
        seen[0] = 0
        _, warm_s = _timed(lambda: _run(task, encoder, Path(scratch) / "seeds"))
    return {
        "five_seeds_over_feature_pass": round((cold_s - warm_s + look_up_s) / pass_s, 3),
        "images_encoded": {
            "one pass": images,
            "five seeds": five_images,
            "five seeds again": seen[0],
        },
        "feature_pass_s": round(pass_s, 2),
        "look_up_s": round(look_up_s, 2),
        "five_seeds_s": round(cold_s, 2),
        "five_seeds_again_s": round(warm_s, 2),
        "setting": f"{shots} shots, {SEEDS} seeds, {STEPS} steps a head, ViT-S/16 at 256 px, "
        f"{torch.get_num_threads()} threads",
    }


def _task(data: Path, shots: int) -> FewShotDepthTask:
    few = {
        "shots": (shots,),
        "seeds": SEEDS,
        "steps": STEPS,
        "batch": 4,
        "head_width": 32,
        "eval_batch": 8,
        "eval_ranks": 1,
    }
    own = {
        "task": "few-shot-depth",
        "preset": "published",
        "data": data,
        "tracked_by": data,
        "layout": None,
        "depth_unit": None,
        "masks": None,
        "freeze": "encoder",
    }
    published = TASKS["few-shot-depth"].presets["published"]
    rest = {"blocks": None, "save_every": None, "seed": 0, "samples": 0}
    return FewShotDepthTask.model_validate({**published, **few, **own, **rest})


def _encoder() -> VisionTransformer:
    size = ViTSize(
        size_px=(224, 224),
        patch_px=16,
        width=384,
        depth=12,
        heads=6,
        class_token=True,
        positions="sincos",
        norm_eps=1e-6,
    )
    encoder = VisionTransformer(size, attention="auto")
    initialise(encoder, torch.Generator().manual_seed(0))
    return encoder.eval()


def _keep(task: FewShotDepthTask, encoder: VisionTransformer, folder: Path) -> None:
    with open_depth(task, Path()) as nyu:
        frozen.cache_features(task, finetune.build(task, encoder), nyu, folder)


def _run(task: FewShotDepthTask, encoder: VisionTransformer, folder: Path) -> None:
    subject = EvalModel(encoder, torch.device("cpu"), card={}, folder=folder, checkpoint="0" * 64)
    with tempfile.TemporaryDirectory() as progress:  # its heads are trained each time
        folders = EvalPaths(Path(), progress=Path(progress), features=folder, shards=NOWHERE)
        frozen.run_few(task, subject, folders)


def _timed(work: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--shots", type=int, default=10)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.data.resolve(), options.shots)
    print(
        json.dumps(result, indent=2)
        if options.json
        else "\n".join(f"{name}: {value}" for name, value in result.items())
    )


if __name__ == "__main__":
    main()
