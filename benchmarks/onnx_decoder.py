"""The decoder in onnxruntime: one run of a graph a sample, on buffers bound once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.baselines import Conditions
from model.config import LEVELS, SILENCE, ModelConfig
from model.interface import Codes, Latents
from model.onnx_graphs import conditioned_decoder_step
from model.weights import Weights


class OnnxDecoder:
    """See ``baselines.Baseline``. Queues and sampling are numpy's, in place.

    In the graph, the queues would be copied at every sample.
    """

    def __init__(self, config: ModelConfig, weights: Weights, threads: int) -> None:
        self.threads = threads
        self._config = config
        self._conditions_of = Conditions(config, weights).of
        self._dilations = np.array(config.decoder.dilations)
        self._first = np.cumsum(self._dilations) - self._dilations
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            conditioned_decoder_step(config, weights), options, providers=["CPUExecutionProvider"]
        )
        layers, channels = len(self._dilations), config.decoder.residual_channels
        self._code = np.empty(1, np.int64)
        self._pasts = np.empty((layers, channels), np.float32)
        self._conditions = np.empty((layers, 2 * channels), np.float32)
        self._head = np.empty((1, config.decoder.head_channels), np.float32)
        self._logits = np.empty((1, LEVELS), np.float32)
        self._inputs = np.empty((layers, channels), np.float32)
        self._binding = self._session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        for name in ("code", "pasts", "conditions", "head"):
            self._binding.bind_ortvalue_input(name, value(getattr(self, f"_{name}")))
        for name in ("logits", "inputs"):
            self._binding.bind_ortvalue_output(name, value(getattr(self, f"_{name}")))

    def teacher_force(self, latents: Latents, codes: Codes) -> NDArray[np.float32]:
        """Logits of every code given the true ones."""
        logits = np.empty((len(codes), LEVELS), np.float32)

        def next_code(at: int, scores: NDArray[np.float32]) -> int:
            logits[at] = scores
            return int(codes[at])

        self._walk(latents, len(codes), next_code)
        return logits

    def generate(self, latents: Latents, uniforms: NDArray[np.float32]) -> Codes:
        """One code for each uniform."""
        codes = np.empty(len(uniforms), np.uint8)

        def next_code(at: int, scores: NDArray[np.float32]) -> int:
            cumulative = np.cumsum(np.exp(scores - scores.max()))
            below = cumulative.searchsorted(uniforms[at] * cumulative[-1], side="right")
            codes[at] = min(below, LEVELS - 1)
            return int(codes[at])

        self._walk(latents, len(uniforms), next_code)
        return codes

    def _walk(
        self,
        latents: Latents,
        samples: int,
        next_code: Callable[[int, NDArray[np.float32]], int],
    ) -> None:
        hop, channels = self._config.hop_samples, self._config.decoder.residual_channels
        queues = np.zeros((int(self._dilations.sum()), channels), np.float32)
        self._code[0] = SILENCE
        for start in range(0, samples, hop):
            self._conditions[:], self._head[0] = self._conditions_of(latents[start // hop])
            times = np.arange(start, min(start + hop, samples))
            places = self._first + times[:, None] % self._dilations
            for at, slots in enumerate(places, start):
                queues.take(slots, axis=0, out=self._pasts, mode="clip")
                self._session.run_with_iobinding(self._binding)
                queues[slots] = self._inputs
                self._code[0] = next_code(at, self._logits[0])
