"""What a decoder on a device is asked for, and what every way to do it has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from model.config import DecoderConfig
from triton_kernels.pack import DecoderWeights, Streams, Widths


@dataclass(frozen=True)
class Call:
    """One call of a decoder, its tensors on the device and contiguous."""

    task: int
    """``parts.SCORE``, ``PRIME`` or ``SAMPLE``."""
    conditions: Tensor
    """(streams, hops, layers * 2R + H), from ``DecoderWeights.conditions``."""
    hop: int
    """Samples a hop."""
    codes: Tensor
    """(streams, hops * hop) uint8: written to sample, else read."""
    uniforms: Tensor
    """Likewise float32, read to sample; else empty."""
    scores: Tensor
    """(streams, hops * hop, 256) float32, written to score; else empty."""
    sharpness: float = 1.0
    """1 / temperature."""


class Sampler(ABC):
    """One decoder on one device."""

    name: str

    def __init__(self, config: DecoderConfig, weights: DecoderWeights, fast: bool) -> None:
        """Weights as ``pack.pack_decoder`` lays them out.

        fast: whether to use NVIDIA's instructions for the gate, see ``parts.gate``."""
        self.config = config
        self.weights = weights
        self.fast = fast
        self.widths = Widths.of(config)
        self.layers = len(config.dilations)

    def run(self, call: Call, streams: Streams) -> None:
        """Do what ``call`` asks for, advancing ``streams`` in place."""
        if call.codes.shape[1]:
            self._launch(call, streams)
        longest = max(self.config.dilations)
        streams.time = (streams.time + call.codes.shape[1]) % longest

    @abstractmethod
    def _launch(self, call: Call, streams: Streams) -> None: ...

    @property
    def sizes(self) -> dict[str, int]:
        """The widths that every kernel is compiled for."""
        return {"R": self.widths.residual, "S": self.widths.skip}
