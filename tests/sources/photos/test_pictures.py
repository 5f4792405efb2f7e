"""Pixels of picture files: every format that is read here, and the reason why another is not."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image as pillow

from mimic.sources.base import Unreadable
from mimic.sources.photos import pictures
from mimic.sources.video import animations
from tests.support import footage, heif

PHOTO = footage.pan(3, 1, 80)[0]
LOSSY = {
    ".gif",
    ".dds",
    ".ftc",
    ".ftu",
    ".blp",
    ".ico",
    ".icns",
    ".msp",
    ".xbm",
    ".pcx",
}  # palettes, one bit, or small sizes


def _close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and float(np.abs(found.astype(int) - wanted).mean()) < 12


def test_every_format_that_pillow_writes_and_opens_is_read(tmp_path: Path) -> None:
    pillow.init()
    tried = []
    for ending, name in pillow.registered_extensions().items():
        if (
            ending not in pictures.EXTENSIONS
            or ending in LOSSY
            or name not in pillow.SAVE
            or ending in (".pfm", ".pgm", ".pbm")
        ):
            continue
        path = tmp_path / f"a{ending}"
        pillow.fromarray(PHOTO).save(path)
        assert _close(pictures.read(path), PHOTO), ending
        tried.append(ending)
    assert {
        ".jpg",
        ".jfif",
        ".jp2",
        ".avif",
        ".webp",
        ".png",
        ".tga",
        ".qoi",
        ".tif",
        ".mpo",
    } <= set(tried)


@pytest.mark.parametrize(
    ("ending", "codec", "form"),
    [(".dpx", "dpx", "gbrp10le"), (".jls", "jpegls", "rgb24"), (".xwd", "xwd", "bgra")],
)
def test_a_format_that_only_ffmpeg_reads_is_read(
    tmp_path: Path, ending: str, codec: str, form: str
) -> None:
    path = tmp_path / f"a{ending}"
    frame = av.VideoFrame.from_ndarray(PHOTO, format="rgb24").reformat(format=form)
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = (
        frame.width,
        frame.height,
        form,
        Fraction(1),
    )
    path.write_bytes(
        b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    )
    assert ending in pictures.EXTENSIONS
    with pytest.raises(pillow.UnidentifiedImageError):
        pillow.open(path)
    assert _close(pictures.read(path), PHOTO)


def test_pictures_that_hold_no_photograph_say_so(tmp_path: Path) -> None:
    pillow.fromarray(PHOTO[..., 0].astype(np.float32)).save(tmp_path / "float.tiff")
    preview = pillow.fromarray(PHOTO)
    preview.save(tmp_path / "raw.tif", tiffinfo={254: 1})
    (tmp_path / "a.heic").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(80))
    for name, reason in (
        ("float.tiff", "floating-point"),
        ("raw.tif", "raw data of a camera"),
        ("a.heic", "not an image that is read here"),
        ("gone.heic", "No such file"),
    ):
        with pytest.raises(Unreadable, match=reason):
            pictures.read(tmp_path / name)


@pytest.mark.parametrize("padding", [0, 70_000])
def test_of_the_items_of_a_heic_the_one_it_names_is_read(tmp_path: Path, padding: int) -> None:
    """A thumbnail may come first, and a picture in tiles is none of its tiles."""
    scratch = tmp_path / "scratch"
    photo = heif.coded(2, PHOTO, scratch)
    grey = heif.coded(1, np.full((64, 64, 3), 128, np.uint8), scratch)
    path = tmp_path / "a.heic"
    heif.written(path, [grey, photo], 2, ((b"thmb", 1, [2]),), padding)
    assert _close(pictures.read(path), PHOTO)
    height, width = PHOTO.shape[:2]
    tiles = [dataclasses.replace(photo, number=number) for number in (1, 2)]
    row = heif.grid(3, 2, 2 * width, height)
    heif.written(path, [*tiles, row], 3, ((b"dimg", 3, [1, 2]),), padding)
    with pytest.raises(Unreadable, match="in tiles"):
        pictures.read(path)
    turned = heif.Item(3, b"iden", b"", (heif.extents(height, width), heif.box(b"irot", b"\1")))
    heif.written(path, [tiles[0], turned], 3, ((b"dimg", 3, [1]),), padding)
    with pytest.raises(Unreadable, match="made of another"):
        pictures.read(path)


@pytest.mark.parametrize("name", ["a.webp", "lossless.webp", "a.avif", "a.qoi", "a.jp2"])
def test_a_tail_of_zeros_is_damage(tmp_path: Path, name: str) -> None:
    """As of a copy that a power loss cut off: what is missing would be made up."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    image = pillow.fromarray(noise).resize((320, 240), pillow.Resampling.BICUBIC)
    more: dict[str, Any] = {"lossless": True} if name.startswith("lossless") else {}
    image.save(tmp_path / name, **more)
    pictures.read(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    half = len(whole) // 2
    (tmp_path / name).write_bytes(whole[:half] + bytes(len(whole) - half))
    with pytest.raises(Unreadable):
        pictures.read(tmp_path / name)


def tiff(path: Path, planes: list[bytes], size: tuple[int, int], tags: dict[int, int]) -> Path:
    """A little-endian TIFF without compression, a strip a plane; tags of one number each."""
    width, height = size
    lengths = [len(plane) for plane in planes]
    samples = tags.get(277, 1)
    fields: dict[int, list[int]] = {256: [width], 257: [height], 259: [1], 278: [height]}
    fields |= {tag: [value] for tag, value in tags.items()}
    fields[258] = fields[258] * samples
    begin = 8 + 2 + 12 * (len(fields) + 2) + 4
    tables = 4 * (len(fields[258]) * (samples > 1) + 2 * len(planes) * (len(planes) > 1))
    fields[273] = [begin + tables + sum(lengths[:index]) for index in range(len(planes))]
    fields[279] = lengths
    entries = b""
    more = b""
    for tag, values in sorted(fields.items()):
        raw = struct.pack(f"<{len(values)}I", *values)
        entries += struct.pack("<HHI", tag, 4, len(values))
        entries += raw if len(values) == 1 else struct.pack("<I", begin + len(more))
        more += raw if len(values) > 1 else b""
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)
    path.write_bytes(head + more.ljust(tables, b"\0") + b"".join(planes))
    return path


