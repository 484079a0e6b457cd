"""The two losses of the paper (3.3), as means over the batch in nats."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def reconstruction(logits: Tensor, codes: Tensor) -> Tensor:
    """Cross entropy of every sample: L(D(E(O(s))), s).

    logits: (batch, time, 256). codes: (batch, time) int64. Returns a scalar, nats per sample.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), codes.flatten())


def classification(scores: Tensor, domain: int) -> Tensor:
    """Loss (2): cross entropy of the domain the confusion network guesses.

    scores: (batch, domains). All rows come from ``domain``. Returns a scalar in nats.
    """
    return F.cross_entropy(scores, scores.new_full(scores.shape[:1], domain).long())


def autoencoding(reconstruction: Tensor, classification: Tensor, weight: float) -> Tensor:
    """Loss (1): reconstruct well while the confusion network does badly; ``weight`` is lambda."""
    return reconstruction - weight * classification
