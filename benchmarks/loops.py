"""The decoder as plain numba loops: what the compiler makes of them without SIMD types.

Weights lie by columns, so that the inner loop runs over rows: the compiler vectorises that without
being allowed to reorder sums. Four columns at a time halve the traffic of the sums.
"""

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

_ONE, _TWO = np.float32(1.0), np.float32(2.0)


@numba.njit(nogil=True, fastmath={"contract"}, error_model="numpy")
def _add_product(out: Any, columns: Any, vector: Any) -> None:
    """Add a matrix (depth, rows), depth a multiple of 4, times a vector."""
    for k in range(0, columns.shape[0], 4):
        first, second, third, fourth = vector[k], vector[k + 1], vector[k + 2], vector[k + 3]
        for row in range(columns.shape[1]):
            out[row] += (
                columns[k, row] * first
                + columns[k + 1, row] * second
                + columns[k + 2, row] * third
                + columns[k + 3, row] * fourth
            )


@numba.njit(nogil=True, error_model="numpy")
def _gate(gated: Any, sums: Any) -> None:
    for c in range(len(gated)):
        # tanh by the exponential that the sigmoid needs too; it may overflow to infinity.
        tone = _TWO / (_ONE + math.exp(-_TWO * sums[c])) - _ONE
        gated[c] = tone / (_ONE + math.exp(-sums[len(gated) + c]))


@numba.njit(nogil=True, error_model="numpy")
def _rectify(values: Any) -> None:
    for i in range(len(values)):
        values[i] = max(values[i], np.float32(0.0))


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
    channels = past.shape[1]
    queues = np.zeros((dilations.sum(), channels), np.float32)
    signal, gated = np.empty(channels, np.float32), np.empty(channels, np.float32)
    gate, out = np.empty(2 * channels, np.float32), np.empty(output.shape[2], np.float32)
    skip = np.empty(len(out) - channels, np.float32)
    hidden = np.empty(hidden_weight.shape[1], np.float32)
    logits, cumulative = np.empty(LEVELS, np.float32), np.empty(LEVELS, np.float32)
    code = SILENCE
    for at in range(len(codes)):
        signal[:] = embedding[code]
        skip[:] = 0.0
        first = 0
        for i in range(len(dilations)):
            queued = queues[first + at % dilations[i]]
            first += dilations[i]
            gate[:] = conditions[at // hop, i]
            _add_product(gate, past[i], queued)
            _add_product(gate, current[i], signal)
            queued[:] = signal
            _gate(gated, gate)
            out[:] = output_bias[i]
            _add_product(out, output[i], gated)
            signal += out[:channels]
            skip += out[channels:]
        _rectify(skip)
        hidden[:] = head_conditions[at // hop]
        _add_product(hidden, hidden_weight, skip)
        _rectify(hidden)
        logits[:] = logits_bias
        _add_product(logits, logits_weight, hidden)
        if len(uniforms):
            codes[at] = _draw(logits, cumulative, uniforms[at])
        else:
            scores[at] = logits
        code = codes[at]


class LoopsDecoder:
    """See ``baselines.Baseline``."""

    threads = 1

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        indices = range(len(config.decoder.dilations))

        def by_columns(name: str) -> NDArray[np.float32]:
            return np.stack(
                [np.ascontiguousarray(weights[f"layers.{i}.{name}"].T) for i in indices]
            )

        biases = np.stack([weights[f"layers.{i}.output.bias"] for i in indices])
        products = ("past.weight", "current.weight", "output.weight")
        self._layers = (*map(by_columns, products), biases)
        self._head = (
            weights["embedding.weight"],
            np.ascontiguousarray(weights["head.hidden.weight"].T),
            np.ascontiguousarray(weights["head.logits.weight"].T),
            weights["head.logits.bias"],
        )
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
