"""The decoder in onnxruntime: one run of a graph a sample, on buffers bound once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.baselines import Conditions
from model.config import LEVELS, SILENCE, ModelConfig
from model.interface import Codes, Latents
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
            _graph(config, weights), options, providers=["CPUExecutionProvider"]
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


class _Nodes:
    """A graph under construction; vectors are rows, so a product is with a matrix transposed."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, kind: str, *inputs: str, outputs: int = 1, **settings: Any) -> list[str]:
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **settings))
        return names

    def product(self, vector: str, name: str, rows: NDArray[Any], bias: str) -> str:
        return self.add("Gemm", vector, self.constant(name, rows.T), bias)[0]


def _graph(config: ModelConfig, weights: Weights) -> bytes:
    """The step of one sample, from code, pasts, conditions and head to logits and inputs."""
    decoder = config.decoder
    layers, channels = len(decoder.dilations), decoder.residual_channels
    graph = _Nodes()
    pasts = graph.add("Split", "pasts", outputs=layers, axis=0, num_outputs=layers)
    conditions = graph.add("Split", "conditions", outputs=layers, axis=0, num_outputs=layers)
    halves = graph.constant("halves", np.array([channels, channels], np.int64))
    embedding = graph.constant("embedding", weights["embedding.weight"])
    signal = graph.add("Gather", embedding, "code")[0]
    inputs, gates = [], []
    for i in range(layers):
        name = f"layers.{i}"
        inputs.append(signal)
        past, current = weights[f"{name}.past.weight"], weights[f"{name}.current.weight"]
        sums = graph.product(pasts[i], f"{name}.past", past, conditions[i])
        sums = graph.product(signal, f"{name}.current", current, sums)
        tone, door = graph.add("Split", sums, halves, outputs=2, axis=1)
        tone, door = graph.add("Tanh", tone)[0], graph.add("Sigmoid", door)[0]
        gates.append(graph.add("Mul", tone, door)[0])
        rows = weights[f"{name}.output.weight"][:channels]
        bias = graph.constant(f"{name}.bias", weights[f"{name}.output.bias"][:channels])
        residual = graph.product(gates[i], f"{name}.residual", rows, bias)
        signal = graph.add("Add", signal, residual)[0]
    # The sum of all layers' skips is one product.
    skips = [weights[f"layers.{i}.output.weight"][channels:] for i in range(layers)]
    biases = [weights[f"layers.{i}.output.bias"][channels:] for i in range(layers)]
    gated = graph.add("Concat", *gates, axis=1)[0]
    bias = graph.constant("skip.bias", np.sum(biases, axis=0))
    skip = graph.add("Relu", graph.product(gated, "skip", np.hstack(skips), bias))[0]
    hidden = graph.product(skip, "hidden", weights["head.hidden.weight"], "head")
    bias = graph.constant("logits.bias", weights["head.logits.bias"])
    logits = graph.product(
        graph.add("Relu", hidden)[0], "logits.weight", weights["head.logits.weight"], bias
    )
    stacked = graph.add("Concat", *inputs, axis=0)[0]
    graph.nodes.append(helper.make_node("Identity", [logits], ["logits"]))
    graph.nodes.append(helper.make_node("Identity", [stacked], ["inputs"]))

    def value(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    made = helper.make_graph(
        graph.nodes,
        "decoder step",
        [
            value("code", [1], TensorProto.INT64),
            value("pasts", [layers, channels]),
            value("conditions", [layers, 2 * channels]),
            value("head", [1, decoder.head_channels]),
        ],
        [value("logits", [1, LEVELS]), value("inputs", [layers, channels])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()
