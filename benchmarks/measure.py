"""Throughput of decoder, encoder and whole chain: medians of repeated runs, beside a bound."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.baselines import BASELINES, Baseline, missing_packages, open_baseline
from benchmarks.roofline import Roofline, peak_macs_per_s, read_bytes_per_s, roofline
from benchmarks.shapes import (
    decoder_bytes,
    decoder_macs,
    decoder_shape,
    encoder_bytes,
    encoder_macs,
    encoder_shape,
)
from model.bundle import random_bundle
from model.config import SAMPLE_RATE, ModelConfig
from numba_kernels import decoder as decoder_kernel
from realtime.backends import open_backend
from realtime.chain import Chain
from realtime.decoder import NumbaDecoder
from realtime.machine import describe_machine

AHEAD = decoder_kernel.AHEAD
"""Samples whose past taps the decoder computes at once."""

_BASELINE_S = 0.3
_BASELINE_RUNS = 3
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    runs: int = 7
    seconds: float = 0.5
    """Of audio in one run of one stream."""


@dataclass(frozen=True)
class BaselineRate:
    """The same decoder by other means, in the same run; rates in samples per second."""

    samples_per_s: float
    min: float
    max: float
    ratio: float
    """Ours over theirs."""


@dataclass(frozen=True)
class Measurement:
    """One object of the results; rates in 16 kHz samples per second of wall time."""

    commit: str
    machine: dict[str, Any]
    part: str
    shape: str
    backend: str
    dtype: str
    threads: int
    streams: int
    runs: int
    samples_per_s: float
    """Median of the runs, all streams together."""
    samples_per_s_min: float
    samples_per_s_max: float
    x_realtime: float
    gmac_per_s: float
    roofline: Roofline
    fraction_of_roofline: float
    baselines: dict[str, BaselineRate] = field(default_factory=dict)
    hop_ms: dict[str, float] | None = None
    """Of a chain: p50, p95, p99 and max of the time a hop takes, and how long a hop lasts."""
    core_share: float | None = None
    """Of a chain: CPU seconds of all threads per second of audio."""

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready mapping; what only a chain has is left out elsewhere."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def measure_decoder(
    config: ModelConfig,
    *,
    dtype: str = "int8",
    threads: int = 1,
    streams: int = 1,
    effort: Effort | None = None,
    baselines: Sequence[str] = (),
) -> Measurement:
    """Sampling of one decoder with random weights, each stream after the other.

    baselines: names of those to measure too; they have one stream. One whose packages are not
    installed is left out, see ``missing_packages``. Half of our own runs come after theirs, so
    that a machine that drifts favours nobody.
    """
    effort = effort or Effort()
    bundle = random_bundle(config, domains=("a",))
    decoder = NumbaDecoder(config, bundle.decoders["a"], dtype, threads)
    states = [decoder.initial_state() for _ in range(streams)]
    latents, uniforms = _decoder_inputs(config, effort.seconds)

    def decode() -> int:
        return sum(len(decoder.generate(latents, uniforms, state)) for state in states)

    weight_bytes = decoder_bytes(config, dtype, AHEAD)
    bound = _bound(dtype, threads, decoder_macs(config), weight_bytes)
    later = effort.runs // 2 if baselines else 0
    measured = rates(decode, effort.runs - later)
    theirs = {}
    for name in baselines:
        if not missing_packages(name):
            with open_baseline(name, config, bundle.decoders["a"], threads) as baseline:
                theirs[name] = baseline_rates(baseline, config)
    if later:
        measured += rates(decode, later)
    others = {name: _baseline_rate(rate, median(measured)) for name, rate in theirs.items()}
    return _measurement(
        "decode",
        decoder_shape(config.decoder),
        f"numba-{dtype}",
        dtype,
        (threads, streams),
        decoder_macs(config),
        measured,
        bound,
        baselines=others,
    )


def measure_encoder(
    config: ModelConfig,
    *,
    dtype: str = "int8",
    threads: int = 1,
    streams: int = 1,
    effort: Effort | None = None,
) -> Measurement:
    """The streaming encoder, hop by hop, each stream after the other."""
    effort = effort or Effort()
    backend = open_backend(f"numba-{dtype}", random_bundle(config, domains=("a",)), threads)
    states = [backend.encoder.initial_state() for _ in range(streams)]
    audio = _audio(config, effort.seconds)

    def encode() -> int:
        for state in states:
            for hop in audio:
                backend.encoder.encode(hop, state)
        return streams * audio.size

    bound = _bound(dtype, threads, encoder_macs(config), encoder_bytes(config, dtype))
    return _measurement(
        "encode",
        encoder_shape(config.encoder),
        backend.name,
        dtype,
        (threads, streams),
        encoder_macs(config),
        rates(encode, effort.runs),
        bound,
    )


def measure_chain(
    config: ModelConfig,
    *,
    dtype: str = "int8",
    threads: int = 1,
    streams: int = 1,
    effort: Effort | None = None,
) -> Measurement:
    """The whole signal path at 16 kHz, in blocks of one hop, each stream after the other."""
    effort = effort or Effort()
    bundle = random_bundle(config, domains=("a",))
    backend = open_backend(f"numba-{dtype}", bundle, threads)
    chains = [Chain(bundle, backend) for _ in range(streams)]
    audio = _audio(config, effort.seconds)
    hop_s: list[float] = []

    def translate() -> int:
        for chain in chains:
            for hop in audio:
                started = time.perf_counter()
                chain.process(hop)
                hop_s.append(time.perf_counter() - started)
        return streams * audio.size

    bound = _chain_bound(config, dtype, threads)
    translate()
    hop_s.clear()
    started_cpu = time.process_time()
    measured = rates(translate, effort.runs, warm_up=False)
    audio_s = effort.runs * streams * audio.size / SAMPLE_RATE
    return _measurement(
        "chain",
        f"{encoder_shape(config.encoder)}+{decoder_shape(config.decoder)}",
        backend.name,
        dtype,
        (threads, streams),
        decoder_macs(config) + encoder_macs(config),
        measured,
        bound,
        hop_ms=hop_statistics(hop_s) | {"hop": 1000 * config.hop_s},
        core_share=round((time.process_time() - started_cpu) / audio_s, 4),
    )


def rates(run: Callable[[], int], runs: int, *, warm_up: bool = True) -> list[float]:
    """Samples per second of each of ``runs`` calls, by default after one that is not counted."""
    if warm_up:
        run()
    measured = []
    for _ in range(runs):
        started = time.perf_counter()
        samples = run()
        measured.append(samples / (time.perf_counter() - started))
    return measured


def baseline_rates(baseline: Baseline, config: ModelConfig) -> list[float]:
    """Samples per second of a few runs that are as long as it takes to time them."""
    latents, uniforms = _decoder_inputs(config, config.hop_s)
    # Once to compile, once to see how fast it is.
    baseline.generate(latents, uniforms)
    started = time.perf_counter()
    baseline.generate(latents, uniforms)
    hops = max(1, math.ceil(_BASELINE_S / (time.perf_counter() - started)))
    latents, uniforms = _decoder_inputs(config, hops * config.hop_s)
    run = baseline.generate
    return rates(lambda: len(run(latents, uniforms)), _BASELINE_RUNS, warm_up=False)


def hop_statistics(seconds: Sequence[float]) -> dict[str, float]:
    """Percentiles and maximum, in ms."""
    values = np.percentile(seconds, _PERCENTILES)
    known = {f"p{p}": float(v) for p, v in zip(_PERCENTILES, values, strict=True)}
    return {name: round(1000 * value, 4) for name, value in (known | {"max": max(seconds)}).items()}


def skipped_baselines() -> dict[str, str]:
    """Baselines that cannot be measured here, and why."""
    missing = {name: missing_packages(name) for name in BASELINES}
    return {name: f"needs {' and '.join(m)}" for name, m in missing.items() if m}


def current_commit() -> str:
    """The commit measured, marked if the tree differs from it; 'unknown' outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _measurement(
    part: str,
    shape: str,
    backend: str,
    dtype: str,
    threads_streams: tuple[int, int],
    macs: int,
    measured: Sequence[float],
    bound: Roofline,
    **more: Any,
) -> Measurement:
    middle = median(measured)
    threads, streams = threads_streams
    return Measurement(
        commit=current_commit(),
        machine=describe_machine(),
        part=part,
        shape=shape,
        backend=backend,
        dtype=dtype,
        threads=threads,
        streams=streams,
        runs=len(measured),
        samples_per_s=round(middle, 1),
        samples_per_s_min=round(min(measured), 1),
        samples_per_s_max=round(max(measured), 1),
        x_realtime=round(middle / SAMPLE_RATE, 3),
        gmac_per_s=round(middle * macs / 1e9, 2),
        roofline=bound,
        fraction_of_roofline=round(middle / bound.floor_samples_per_s, 3),
        **more,
    )


