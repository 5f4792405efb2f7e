"""Which samples a step sees, and that they are the images the manifest points to."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks import loader
from mimic.errors import BadInput
from mimic.pairs.images import PairImages, read_manifest
from mimic.pairs.read import decode_image, decode_into
from mimic.pairs.write import encode_image
from mimic.training.batches import batch_indices, evenly_spaced, prefetch
from tests.support import toy_pairs


@pytest.mark.parametrize(("batch", "length"), [(4, 10), (7, 10), (10, 10), (25, 10), (1, 3)])
def test_every_epoch_is_a_fresh_permutation_and_no_sample_is_lost(batch: int, length: int) -> None:
    stream = np.concatenate(
        [batch_indices(step, batch, length, seed=3) for step in range(6 * length // batch + 1)]
    )
    epochs = [stream[start : start + length] for start in range(0, 6 * length - length, length)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert batch_indices(0, batch, length, 3).dtype == np.int64


def test_position_and_seed_are_all_that_matters() -> None:
    late = batch_indices(1000, 8, 50, 0)
    for step in (3, 999, 1000):
        again = batch_indices(step, 8, 50, 0)
    assert np.array_equal(late, again)
    assert not np.array_equal(late, batch_indices(1000, 8, 50, 1))


def test_images_are_the_ones_of_the_shards(tmp_path: Path) -> None:
    path = toy_pairs.write_dataset(tmp_path, "toy", pairs=6, size_px=32, seed=0, validation=2)
    rows = read_manifest(path, "train")
    assert len(rows) == 4
    assert len(read_manifest(path, "validation")) == 2
    images = PairImages(rows, tmp_path, None)
    indices = np.array([3, 0, 3])
    pairs = images.pairs(indices)
    assert pairs.shape == (3, 2, 32, 32, 3)
    for sample, index in zip(pairs, indices, strict=True):
        for view, letter in enumerate("ab"):
            tar = (tmp_path / rows["shard"][index]).read_bytes()
            start = rows[f"offset_{letter}"][index]
            jpeg = np.frombuffer(tar[start : start + rows[f"size_{letter}"][index]], np.uint8)
            assert np.array_equal(
                sample[view].numpy(), cv2.imdecode(jpeg, cv2.IMREAD_COLOR)[..., ::-1]
            )
    singles = images.singles(np.array([7, 0]))
    assert np.array_equal(singles[:, 0], np.stack([pairs[0, 1], pairs[1, 0]]))


def test_images_are_resized_when_decoded(tmp_path: Path) -> None:
    rows = read_manifest(
        toy_pairs.write_dataset(tmp_path, "toy", pairs=2, size_px=32, seed=0), "train"
    )
    stored = PairImages(rows, tmp_path, None).pairs(np.arange(2)).numpy().astype(float)
    half = PairImages(rows, tmp_path, (16, 16)).pairs(np.arange(2)).numpy()
    assert np.abs(stored.reshape(2, 2, 16, 2, 16, 2, 3).mean((3, 5)) - half).max() <= 0.5
    assert PairImages(rows, tmp_path, (40, 24)).pairs(np.arange(1)).shape == (1, 2, 40, 24, 3)
    larger = PairImages(rows, tmp_path, (48, 48)).pairs(np.arange(2)).numpy()
    expected = cv2.resize(stored[1, 0].astype(np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)
    assert np.array_equal(larger[1, 0], expected)


def test_both_decoders_give_the_same_bytes(real_data: Path) -> None:
    """The fast one and OpenCV, on real photographs at several qualities: machines and versions may
    take either."""
    photographs = sorted(real_data.rglob("*.jpg"))[:12]
    assert len(photographs) == 12
    for number, path in enumerate(photographs):
        image = cv2.resize(cv2.imread(str(path)), (224, 160))[..., ::-1]
        data = encode_image(np.ascontiguousarray(image), (60, 80, 95)[number % 3])
        out = np.empty((160, 224, 3), np.uint8)
        assert decode_into(data, out)
        assert np.array_equal(out, decode_image(data))
        assert not decode_into(data, np.empty((224, 224, 3), np.uint8))
        assert not decode_into(data[: len(data) // 2], out)


def test_the_benchmark_measures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loader, "IMAGES", 8)
    monkeypatch.setattr(loader, "BATCH", 4)
    monkeypatch.setattr(loader, "TURNS", 2)
    milliseconds = itertools.cycle([8.0, 24.0, 4.0])  # ours, theirs, on the device; of 4 images
    monkeypatch.setattr(loader, "_cpu_ms", lambda work: (work(), next(milliseconds))[1])
    for samples in (loader.DATA, tmp_path):
        monkeypatch.setattr(loader, "DATA", samples)
        found = loader.measure()
        assert (found["loader_ms_per_image"], found["reference_ms_per_image"]) == (2, 6)
        assert (found["loader_speedup"], found["normalise_ms_per_image"]) == (3, 1)
    assert found["images"].startswith("8 generated textures at 224 px")


def test_missing_data_is_one_line(tmp_path: Path) -> None:
    path = toy_pairs.write_dataset(tmp_path, "toy", pairs=2, size_px=32, seed=0)
    with pytest.raises(BadInput, match=r"toy\.parquet: no pair in its validation split"):
        read_manifest(path, "validation")
    with pytest.raises(BadInput, match=r"none\.parquet"):
        read_manifest(path.with_name("none.parquet"), "train")
    rows = read_manifest(path, "train")
    (tmp_path / rows["shard"][0]).unlink()
    with pytest.raises(BadInput, match=r"shard-00000\.tar"):
        PairImages(rows, tmp_path, None).pairs(np.arange(1))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_prefetch_keeps_the_order_and_raises_at_its_step(workers: int) -> None:
    assert list(prefetch(lambda step: step * step, 3, 9, workers)) == [
        (step, step * step) for step in range(3, 9)
    ]
    assert list(prefetch(lambda step: step, 5, 5, workers)) == []

    def load(step: int) -> int:
        if step == 2:
            raise BadInput("step two")
        return step

    seen = []

    def take_all() -> None:
        for step, _ in prefetch(load, 0, 5, workers):
            seen.append(step)

    with pytest.raises(BadInput, match="step two"):
        take_all()
    assert seen == [0, 1]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_prefetch_leaves_no_thread_behind(workers: int) -> None:
    """Neither at its end, nor when it is left early, nor after an exception."""
    before = set(threading.enumerate())

    def fails(step: int) -> int:
        raise BadInput(str(step))

    assert len(list(prefetch(lambda step: step, 0, 9, workers))) == 9
    early = prefetch(lambda step: step, 0, 9, workers)
    assert next(early) == (0, 0)
    early.close()  # type: ignore[attr-defined]  # a generator
    with pytest.raises(BadInput):
        list(prefetch(fails, 0, 9, workers))
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive()


def test_evenly_spaced_holds_the_ends_and_nothing_twice() -> None:
    assert evenly_spaced(10, 4) == [0, 3, 6, 9]
    assert evenly_spaced(9, 4) == [0, 2, 5, 8]
    assert evenly_spaced(9, 4, nearest=True) == [0, 3, 5, 8]
    assert evenly_spaced(3, 8) == evenly_spaced(3, 8, nearest=True) == [0, 1, 2]
    assert evenly_spaced(5, 0) == evenly_spaced(0, 5) == []
