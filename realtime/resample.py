"""Low-delay streaming resampling between a device's rate and the network's.

A Kaiser-windowed sinc, about 2 ms long, split into phases. The prototype lives on the common grid
of both rates, so any rational pair is exact: 44.1 kHz is 441:160. Nothing is held back: every
output that the input so far determines is returned, and any split of the input into blocks gives
the same outputs bit for bit. A general-purpose resampler holds back tens of milliseconds instead,
which is why files may use one and the live path does not.
"""

from __future__ import annotations

from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

from model.errors import ConfigError, ShapeError
from numba_kernels.fir import polyphase

SUPPORTED_RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000)
"""Device and file rates in Hz that the engine runs at."""

# Half the filter, in samples of the lower rate: 1 ms at 16 kHz.
_HALF_LENGTH = 16
# Cut-off (-6 dB) as a share of the lower rate. With the length and window above: -0.1 dB at
# 0.375, better than -80 dB from 0.53 on.
_CUTOFF = 0.4375
_KAISER_BETA = 8.0
# Rows are padded to whole vectors, so that no dot product has a scalar tail.
_ROW_MULTIPLE = 16
_CHUNK = 1024


class PolyphaseResampler:
    """A streaming resampler between two rates, with its state.

    ``delay_s`` is the same for every frequency (the filter's phase is linear): input at time t
    sounds at t + delay_s in the output. Equal rates pass audio through with no delay.
    """

    def __init__(self, source_rate: int, target_rate: int):
        """Design the filter. Raises ConfigError unless both rates are in SUPPORTED_RATES."""
        require_supported(source_rate)
        require_supported(target_rate)
        self.source_rate = source_rate
        self.target_rate = target_rate
        divisor = gcd(source_rate, target_rate)
        self._up = target_rate // divisor
        self._down = source_rate // divisor
        self._taps = _phase_table(prototype(source_rate, target_rate), self._up)
        self._work = np.zeros(self._taps.shape[1] - 1 + _CHUNK, np.float32)
        self._position = 0

    @property
    def delay_s(self) -> float:
        """Seconds by which the output lags the input."""
        if self.source_rate == self.target_rate:
            return 0.0
        return _delay_in_higher_samples(self.source_rate, self.target_rate) / max(
            self.source_rate, self.target_rate
        )

    @property
    def delay_samples(self) -> float:
        """Delay in output samples; whole when the output has the higher rate."""
        return self.delay_s * self.target_rate

    def most_output(self, frames: int) -> int:
        """The most outputs that ``frames`` input samples can give."""
        return ceil(frames * self._up / self._down) + 1

    def process(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Resample one block into a fresh array; see ``process_into``."""
        out = np.empty(self.most_output(len(block)), np.float32)
        return out[: self.process_into(block, out)]

    def process_into(self, block: NDArray[np.float32], out: NDArray[np.float32]) -> int:
        """Resample one block, writing every output that is due.

        block: (time,) float32, any length.  out: (at least ``most_output(time)``,) float32,
        overwritten from its start.  After n samples in all, ceil(n * target / source) are out.
        Returns the number written.
        Raises ShapeError unless both are one-dimensional float32 and ``out`` is long enough.
        """
        if block.ndim != 1 or block.dtype != np.float32 or out.dtype != np.float32:
            raise ShapeError(
                f"audio must be one-dimensional float32, got {block.dtype} {block.shape}"
            )
        if len(out) < self.most_output(len(block)):
            raise ShapeError(
                f"out must hold {self.most_output(len(block))} samples, got {len(out)}"
            )
        if self.source_rate == self.target_rate:
            out[: len(block)] = block
            return len(block)
        written, self._position = polyphase(
            np.ascontiguousarray(block), self._work, self._taps, self._down, self._position, out
        )
        return int(written)

    def forget(self) -> None:
        """Replace the past input by silence, keeping the place in the timeline."""
        self._work[:] = 0.0

    def reset(self) -> None:
        """Back to the first sample: silence before it, and a timeline that starts again."""
        self.forget()
        self._position = 0


def require_supported(rate: int) -> None:
    """Raise ConfigError unless ``rate`` is in SUPPORTED_RATES."""
    if rate not in SUPPORTED_RATES:
        listed = ", ".join(str(rate) for rate in SUPPORTED_RATES)
        raise ConfigError(f"no resampling at {rate} Hz; choose one of {listed}")


def prototype(source_rate: int, target_rate: int) -> NDArray[np.float64]:
    """The filter on the common grid of both rates, symmetric about its middle tap.

    Its sum is the up-sampling factor, so a constant keeps its level.
    """
    if source_rate == target_rate:
        return np.ones(1)
    grid_rate = source_rate * target_rate // gcd(source_rate, target_rate)
    steps = grid_rate // max(source_rate, target_rate)
    half = _delay_in_higher_samples(source_rate, target_rate) * steps
    place = np.arange(-half, half + 1)
    cutoff = _CUTOFF * min(source_rate, target_rate) / grid_rate
    taps = np.sinc(2.0 * cutoff * place) * np.kaiser(2 * half + 1, _KAISER_BETA)
    scaled: NDArray[np.float64] = taps * (grid_rate // source_rate / taps.sum())
    return scaled


def _delay_in_higher_samples(source_rate: int, target_rate: int) -> int:
    # A whole number at the higher rate, so that down and up again is whole at a device's rate.
    low, high = sorted((source_rate, target_rate))
    return round(_HALF_LENGTH * high / low)


def _phase_table(taps: NDArray[np.float64], up: int) -> NDArray[np.float32]:
    length = -(-len(taps) // up)
    length = -(-length // _ROW_MULTIPLE) * _ROW_MULTIPLE
    padded = np.zeros(length * up)
    padded[: len(taps)] = taps
    return np.ascontiguousarray(padded.reshape(length, up)[::-1].T, dtype=np.float32)
