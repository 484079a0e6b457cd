"""Throughput of decoder, encoder and whole chain: medians of repeated runs, beside a bound."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from benchmarks.baselines import BASELINES, Baseline, missing_packages, open_baselines
from benchmarks.measurement import BaselineRate, Measurement, Subject
from benchmarks.roofline import Limits, Roofline, roofline
from benchmarks.shapes import (
    decoder_bytes,
    decoder_macs,
    decoder_shape,
    encoder_bytes,
    encoder_macs,
    encoder_shape,
)
from benchmarks.timing import Job, Progress, hop_statistics, rates, silent, warm_up
from model.bundle import random_bundle
from model.config import SAMPLE_RATE, ModelConfig
from model.errors import ConfigError
from numba_kernels.decoder import AHEAD
from numba_kernels.simd import VECTOR
from realtime.backends import SHARED_CHANNELS, open_backend
from realtime.chain import Chain
from realtime.decoder import NumbaDecoder

# Audio in one piece of a run: between pieces, progress may be shown.
_PIECE_S = 1.0
_BASELINE_S = 0.15
_TRIAL_SAMPLES = 16
_OURS = "ours"


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    runs: int = 7
    seconds: float = 0.5
    """Of audio in one run of one stream."""


def sampling_threads(config: ModelConfig, asked: int | None = None) -> int:
    """Threads to sample with: as asked, or else as the engine would where it has two.

    Raises ConfigError if the decoder's channels do not divide among them.
    """
    decoder = config.decoder
    unit = 2 * VECTOR
    divides = decoder.residual_channels % unit == 0 == decoder.skip_channels % unit
    if asked is None:
        return 2 if divides and decoder.residual_channels >= SHARED_CHANNELS else 1
    if asked > 1 and not divides:
        raise ConfigError(
            f"two threads need residual and skip channels in multiples of {unit}, "
            f"got {decoder_shape(decoder)}; use --threads 1"
        )
    return asked


def measure_decoder(
    config: ModelConfig,
    *,
    dtype: str = "int8",
    threads: int = 1,
    streams: int = 1,
    effort: Effort | None = None,
    baselines: Sequence[str] = (),
    progress: Progress = silent,
) -> Measurement:
    """Sampling of one decoder with random weights, each stream after the other.

    baselines: names of those to measure too, in turn with ours; they have one stream. One whose
    packages are not installed is left out, see ``missing_packages``.
    """
    effort = effort or Effort()
    shape = decoder_shape(config.decoder)
    subject = Subject("decode", shape, dtype, threads, streams, decoder_macs(config))
    weights = random_bundle(config, domains=("a",)).decoders["a"]
    ours = _our_decoder(NumbaDecoder(config, weights, dtype, threads), streams, effort.seconds)
    limits = _decoder_limits(config, dtype, threads)
    names = [name for name in baselines if not missing_packages(name)]
    with open_baselines(names, config, weights, threads) as others:
        jobs = {_OURS: ours} | {name: _their_job(b, config) for name, b in others.items()}
        limits.measure()
        warm_up(ours)
        found = rates(jobs, effort.runs, progress)
        limits.measure()
    middle = median(found[_OURS])
    rows = {name: _baseline_rate(found[name], middle, b.threads) for name, b in others.items()}
    return subject.measured(found[_OURS], _decoder_bound(limits, config), baselines=rows)


def measure_encoder(
    config: ModelConfig,
    *,
    dtype: str = "int8",
    threads: int = 1,
    streams: int = 1,
    effort: Effort | None = None,
    progress: Progress = silent,
) -> Measurement:
    """The streaming encoder, hop by hop, each stream after the other."""
    effort = effort or Effort()
    shape = encoder_shape(config.encoder)
    subject = Subject("encode", shape, dtype, threads, streams, encoder_macs(config))
    backend = open_backend(f"numba-{dtype}", random_bundle(config, domains=("a",)), threads)
    states = [backend.encoder.initial_state() for _ in range(streams)]
    audio = _audio(config, effort.seconds)

    def encode() -> Iterator[int]:
        for state in states:
            for piece in _pieces(config, audio):
                for hop in piece:
                    backend.encoder.encode(hop, state)
                yield piece.size

    job = Job(streams * audio.size, encode)
    limits = _encoder_limits(config, dtype, threads)
    warm_up(job)
    found = _bounded_rates(job, effort.runs, progress, limits)
    return subject.measured(found, _encoder_bound(limits, config))


def measure_chain(
    config: ModelConfig,
    *,
    dtype: str = "int8",
    threads: int = 1,
    streams: int = 1,
    effort: Effort | None = None,
    progress: Progress = silent,
) -> Measurement:
    """The whole signal path at 16 kHz, in blocks of one hop, each stream after the other."""
    effort = effort or Effort()
    shape = f"{encoder_shape(config.encoder)}+{decoder_shape(config.decoder)}"
    macs = decoder_macs(config) + encoder_macs(config)
    subject = Subject("chain", shape, dtype, threads, streams, macs)
    bundle = random_bundle(config, domains=("a",))
    backend = open_backend(f"numba-{dtype}", bundle, threads)
    chains = [Chain(bundle, backend) for _ in range(streams)]
    audio = _audio(config, effort.seconds)
    hop_s: list[float] = []
    cpu_s: list[float] = []

    def translate() -> Iterator[int]:
        for chain in chains:
            for piece in _pieces(config, audio):
                started_cpu = time.process_time()
                for hop in piece:
                    started = time.perf_counter()
                    chain.process(hop)
                    hop_s.append(time.perf_counter() - started)
                cpu_s.append(time.process_time() - started_cpu)
                yield piece.size

    job = Job(streams * audio.size, translate)
    warm_up(job)
    hop_s.clear()
    cpu_s.clear()
    decoder = _decoder_limits(config, dtype, threads)
    encoder = _encoder_limits(config, dtype, threads)
    found = _bounded_rates(job, effort.runs, progress, decoder, encoder)
    return subject.measured(
        found,
        _one_after_the_other(_decoder_bound(decoder, config), _encoder_bound(encoder, config)),
        hop_ms=hop_statistics(hop_s) | {"hop": 1000 * config.hop_s},
        core_share=round(sum(cpu_s) * SAMPLE_RATE / (effort.runs * job.samples), 4),
    )


def skipped_baselines() -> dict[str, str]:
    """Baselines that cannot be measured here, and why."""
    missing = {name: missing_packages(name) for name in BASELINES}
    return {name: f"needs {' and '.join(m)}" for name, m in missing.items() if m}


def _our_decoder(decoder: NumbaDecoder, streams: int, seconds: float) -> Job:
    config = decoder.config
    latents, uniforms = _decoder_inputs(config, seconds)
    states = [decoder.initial_state() for _ in range(streams)]

    def decode() -> Iterator[int]:
        for state in states:
            draws = uniforms.reshape(len(latents), -1)
            pairs = zip(_pieces(config, latents), _pieces(config, draws), strict=True)
            for some_latents, some_draws in pairs:
                yield len(decoder.generate(some_latents, some_draws.ravel(), state))

    return Job(streams * len(uniforms), decode)


def _their_job(baseline: Baseline, config: ModelConfig) -> Job:
    """A run as long as it takes to time it, from silence; its last hop may be cut short."""
    latents, uniforms = _decoder_inputs(config, config.hop_s)
    started = time.perf_counter()
    trial = len(baseline.generate(latents, uniforms[:_TRIAL_SAMPLES]))
    samples = max(trial, round(trial * _BASELINE_S / (time.perf_counter() - started)))
    latents, uniforms = _decoder_inputs(config, samples / SAMPLE_RATE + config.hop_s)

    def decode() -> Iterator[int]:
        yield len(baseline.generate(latents, uniforms[:samples]))

    return Job(samples, decode)


def _bounded_rates(job: Job, runs: int, progress: Progress, *limits: Limits) -> list[float]:
    """Samples per second of each run, the limits being measured before and after."""
    for limit in limits:
        limit.measure()
    found = rates({_OURS: job}, runs, progress)[_OURS]
    for limit in limits:
        limit.measure()
    return found


def _baseline_rate(found: Sequence[float], ours: float, threads: int) -> BaselineRate:
    middle = median(found)
    return BaselineRate(
        round(middle, 1),
        round(min(found), 1),
        round(max(found), 1),
        round(ours / middle, 2),
        threads,
    )


def _decoder_limits(config: ModelConfig, dtype: str, threads: int) -> Limits:
    # Past taps of a layer are read once in AHEAD samples: what every sample reads is what a cache
    # keeps. Taking all weights instead could call for a slower cache than the decoder has.
    return Limits(dtype, threads, decoder_bytes(config, dtype, AHEAD))


def _decoder_bound(limits: Limits, config: ModelConfig) -> Roofline:
    weight_bytes = decoder_bytes(config, limits.dtype, AHEAD)
    return roofline(decoder_macs(config), weight_bytes, limits.peak, limits.bandwidth)


def _encoder_limits(config: ModelConfig, dtype: str, threads: int) -> Limits:
    return Limits(dtype, threads, config.hop_samples * encoder_bytes(config, dtype))


def _encoder_bound(limits: Limits, config: ModelConfig) -> Roofline:
    weight_bytes = encoder_bytes(config, limits.dtype)
    return roofline(encoder_macs(config), weight_bytes, limits.peak, limits.bandwidth)


def _one_after_the_other(decoder: Roofline, encoder: Roofline) -> Roofline:
    """The decoder's limits; a sample takes the time of both, all threads working on either."""
    floor_s = 1 / decoder.floor_samples_per_s + 1 / encoder.floor_samples_per_s
    return Roofline(
        decoder.peak_gmac_per_s,
        decoder.read_gb_per_s,
        round(decoder.weight_mb + encoder.weight_mb, 4),
        1 / floor_s,
    )


def _hops(config: ModelConfig, seconds: float) -> int:
    return max(1, round(seconds / config.hop_s))


def _pieces(config: ModelConfig, hops: Any) -> Iterator[Any]:
    """Parts of an array of hops."""
    step = _hops(config, _PIECE_S)
    for start in range(0, len(hops), step):
        yield hops[start : start + step]


def _audio(config: ModelConfig, seconds: float) -> Any:
    rng = np.random.default_rng(0)
    shape = (_hops(config, seconds), config.hop_samples)
    return rng.standard_normal(shape, np.float32) * np.float32(0.2)


def _decoder_inputs(config: ModelConfig, seconds: float) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    hops = _hops(config, seconds)
    latents = rng.normal(0, 1, (hops, config.latent_channels)).astype(np.float32)
    return latents, rng.random(hops * config.hop_samples, dtype=np.float32)