def test_pixels_of_more_than_8_bits_are_those_of_the_file(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 40 * 32).reshape(32, 40).astype(np.uint16)
    deep = np.stack([ramp, ramp[::-1], ramp[:, ::-1]])
    colours = {258: 16, 262: 2, 277: 3}
    planes = [plane.tobytes() for plane in deep]
    got = pictures.read(tiff(tmp_path / "planes.tif", planes, (40, 32), colours | {284: 2}))
    assert np.abs(got.astype(int) - (deep >> 8).transpose(1, 2, 0)).max() <= 1
    inverted = {258: 16, 262: 0, 277: 1}
    got = pictures.read(tiff(tmp_path / "white.tif", [ramp.tobytes()], (40, 32), inverted))
    assert np.abs(got[..., 0].astype(int) - (255 - (ramp >> 8))).max() <= 1
    twelve = (ramp >> 4).reshape(-1, 2).astype(np.uint32)
    packed = np.stack(
        [twelve[:, 0] >> 4, (twelve[:, 0] & 15) << 4 | twelve[:, 1] >> 8, twelve[:, 1] & 255], 1
    )
    plane = packed.astype(np.uint8).tobytes()
    got = pictures.read(tiff(tmp_path / "12.tif", [plane], (40, 32), {258: 12, 262: 1, 277: 1}))
    assert np.abs(got[..., 0].astype(int) - (ramp >> 8)).max() <= 1
    wide = ramp.astype(np.uint32) << 16
    path = tiff(tmp_path / "32.tif", [wide.tobytes()], (40, 32), {258: 32, 262: 1, 277: 1})
    with pytest.raises(Unreadable, match="32-bit pixels"):
        pictures.read(path)


