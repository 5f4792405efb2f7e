"""Whether training on this device is the training that the CPU's tests know: exact resume, bf16
near fp32, every attention kernel, compiled code."""

from __future__ import annotations

import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.subject import Subject
from benchmarks.pretraining import written_pairs
from mimic import config
from mimic.infra.cluster import Stop, Stopped
from mimic.infra.storage import file_digest
from mimic.models import build
from mimic.models.layers import BACKENDS, attend
from mimic.training import checkpoint
from mimic.training.pretraining import describe, train

RESUME_STEPS = 6
LOSS_BF16 = 0.01  # relative: bf16 has 8 bits of mantissa
COSINE_BF16 = 0.99  # of all gradients together
ATTENTION = {torch.float32: 1e-4, torch.bfloat16: 3e-2}  # relative to the largest output
LOSS_COMPILED = 1e-3


class StopAt(Stop):
    """Asks the loop to save and leave after so many steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    def requested(self) -> bool:
        self._left -= 1
        return self._left <= 0


def resume(subject: Subject) -> dict[str, Any]:
    """The stage's own loop, undisturbed, once more, and stopped in the middle and resumed: equal
    weights, byte for byte."""
    recipe = subject.recipe.model_copy(
        update={"batch": subject.small_batch, "save_every": RESUME_STEPS, "log_every": 1}
    )
    digests = {}
    with tempfile.TemporaryDirectory(prefix="resume-") as folder:
        root = Path(folder)
        manifest = written_pairs(root, recipe.batch)
        for name, stops in (("undisturbed", ()), ("again", ()), ("resumed", (2, 3))):
            digests[name] = _trained(root, recipe, manifest, name, stops)
    return {
        "repeatable": digests["again"] == digests["undisturbed"],
        "exact": digests["resumed"] == digests["undisturbed"],
        "ok": len(set(digests.values())) == 1,
    }


def _trained(
    root: Path, recipe: config.Recipe, manifest: Path, name: str, stops: tuple[int, ...]
) -> str:
    run = config.Run(recipe="mimic", dataset="pairs", steps=RESUME_STEPS, seed=0, seeds=None)
    here = config.Shards(url=None, cache=root, cache_gb=1.0)
    told = describe(root, recipe, run, manifest, name, here)
    for steps in stops:
        try:
            train(told, root / name, StopAt(steps))
        except Stopped:
            continue
        raise RuntimeError(f"{name}: asked to stop after {steps} steps, it did not")
    train(told, root / name, Stop())
    size = recipe.model.size()
    model = build(recipe.objective, size, recipe.masking(), attention=recipe.attention)
    checkpoint.restore_newest_model(root / name, model)
    weights = root / f"{name}.safetensors"
    checkpoint.write_weights(model.state_dict(), weights, {})
    return file_digest(weights)


def precision(subject: Subject) -> dict[str, Any]:
    """Loss and gradients of one batch in bf16, beside those in fp32."""
    found = {kind: _gradients(subject, kind) for kind in ("fp32", "bf16")}
    exact, slopes = found["fp32"]
    rounded, other = found["bf16"]
    cosine = float(torch.nn.functional.cosine_similarity(slopes, other, dim=0))
    apart = abs(rounded - exact) / exact
    return {
        "loss_fp32": exact,
        "loss_bf16": rounded,
        "gradient_cosine": cosine,
        "ok": apart < LOSS_BF16 and cosine > COSINE_BF16,
    }


def _gradients(subject: Subject, kind: str) -> tuple[float, Tensor]:
    model, images, noise = subject.prepared(subject.small_batch, "auto")
    with torch.autocast(subject.device.type, torch.bfloat16, enabled=kind == "bf16"):
        loss = model(images, noise)[0]
    loss.backward()
    slopes = [one.grad.flatten() for one in model.parameters() if one.grad is not None]
    return float(loss.detach()), torch.cat(slopes).float().cpu()


def attention(subject: Subject) -> dict[str, Any]:
    """Every kernel, forward and backward, in both precisions, beside fp32 written out; a kernel
    that torch refuses here says why. The two that `auto` can choose have to run."""
    found: dict[str, Any] = {}
    for dtype, allowed in ATTENTION.items():
        for backend in BACKENDS:
            name = f"{backend} {str(dtype).removeprefix('torch.')}"
            found[name] = _kernel(subject, backend, dtype)
            if "error" in found[name]:
                found[name]["ok"] = found[name]["error"] <= allowed
    ran = [one["ok"] for one in found.values() if "ok" in one]
    needed = all("ok" in found[f"{name} bfloat16"] for name in ("auto", "sdpa", "manual"))
    return found | {"ok": all(ran) and needed}


def _kernel(subject: Subject, backend: str, dtype: torch.dtype) -> dict[str, Any]:
    shape = subject.attention_shape
    random = torch.Generator().manual_seed(0)
    given = [torch.randn(shape, generator=random) for _ in range(3)]
    truth = _through([one.to(subject.device) for one in given], "manual")
    try:
        ours = [one.to(subject.device, dtype) for one in given]
        made = _through(ours, backend)
    except RuntimeError as refusal:
        return {"refused": str(refusal).splitlines()[0][:160]}
    error = max(
        float((a.float() - b).abs().max() / b.abs().max()) for a, b in zip(made, truth, strict=True)
    )
    seconds = subject.seconds(functools.partial(_through, ours, backend))
    return {"error": error, "ms": round(1000 * seconds, 3)}


def _through(given: list[Tensor], backend: str) -> list[Tensor]:
    """The output, and the gradients of its sum of squares."""
    q, k, v = (one.detach().requires_grad_() for one in given)
    out = attend(q, k, v, backend)
    out.float().square().sum().backward()
    return [one for one in (out.detach(), q.grad, k.grad, v.grad) if one is not None]


def compiled(subject: Subject) -> dict[str, Any]:
    """A step of the model through torch.compile: loss and time, beside the plain one's."""
    losses = {}
    seconds = {}
    for name in ("plain", "compiled"):
        model, images, noise = subject.prepared(subject.small_batch, "auto")
        if name == "compiled":
            model.compile()
        step = functools.partial(_step, subject, model, images, noise)
        losses[name] = float(step())
        seconds[name] = subject.seconds(step)
    apart = abs(losses["compiled"] - losses["plain"]) / losses["plain"]
    return {
        "losses": losses,
        "ms": {name: round(1000 * one, 3) for name, one in seconds.items()},
        "speedup": round(seconds["plain"] / seconds["compiled"], 3),
        "ok": math.isfinite(apart) and apart < LOSS_COMPILED,
    }


def _step(subject: Subject, model: torch.nn.Module, images: Tensor, noise: Tensor) -> Tensor:
    model.zero_grad(set_to_none=True)
    with torch.autocast(subject.device.type, torch.bfloat16, enabled=subject.precision == "bf16"):
        loss: Tensor = model(images, noise)[0]
    loss.backward()
    return loss.detach()
