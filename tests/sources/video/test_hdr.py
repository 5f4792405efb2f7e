"""High dynamic range and wide gamut: SDR pictures that were mapped into them come out as they went
in."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from av.video.reformatter import ColorTrc
from PIL import Image as pillow

from mimic import ingest, mine, sources
from mimic.params import Params, load_params
from mimic.sources import videos
from mimic.sources.base import Unreadable
from mimic.sources.photos import pictures
from mimic.sources.video import hdr
from tests.support import footage

PHOTO = cv2.GaussianBlur(footage.plane(3, 320), (0, 0), 8)  # colours survive 4:2:0
PQ, HLG, SDR, SRGB, BT2020, P3 = 16, 18, 14, 13, 9, 12
# light in other primaries from light in those of BT.709: ITU-R BT.2087, table 2; SMPTE RP 431-2
MATRICES = {
    BT2020: [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]],
    P3: [[0.8225, 0.1774, 0.0000], [0.0332, 0.9669, 0.0000], [0.0171, 0.0724, 0.9105]],
}
YUV = {BT2020: 9, P3: 1}  # the matrix that goes with them


@pytest.fixture(scope="module")
def params(repository: Path) -> Params:
    return load_params(repository / "params.yaml")


def _light(photo: np.ndarray, primaries: int = BT2020) -> np.ndarray:
    """Light in other primaries, white = 1, of an SDR picture (BT.1886)."""
    return (photo / 255) ** 2.4 @ np.array(MATRICES[primaries]).T


def _pq(cd_m2: np.ndarray) -> np.ndarray:
    """The inverse EOTF, with the rounded constants of SMPTE ST 2084."""
    power = (cd_m2 / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def _hlg(cd_m2: np.ndarray) -> np.ndarray:
    """The inverse OOTF of a display of 1000 cd/m2, and the OETF."""
    display = cd_m2 / 1000
    luminance = display @ np.array([0.2627, 0.6780, 0.0593])
    scene = display * np.maximum(luminance, 1e-9)[..., None] ** (1 / 1.2 - 1)
    logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)


def _signal(photo: np.ndarray, transfer: int, primaries: int = BT2020) -> np.ndarray:
    """The picture as 16-bit RGB in other primaries, white at 203 cd/m2 in HDR (BT.2408)."""
    light = _light(photo, primaries)
    match transfer:
        case ColorTrc.SMPTE2084:
            signal = _pq(203 * light)
        case ColorTrc.ARIB_STD_B67:
            signal = _hlg(203 * light)
        case _:
            signal = light ** (1 / 2.4)
    return np.round(65535 * np.clip(signal, 0, 1)).astype(np.uint16)


def _frame(photo: np.ndarray, transfer: int, primaries: int, form: str) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(_signal(photo, transfer, primaries), format="rgb48le")
    return frame.reformat(format=form, dst_colorspace=YUV[primaries] if "yuv" in form else None)


def _film(
    path: Path,
    photos: list[np.ndarray],
    transfer: int,
    codec: str = "libx265",
    matrix: int | None = None,
    primaries: int = BT2020,
) -> Path:
    """A film of 10 bits, 2 frames a second."""
    form = "gbrp10le" if codec == "ffv1" else "yuv420p10le"
    with av.open(str(path), "w") as container:
        options = (
            {"crf": "8", "x265-params": "log-level=none:bframes=0"} if codec == "libx265" else {}
        )
        stream = container.add_stream(codec, rate=2, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = photos[0].shape[:2]
        stream.pix_fmt = form
        told = stream.codec_context
        told.color_trc, told.color_primaries, told.colorspace, told.color_range = (
            transfer,
            primaries,
            YUV[primaries] if matrix is None else matrix,
            1,
        )
        for number, photo in enumerate(photos):
            frame = _frame(photo, transfer, primaries, form)
            frame.pts, frame.time_base = number, Fraction(1, 2)
            frame.color_trc, frame.color_primaries = transfer, primaries
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _error(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean, in grey levels."""
    assert found.shape == wanted.shape
    assert found.dtype == np.uint8
    return float(np.abs(found.astype(int) - wanted).mean())


