"""Sampling a video in one pass, as the reader does, against seeking twice for each pair, as the
published scripts do.

The video is real (the kitchen, forward and backward again), encoded here as H.264 with a key frame
every GOP frames.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.sample_data import DATA
from mimic.sources import videos

GOP = 250
FPS = 30
SECONDS = 20
SPACING_S = 1.0
SOURCE = "seven_scenes_kitchen/kitchen_000000-000299_30fps.mp4"


def measure() -> dict[str, Any]:
    """`decode_speedup` by CPU time, all threads of both sides counted; frames must be the same up
    to rounding of colours."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kitchen.mp4"
        encode(path, read_all(DATA / SOURCE))
        plain, plain_s = clocked(lambda: seek_twice(path))
        ours, ours_s = clocked(lambda: [frame for _, frame in videos.sample(path, SPACING_S)])
    worst = max(
        float(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean())
        for a, b in zip(plain, ours, strict=True)
    )
    return {
        "decode_speedup": round(plain_s / ours_s, 1),
        "plain_s": round(plain_s, 2),
        "one_pass_s": round(ours_s, 2),
        "frames": len(ours),
        "largest_mean_difference": round(worst, 2),  # grey levels: two colour converters
        "video": f"{SECONDS} s, 640x480, {FPS} frames/s, a key frame every {GOP}",
    }


def read_all(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def encode(path: Path, frames: list[av.VideoFrame]) -> None:
    there_and_back = [*frames, *frames[-2:0:-1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264",
            rate=FPS,
            options={"preset": "veryfast", "sc_threshold": "0", "x264-params": "scenecut=0"},
        )
        assert isinstance(stream, av.VideoStream)
        stream.width = frames[0].width
        stream.height = frames[0].height
        stream.pix_fmt = "yuv420p"
        stream.gop_size = GOP
        for number in range(SECONDS * FPS):
            frame = there_and_back[number % len(there_and_back)]
            again = av.VideoFrame.from_ndarray(frame.to_ndarray(format="yuv420p"), format="yuv420p")
            container.mux(stream.encode(again))
        container.mux(stream.encode())


def seek_twice(path: Path) -> list[np.ndarray]:
    """The frames of every pair (i s, i + 1 s), each sought from the key frame before it; of each
    second the frame found last."""
    video = cv2.VideoCapture(str(path))
    found = {}
    for second in range(SECONDS - 1):
        for at in (second, second + 1):
            video.set(cv2.CAP_PROP_POS_MSEC, 1000 * at * SPACING_S)
            good, frame = video.read()
            if not good:
                raise SystemExit(f"OpenCV cannot read the frame at {at} s")
            found[at] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return [found[at] for at in sorted(found)]


def clocked(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start
