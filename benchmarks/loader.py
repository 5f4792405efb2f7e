"""What it costs to have an image of a pair ready, on one core: our shards against loose files read
as the references read them.

Run `python -m benchmarks.loader [--json]`. Both read the same 224-px JPEGs (quality 95, from
../shared/data where it lies beside the checkout, else rendered) and are measured in turns in one
process of one thread, in CPU time, so that a busy machine changes little.

    ours        rows of a manifest, byte offsets in a tar, uint8 [b, 2, h, w, 3]; what is left is
                done in batch on the device
    reference   PIL.Image.open, ToTensor, Normalize of one loose file after the other, float32 [b,
                3, h, w]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks.sample_data import DATA
from mimic.models.encoder import normalise
from mimic.pairs.images import PairImages
from mimic.pairs.write import encode_image
from mimic.training.batches import batch_indices

SIZE_PX = 224
IMAGES = 128
BATCH = 32
TURNS = 15
QUALITY = 95
TARGETS = {"loader_ms_per_image": 0.4, "loader_speedup": 3.5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    result = measure()
    if asked.json:
        print(json.dumps(result, indent=2))
    else:
        for key, value in result.items():
            print(f"{key:28} {value}")
    if (
        result["loader_ms_per_image"] > TARGETS["loader_ms_per_image"]
        or result["loader_speedup"] < TARGETS["loader_speedup"]
    ):
        print(f"targets: {TARGETS}", file=sys.stderr)


def measure() -> dict[str, Any]:
    """Milliseconds an image and their ratio, medians over turns, with the stack they were measured
    on."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory(prefix="loader-") as folder:
            return _measure(Path(folder))
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def _measure(folder: Path) -> dict[str, Any]:
    kind, pictures = images()
    files, rows = written(folder, pictures)
    load_ours = _ours(rows, folder)
    load_theirs = _theirs(files)
    ours: list[Any] = []
    theirs: list[Any] = []
    device: list[Any] = []
    for turn in range(TURNS + 1):
        times = [_cpu_ms(lambda: load_ours(turn)), _cpu_ms(lambda: load_theirs(turn))]  # noqa: B023
        batch = load_ours(turn)
        times.append(_cpu_ms(lambda: normalise(batch)))  # noqa: B023
        if turn:  # the first one warms caches
            for kept, value in zip((ours, theirs, device), times, strict=True):
                kept.append(value / BATCH)
    return {
        "loader_ms_per_image": round(statistics.median(ours), 4),
        "reference_ms_per_image": round(statistics.median(theirs), 4),
        "loader_speedup": round(
            statistics.median(b / a for a, b in zip(ours, theirs, strict=True)), 2
        ),
        "normalise_ms_per_image": round(statistics.median(device), 4),
        "images": f"{len(pictures)} {kind} at {SIZE_PX} px, "
        f"{sum(file.stat().st_size for file in files) / len(files) / 1000:.0f} kB each",
        "time": "CPU, one thread, medians over turns",
        "load": os.getloadavg(),
        "stack": f"{platform.processor() or platform.machine()}, "
        f"Python {platform.python_version()}, "
        f"OpenCV {cv2.__version__}, "
        f"torch {torch.__version__}, Pillow {Image.__version__}",
    }


def _cpu_ms(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return 1000 * (time.process_time() - start)


def images() -> tuple[str, list[np.ndarray]]:
    """What they are, and square images: real ones, or textures of as much detail."""
    found = [
        image
        for path in sorted(DATA.rglob("*.jpg"))[:IMAGES]
        if (image := cv2.imread(str(path))) is not None
    ]
    if found:
        return "real images", [
            cv2.resize(image, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)[..., ::-1]
            for image in found
        ]
    rng = np.random.default_rng(0)
    layers = [(cells, 160 / cells**0.5) for cells in (4, 16, 64, 224)]
    drawn = [
        sum(
            weight
            * cv2.resize(
                rng.random((cells, cells, 3)), (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC
            )
            for cells, weight in layers
        )
        for _ in range(IMAGES)
    ]
    return "generated textures", [np.clip(image, 0, 255).astype(np.uint8) for image in drawn]


def written(folder: Path, pictures: list[np.ndarray]) -> tuple[list[Path], pd.DataFrame]:
    """The same bytes twice: loose files, and a shard with its rows."""
    encoded = [encode_image(np.ascontiguousarray(image), QUALITY) for image in pictures]
    files = []
    for number, data in enumerate(encoded):
        files.append(folder / f"{number:04d}.jpg")
        files[-1].write_bytes(data)
    tar = folder / "shard.tar"
    offset = 0
    rows = []
    tar.write_bytes(b"".join(encoded))  # the reader goes by offset and never looks at tar headers
    for number in range(0, len(encoded) - 1, 2):
        two = encoded[number], encoded[number + 1]
        sizes = [len(data) for data in two]
        rows.append(
            {
                "key": str(number),
                "shard": tar.name,
                "offset_a": offset,
                "size_a": sizes[0],
                "size_px": SIZE_PX,
            }
        )
        rows[-1] |= {"offset_b": offset + sizes[0], "size_b": sizes[1]}
        shas = [hashlib.sha256(data).hexdigest() for data in two]
        rows[-1] |= {"sha_a": shas[0], "sha_b": shas[1]}
        offset += sum(sizes)
    return files, pd.DataFrame(rows)


def _ours(rows: pd.DataFrame, folder: Path) -> Callable[[int], torch.Tensor]:
    images = PairImages(rows, folder, (SIZE_PX, SIZE_PX))
    return lambda turn: images.pairs(batch_indices(turn, BATCH // 2, len(images), 0))


def _theirs(files: list[Path]) -> Callable[[int], torch.Tensor]:
    from torchvision import transforms

    prepare = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )

    def opened(chosen: np.ndarray) -> Iterator[torch.Tensor]:
        for index in chosen:
            with Image.open(files[index]) as image:
                yield prepare(image.convert("RGB"))

    return lambda turn: torch.stack(list(opened(batch_indices(turn, BATCH, len(files), 0))))


if __name__ == "__main__":
    main()