@pytest.mark.parametrize(
    ("codec", "name"), [("libx265", "a.mp4"), ("libx265", "a.mov"), ("ffv1", "a.mkv")]
)
@pytest.mark.parametrize(
    ("transfer", "primaries", "raw_min"),
    [
        *((PQ, BT2020, 25), (HLG, BT2020, 12), (SDR, BT2020, 1.5)),
        *((PQ, P3, 20), (SRGB, P3, 9)),
    ],
)
def test_a_film_looks_as_on_a_standard_screen(
    tmp_path: Path, transfer: int, primaries: int, raw_min: float, codec: str, name: str
) -> None:
    path = _film(tmp_path / name, [PHOTO] * 4, transfer, codec, primaries=primaries)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert (frame.color_trc, frame.color_primaries) == (transfer, primaries)
    assert _error(frame.to_ndarray(format="rgb24"), PHOTO) > raw_min
    found = [image for _, image in videos.sample(path, 0.5)]
    assert len(found) == 4
    assert max(_error(image, PHOTO) for image in found) < 3


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_up_to_the_shoulder_nothing_is_bent_and_above_it_whites_stay_apart(transfer: int) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    found = hdr.to_sdr(_signal(grey, transfer), transfer, hdr.BT2020)[0].astype(int)
    start = int(255 * hdr.SHOULDER ** (1 / 2.4))
    assert (np.abs(found - grey[0])[:start] <= 1).all()
    assert (np.diff(found, axis=0) >= 0).all()
    assert (found == found[:, :1]).all()
    assert 240 <= found[255, 0] < 250  # room for what is brighter than white
    light = np.array([203.0, 400, 700, 1000, 4000])
    signal = (
        _pq(light) if transfer == PQ else _hlg(np.minimum(light, 1000)[:, None].repeat(3, 1))[:, 0]
    )
    bright = hdr.to_sdr(
        np.round(65535 * signal).astype(np.uint16)[None, :, None].repeat(3, 2), transfer, hdr.BT2020
    )
    levels = bright[0, :, 0].astype(int)
    assert (np.diff(levels[:4]) > 0).all()
    assert levels[3] == levels[4] == 255


