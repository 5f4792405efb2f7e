"""The loop: equal to a loop written out, whatever interrupts it; and it stops where numbers stop
being numbers."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from mimic.errors import BadInput
from mimic.infra.cluster import Stop, Stopped
from mimic.infra.cluster.world import SINGLE_PROCESS, World
from mimic.models import Masking, ViTSize, build
from mimic.models.layers import initialise
from mimic.training import augment, checkpoint
from mimic.training.augment import generator
from mimic.training.fit import (
    THIS_PROCESS,
    MicroBatch,
    Optim,
    RunSpec,
    Runtime,
    Saving,
    fit,
    micro_batches,
)
from mimic.training.journal import JsonlLogger, copy, read
from mimic.training.optim import adamw, parameter_groups
from mimic.training.precision import choose_precision, forget_precision, lasting_precision
from mimic.training.training_stats import LogRecord

STEPS = 12


def batch(step: int) -> Tensor:
    return torch.rand(8, 4, generator=generator(5, step))


def make() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.5), nn.Linear(16, 1))


def schedule(step: int) -> float:
    return 0.01 * (step + 1)


def train(
    folder: Path | None,
    *,
    load: Callable[[int], Tensor] = batch,
    spoil: Callable[[Tensor], Tensor] = lambda loss: loss,
    log: Callable[[LogRecord], None] = lambda record: None,
    workers: int = 0,
    clip_norm: float | None = None,
    every: int = 1,
    keep_every: int | None = None,
    parts: tuple[MicroBatch, ...] = micro_batches(8, None, SINGLE_PROCESS),
    make: Callable[[], nn.Module] = make,
    runtime: Runtime = THIS_PROCESS,
) -> nn.Module:
    model = make()
    fit(
        model,
        lambda called, data: spoil((called(data) - data.sum(1, keepdim=True)).square().mean()),
        lambda step: [load(step)[part.samples] for part in parts],
        Optim(adamw(parameter_groups(model, 0.1), betas=(0.9, 0.95)), schedule, clip_norm),
        RunSpec(steps=STEPS, seed=1, precision="fp32", workers=workers, log_every=5),
        log=log,
        saving=Saving(folder, every=every, keep=2, keep_every=keep_every) if folder else None,
        parts=parts,
        runtime=runtime,
    )
    return model


def equal(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_it_is_the_plain_loop() -> None:
    """AdamW written out, with dropout drawn from the step's own random numbers."""
    model = make().train()
    moments = {
        name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in model.named_parameters()
    }
    losses, norms = [], []
    for step in range(STEPS):
        torch.manual_seed(generator(1, step).initial_seed())
        data = batch(step)
        loss = (model(data) - data.sum(1, keepdim=True)).square().mean()
        model.zero_grad()
        loss.backward()
        losses.append(loss.item())
        norms.append(sum(p.grad.square().sum() for p in model.parameters()).sqrt().item())
        with torch.no_grad():
            for name, p in model.named_parameters():
                first, second = moments[name]
                first.mul_(0.9).add_(p.grad, alpha=0.1)
                second.mul_(0.95).add_(p.grad.square(), alpha=0.05)
                p.mul_(1 - schedule(step) * (0.1 if p.ndim > 1 else 0.0))
                update = (first / (1 - 0.9 ** (step + 1))) / (
                    (second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8
                )
                p.sub_(schedule(step) * update)
    records: list[LogRecord] = []
    trained = train(None, log=records.append)
    for p, q in zip(trained.parameters(), model.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-5)
    assert [record.step for record in records] == [5, 10, 12]
    assert [record.loss for record in records] == pytest.approx(
        [sum(part) / len(part) for part in (losses[:5], losses[5:10], losses[10:])], rel=1e-4
    )
    assert records[0].grad_norm == pytest.approx(sum(norms[:5]) / 5, rel=1e-4)
    assert records[0].lr == schedule(4)
    assert records[0].steps_per_second > 0


class Killed(Exception):
    pass


@pytest.mark.parametrize("every", [1, 3])
def test_stopped_at_any_step_it_ends_with_the_same_weights(tmp_path: Path, every: int) -> None:
    whole = train(None)
    for stop in range(STEPS):

        def load(step: int, stop: int = stop) -> Tensor:
            if step == stop:
                raise Killed
            return batch(step)

        folder = tmp_path / str(stop)
        with pytest.raises(Killed):
            train(folder, load=load, every=every)
        assert equal(train(folder, every=every), whole)


class StopAtOnce(Stop):
    """Asked to stop while the step `at` (0 = first) is under way."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._left = at

    def requested(self) -> bool:
        if self._left == 0:
            self._note(signal.SIGTERM, None)
        self._left -= 1
        return super().requested()


def test_asked_to_stop_between_two_saves_it_saves_at_once(tmp_path: Path) -> None:
    steps: list[int] = []
    runtime = Runtime(SINGLE_PROCESS, StopAtOnce(4))
    with pytest.raises(Stopped, match="the work is saved"):
        train(tmp_path, every=100, runtime=runtime)
    assert [path.name for path in tmp_path.glob("step-*.pt")] == ["step-000000005.pt"]

    def load(step: int) -> Tensor:
        steps.append(step)
        return batch(step)

    assert equal(train(tmp_path, every=100, load=load), train(None))
    assert steps == list(range(5, STEPS)), "no step is made twice"


def test_asked_to_stop_in_its_last_step_it_ends(tmp_path: Path) -> None:
    runtime = Runtime(SINGLE_PROCESS, StopAtOnce(STEPS - 1))
    assert equal(train(tmp_path, every=100, runtime=runtime), train(None))


def test_loading_threads_do_not_matter() -> None:
    assert equal(train(None, workers=0), train(None, workers=3))


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    whole = train(tmp_path)

    def refuse(step: int) -> Tensor:
        raise AssertionError("a batch was asked for")

    assert equal(train(tmp_path, load=refuse), whole)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named_and_not_saved(tmp_path: Path, value: float) -> None:
    """A bad batch at step 7, between two log lines: the step is named, the last checkpoint is from
    before."""

    def load(step: int) -> Tensor:
        return batch(step) * (value if step == 7 else 1)

    for every, saved in ((1, 7), (4, 4)):
        folder = tmp_path / str(every)
        with pytest.raises(BadInput, match="not finite at step 7") as info:
            train(folder, load=load, every=every)
        assert "\n" not in str(info.value)
        assert max(folder.glob("step-*.pt")).name == f"step-{saved:09d}.pt"
    with pytest.raises(BadInput, match="step 7"):
        train(None, load=load)


def test_a_gradient_that_is_not_finite_is_seen_although_the_loss_is(tmp_path: Path) -> None:
    """sqrt(0) has a finite value and an infinite slope."""
    with pytest.raises(BadInput, match="not finite at step 0"):
        train(tmp_path, spoil=lambda loss: loss + (loss * 0).sqrt())
    assert not list(tmp_path.glob("step-*"))


def test_gradients_are_clipped_to_the_norm() -> None:
    records: list[LogRecord] = []
    assert not equal(train(None, clip_norm=1e-3, log=records.append), train(None))
    assert records[0].grad_norm > 1e-3  # the norm before clipping is logged


def test_precision_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert choose_precision("bf16", cpu) == "bf16"
    for amx, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
        assert choose_precision("auto", cpu) == expected


def test_a_training_goes_on_in_the_precision_that_it_began_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A job that is started again may come to another kind of GPU; half of the steps in each would
    be no run that anybody can repeat."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)

    def on_machine(has_amx: bool, choice: str = "auto") -> str:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
        return lasting_precision(choice, torch.device("cpu"), tmp_path, SINGLE_PROCESS)

    assert on_machine(True) == "bf16"
    assert capsys.readouterr().err == ""
    assert on_machine(False) == "bf16"
    assert "goes on in bf16, as it began" in capsys.readouterr().err
    assert on_machine(True, "fp32") == "fp32", "which params.yaml states"
    forget_precision(tmp_path)
    assert on_machine(False) == "fp32"
    assert on_machine(True) == "fp32"


def test_a_resumed_journal_repeats_no_step(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    first = JsonlLogger(path)
    for step in (5, 10, 15):
        first.append({"step": step, "loss": 1.0})
    with path.open("a") as file:
        file.write('{"step": 20, "lo')  # killed while writing
    resumed = JsonlLogger(path)
    resumed.append({"step": 15, "loss": 2.0})
    resumed.append({"step": 20, "loss": 3.0})
    assert [(line["step"], line["loss"]) for line in read(path)] == [
        (5, 1.0),
        (10, 1.0),
        (15, 2.0),
        (20, 3.0),
    ]
    copy(path, tmp_path / "published.jsonl", 15, without={"speed"})
    assert [line["step"] for line in read(tmp_path / "published.jsonl")] == [5, 10, 15]
    copy(tmp_path / "none.jsonl", tmp_path / "published.jsonl", 0, without=())
    assert (tmp_path / "published.jsonl").read_text() == ""


def plain() -> nn.Module:
    """Without dropout, whose draws would differ between parts."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 1))


@pytest.mark.parametrize("largest", [1, 3, 5])
def test_parts_add_up_to_the_whole_batch(largest: int) -> None:
    parts = micro_batches(8, largest, SINGLE_PROCESS)
    assert len(parts) > 1
    assert all(part.samples.stop - part.samples.start <= largest for part in parts)
    whole, summed = train(None, make=plain), train(None, make=plain, parts=parts)
    for p, q in zip(whole.parameters(), summed.parameters(), strict=True):
        assert torch.allclose(p, q, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "size", "largest"), [(8, 1, None), (8, 4, None), (7, 3, 2), (4096, 64, 24), (5, 5, 1)]
)
def test_every_sample_belongs_to_one_part_of_one_rank(
    batch: int, size: int, largest: int | None
) -> None:
    parts = [
        part for rank in range(size) for part in micro_batches(batch, largest, World(rank, size))
    ]
    assert [index for part in parts for index in range(batch)[part.samples]] == list(range(batch))
    assert sum(part.share for part in parts) == pytest.approx(1)
    with pytest.raises(BadInput, match=f"batch of {batch} is too small for {batch + 1} processes"):
        micro_batches(batch, largest, World(0, batch + 1))


