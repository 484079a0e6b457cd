"""Randomness of sampling as a pure function of seed, domain and place in the run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError
from numba_kernels.philox import fill_uniforms


class Uniforms:
    """The uniforms of one run: every sample of every domain has its own number.

    A domain's numbers depend on nothing that happened before, so a run that switches domains,
    drops input or is replayed from the middle still samples each moment as it would have.
    """

    def __init__(self, seed: int, hop_samples: int):
        """seed: 0 to 2**64 - 1. Raises ConfigError outside that."""
        if not isinstance(seed, int) or not 0 <= seed < 2**64:
            raise ConfigError(f"seed must be a whole number from 0 to 2**64 - 1, got {seed!r}")
        self.seed = seed
        self.hop_samples = hop_samples
        self._key = np.uint64(seed)

    def fill(self, domain: int, hop: int, out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fill ``out`` (hop_samples,) with the numbers of one hop, in [0, 1), and return it."""
        fill_uniforms(self._key, np.uint64(domain), np.uint64(hop * self.hop_samples), out)
        return out