def _baseline_rate(measured: Sequence[float], ours: float) -> BaselineRate:
    middle = median(measured)
    return BaselineRate(
        round(middle, 1), round(min(measured), 1), round(max(measured), 1), round(ours / middle, 2)
    )


def _bound(dtype: str, threads: int, macs: int, weight_bytes: float) -> Roofline:
    # The size that one thread reads over and over decides which cache it comes from.
    bandwidth = read_bytes_per_s(round(weight_bytes), threads)
    return roofline(macs, weight_bytes, peak_macs_per_s(dtype, threads), bandwidth)


def _chain_bound(config: ModelConfig, dtype: str, threads: int) -> Roofline:
    """The decoder's bound, and the encoder's time on top of it."""
    decoder = _bound(dtype, threads, decoder_macs(config), decoder_bytes(config, dtype, AHEAD))
    encoder = _bound(dtype, threads, encoder_macs(config), encoder_bytes(config, dtype))
    floor_s = 1 / decoder.floor_samples_per_s + 1 / encoder.floor_samples_per_s
    return Roofline(
        decoder.peak_gmac_per_s,
        decoder.read_gb_per_s,
        round(decoder.weight_mb + encoder.weight_mb, 4),
        1 / floor_s,
    )


def _hops(config: ModelConfig, seconds: float) -> int:
    return max(1, round(seconds / config.hop_s))


def _audio(config: ModelConfig, seconds: float) -> Any:
    rng = np.random.default_rng(0)
    shape = (_hops(config, seconds), config.hop_samples)
    return rng.normal(0, 0.2, shape).astype(np.float32)


def _decoder_inputs(config: ModelConfig, seconds: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    hops = _hops(config, seconds)
    latents = rng.normal(0, 1, (hops, config.latent_channels)).astype(np.float32)
    return latents, rng.random(hops * config.hop_samples, dtype=np.float32)
