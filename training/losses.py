"""The two losses of the paper (3.3), as means over the batch in nats."""

from __future__ import annotations

import math

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


def evenness(scores: Tensor) -> Tensor:
    """How far the guess is from an even one: the cross entropy of all domains alike, above theirs.

    scores: (batch, domains). Returns a scalar in nats, zero where every domain is as likely.
    The paper has the encoder raise loss (2) instead, which has no end: with more than a little
    weight, latents grow until the guess is wrong and sure. An even guess is all that can be asked
    for (Tzeng et al., 2015, "Simultaneous deep transfer across domains and tasks").
    """
    return -F.log_softmax(scores.float(), -1).mean() - math.log(scores.shape[-1])


def autoencoding(reconstruction: Tensor, evenness: Tensor, weight: float) -> Tensor:
    """Loss (1): reconstruct well while the domain cannot be guessed; ``weight`` is lambda."""
    return reconstruction + weight * evenness
