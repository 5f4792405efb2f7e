"""Files that hold more, or hold it in another way, than a player shows: what is mined is what is
shown, at the times at which it is shown."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mimic.sources import videos
from tests.support import footage

IMAGES = [image[:64, :64].copy() for image in footage.pan(0, 60, 4)]  # 10 a second
CUT = 15  # frames
# What DivX writes where it packs the frame after next into a packet; decoders look for the p.
DIVX = b"\0\0\1\xb2DivX503b1393p"


def _nearest(image: np.ndarray) -> int:
    """Which of the frames it is, after compression."""
    errors = [float(np.abs(image.astype(int) - other).mean()) for other in IMAGES]
    assert min(errors) < 12
    return int(np.argmin(errors))


def _shown(path: Path) -> list[tuple[float, int]]:
    return [(round(time_s, 3), _nearest(image)) for time_s, image in videos.sample(path, 0.1)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
def test_frames_before_a_cut_are_not_mined(tmp_path: Path, name: str) -> None:
    """A cut without encoding anew keeps all from the key frame on; an edit list hides what comes
    before the cut."""
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        options = {"g": "1000", "bf": "2", "crf": "10"}
        stream = container.add_stream("libx264", rate=10, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for image in [*IMAGES, None]:
            frame = None if image is None else av.VideoFrame.from_ndarray(image, format="rgb24")
            for packet in stream.encode(frame):
                assert packet.time_base is not None
                earlier = int(Fraction(CUT, 10) / packet.time_base)
                packet.pts = (packet.pts or 0) - earlier
                packet.dts = (packet.dts or 0) - earlier
                container.mux(packet)
    assert b"elst" in path.read_bytes()
    assert _shown(path) == [(number / 10, CUT + number) for number in range(60 - CUT)]


def test_colours_of_a_video_with_transparency_are_those_of_the_file(tmp_path: Path) -> None:
    """VP9 keeps what is transparent beside each picture, as a stream of its own."""
    path = tmp_path / "a.webm"
    mask = np.full((64, 64, 1), 255, np.uint8)
    mask[:32] = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuva420p"
        for image in IMAGES:
            both = np.concatenate([image, mask], axis=2)
            frame = av.VideoFrame.from_ndarray(both, format="rgba").reformat(format="yuva420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert path.read_bytes().count(b"\x75\xa1") >= len(IMAGES)  # additions to a picture
    assert _shown(path) == [(number / 10, number) for number in range(60)]


def test_two_frames_in_a_packet_are_both_mined(tmp_path: Path) -> None:
    """Early DivX and Xvid put a frame and the one that is shown before it into one packet of an
    AVI, and an empty frame into the next."""
    path = tmp_path / "a.avi"
    packets = _packed(_coded())
    assert len(packets) == len(IMAGES)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.stream = stream
            packet.time_base = Fraction(1, 10)
            packet.pts = packet.dts = number
            packet.is_keyframe = DIVX in content
            container.mux(packet)
    assert _shown(path) == [(number / 10, number) for number in range(60)]


def _coded() -> list[tuple[int, bytes]]:
    """Number and bytes of each frame, in the order in which they are stored: 0, 2, 1, 4, 3."""
    encoder: Any = av.CodecContext.create("mpeg4", "w")
    encoder.width = encoder.height = 64
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 10)
    encoder.framerate = Fraction(10)
    encoder.max_b_frames = 1
    encoder.bit_rate = 1_000_000
    encoder.options = {"b_strategy": "0", "sc_threshold": "1000000000"}
    frames: list[tuple[int, bytes]] = []
    for number, image in enumerate([*IMAGES, None]):
        frame = None
        if image is not None:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts = number
        frames += [(packet.pts, bytes(packet)) for packet in encoder.encode(frame)]
    return frames


def _packed(frames: list[tuple[int, bytes]]) -> list[bytes]:
    """Packets as DivX wrote them: a picture that is shown before another lies behind it in the same
    packet."""
    empty = b"\0\0\1\xb6" + bytes([0b01_0_1_0000, 0b1_0_0_11111])  # of type P, and not coded
    packets: list[bytes] = []
    latest = -1
    for number, content in frames:
        if number < latest:
            packets[-1] += content
            packets.append(empty)
        else:
            packets.append(_as_divx(content))
        latest = max(latest, number)
    return packets


def _as_divx(content: bytes) -> bytes:
    """With DivX's words in place of the encoder's, where a key frame has any."""
    begin = content.find(DIVX[:4])
    if begin < 0:
        return content
    return content[:begin] + DIVX + content[content.find(b"\0\0\1", begin + 4) :]
