"""The network as ONNX graphs in float32: an encoder of one hop and a decoder of one sample.

A graph keeps nothing between two runs. The encoder's past is a vector that goes in and comes out
again. Of the decoder's queues, a run is given the rows that it reads and returns those that take
their places: the queues themselves stay with whoever runs it, because copied at every sample they
would cost more than all products. docs/export.md says it for hosts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model.config import LEVELS, EncoderConfig, ModelConfig
from model.mulaw import MU
from model.weights import Weights

_OPSET, _IR_VERSION = 18, 9

Values = Mapping[str, tuple[list[int], int]]
"""Shape and ONNX type of inputs or outputs by name."""


class _Graph:
    """A graph under construction; vectors are rows, so a product is with a matrix transposed."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def numbers(self, *values: int) -> str:
        return self.constant(f"numbers_{len(self.constants)}", np.array(values, np.int64))

    def add(self, kind: str, *inputs: str, outputs: int = 1, **settings: Any) -> list[str]:
        names = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **settings))
        return names

    def one(self, kind: str, *inputs: str, **settings: Any) -> str:
        return self.add(kind, *inputs, **settings)[0]

    def product(self, vector: str, name: str, rows: NDArray[Any], bias: str) -> str:
        return self.one("Gemm", vector, self.constant(name, rows.T), bias)

    def slice(self, signal: str, start: int, end: int) -> str:
        """Samples ``start`` to ``end`` of (1, channels, time)."""
        edges = self.numbers(start), self.numbers(end), self.numbers(2)
        return self.one("Slice", signal, *edges)

    def name(self, value: str, output: str) -> None:
        """Make ``value`` an output of the graph."""
        self.nodes.append(helper.make_node("Identity", [value], [output]))

    def to_bytes(self, title: str, inputs: Values, outputs: Values) -> bytes:
        given, made = (
            [helper.make_tensor_value_info(name, kind, shape) for name, (shape, kind) in of.items()]
            for of in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, title, given, made, self.constants)
        opset = [helper.make_opsetid("", _OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION)
        serialized: bytes = model.SerializeToString()
        return serialized


def encoder_state_size(config: ModelConfig) -> int:
    """Length of the vector that carries the encoder's past from one hop to the next."""
    return sum(_state_parts(config.encoder, config.hop_samples))


def encoder_hop(config: ModelConfig, weights: Weights) -> bytes:
    """The encoder of one hop: ``audio`` and ``state`` to ``latent`` and ``next_state``.

    audio: (hop,) at 16 kHz in [-1, 1]; what lies outside is clipped, NaN is silence.
    state: (``encoder_state_size``,), zeros before the first hop.
    latent: (1, latent_channels), of a hop ago for each hop, or part of one, of look-ahead.
    """
    encoder, hop, width = config.encoder, config.hop_samples, config.encoder.channels
    graph = _Graph()
    parts = _state_parts(encoder, hop)
    sizes = graph.numbers(*parts)
    levels_before, *before = graph.add("Split", "state", sizes, outputs=len(parts), axis=0)
    later = []

    def with_past(past: str, channels: int, samples: int, now: str) -> str:
        """(1, channels, samples + hop): what was, then what is."""
        shaped = graph.one("Reshape", past, graph.numbers(1, channels, samples))
        joined = graph.one("Concat", shaped, now, axis=2)
        newest = graph.slice(joined, hop, hop + samples)
        later.append(graph.one("Reshape", newest, graph.numbers(-1)))
        return joined

    levels = graph.one("Reshape", _levels(graph), graph.numbers(1, 1, hop))
    kernel = graph.constant("front.weight", weights["front.weight"].T[:, None])
    bias = graph.constant("front.bias", weights["front.bias"])
    hidden = graph.one("Conv", with_past(levels_before, 1, 2, levels), kernel, bias)
    for i, dilation in enumerate(encoder.dilations):
        name = f"layers.{i}"
        heard = with_past(before[i], width, 2 * dilation, hidden)
        taps = weights[f"{name}.dilated.weight"].transpose(1, 2, 0)
        kernel = graph.constant(f"{name}.dilated.weight", taps)
        bias = graph.constant(f"{name}.dilated.bias", weights[f"{name}.dilated.bias"])
        mixed = graph.one("Conv", graph.one("Relu", heard), kernel, bias, dilations=[dilation])
        kernel = graph.constant(f"{name}.mix.weight", weights[f"{name}.mix.weight"][..., None])
        bias = graph.constant(f"{name}.mix.bias", weights[f"{name}.mix.bias"])
        mixed = graph.one("Conv", graph.one("Relu", mixed), kernel, bias)
        # Of a centred kernel, the middle tap hears the sample that the layer passes on.
        passed = hidden if encoder.causal else graph.slice(heard, dilation, dilation + hop)
        hidden = graph.one("Add", mixed, passed)
    split = encoder.lookahead_samples % hop
    axes = graph.numbers(2)
    total = graph.one("ReduceSum", graph.slice(hidden, 0, split or hop), axes, keepdims=0)
    if split:
        # A hop of the timeline, moved by the look-ahead, ends within a hop of the input.
        begun = graph.one("Reshape", before[-1], graph.numbers(1, width))
        total = graph.one("Add", begun, total)
        rest = graph.one("ReduceSum", graph.slice(hidden, split, hop), axes, keepdims=0)
        later.append(graph.one("Reshape", rest, graph.numbers(-1)))
    pooled = graph.one("Div", total, graph.constant("hop", np.array(hop, np.float32)))
    bias = graph.constant("latent.bias", weights["latent.bias"])
    graph.name(graph.product(pooled, "latent.weight", weights["latent.weight"], bias), "latent")
    graph.name(graph.one("Concat", *later, axis=0), "next_state")
    state = ([sum(parts)], TensorProto.FLOAT)
    return graph.to_bytes(
        "encoder of one hop",
        {"audio": ([hop], TensorProto.FLOAT), "state": state},
        {"latent": ([1, config.latent_channels], TensorProto.FLOAT), "next_state": state},
    )


def decoder_step(config: ModelConfig, weights: Weights) -> bytes:
    """The decoder of one sample: ``code``, ``latent`` and ``pasts`` to ``logits`` and ``inputs``.

    code: (1,) int64, that of the sample before.  latent: (1, latent_channels), of this hop.
    pasts: (layers, R), for each layer what entered it as many samples ago as its dilation says;
    zeros before the first sample.  inputs: (layers, R), what enters each layer now.
    logits: (1, 256), of this sample's code.
    """
    decoder = config.decoder
    count = len(decoder.dilations)
    graph = _Graph()
    names = [f"layers.{i}" for i in range(count)]
    rows = [weights[f"{name}.condition.weight"] for name in names]
    biases = [weights[f"{name}.current.bias"] for name in names]
    bias = graph.constant("condition.bias", np.hstack([*biases, weights["head.hidden.bias"]]))
    rows.append(weights["head.condition.weight"])
    projected = graph.product("latent", "condition.weight", np.vstack(rows), bias)
    sizes = graph.numbers(*([2 * decoder.residual_channels] * count), decoder.head_channels)
    *conditions, head = graph.add("Split", projected, sizes, outputs=count + 1, axis=1)
    latent = ([1, config.latent_channels], TensorProto.FLOAT)
    return _decoder(graph, config, weights, conditions, head, {"latent": latent})


def conditioned_decoder_step(config: ModelConfig, weights: Weights) -> bytes:
    """``decoder_step`` with the latent's products, which last a hop, made outside.

    In place of the latent, conditions: (layers, 2R) is added to each layer's gate and
    head: (1, H) to the head; both hold the biases too.
    """
    decoder = config.decoder
    count = len(decoder.dilations)
    graph = _Graph()
    conditions = graph.add("Split", "conditions", outputs=count, axis=0, num_outputs=count)
    given = {
        "conditions": ([count, 2 * decoder.residual_channels], TensorProto.FLOAT),
        "head": ([1, decoder.head_channels], TensorProto.FLOAT),
    }
    return _decoder(graph, config, weights, conditions, "head", given)


def _state_parts(encoder: EncoderConfig, hop: int) -> list[int]:
    """What the encoder's state consists of: levels, what entered each layer, a hop's sum so far."""
    layers = [2 * dilation * encoder.channels for dilation in encoder.dilations]
    return [2, *layers, *([encoder.channels] if encoder.lookahead_samples % hop else [])]


def _levels(graph: _Graph) -> str:
    """``audio`` as mu-law levels: see ``model.mulaw``, whose float64 decides between two codes."""

    def number(name: str, value: float, dtype: type = np.float64) -> str:
        return graph.constant(name, np.array(value, dtype))

    one, mu = number("one", 1.0), number("mu", MU)
    nan = graph.one("IsNaN", "audio")
    known = graph.one("Where", nan, number("silence", 0.0, np.float32), "audio")
    wide = graph.one("Cast", known, to=TensorProto.DOUBLE)
    clean = graph.one("Clip", wide, number("lowest", -1.0), one)
    loud = graph.one("Mul", graph.one("Abs", clean), mu)
    log = graph.one(
        "Div", graph.one("Log", graph.one("Add", loud, one)), number("log", np.log1p(MU))
    )
    companded = graph.one("Mul", graph.one("Sign", clean), log)
    place = graph.one("Mul", graph.one("Add", companded, one), number("half", 0.5 * MU))
    code = graph.one("Floor", graph.one("Add", place, number("nearest", 0.5)))
    narrow = graph.one("Cast", code, to=TensorProto.FLOAT)
    spread = graph.one("Mul", narrow, number("spread", 2.0 / MU, np.float32))
    return graph.one("Sub", spread, number("centre", 1.0, np.float32))


def _decoder(
    graph: _Graph,
    config: ModelConfig,
    weights: Weights,
    conditions: list[str],
    head: str,
    given: Values,
) -> bytes:
    """The layers and the head; given: inputs of the graph that conditions and head come from."""
    decoder = config.decoder
    layers, channels = len(decoder.dilations), decoder.residual_channels
    pasts = graph.add("Split", "pasts", outputs=layers, axis=0, num_outputs=layers)
    halves = graph.numbers(channels, channels)
    embedding = graph.constant("embedding", weights["embedding.weight"])
    signal = graph.one("Gather", embedding, "code")
    inputs, gates = [], []
    for i in range(layers):
        name = f"layers.{i}"
        inputs.append(signal)
        past, current = weights[f"{name}.past.weight"], weights[f"{name}.current.weight"]
        sums = graph.product(pasts[i], f"{name}.past", past, conditions[i])
        sums = graph.product(signal, f"{name}.current", current, sums)
        tone, door = graph.add("Split", sums, halves, outputs=2, axis=1)
        tone, door = graph.one("Tanh", tone), graph.one("Sigmoid", door)
        gates.append(graph.one("Mul", tone, door))
        rows = weights[f"{name}.output.weight"][:channels]
        bias = graph.constant(f"{name}.bias", weights[f"{name}.output.bias"][:channels])
        residual = graph.product(gates[i], f"{name}.residual", rows, bias)
        signal = graph.one("Add", signal, residual)
    # The sum of all layers' skips is one product.
    skips = [weights[f"layers.{i}.output.weight"][channels:] for i in range(layers)]
    biases = [weights[f"layers.{i}.output.bias"][channels:] for i in range(layers)]
    gated = graph.one("Concat", *gates, axis=1)
    bias = graph.constant("skip.bias", np.sum(biases, axis=0))
    skip = graph.one("Relu", graph.product(gated, "skip", np.hstack(skips), bias))
    hidden = graph.product(skip, "hidden", weights["head.hidden.weight"], head)
    bias = graph.constant("logits.bias", weights["head.logits.bias"])
    rows = weights["head.logits.weight"]
    graph.name(graph.product(graph.one("Relu", hidden), "logits.weight", rows, bias), "logits")
    graph.name(graph.one("Concat", *inputs, axis=0), "inputs")
    queued = ([layers, channels], TensorProto.FLOAT)
    return graph.to_bytes(
        "decoder of one sample",
        {"code": ([1], TensorProto.INT64), **given, "pasts": queued},
        {"logits": ([1, LEVELS], TensorProto.FLOAT), "inputs": queued},
    )