@pytest.mark.parametrize(("ending", "form"), [("sgi", "rgb24"), ("sgi", "gray"), ("pam", "rgba")])
def test_what_ffmpeg_writes_looks_the_same(tmp_path: Path, ending: str, form: str) -> None:
    """SGI's run lengths without a zero behind each row; colours below what is transparent."""
    pixels = np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, np.uint8)])
    pixels[:8, :8, 3] = 0
    frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=form)
    encoder: Any = av.CodecContext.create(ending, "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, form
    encoder.time_base = Fraction(1)
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"".join(map(bytes, packets)))
    wanted = PHOTO.copy()
    if form == "rgba":
        wanted[:8, :8] = 255
    if form == "gray":
        grey = frame.to_ndarray()
        wanted = np.repeat(grey[..., None], 3, axis=2)
    assert _close(pictures.read(path), wanted)


def test_a_hidden_grey_of_16_bits_is_white(tmp_path: Path) -> None:
    grey = np.full((8, 8), 128 << 8, np.uint16)
    grey[:, :4] = 0
    pillow.fromarray(grey).save(tmp_path / "a.png", transparency=0)
    got = pictures.read(tmp_path / "a.png")
    assert (got[0, 0].tolist(), got[0, 7].tolist()) == ([255] * 3, [128] * 3)


def test_only_the_file_itself_is_read_and_only_if_it_is_a_picture(tmp_path: Path) -> None:
    """FFmpeg would take a text for a list of pictures, a name for a pattern of names, and a video's
    first frame for a picture."""
    footage.video(tmp_path / "a.mp4", footage.pan(0, 4, 8), fps=1).rename(tmp_path / "video.jpg")
    pillow.fromarray(PHOTO).save(tmp_path / "photo1.jpg")
    (tmp_path / "photo%d.jpg").write_text("no picture")
    (tmp_path / "list.jpg").write_text("ffconcat version 1.0\nfile 'photo1.jpg'\n")
    for name, reason in (
        ("video.jpg", "a video, no image; name it as one to mine it"),
        ("photo%d.jpg", "not an image that is read here"),
        ("list.jpg", "a list of other files; give the files themselves"),
    ):
        with pytest.raises(Unreadable) as found:
            pictures.read(tmp_path / name)
        assert str(found.value) == reason


def test_what_is_transparent_lies_on_white_and_hidden_colours_are_not_seen(tmp_path: Path) -> None:
    alpha = np.full(PHOTO.shape[:2], 255, np.uint8)
    alpha[:100] = 0
    pillow.fromarray(np.dstack([PHOTO, alpha])).save(tmp_path / "cut.png")
    found = pictures.read(tmp_path / "cut.png")
    assert (found[:100] == 255).all()
    assert (found[100:] == PHOTO[100:]).all()
    for value in (255, 7):  # nothing is cut out: colours as they are
        pillow.fromarray(np.dstack([PHOTO, np.full_like(alpha, value)])).save(
            tmp_path / "whole.png"
        )
        assert (pictures.read(tmp_path / "whole.png") == PHOTO).all()
    pillow.fromarray(PHOTO).quantize(16).save(tmp_path / "palette.png", transparency=0)
    assert (pictures.read(tmp_path / "palette.png") == 255).all(axis=2).any()


def _giant_png(path: Path, width: int, height: int) -> None:
    """A header alone: what follows is never decoded."""
    pillow.new("1", (8, 8)).save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(bytes(data))


def test_a_giant_picture_is_named_or_read_smaller_in_bounded_memory(tmp_path: Path) -> None:
    _giant_png(tmp_path / "pano.png", 20000, 10000)
    with pytest.raises(Unreadable, match="20000 x 10000 pixels are more than 180 megapixels"):
        pictures.read(tmp_path / "pano.png")
    pillow.new("L", (16000, 12000), 90).save(tmp_path / "pano.jpg")
    code = (
        "import sys; from pathlib import Path; from mimic.sources.photos import pictures\n"
        "print(pictures.read(Path(sys.argv[1])).shape)\n"
        "print([line.split()[1] for line in open('/proc/self/status') if "
        "line.startswith('VmHWM')][0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pano.jpg")], capture_output=True, text=True
    )
    assert done.stdout.startswith("(1500, 2000, 3)"), done.stderr
    # kB, the libraries included; in full it is 192 MB more
    assert int(done.stdout.split()[-1]) < 300_000
    assert done.stderr == ""


