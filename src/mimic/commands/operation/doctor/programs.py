"""Programs and packages that a stage runs with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from mimic import config
from mimic.commands.operation.doctor.finding import Finding, absent, shortened, version_of
from mimic.errors import BadInput

CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")
BAD_OPENCV = ("4.12.", "4.13.")  # their SIFT or homographies differ
OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
# a call of habitat-sim: loading takes 15 s of processor time without a GPU, and machines are busy
PROBE_S = 180.0


def python() -> Finding:
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count()
    return Finding("Python", "ok", f"{platform.python_version()}, {cores} cores")


def pytorch() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of it does not load
        problem = f"does not import ({error})"
        return Finding("PyTorch", "missing", problem, "pip install -e . brings it")
    if not torch.cuda.is_available():
        state = f"{torch.__version__}, no GPU: the laptop profile's sizes are meant for this"
        return Finding("PyTorch", "ok", state)
    count = torch.cuda.device_count()
    names = sorted({torch.cuda.get_device_name(index) for index in range(count)})
    return Finding("PyTorch", "ok", f"{torch.__version__}, {count} x {', '.join(names)}")


def opencv() -> Finding:
    import cv2

    several = [name for name in OPENCVS if version_of(name)]
    if cv2.__version__.startswith(BAD_OPENCV):
        others = "pip install 'opencv-python-headless!=4.12.*,!=4.13.*'"
        remedy = f"4.12 and 4.13 find other pairs: {others}"
        return Finding("OpenCV", "warning", cv2.__version__, remedy)
    if len(several) > 1:
        versions = f"{cv2.__version__}, {' and '.join(several)}"
        remedy = "they overwrite each other: uninstall all but one"
        return Finding("OpenCV", "warning", versions, remedy)
    return Finding("OpenCV", "ok", cv2.__version__)


def pyav(needed: bool) -> Finding:
    try:
        import av
        from av.codec import Codec
    except (ImportError, OSError) as error:
        problem = f"does not import ({error})"
        return Finding("PyAV", absent(needed), problem, "pip install av")
    lacking = []
    for name in CODECS:
        try:
            Codec(name, "r")
        except Exception:  # UnknownCodecError, whose place has moved
            lacking.append(name)
    if lacking:
        problem = f"{av.__version__} without {', '.join(lacking)}"
        return Finding("PyAV", "warning", problem, "install the wheel from PyPI, it brings them")
    return Finding("PyAV", "ok", f"{av.__version__}, decodes {', '.join(CODECS)}")


def habitat_sim(section: config.HabitatRuntime, needed: bool) -> Finding:
    """In a process of its own: habitat-sim aborts where no GPU matches."""
    from mimic.scenes import habitat
    from mimic.scenes.base import EngineFailed
    from mimic.scenes.habitat_process import HabitatSlow

    def failed(problem: str, remedy: str) -> Finding:
        return Finding("habitat-sim", absent(needed), problem, remedy)

    timeout_s = min(PROBE_S, section.timeout_s)
    try:
        installed = habitat.probe(section.command, timeout_s)
    except (EngineFailed, BadInput) as error:
        problem = shortened(error).removesuffix("; see docs/scenes.md")
        remedy = "docs/scenes.md says how to install it; engine: embree needs none"
        return failed(problem, remedy)
    versions = f"{installed['version']} under Python {installed['python']}"
    try:
        habitat.open_nothing(section.command, timeout_s, section.gpu_device_id)
    except HabitatSlow as error:
        return failed(f"{versions}, but {shortened(error)}", "is the machine busy? try again")
    except EngineFailed as error:
        problem = f"{versions}, but it renders nothing: {shortened(error)}"
        return failed(problem, "try habitat.gpu_device_id: -1 (docs/scenes.md)")
    works = f"{versions}, renders with gpu_device_id {section.gpu_device_id}"
    return Finding("habitat-sim", "ok", works)


def faces(section: config.Privacy, root: Path) -> Finding:
    from mimic.mining import privacy

    if not section.blur_faces:
        return Finding("faces", "note", "not blurred (mine.privacy.blur_faces)")
    try:
        privacy.open_guard(section.model_copy(update={"nsfw_command": None}), root)
    except BadInput as error:
        return Finding("faces", "missing", shortened(error))
    return Finding("faces", "ok", f"blurred; {section.face_model} opens")
