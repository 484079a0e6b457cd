"""The decoder as plain numba loops: what the compiler makes of them without SIMD types."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.baselines import Conditions
from model.config import LEVELS, SILENCE, ModelConfig
from model.interface import Codes, Latents
from model.weights import Weights

# Sums may be reordered: without that, a dot product is not vectorised at all.
_FAST = {"reassoc", "contract", "nsz"}


@numba.njit(nogil=True, fastmath=_FAST, error_model="numpy")
def _add_product(out: Any, matrix: Any, vector: Any) -> None:
    for row in range(matrix.shape[0]):
        total = np.float32(0.0)
        for k in range(matrix.shape[1]):
            total += matrix[row, k] * vector[k]
        out[row] += total


@numba.njit(nogil=True, error_model="numpy")
def _draw(logits: Any, cumulative: Any, uniform: float) -> int:
    most = logits.max()
    total = np.float32(0.0)
    for level in range(len(logits)):
        total += math.exp(logits[level] - most)
        cumulative[level] = total
    for level in range(len(logits)):
        if cumulative[level] > uniform * total:
            return level
    return len(logits) - 1


@numba.njit(nogil=True, error_model="numpy")
def _decode(
    layers: Any, head: Any, dilations: Any, conditions: Any, head_conditions: Any, hop: int,
    codes: Any, uniforms: Any, scores: Any,
) -> None:  # fmt: skip
    """Walk over ``codes``: drawn where there are uniforms, otherwise given and scored."""
    past, current, output, output_bias = layers
    embedding, hidden_weight, logits_weight, logits_bias = head
    channels = past.shape[2]
    queues = np.zeros((dilations.sum(), channels), np.float32)
    gate, gated = np.empty(2 * channels, np.float32), np.empty(channels, np.float32)
    skip = np.empty(output.shape[1] - channels, np.float32)
    cumulative = np.empty(len(logits_bias), np.float32)
    code = SILENCE
    for at in range(len(codes)):
        signal = embedding[code].copy()
        skip[:] = 0.0
        first = 0
        for i in range(len(dilations)):
            queued = queues[first + at % dilations[i]]
            first += dilations[i]
            gate[:] = conditions[at // hop, i]
            _add_product(gate, past[i], queued)
            _add_product(gate, current[i], signal)
            queued[:] = signal
            for c in range(channels):
                gated[c] = math.tanh(gate[c]) / (1 + math.exp(-gate[channels + c]))
            out = output_bias[i].copy()
            _add_product(out, output[i], gated)
            signal += out[:channels]
            skip += out[channels:]
        hidden = head_conditions[at // hop].copy()
        _add_product(hidden, hidden_weight, np.maximum(skip, np.float32(0.0)))
        logits = logits_bias.copy()
        _add_product(logits, logits_weight, np.maximum(hidden, np.float32(0.0)))
        if len(uniforms):
            codes[at] = _draw(logits, cumulative, uniforms[at])
        else:
            scores[at] = logits
        code = codes[at]


class NumbaLoops:
    """See ``baselines.Baseline``."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        indices = range(len(config.decoder.dilations))

        def stacked(name: str) -> NDArray[np.float32]:
            return np.stack([weights[f"layers.{i}.{name}"] for i in indices])

        names = ("past.weight", "current.weight", "output.weight", "output.bias")
        self._layers = tuple(stacked(name) for name in names)
        head = ("embedding.weight", "head.hidden.weight", "head.logits.weight", "head.logits.bias")
        self._head = tuple(weights[name] for name in head)
        self._dilations = np.array(config.decoder.dilations)
        self._conditions = Conditions(config, weights)
        self._hop = config.hop_samples

    def teacher_force(self, latents: Latents, codes: Codes) -> NDArray[np.float32]:
        """Logits of every code given the true ones."""
        scores = np.empty((len(codes), LEVELS), np.float32)
        self._run(latents, codes.copy(), np.empty(0, np.float32), scores)
        return scores

    def generate(self, latents: Latents, uniforms: NDArray[np.float32]) -> Codes:
        """One code for each uniform."""
        codes = np.empty(len(uniforms), np.uint8)
        self._run(latents, codes, uniforms, np.empty((0, LEVELS), np.float32))
        return codes

    def _run(
        self,
        latents: Latents,
        codes: Codes,
        uniforms: NDArray[np.float32],
        scores: NDArray[np.float32],
    ) -> None:
        projected = [self._conditions.of(latent) for latent in latents]
        conditions = np.stack([layers for layers, _ in projected])
        heads = np.stack([head for _, head in projected])
        _decode(
            self._layers, self._head, self._dilations, conditions, heads, self._hop, codes,
            uniforms, scores,
        )  # fmt: skip