def test_names_of_other_files_are_no_pictures() -> None:
    assert not {".eps", ".ps", ".pdf", ".h5", ".mpg", ".rs", ".y", ".txt"} & pictures.EXTENSIONS


def _several(path: Path, count: int, **more: Any) -> Path:
    frames = [pillow.new("RGB", (16, 16), (40 * number, 90, 20)) for number in range(count)]
    frames[0].save(path, save_all=True, append_images=frames[1:], **more)
    return path


def test_of_several_pages_the_first_is_read_and_that_is_said(tmp_path: Path) -> None:
    said = "only the first of its 3 pages is read; save each as a file of its own to mine them all"
    assert pictures.further(_several(tmp_path / "a.tif", 3)) == said
    smaller = pillow.new("RGB", (8, 8))
    smaller.encoderinfo = {"tiffinfo": {254: pictures.PREVIEW}}
    page = pillow.new("RGB", (16, 16))
    page.save(tmp_path / "b.tif", save_all=True, append_images=[smaller])
    with pillow.open(tmp_path / "b.tif") as file:
        assert getattr(file, "n_frames", 1) == 2
    assert pictures.further(tmp_path / "b.tif") is None
    (tmp_path / "c.tif").write_bytes(b"II*\0 and no more")
    assert pictures.further(tmp_path / "c.tif") is None  # it is named when it is read


ORIENTATIONS = {
    1: None,
    2: pillow.Transpose.FLIP_LEFT_RIGHT,
    3: pillow.Transpose.ROTATE_180,
    4: pillow.Transpose.FLIP_TOP_BOTTOM,
    5: pillow.Transpose.TRANSPOSE,
    6: pillow.Transpose.ROTATE_90,
    7: pillow.Transpose.TRANSVERSE,
    8: pillow.Transpose.ROTATE_270,
}


def _stored(photo: pillow.Image, path: Path, orientation: int, **options: Any) -> None:
    """A picture that says how it is to be turned to look like `photo`."""
    exif = pillow.Exif()
    exif[274] = orientation
    how = ORIENTATIONS[orientation]
    (photo if how is None else photo.transpose(how)).save(path, exif=exif, **options)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("mode", ["L", "I;16", "RGB", "RGBA", "CMYK"])
def test_raw_pixels_are_turned_as_compressed_ones_are(
    tmp_path: Path, mode: str, orientation: int
) -> None:
    """TIFF, whose raw pixels Pillow maps into memory where it is given a name."""
    photo = pillow.fromarray(PHOTO[:, :150])
    if mode == "I;16":
        photo = pillow.fromarray(PHOTO[:, :150, 0].astype(np.uint16) << 8)
    elif mode != "RGB":
        photo = photo.convert(mode)
    _stored(photo, tmp_path / "raw.tif", orientation)
    _stored(photo, tmp_path / "packed.tif", orientation, compression="tiff_lzw")
    _stored(photo, tmp_path / "upright.tif", 1)
    wanted = pictures.read(tmp_path / "upright.tif")
    assert wanted.shape == (224, 150, 3)
    for name in ("raw", "packed"):
        assert (pictures.read(tmp_path / f"{name}.tif") == wanted).all()


def _chunk(kind: bytes, content: bytes) -> bytes:
    length = len(content).to_bytes(4, "big")
    return length + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def _with_chunks(path: Path, *chunks: bytes) -> None:
    """Put chunks behind the header of a PNG."""
    content = path.read_bytes()
    path.write_bytes(content[:33] + b"".join(chunks) + content[33:])