def test_levels_of_the_recommendation() -> None:
    """BT.2408, table 1: diffuse white is at 75 % of HLG and 58 % of PQ; BT.2100: the peak of HLG is
    1000 cd/m2."""
    white = np.full((1, 3), round(0.75 * 65535), np.uint16)
    assert hdr.display_light(white, HLG) == pytest.approx(1, abs=0.005)
    assert hdr.display_light(np.full((1, 3), 65535, np.uint16), HLG) * 203 == pytest.approx(
        1000, rel=1e-3
    )
    assert hdr.pq_display_cd_m2(np.array([0.58, 1.0])) == pytest.approx([203, 10000], rel=0.01)
    matrix = [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
    assert hdr.bt709_from(hdr.BT2020) == pytest.approx(
        np.array(matrix), abs=1e-4
    )  # ITU-R BT.2407, 2.2
    assert hdr.bt709_from(hdr.BT709) == pytest.approx(np.eye(3))


def test_a_bright_colour_keeps_its_hue() -> None:
    lamp = np.array([[[4.0, 1.0, 0.5]]]) @ np.linalg.inv(hdr.bt709_from(hdr.BT2020)).T
    signal = np.round(65535 * _pq(203 * lamp)).astype(np.uint16)
    red, green, blue = (hdr.to_sdr(signal, PQ, hdr.BT2020)[0, 0] / 255) ** 2.4
    assert red > 0.95
    assert red / green == pytest.approx(4, rel=0.03)
    assert green / blue == pytest.approx(2, rel=0.05)


def test_standard_frames_are_left_alone(tmp_path: Path) -> None:
    path = footage.video(tmp_path / "a.mp4", footage.pan(0, 4, 8))
    with av.open(str(path)) as container:
        wanted = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    found = [image for _, image in videos.sample(path, 0.5)]
    assert all((a == b).all() for a, b in zip(found, wanted, strict=True))


def test_what_is_done_to_colours_is_said_in_inventory_and_metrics(
    tmp_path: Path, params: Params
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    _film(raw / "a.mp4", footage.pan(0, 4, 40), HLG)
    _film(raw / "b.mp4", footage.pan(1, 4, 40), SDR)
    footage.video(raw / "c.mp4", footage.pan(2, 4, 40))
    _film(raw / "d.mp4", footage.pan(3, 4, 40), SRGB, primaries=P3)
    section = footage.videos_section(params, raw)
    params = params.model_copy(update={"sources": {"phone": section}})
    ingest.main(params, tmp_path, "phone")
    mine.main(params, tmp_path, "phone")
    notes = {
        "a.mp4": "its colours are HLG (high dynamic range), tone-mapped to SDR",
        "b.mp4": "its colours are BT.2020, converted to BT.709",
        "d.mp4": "its colours are Display P3, converted to BT.709",
    }
    rows = pq.read_table(tmp_path / "data/inventory/phone.parquet").to_pylist()
    assert {row["clip"]: row["note"] for row in rows} == {**notes, "c.mp4": None}
    counts = json.loads((tmp_path / "metrics/mine/phone.json").read_text())
    assert counts["notes"] == notes
    assert counts["skipped"] == {}


def test_colours_that_cannot_be_converted_are_named(tmp_path: Path, params: Params) -> None:
    _film(tmp_path / "a.mkv", [PHOTO] * 2, PQ, matrix=14)
    reason = "its colours are ICtCp, which nothing here converts"
    source = sources.open_source("phone", footage.videos_section(params, tmp_path), Path(), 224)
    assert reason in str(source.describe("a.mkv")["error"])
    with pytest.raises(Unreadable, match=reason):
        list(videos.sample(tmp_path / "a.mkv", 0.5))


def _still(path: Path, transfer: int, primaries: int) -> Path:
    """The picture as AVIF (10 bits) or PNG (16 bits)."""
    is_avif = path.suffix == ".avif"
    form, told_range = ("yuv420p10le", 1) if is_avif else ("rgb48be", 2)
    frame = _frame(PHOTO, transfer, primaries, form)
    frame.pts, frame.color_trc, frame.color_primaries, frame.color_range = (
        0,
        transfer,
        primaries,
        told_range,
    )
    muxer, options = ("avif", {}) if is_avif else ("image2", {"update": "1"})
    with av.open(str(path), "w", format=muxer, options=options) as container:
        codec = "libsvtav1" if is_avif else "png"
        stream = container.add_stream(codec, rate=1, options={"crf": "5"} if is_avif else {})
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = PHOTO.shape[:2]
        stream.pix_fmt = form
        told = stream.codec_context
        told.color_trc, told.color_primaries, told.color_range = transfer, primaries, told_range
        told.colorspace = YUV[primaries] if is_avif else 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("ending", [".avif", ".png"])
@pytest.mark.parametrize(
    ("transfer", "primaries", "raw_min"),
    [(PQ, BT2020, 12), (HLG, BT2020, 12), (SDR, BT2020, 12), (SRGB, P3, 9)],
)
def test_a_picture_looks_as_on_a_standard_screen(
    tmp_path: Path, transfer: int, primaries: int, raw_min: float, ending: str
) -> None:
    path = _still(tmp_path / f"a{ending}", transfer, primaries)
    with pillow.open(path) as file:
        assert _error(np.asarray(file.convert("RGB")), PHOTO) > raw_min
    assert _error(pictures.read(path), PHOTO) < 3


def test_a_standard_avif_is_read_as_before(tmp_path: Path) -> None:
    pillow.fromarray(PHOTO).save(tmp_path / "a.avif")
    with pillow.open(tmp_path / "a.avif") as file:
        assert (pictures.read(tmp_path / "a.avif") == np.asarray(file)).all()
