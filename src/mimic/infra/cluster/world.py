"""The ranks of one training as seen from inside: who I am, what all agree on, and a model that
shares its gradients.

With one process nothing here talks to anybody. Not imported by the package itself: it needs torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mimic.infra.cluster.local import available_cores


@dataclass(frozen=True)
class World:
    """This process among those of its training. Every method is a collective: all ranks call it
    equally often."""

    rank: int
    size: int

    def data_parallel(self, model: nn.Module) -> nn.Module:
        """The model as it is to be called in training: its gradients become the mean over ranks in
        each backward pass."""
        return (
            model
            if self.size == 1
            else DistributedDataParallel(
                model, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        )

    def no_sync(self, model: nn.Module) -> AbstractContextManager[None]:
        """Backward passes in this block add to each rank's own gradients; the next one outside
        exchanges the sums, once."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over ranks, in place."""
        return self._reduce(value, dist.ReduceOp.SUM)

    def all_reduce_min(self, value: Tensor) -> Tensor:
        """Minimum over ranks, in place."""
        return self._reduce(value, dist.ReduceOp.MIN)

    def broadcast(self, value: Tensor) -> Tensor:
        """Rank 0's value, in place."""
        if self.size > 1:
            dist.broadcast(value, 0)
        return value

    def _reduce(self, value: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        if self.size > 1:
            dist.all_reduce(value, how)
        return value


SINGLE_PROCESS = World(0, 1)


@contextmanager
def process_group() -> Iterator[World]:
    """Meet the other ranks, as many as the environment says (`ranks.Rank.export`), and part from
    them at the end.

    Each rank gets a GPU of its own, or its share of this machine's cores.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield SINGLE_PROCESS
        return
    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % gpus)
    else:
        torch.set_num_threads(max(1, available_cores() // int(os.environ["LOCAL_WORLD_SIZE"])))
    dist.init_process_group("nccl" if gpus else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