PQ = _chunk(b"cICP", bytes([9, 16, 0, 1]))  # ITU-T H.273: BT.2020, PQ, RGB, full range
LONG_TEXT = _chunk(b"tEXt", b"Comment\0" + b"x" * 20_000)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("before", [b"", LONG_TEXT], ids=["at once", "behind text"])
def test_hdr_pictures_are_turned_and_mirrored(
    tmp_path: Path, before: bytes, orientation: int
) -> None:
    photo = pillow.fromarray(PHOTO[:, :150])
    for name, number in (("turned", orientation), ("upright", 1)):
        _stored(photo, tmp_path / f"{name}.png", number)
        _with_chunks(tmp_path / f"{name}.png", before, PQ)
    found = pictures.read(tmp_path / "turned.png")
    assert np.abs(found.astype(int) - PHOTO[:, :150]).mean() > 8, "read as SDR"
    assert (found == pictures.read(tmp_path / "upright.png")).all()


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_a_png_whose_tail_is_zeros_is_damaged(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.png"
    pillow.fromarray(PHOTO).save(path)
    content = path.read_bytes()
    kept = int(share * len(content))
    for tail in (bytes(len(content) - kept), b""):
        path.write_bytes(content[:kept] + tail)
        with pytest.raises(Unreadable):
            pictures.read(path)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("is_progressive", [False, True])
def test_a_jpeg_whose_tail_is_zeros_is_damaged(
    tmp_path: Path, is_progressive: bool, share: float
) -> None:
    """Zeros are a valid code: of a fine JPEG they fill the rest of the picture with grey."""
    path = tmp_path / "a.jpg"
    how: dict[str, Any] = {"quality": 95, "subsampling": 0, "progressive": is_progressive}
    exif = pillow.Exif()
    exif[0x010E] = b"\xff\xd9"  # as in a thumbnail
    pillow.fromarray(PHOTO).save(path, exif=exif, **how)
    content = path.read_bytes()
    photo = pictures.read(path)
    path.write_bytes(content + bytes(4096))  # filled up behind the end mark
    assert (pictures.read(path) == photo).all()
    kept = int(share * len(content))
    path.write_bytes(content[:kept] + bytes(len(content) - kept))
    with pytest.raises(Unreadable):
        pictures.read(path)


def test_an_animation_of_any_name_is_mined_or_named(tmp_path: Path) -> None:
    frames = [pillow.fromarray(image) for image in footage.pan(5, 4, 30)]
    for name, kind in (("a.png", "PNG"), ("b.png", "WEBP"), ("c.jpg", "GIF"), ("d.jpg", "JPEG")):
        more = {} if kind == "JPEG" else {"save_all": True, "append_images": frames[1:]}
        frames[0].save(tmp_path / name, kind, **more)
    _with_chunks(tmp_path / "a.png", LONG_TEXT)
    assert animations.is_animation(tmp_path / "a.png")
    assert animations.is_animation(tmp_path / "b.png")
    said = pictures.further(tmp_path / "c.jpg")
    assert said == (
        "only the first of its 4 frames is read: it is an animation (GIF); name it so to mine it "
        "as a video"
    )
    assert pictures.further(tmp_path / "d.jpg") is None


@pytest.mark.parametrize("turned", range(1, 9))
def test_pixels_as_a_file_stores_them(tmp_path: Path, turned: int) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    exif = pillow.Exif()
    exif[0x0112] = turned
    pillow.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    upright = pictures.read(tmp_path / "a.png")
    assert (upright.shape == stored.shape) == (turned < 5)
    assert pictures.orientation(tmp_path / "a.png") == turned
    assert np.array_equal(pictures.as_stored(upright, turned), stored)


@pytest.mark.parametrize(("turns", "expected"), [(0, 1), (1, 8), (2, 3), (3, 6)])
def test_the_orientation_of_a_heic_is_that_of_its_properties(
    tmp_path: Path, turns: int, expected: int
) -> None:
    """Pillow does not know the format, and has nothing to say of it."""
    path = tmp_path / "a.heic"
    item = heif.coded(1, np.full((64, 128, 3), 128, np.uint8), tmp_path / "scratch.mp4")
    turned = heif.box(b"irot", bytes([turns]))
    item = dataclasses.replace(item, properties=(*item.properties, turned))
    heif.written(path, [item], 1, (), 0)
    assert pictures.orientation(path) == expected
    assert (pictures.read(path).shape[:2] == (64, 128)) == (turns % 2 == 0)
    assert pictures.orientation(tmp_path / "none.heic") == 1
