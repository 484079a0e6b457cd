"""One training run over several processes (torchrun, gloo): who we are, and averaged gradients.

Every process holds the whole network and trains the same domain in the same step, so every
process trains every decoder; only the rows of a batch are shared out.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

# Its functions' default arguments are the group that there is when it is imported, which torch does
# at the first optimiser: imported now, they hold none, and leaving ends the group's threads.
import torch.distributed.nn.functional
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """This process's place among those of the run."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes."""
        if self.size == 1:
            return
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        flat /= self.size
        for grad, mean in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over the processes."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def send_from_leader(self, tensors: Iterable[Tensor]) -> None:
        """Put the leading process's values into everybody's tensors."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def any(self, flag: bool) -> bool:
        """Whether any process raised the flag; all get the same answer."""
        if self.size == 1:
            return flag
        raised = torch.tensor(int(flag))
        dist.all_reduce(raised)
        return bool(raised.item())


@contextmanager
def joined_world(threads: int | None = None) -> Iterator[World]:
    """The world torchrun describes in the environment; one process alone without it.

    threads: CPU threads of this process; None leaves torch's choice.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    dist.init_process_group("gloo")
    try:
        yield World(dist.get_rank(), size)
        # All leave together.
        dist.barrier()
    finally:
        # Ends gloo's threads: one frees a sum's tensors a moment after the sum is known, and must
        # not find the interpreter gone.
        dist.destroy_process_group()
