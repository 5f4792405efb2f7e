"""Colours of video frames as a standard screen shows them: high dynamic range and wide gamut become
8-bit RGB of BT.709.

HLG and PQ, the signals of phones and of HDR10, are brought to standard dynamic range (SDR) in four
steps: the light that the reference display emits (ITU-R BT.2100-2, tables 4 and 5); BT.709
primaries in place of the frame's (BT.2020 in nearly all, or P3); a shoulder that bends what is
brighter than most of diffuse white into the rest of the range; the signal that an SDR display turns
into that light (ITU-R BT.1886: gamma 2.4). Diffuse white is at 203 cd/m2 in HDR (ITU-R BT.2408,
2.1) and at the top of SDR, so SDR pictures that were mapped into HDR (BT.2408, 5.1) come out as
they went in, but for the shoulder. SDR frames with BT.2020 or P3 primaries lack the shoulder alone;
all others are left as FFmpeg converts them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, Colorspace, ColorTrc
from jaxtyping import Float32, Float64, UInt8, UInt16

from mimic.sources.base import Image, Unreadable

WHITE_CD_M2 = 203.0  # diffuse white in HDR
PEAK_CD_M2 = 1000.0  # the nominal peak of HLG, and of what most PQ is graded for; brighter is white
SHOULDER = 0.8  # share of diffuse white up to which light is kept as it is
SDR_GAMMA = 2.4
HLG_GAMMA = 1.2  # of the whole system, on a display of 1000 cd/m2
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)  # of BT.2020 light (BT.2100, table 5)
LEVELS = 1 << 16
ROWS = 128  # converted at once, so that a large frame needs little memory

NAMES: dict[int, str] = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}
Primaries = tuple[tuple[float, float], ...]

D65 = (0.3127, 0.3290)
BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
PRIMARIES: dict[int, Primaries] = {
    ColorPrimaries.BT709: BT709,
    ColorPrimaries.UNSPECIFIED: BT2020,  # the only ones of BT.2100
    ColorPrimaries.BT2020: BT2020,
    ColorPrimaries.SMPTE432: P3,
}
WIDE = {int(ColorPrimaries.BT2020): "BT.2020", int(ColorPrimaries.SMPTE432): "Display P3"}
UNSPECIFIED = 2  # the matrix, in ITU-T H.273
ADVICE = "convert it to BT.709"
# FFmpeg converts these with a matrix that is not theirs (ITU-T H.273, table 4).
OTHER_MATRICES = {8: "YCgCo", 10: "BT.2020 constant luminance", 14: "ICtCp", 15: "IPT-C2"}


def rgb(frame: av.VideoFrame) -> Image:
    """The frame as 8-bit RGB of BT.709 in standard dynamic range, as stored (not turned).

    Raises:
        Unreadable: its colours are written in a way that nothing here converts.
    """
    if is_standard(frame):
        return frame.to_ndarray(format="rgb24")
    primaries = primaries_of(frame)
    is_of_bt2020 = frame.color_trc in NAMES or frame.color_primaries == ColorPrimaries.BT2020
    matrix = Colorspace.BT2020 if is_of_bt2020 and frame.colorspace == UNSPECIFIED else None
    signal = frame.reformat(format="rgb48le", src_colorspace=matrix).to_ndarray()
    return to_sdr(signal, frame.color_trc, primaries)


def primaries_of(frame: av.VideoFrame) -> Primaries:
    """Red, green and blue of a frame that is not left as it is.

    Raises:
        Unreadable: its colours are written in a way that nothing here converts.
    """
    if (name := OTHER_MATRICES.get(frame.colorspace)) is not None:
        raise Unreadable(f"its colours are {name}, which nothing here converts; {ADVICE}")
    if (primaries := PRIMARIES.get(frame.color_primaries)) is None:
        number = int(frame.color_primaries)
        raise Unreadable(
            f"HDR with primaries {number} (ITU-T H.273), which nothing here converts; {ADVICE}"
        )
    return primaries


def remarks(frame: av.VideoFrame) -> Iterator[str]:
    """What is done to the frame's colours, if anything is.

    Raises:
        Unreadable: as `rgb` does.
    """
    if is_standard(frame):
        return
    primaries_of(frame)
    if (name := NAMES.get(frame.color_trc)) is not None:
        yield f"its colours are {name} (high dynamic range), tone-mapped to SDR"
    else:
        yield f"its colours are {WIDE[frame.color_primaries]}, converted to BT.709"


def is_standard(frame: av.VideoFrame) -> bool:
    """Whether the frame's colours are left as FFmpeg converts them."""
    return frame.color_trc not in NAMES and frame.color_primaries not in WIDE


