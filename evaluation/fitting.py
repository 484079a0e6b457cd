"""How the small networks of the evaluations learn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model.interface import Latents

_RATE = 2e-3


class Standardised(nn.Module):
    """Brings channels to zero mean and unit variance, so that their scale makes no odds."""

    mean: Tensor
    scale: Tensor

    def __init__(self, examples: Latents) -> None:
        """examples: (frames, channels)."""
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(examples.mean(0)))
        self.register_buffer("scale", torch.from_numpy(examples.std(0) + 1e-6))

    def forward(self, given: Tensor) -> Tensor:
        """(..., channels), the same shape."""
        return (given - self.mean) / self.scale


def fit(
    network: nn.Module,
    steps: int,
    loss_of_batch: Callable[[], Tensor],
    progress: Callable[[int], None] = lambda step: None,
) -> None:
    """Descend the loss of a new batch in each of ``steps``; then the network is ready to be asked.

    progress: told how many are done.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _RATE, total_steps=steps)
    for step in range(steps):
        loss = loss_of_batch()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(step + 1)
    network.eval()