def test_every_so_many_th_checkpoint_is_kept_for_good(tmp_path: Path) -> None:
    train(tmp_path, every=2, keep_every=3)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        "step-000000006.json",
        "step-000000006.pt",
        "step-000000012.json",
        "step-000000012.pt",
    ]
    checkpoint.remove_all(tmp_path)
    model = make()
    assert [
        checkpoint.restore_model(path, model) for path in checkpoint.kept_checkpoints(tmp_path)
    ] == [
        6,
        STEPS,
    ]
    assert equal(model, train(None))


class Reads(TorchDispatchMode):
    """Counts what makes the processor wait for a device: reading a number, or a size that depends
    on values."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func in (
            torch.ops.aten._local_scalar_dense.default,
            torch.ops.aten.nonzero.default,
            torch.ops.aten.equal.default,
        )
        return func(*args, **kwargs or {})


def test_a_kill_between_saving_a_checkpoint_and_keeping_it_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(checkpoint, "keep_for_good", lambda *_: (_ for _ in ()).throw(KeyError()))
        with pytest.raises(KeyError):
            train(tmp_path, every=2, keep_every=3)
    assert not list(tmp_path.glob("kept/*"))
    train(tmp_path, every=2, keep_every=3)
    names = [path.name for path in checkpoint.kept_checkpoints(tmp_path)]
    assert names == ["step-000000006.pt", "step-000000012.pt"]


@pytest.mark.parametrize("error", [errno.EPERM, errno.EOPNOTSUPP])
def test_checkpoints_are_kept_where_the_disk_knows_no_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "link", refuse)
    train(tmp_path, every=2, keep_every=3)
    assert len(checkpoint.kept_checkpoints(tmp_path)) == 2


@pytest.mark.parametrize("objective", ["mae", "croco"])
def test_nothing_is_read_back_between_two_log_steps(objective: Literal["mae", "croco"]) -> None:
    """With a true model, augmentation and matching. Reads in the loading thread are of its own, on
    the processor."""
    size = ViTSize(
        size_px=(16, 16),
        patch_px=4,
        width=16,
        depth=1,
        heads=2,
        decoder_width=8,
        decoder_depth=1,
        decoder_heads=2,
        class_token=True,
        positions="rope",
        norm_eps=1e-6,
    )
    masking = Masking(
        mask_ratio=0.5,
        visible_rounding="down",
        norm_pix=True,
        matching=0.5 if objective == "croco" else 0.0,
        temperature=0.1,
    )
    model = build(objective, size, masking, attention="sdpa")
    initialise(model, torch.Generator().manual_seed(0))
    options: dict[str, Any] = {
        "swap": 0.5,
        "crop": "resized",
        "crop_area": (0.2, 1.0),
        "flip": 0.5,
        "jitter": 0.4,
    }
    images = torch.randint(0, 256, (4, model.views, 16, 16, 3), dtype=torch.uint8)
    matches = (torch.arange(16)[:, None].expand(4, 16, 2),) if objective == "croco" else ()

    def load(step: int) -> list[augment.Choices]:
        return [
            augment.choose(
                step,
                0,
                batch=4,
                views=model.views,
                patches=16,
                stored_px=(16, 16),
                size_px=(16, 16),
                **options,
            )
        ]

    def loss(called: nn.Module, choices: augment.Choices) -> Tensor:
        return called(
            augment.apply(images, choices, (16, 16), jitter=True), choices.noise, *matches
        )[0]

    reads, at_log = Reads(), []
    with reads:
        fit(
            model,
            loss,
            load,
            Optim(adamw(parameter_groups(model, 0.1), betas=(0.9, 0.95)), schedule, clip_norm=1.0),
            RunSpec(steps=30, seed=0, precision="fp32", workers=1, log_every=10),
            log=lambda record: at_log.append(reads.count),
        )
    once = at_log[0]
    assert once > 0
    assert at_log == [once, 2 * once, 3 * once]  # and no more than a log line needs:
    assert once <= 3
