"""In which arithmetic a training multiplies: "auto" is decided once, whatever machines it goes on
on."""

from __future__ import annotations

from pathlib import Path

import torch

from mimic.infra.cluster.world import World
from mimic.infra.progress import say
from mimic.infra.storage import read_json, write_json

FILE = "precision.json"  # in the folder of a training
CHOICES = ("fp32", "bf16")


def choose_precision(choice: str, device: torch.device) -> str:
    """Resolve "auto": bf16 where the processor multiplies it natively (recent GPUs; AMX or
    AVX512-BF16), else fp32.

    Emulated bf16 is far slower (measured once on two AVX2 cores: 14 GFLOP/s, 113 in fp32).
    """
    if choice != "auto":
        return choice
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


def lasting_precision(choice: str, device: torch.device, folder: Path, world: World) -> str:
    """`choose_precision` for all ranks of a training, as its first process chose: a job that is
    started again on another kind of GPU, or ranks on several kinds, would mix two arithmetics.

    Args:
        folder: of the training, where the choice is kept until `forget_precision`.
    """
    chosen = choose_precision(choice, device)
    if choice == "auto" and world.rank == 0:
        begun = read_json(folder / FILE)
        if begun is None:
            write_json(folder / FILE, {"precision": chosen})
        elif begun.get("precision") in CHOICES and begun["precision"] != chosen:
            say(
                f"goes on in {begun['precision']}, as it began; of itself this machine would take "
                f"{chosen}"
            )
            chosen = str(begun["precision"])
    index = torch.tensor(CHOICES.index(chosen), device=device)
    return CHOICES[int(world.broadcast(index))]


def forget_precision(folder: Path) -> None:
    """The next training in this folder is another one."""
    (folder / FILE).unlink(missing_ok=True)
