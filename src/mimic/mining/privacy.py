"""Responsible use: faces are blurred and unwanted pictures withheld before anything is written.

Both work on the pictures that go into a shard, at mining size. Faces are found by OpenCV's YuNet
(face_detection_yunet_*.onnx of its model zoo; small, but the user's to fetch). Whether a picture
may be kept at all is asked of any program: it is started once, is sent pictures (a 4-byte
little-endian length, then a JPEG) and answers each with a line, a score from 0 to 1.
"""

from __future__ import annotations

import functools
import os
import select
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from mimic import config
from mimic.errors import BadInput
from mimic.infra import storage
from mimic.pairs.write import encode_image

Picture = UInt8[np.ndarray, "size size 3"]
# pictures are enlarged: the detector misses faces of ten pixels, which can still be recognised
DETECT_AT = 2
# YuNet's usual ones
NMS_THRESHOLD = 0.3
TOP_K = 1000
CELLS = 4  # what is left of a face: so many cells across it
ANSWER_S = 60.0
QUALITY = 90  # of the JPEGs that the program sees


class Judge(Protocol):
    """Scores a picture; 1 = certainly not to be kept."""

    def score(self, image: Picture) -> float: ...


class Guard:
    """What a picture must pass before it is written: `guard(image)` is the picture to write, or
    None to withhold it."""

    def __init__(
        self, section: config.Privacy, faces: FaceBlur | None, judge: Judge | None
    ) -> None:
        self._score_max = section.nsfw_score_max
        self._faces = faces
        self._judge = judge

    def __call__(self, image: Picture) -> Picture | None:
        if self._judge is not None and self._judge.score(image) > self._score_max:
            return None
        return image if self._faces is None else self._faces(image)


@functools.lru_cache(
    maxsize=1
)  # a worker process asks for every shard; models take their time to load
def open_guard(section: config.Privacy, root: Path) -> Guard | None:
    """The guard that the parameters ask for; None where all of it is off.

    Raises:
        BadInput: the face detector's model is missing or is none, or the program does not start.
    """
    faces = judge = None
    if section.blur_faces:
        assert section.face_model is not None  # the parameters are refused without
        faces = FaceBlur(root / section.face_model, section.face_score_min, section.face_margin)
    if section.nsfw_command is not None:
        judge = CommandJudge(section.nsfw_command)
    return None if faces is None and judge is None else Guard(section, faces, judge)


def model_digest(section: config.Privacy, root: Path) -> str | None:
    """Of the detector: pairs mined with another one are not resumed."""
    if not section.blur_faces or section.face_model is None:
        return None
    return storage.file_digest(_existing(root / section.face_model))


class FaceBlur:
    """Finds faces and leaves a few smooth cells of each.

    Args:
        score_min: detections below are no faces.
        margin: how far around a face, as a share of its size.
    """

    def __init__(self, model: Path, score_min: float, margin: float) -> None:
        self._margin = margin
        try:
            self._detector = cv2.FaceDetectorYN.create(
                str(_existing(model)), "", (64, 64), score_min, NMS_THRESHOLD, TOP_K
            )
        except cv2.error as error:
            raise BadInput(
                f"mine.privacy.face_model: {model} is no YuNet model "
                f"({str(error).strip().splitlines()[-1][:120]})"
            ) from None

    def __call__(self, image: Picture) -> Picture:
        height, width = (DETECT_AT * side for side in image.shape[:2])
        self._detector.setInputSize((width, height))
        _, faces = self._detector.detect(
            cv2.resize(image[..., ::-1], (width, height), interpolation=cv2.INTER_LINEAR)
        )
        return image if faces is None else blurred(image, faces[:, :4] / DETECT_AT, self._margin)


def blurred(image: Picture, boxes: Float[np.ndarray, "n 4"], margin: float) -> Picture:
    """The picture with the boxes (left, top, width, height) reduced to CELLS x CELLS cells each:
    nothing finer is left to restore."""
    image = image.copy()
    for left, top, width, height in boxes:
        x0, y0 = (
            max(0, int(np.floor(corner - margin * side)))
            for corner, side in ((left, width), (top, height))
        )
        x1, y1 = (
            int(np.ceil(corner + (1 + margin) * side))
            for corner, side in ((left, width), (top, height))
        )
        face = image[y0 : max(y1, 0), x0 : max(x1, 0)]
        if face.size:
            cells = cv2.resize(face, (CELLS, CELLS), interpolation=cv2.INTER_AREA)
            face[:] = cv2.resize(cells, face.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return image


class CommandJudge:
    """Asks a program that is started once; anew after an answer that was late or none, which would
    be taken for that of the next picture."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._program: subprocess.Popen[bytes] | None = self._started()
        self._rest = b""

    def score(self, image: Picture) -> float:
        """The program's score.

        Raises:
            BadInput: it ended, does not answer, or answers with something else. Nothing is written
                unasked.
        """
        jpeg = encode_image(image, QUALITY)
        self._program = self._program or self._started()
        try:
            return self._answer(self._program, jpeg)
        except BaseException:
            self._program.kill()
            self._program.wait()
            self._program = None
            self._rest = b""
            raise

    def _started(self) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        except OSError as error:
            raise BadInput(
                f"mine.privacy.nsfw_command: cannot start {' '.join(self._command)!r}: "
                f"{error.strerror}"
            ) from None

    def _answer(self, program: subprocess.Popen[bytes], jpeg: bytes) -> float:
        assert program.stdin is not None
        assert program.stdout is not None
        output = program.stdout.fileno()
        if self._rest or select.select([output], [], [], 0)[0]:
            more = self._rest or os.read(output, 1)
            problem = "answers more than one line a picture" if more else "has ended"
            raise BadInput(f"mine.privacy.nsfw_command: the program {problem}")
        try:
            program.stdin.write(struct.pack("<I", len(jpeg)) + jpeg)
            program.stdin.flush()
        except BrokenPipeError:
            raise BadInput("mine.privacy.nsfw_command: the program has ended") from None
        answer = self._line(output)
        try:
            score = float(answer)
        except ValueError:
            score = float("nan")
        if not 0 <= score <= 1:
            raise BadInput(
                f"mine.privacy.nsfw_command: answered {answer[:80]!r}, not a score from 0 to 1"
            )
        return score

    def _line(self, output: int) -> bytes:
        deadline = time.monotonic() + ANSWER_S
        while b"\n" not in self._rest:
            ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
            data = os.read(output, 4096) if ready else b""
            if not data:
                raise BadInput(
                    "mine.privacy.nsfw_command: the program "
                    f"{'has ended' if ready else f'did not answer within {ANSWER_S:g} s'}"
                )
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        return line


def _existing(model: Path) -> Path:
    if not model.is_file():
        raise BadInput(
            f"mine.privacy.face_model: no file {model}; fetch face_detection_yunet_*.onnx from "
            "OpenCV's model zoo, or set blur_faces: false"
        )
    return model
