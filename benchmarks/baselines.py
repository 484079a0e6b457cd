"""The same decoder written in other ways, measured beside it: what one would use otherwise.

Each draws its codes from the same float32 weights and uniforms as the reference. As in the decoder
itself, conditions are projected once a hop, and softmax and sampling are part of the work.
"""

from __future__ import annotations

import importlib.util
import shutil
import sysconfig
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.config import ModelConfig
from model.errors import BackendUnavailable
from model.interface import Codes, Latents
from model.weights import Weights

Floats = NDArray[np.float32]

# Enough to tell one thread from two, few enough where a sample takes a second.
_TRIAL_SAMPLES = 8


class Baseline(Protocol):
    """A decoder that begins anew with each call."""

    @property
    def threads(self) -> int:
        """Threads it works with."""
        ...

    def teacher_force(self, latents: Latents, codes: Codes) -> Floats:
        """Logits of every code given the true ones."""
        ...

    def generate(self, latents: Latents, uniforms: Floats) -> Codes:
        """One code for each uniform; the last hop may be cut short."""
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


def _numba_loops(config: ModelConfig, weights: Weights, _threads: int) -> Baseline:
    from benchmarks.loops import LoopsDecoder

    return LoopsDecoder(config, weights)


def _eager(config: ModelConfig, weights: Weights, threads: int) -> Baseline:
    from benchmarks.torch_decoder import TorchDecoder

    return TorchDecoder(config, weights, threads, compiled=False)


def _compiled(config: ModelConfig, weights: Weights, threads: int) -> Baseline:
    from benchmarks.torch_decoder import TorchDecoder

    return TorchDecoder(config, weights, threads, compiled=True)


def _onnxruntime(config: ModelConfig, weights: Weights, threads: int) -> Baseline:
    from benchmarks.onnx_decoder import OnnxDecoder

    return OnnxDecoder(config, weights, threads)


_MAKERS: dict[str, tuple[tuple[str, ...], Callable[[ModelConfig, Weights, int], Baseline]]] = {
    "numba-loops": ((), _numba_loops),
    "torch-eager": (("torch",), _eager),
    "torch-compile": (("torch",), _compiled),
    "onnxruntime": (("onnxruntime", "onnx"), _onnxruntime),
}

BASELINES = tuple(_MAKERS)

# A second thread costs more at each product than it takes over.
_ONE_THREAD = ("numba-loops",)

_COMPILERS = ("g++", "clang++")


def missing_packages(name: str) -> list[str]:
    """What a baseline needs and is not installed: packages, and for torch's compiler C++."""
    missing = [p for p in _MAKERS[name][0] if importlib.util.find_spec(p) is None]
    if name == "torch-compile":
        if not any(map(shutil.which, _COMPILERS)):
            missing.append("a C++ compiler")
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            missing.append("Python's C headers")
    return missing


@contextmanager
def open_baselines(
    names: Sequence[str], config: ModelConfig, weights: Weights, threads: int = 1
) -> Iterator[dict[str, Baseline]]:
    """Make baselines ready to run, compiled and warm, each with as many threads as suit it best.

    threads: at most. Two often cost a baseline more than they bring it, so that both are tried.
    Raises BackendUnavailable if a package is not installed.
    """
    for name in names:
        if missing := missing_packages(name):
            needs = " and ".join(missing)
            raise BackendUnavailable(f"{name} needs {needs}, which is not installed")
    try:
        yield {name: _fastest(name, config, weights, threads) for name in names}
    finally:
        if "torch-compile" in names:
            import torch

            # Compiled steps are kept for good, and only so many; the next decoder is another.
            torch.compiler.reset()


def _fastest(name: str, config: ModelConfig, weights: Weights, threads: int) -> Baseline:
    _, make = _MAKERS[name]
    counts = range(1, 2 if name in _ONE_THREAD else threads + 1)
    tried = [make(config, weights, count) for count in counts]
    return min(tried, key=lambda baseline: _trial_s(baseline, config))


def _trial_s(baseline: Baseline, config: ModelConfig) -> float:
    """Seconds that a few samples take, at best, once everything is compiled."""
    latents = np.zeros((1, config.latent_channels), np.float32)
    uniforms = np.full(_TRIAL_SAMPLES, 0.5, np.float32)
    baseline.generate(latents, uniforms[:1])
    best = float("inf")
    for _ in range(2):
        started = time.perf_counter()
        baseline.generate(latents, uniforms)
        best = min(best, time.perf_counter() - started)
    return best