def to_sdr(
    signal: UInt16[np.ndarray, "height width 3"],
    transfer: int,
    primaries: Primaries,
) -> UInt8[np.ndarray, "height width 3"]:
    """An RGB signal, full range, as the SDR signal of BT.709.

    Args:
        transfer: of ITU-T H.273; any but those of HLG and PQ is taken for SDR.
        primaries: x and y of red, green and blue.
    """
    matrix = bt709_from(primaries).T.astype(np.float32)
    sdr = np.empty(signal.shape, np.uint8)
    for top in range(0, len(signal), ROWS):
        light = display_light(signal[top : top + ROWS], transfer) @ matrix
        np.maximum(light, 0, out=light)
        if transfer in NAMES:
            light *= shoulder_gain(light.max(axis=-1, keepdims=True))
        sdr[top : top + ROWS] = _sdr_signals()[_level(light)]
    return sdr


def display_light(
    signal: UInt16[np.ndarray, "*shape 3"],
    transfer: int,
) -> Float32[np.ndarray, "*shape 3"]:
    """The light of the reference display, diffuse white = 1, in the primaries of the signal."""
    light = _lights(transfer)[signal]
    if transfer == ColorTrc.ARIB_STD_B67:
        scene = light @ LUMINANCE
        light *= (PEAK_CD_M2 / WHITE_CD_M2 * scene ** (HLG_GAMMA - 1))[..., None]
    return light


def shoulder_gain(brightest: Float32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """By what a colour is multiplied so that it fits into SDR: 1 below the shoulder.

    The shoulder is a hyperbola, as in the tone mapping that FFmpeg and mpv call Moebius: it leaves
    the straight line without a kink, and reaches 1 at the peak. All three
    channels are multiplied alike, which keeps the hue.

    Args:
        brightest: the largest of a colour's three channels.
    """
    start = SHOULDER
    peak = PEAK_CD_M2 / WHITE_CD_M2
    a = start**2 * (peak - 1) / (start**2 - 2 * start + peak)
    b = (start**2 - 2 * start * peak + peak) / (peak - 1)
    scale = (b + start) ** 2 / (b + a)
    above = np.clip(brightest, start, peak)
    return np.where(brightest > start, scale * (above - a) / (above + b), above) / np.maximum(
        brightest, start
    )


@functools.cache
def bt709_from(primaries: Primaries) -> Float64[np.ndarray, "3 3"]:
    """Light in BT.709 primaries from light in others, both with D65 as white (SMPTE RP 177)."""
    return np.linalg.inv(_xyz_from(BT709)) @ _xyz_from(primaries)


def _xyz_from(primaries: Primaries) -> Float64[np.ndarray, "3 3"]:
    columns = np.array([_xyz(*xy) for xy in primaries]).T
    return columns * np.linalg.solve(columns, _xyz(*D65))


def _xyz(x: float, y: float) -> Float64[np.ndarray, "3"]:
    return np.array([x / y, 1, (1 - x - y) / y])


@functools.cache
def _lights(transfer: int) -> Float32[np.ndarray, "levels"]:
    """Light of each level of one channel: of the display, diffuse white = 1; for HLG, of the scene,
    peak = 1."""
    signal = np.linspace(0, 1, LEVELS)
    match transfer:
        case ColorTrc.SMPTE2084:
            light = pq_display_cd_m2(signal) / WHITE_CD_M2
        case ColorTrc.ARIB_STD_B67:
            light = hlg_scene_light(signal)
        case _:
            light = signal**SDR_GAMMA
    return light.astype(np.float32)


def pq_display_cd_m2(signal: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """The EOTF of PQ (BT.2100-2, table 4; SMPTE ST 2084)."""
    m1 = 2610 / 16384
    m2 = 2523 / 4096 * 128
    c1 = 3424 / 4096
    c2 = 2413 / 4096 * 32
    c3 = 2392 / 4096 * 32
    root = signal ** (1 / m2)
    return 10000 * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def hlg_scene_light(signal: Float64[np.ndarray, "*shape"]) -> Float64[np.ndarray, "*shape"]:
    """The inverse OETF of HLG (BT.2100-2, table 5; ARIB STD-B67): light of the scene, peak = 1."""
    a = 0.17883277
    b = 1 - 4 * a
    c = 0.5 - a * np.log(4 * a)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)


@functools.cache
def _sdr_signals() -> UInt8[np.ndarray, "levels"]:
    """The SDR signal of light, by the level of its square root, which is fine enough in the
    dark."""
    light = np.linspace(0, 1, LEVELS) ** 2
    return np.round(255 * light ** (1 / SDR_GAMMA)).astype(np.uint8)


def _level(light: Float32[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """The level in `_sdr_signals`; light above 1 is cut off."""
    return np.round((LEVELS - 1) * np.sqrt(np.minimum(light, 1))).astype(np.uint16)
