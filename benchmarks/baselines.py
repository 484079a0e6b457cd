"""The same decoder written in other ways, measured beside it: what one would use otherwise.

Each draws its codes from the same weights and uniforms as the reference, in float32. Conditions are
projected once a hop, as in the decoder itself.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.config import LEVELS, SILENCE, ModelConfig
from model.errors import BackendUnavailable
from model.interface import Codes, Latents
from model.reference import sample
from model.weights import Weights

Floats = NDArray[np.float32]
Step = Callable[[int, Floats, Floats, Floats], tuple[Floats, Floats]]
"""(code, pasts (layers, R), conditions (layers, 2R), head condition (H,)) to (logits (256,),
inputs of every layer (layers, R))."""


class Baseline(Protocol):
    """A decoder that begins anew with each call."""

    def teacher_force(self, latents: Latents, codes: Codes) -> Floats:
        """Logits of every code given the true ones."""
        ...

    def generate(self, latents: Latents, uniforms: Floats) -> Codes:
        """One code for each uniform."""
        ...


class Conditions:
    """Projects latents: what a hop adds to each layer's gate and to the head, biases included."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        layers = range(len(config.decoder.dilations))
        self._weight = np.stack([weights[f"layers.{i}.condition.weight"] for i in layers])
        self._bias = np.stack([weights[f"layers.{i}.current.bias"] for i in layers])
        self._head_weight = weights["head.condition.weight"]
        self._head_bias = weights["head.hidden.bias"]

    def of(self, latent: Floats) -> tuple[Floats, Floats]:
        """(layers, 2R) and (H,) of one latent."""
        return self._weight @ latent + self._bias, self._head_weight @ latent + self._head_bias


class SteppedBaseline:
    """One call of ``step`` a sample; queues, and sampling by numpy, around it."""

    def __init__(self, config: ModelConfig, weights: Weights, step: Step) -> None:
        self._config = config
        self._conditions = Conditions(config, weights)
        self._step = step
        self._dilations = np.array(config.decoder.dilations)
        self._first = np.cumsum(self._dilations) - self._dilations

    def teacher_force(self, latents: Latents, codes: Codes) -> Floats:
        """Logits of every code given the true ones."""
        logits = np.empty((len(codes), LEVELS), np.float32)

        def next_code(at: int, scores: Floats) -> int:
            logits[at] = scores
            return int(codes[at])

        self._walk(latents, next_code)
        return logits

    def generate(self, latents: Latents, uniforms: Floats) -> Codes:
        """One code for each uniform."""
        codes = np.empty(len(uniforms), np.uint8)

        def next_code(at: int, scores: Floats) -> int:
            codes[at] = sample(scores, float(uniforms[at]), 1.0)
            return int(codes[at])

        self._walk(latents, next_code)
        return codes

    def _walk(self, latents: Latents, next_code: Callable[[int, Floats], int]) -> None:
        channels = self._config.decoder.residual_channels
        queues = np.zeros((int(self._dilations.sum()), channels), np.float32)
        code, at = SILENCE, 0
        for latent in latents:
            conditions, head = self._conditions.of(latent)
            for _ in range(self._config.hop_samples):
                slots = self._first + at % self._dilations
                logits, inputs = self._step(code, queues[slots], conditions, head)
                queues[slots] = inputs
                code = next_code(at, logits)
                at += 1


def _torch_step(config: ModelConfig, weights: Weights, *, compiled: bool) -> Step:
    import torch
    from torch.nn.functional import relu

    given = {name: torch.from_numpy(np.array(value)) for name, value in weights.items()}
    layers = range(len(config.decoder.dilations))
    channels, skips = config.decoder.residual_channels, config.decoder.skip_channels

    def forward(code: Any, pasts: Any, conditions: Any, head: Any) -> tuple[Any, Any]:
        signal = given["embedding.weight"][code][0]
        skip = torch.zeros(skips)
        inputs = []
        for i in layers:
            inputs.append(signal)
            gate = conditions[i] + given[f"layers.{i}.past.weight"] @ pasts[i]
            gate = gate + given[f"layers.{i}.current.weight"] @ signal
            gated = torch.tanh(gate[:channels]) * torch.sigmoid(gate[channels:])
            out = given[f"layers.{i}.output.weight"] @ gated + given[f"layers.{i}.output.bias"]
            signal = signal + out[:channels]
            skip = skip + out[channels:]
        hidden = given["head.hidden.weight"] @ relu(skip) + head
        logits = given["head.logits.weight"] @ relu(hidden) + given["head.logits.bias"]
        return logits, torch.stack(inputs)

    run = torch.compile(forward, dynamic=False, fullgraph=True) if compiled else forward

    def step(code: int, pasts: Floats, conditions: Floats, head: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            arrays = (torch.from_numpy(array) for array in (pasts, conditions, head))
            logits, inputs = run(torch.tensor([code]), *arrays)
            return logits.numpy(), inputs.numpy()

    return step


def _onnx_step(config: ModelConfig, weights: Weights, threads: int) -> Step:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _onnx_model(config, weights), options, providers=["CPUExecutionProvider"]
    )

    def step(code: int, pasts: Floats, conditions: Floats, head: Floats) -> tuple[Floats, Floats]:
        feeds = {
            "code": np.array([code], np.int64),
            "pasts": pasts,
            "conditions": conditions,
            "head": head[None],
        }
        logits, inputs = session.run(None, feeds)
        return logits[0], inputs

    return step


