"""Kept features: computed once, never half, whoever else is at it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mimic.models.encoder import normalise
from mimic.tasks.engine import feature_cache as kept
from mimic.tasks.engine.feature_cache import ImageSet, features, maps, pooled
from tests.support.miniatures import make_encoder

LENGTH = 11


def read(place: int) -> np.ndarray:
    return np.random.default_rng(place).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def _set(**view: Any) -> ImageSet:
    return ImageSet("digest", {"size_px": 32, **view}, LENGTH, read)


def _vectors(folder: Path, images: ImageSet, batch: int = 4) -> kept.FeatureArray:
    encoder = make_encoder()
    return features(
        folder, images, encoder, pooled(encoder, "mean"), {"vector": "mean"}, batch, "float32"
    )


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "PART", 4)


def test_equal_to_the_encoder_in_any_order(tmp_path: Path) -> None:
    encoder = make_encoder()
    inputs = normalise(torch.from_numpy(np.stack([read(place) for place in range(LENGTH)])))
    found = _vectors(tmp_path, _set(), batch=3)
    with torch.inference_mode():
        truth = encoder.tokens(inputs)[1].mean(dim=1).numpy()
        levels = encoder.intermediates(inputs, (1, 3))
    assert len(found) == LENGTH
    assert len(found.parts) == 3
    assert isinstance(found.parts[0], np.memmap)
    np.testing.assert_allclose(found[np.arange(LENGTH)], truth, atol=1e-5)
    order = np.array([10, 0, 5, 5, 3])
    np.testing.assert_array_equal(found[order], found[np.arange(LENGTH)][order])
    np.testing.assert_array_equal(found[7], found[np.array([7])][0])
    dense = features(
        tmp_path,
        _set(),
        encoder,
        maps(encoder, (1, 3), norm=False),
        {"blocks": [1, 3]},
        4,
        "float16",
    )
    assert dense[order].shape == (5, 2, 24, 4, 4)
    assert dense[0].dtype == np.float16
    np.testing.assert_allclose(
        dense[np.arange(LENGTH)][:, 1], levels[1].numpy(), atol=5e-3, rtol=2e-3
    )
    normed = maps(encoder, (3,), norm=True)(inputs)[:, 0].flatten(2).transpose(1, 2)
    torch.testing.assert_close(normed, encoder.tokens(inputs)[1])


def test_each_image_is_read_once(tmp_path: Path) -> None:
    _vectors(tmp_path, _set())

    def refuse(place: int) -> np.ndarray:
        raise AssertionError(f"image {place} is read again")

    again = ImageSet("digest", {"size_px": 32}, LENGTH, refuse)
    assert len(_vectors(tmp_path, again)) == LENGTH
    with pytest.raises(AssertionError, match="read again"):  # another view is another key
        _vectors(tmp_path, ImageSet("digest", {"size_px": 32, "view": "mirrored"}, LENGTH, refuse))
    with pytest.raises(AssertionError, match="read again"):  # and so are other files
        _vectors(tmp_path, ImageSet("other", {"size_px": 32}, LENGTH, refuse))


def test_a_killed_extraction_goes_on_and_leaves_nothing_half(tmp_path: Path) -> None:
    seen: list[int] = []

    def until(last: int) -> ImageSet:
        def watched(place: int) -> np.ndarray:
            seen.append(place)
            if place >= last:
                raise KeyboardInterrupt
            return read(place)

        return ImageSet("digest", {"size_px": 32}, LENGTH, watched)

    with pytest.raises(KeyboardInterrupt):
        _vectors(tmp_path, until(6))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["00000.npy"]
    seen.clear()
    found = _vectors(tmp_path, until(LENGTH))
    assert min(seen) == 4
    np.testing.assert_array_equal(
        found[np.arange(LENGTH)], _vectors(tmp_path / "other", _set())[np.arange(LENGTH)]
    )


def _compute(folder: Path, start: object) -> None:
    torch.set_num_threads(1)
    start.wait()  # type: ignore[attr-defined]
    found = _vectors(folder, _set())
    np.save(folder.parent / f"seen-{os.getpid()}.npy", found[np.arange(LENGTH)])


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    workers = [context.Process(target=_compute, args=(tmp_path / "kept", start)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0, 0]
    first, second = (np.load(path) for path in tmp_path.glob("seen-*.npy"))
    np.testing.assert_array_equal(first, second)
    assert not list((tmp_path / "kept").rglob("*.part"))
