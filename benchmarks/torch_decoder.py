"""The decoder in PyTorch: the whole sample, sampling included, is one function of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.baselines import Conditions
from model.config import LEVELS, SILENCE, ModelConfig
from model.interface import Codes, Latents
from model.weights import Weights

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(code (1,), uniform (), queues (slots, R), slots (layers,), conditions (layers, 2R), head
condition (H,)) to (logits (256,), next code (1,)); the queues are advanced in place."""


class TorchDecoder:
    """See ``baselines.Baseline``; eager, or compiled into kernels of its own."""

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        threads: int,
        *,
        compiled: bool,
        device: str = "cpu",
    ) -> None:
        self.threads = threads
        self._config = config
        self._conditions = Conditions(config, weights)
        self._device = device
        step = _step(config, weights, _fused_product if compiled else torch.addmv, device)
        # The wrapper in C++ spares a call from Python for each of the generated kernels.
        options: dict[str, Any] = {"cpp_wrapper": device == "cpu"}
        self._step = (
            torch.compile(step, dynamic=False, fullgraph=True, options=options)
            if compiled
            else step
        )
        self._dilations = torch.tensor(config.decoder.dilations, device=device)
        self._first = torch.cumsum(self._dilations, 0) - self._dilations

    def teacher_force(self, latents: Latents, codes: Codes) -> NDArray[np.float32]:
        """Logits of every code given the true ones."""
        given = torch.from_numpy(codes.astype(np.int64)).to(self._device).split(1)
        uniforms = np.zeros(len(codes), np.float32)
        logits, _ = self._walk(latents, uniforms, given)
        return logits.cpu().numpy()

    def generate(self, latents: Latents, uniforms: NDArray[np.float32]) -> Codes:
        """One code for each uniform."""
        _, codes = self._walk(latents, uniforms, None)
        return codes.cpu().numpy().astype(np.uint8)

    def _walk(
        self, latents: Latents, uniforms: NDArray[np.float32], given: Sequence[Tensor] | None
    ) -> tuple[Tensor, Tensor]:
        """Logits and next codes; the logits are kept only where codes are given."""
        hop, channels = self._config.hop_samples, self._config.decoder.residual_channels
        draws = torch.from_numpy(uniforms).to(self._device).unbind()
        logits, codes = [], []
        with torch.inference_mode(), _threads(self.threads):
            queues = torch.zeros(int(self._dilations.sum()), channels, device=self._device)
            code = torch.tensor([SILENCE], device=self._device)
            for start in range(0, len(uniforms), hop):
                projected = self._conditions.of(latents[start // hop])
                conditions, head = (torch.from_numpy(one).to(self._device) for one in projected)
                times = torch.arange(start, min(start + hop, len(uniforms)), device=self._device)
                slots = (self._first + times[:, None] % self._dilations).unbind()
                for n in range(len(times)):
                    scores, code = self._step(
                        code, draws[start + n], queues, slots[n], conditions, head
                    )
                    if given is not None:
                        code = given[start + n]
                        logits.append(scores)
                    codes.append(code)
            return torch.stack(logits) if logits else torch.empty(0, LEVELS), torch.cat(codes)


def _fused_product(bias: Tensor, matrix: Tensor, vector: Tensor) -> Tensor:
    # Not addmv: written out, the compiler makes a kernel of it together with what is around it.
    return bias + (matrix * vector).sum(-1)


def _step(
    config: ModelConfig,
    weights: Weights,
    product: Callable[[Tensor, Tensor, Tensor], Tensor],
    device: str,
) -> Step:
    """product: bias + matrix @ vector."""
    channels = config.decoder.residual_channels
    names = [f"layers.{i}" for i in range(len(config.decoder.dilations))]

    def tensor(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.array(array, order="C")).to(device)

    embedding = tensor(weights["embedding.weight"])
    past = [tensor(weights[f"{name}.past.weight"]) for name in names]
    current = [tensor(weights[f"{name}.current.weight"]) for name in names]
    outputs = [weights[f"{name}.output.weight"] for name in names]
    output_biases = [weights[f"{name}.output.bias"] for name in names]
    residual = [tensor(rows[:channels]) for rows in outputs]
    residual_bias = [tensor(bias[:channels]) for bias in output_biases]
    # The sum of all layers' skips is one product.
    skip = tensor(np.hstack([rows[channels:] for rows in outputs]))
    skip_bias = tensor(np.sum([bias[channels:] for bias in output_biases], axis=0))
    hidden, logits = tensor(weights["head.hidden.weight"]), tensor(weights["head.logits.weight"])
    logits_bias = tensor(weights["head.logits.bias"])

    def step(
        code: Tensor, uniform: Tensor, queues: Tensor, slots: Tensor, conditions: Tensor,
        head: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        signal = embedding[code].view(-1)
        pasts = queues[slots]
        inputs, gates = [], []
        for i in range(len(names)):
            inputs.append(signal)
            sums = product(product(conditions[i], past[i], pasts[i]), current[i], signal)
            gates.append(torch.tanh(sums[:channels]) * torch.sigmoid(sums[channels:]))
            signal = signal + product(residual_bias[i], residual[i], gates[i])
        queues[slots] = torch.stack(inputs)
        skips = product(skip_bias, skip, torch.cat(gates))
        scores = product(logits_bias, logits, torch.relu(product(head, hidden, torch.relu(skips))))
        cumulative = torch.cumsum(torch.softmax(scores, 0), 0)
        below = cumulative <= uniform * cumulative[-1]
        return scores, below.sum().clamp(max=LEVELS - 1).view(1)

    return step


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