def _onnx_model(config: ModelConfig, weights: Weights) -> bytes:
    """The step as an ONNX graph; vectors are rows, so a product is with a matrix transposed."""
    from onnx import TensorProto, helper, numpy_helper

    decoder = config.decoder
    layers, channels = len(decoder.dilations), decoder.residual_channels
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: NDArray[Any]) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(kind: str, *inputs: str, outputs: int = 1, **settings: Any) -> list[str]:
        names = [f"{kind}_{len(nodes)}_{i}" for i in range(outputs)]
        nodes.append(helper.make_node(kind, list(inputs), names, **settings))
        return names

    def product(name: str, vector: str, bias: str) -> str:
        return node("Gemm", vector, constant(name, weights[name].T), bias)[0]

    pasts = node("Split", "pasts", outputs=layers, axis=0, num_outputs=layers)
    conditions = node("Split", "conditions", outputs=layers, axis=0, num_outputs=layers)
    halves = constant("halves", np.array([channels, channels], np.int64))
    parts = constant("parts", np.array([channels, decoder.skip_channels], np.int64))
    signal = node("Gather", constant("embedding", weights["embedding.weight"]), "code")[0]
    skip = constant("no skip", np.zeros((1, decoder.skip_channels), np.float32))
    inputs = []
    for i in range(layers):
        name = f"layers.{i}"
        inputs.append(signal)
        gate = product(f"{name}.past.weight", pasts[i], conditions[i])
        gate = product(f"{name}.current.weight", signal, gate)
        tone, door = node("Split", gate, halves, outputs=2, axis=1)
        gated = node("Mul", node("Tanh", tone)[0], node("Sigmoid", door)[0])[0]
        bias = constant(f"{name}.output.bias", weights[f"{name}.output.bias"])
        out = product(f"{name}.output.weight", gated, bias)
        residual, skipped = node("Split", out, parts, outputs=2, axis=1)
        signal = node("Add", signal, residual)[0]
        skip = node("Add", skip, skipped)[0]
    hidden = product("head.hidden.weight", node("Relu", skip)[0], "head")
    bias = constant("head.logits.bias", weights["head.logits.bias"])
    logits = product("head.logits.weight", node("Relu", hidden)[0], bias)
    stacked = node("Concat", *inputs, axis=0)[0]

    def value(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    graph = helper.make_graph(
        nodes,
        "decoder step",
        [
            value("code", [1], TensorProto.INT64),
            value("pasts", [layers, channels]),
            value("conditions", [layers, 2 * channels]),
            value("head", [1, decoder.head_channels]),
        ],
        [value(logits, [1, LEVELS]), value(stacked, [layers, channels])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def _numba_loops(config: ModelConfig, weights: Weights, _threads: int) -> Baseline:
    from benchmarks.loops import NumbaLoops

    return NumbaLoops(config, weights)


def _eager(config: ModelConfig, weights: Weights, _threads: int) -> Baseline:
    return SteppedBaseline(config, weights, _torch_step(config, weights, compiled=False))


def _compiled(config: ModelConfig, weights: Weights, _threads: int) -> Baseline:
    return SteppedBaseline(config, weights, _torch_step(config, weights, compiled=True))


def _onnxruntime(config: ModelConfig, weights: Weights, threads: int) -> Baseline:
    return SteppedBaseline(config, weights, _onnx_step(config, weights, threads))


_MAKERS: dict[str, tuple[tuple[str, ...], Callable[[ModelConfig, Weights, int], Baseline]]] = {
    "numba-loops": ((), _numba_loops),
    "torch-eager": (("torch",), _eager),
    "torch-compile": (("torch",), _compiled),
    "onnxruntime": (("onnxruntime", "onnx"), _onnxruntime),
}

BASELINES = tuple(_MAKERS)

_COMPILERS = ("g++", "clang++")


def missing_packages(name: str) -> list[str]:
    """What a baseline needs and is not installed: packages, and a C++ compiler for torch's."""
    missing = [p for p in _MAKERS[name][0] if importlib.util.find_spec(p) is None]
    if name == "torch-compile" and not any(map(shutil.which, _COMPILERS)):
        missing.append("a C++ compiler")
    return missing


@contextmanager
def open_baseline(
    name: str, config: ModelConfig, weights: Weights, threads: int = 1
) -> Iterator[Baseline]:
    """Make a baseline ready to run; torch has ``threads`` threads meanwhile.

    The plain loops have one thread.  Raises BackendUnavailable if a package is not installed.
    """
    needs, make = _MAKERS[name]
    if missing := missing_packages(name):
        raise BackendUnavailable(f"{name} needs {' and '.join(missing)}, which is not installed")
    if "torch" not in needs:
        yield make(config, weights, threads)
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield make(config, weights, threads)
    finally:
        torch.set_num_threads(before)
        # Compiled steps are kept by their shapes; the next one is another decoder.
        torch.compiler.reset()
