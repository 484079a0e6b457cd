"""How fast the encoder and the decoders run on this machine: ``make bench``.

Prints a table and writes ``benchmarks/results/throughput.json``: one object a measurement, with the
commit, the machine, and the median of repeated runs with their minimum and maximum. One thread.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from model.bundle import Bundle, random_bundle
from model.config import LEVELS, SAMPLE_RATE, ModelConfig
from realtime.backends import open_backend
from realtime.machine import describe_machine

RESULTS = Path(__file__).parent / "results" / "throughput.json"
BACKENDS = ("numba-int8", "numba-float32")


@dataclass(frozen=True)
class Measurement:
    """One row of the results; rates in 16 kHz samples per second of wall time."""

    commit: str
    machine: dict[str, Any]
    part: str
    shape: str
    backend: str
    threads: int
    runs: int
    samples_per_s: float
    samples_per_s_min: float
    samples_per_s_max: float
    x_realtime: float
    gmac_per_s: float


def decoder_macs(config: ModelConfig) -> int:
    """Multiply-adds of one decoded sample; conditioning, once a hop, is left out."""
    decoder = config.decoder
    residual, skip, head = (
        decoder.residual_channels,
        decoder.skip_channels,
        decoder.head_channels,
    )
    layer = 2 * residual * 2 * residual + residual * (residual + skip)
    return len(decoder.dilations) * layer + skip * head + head * LEVELS


def encoder_macs(config: ModelConfig) -> int:
    """Multiply-adds of one encoded sample."""
    width = config.encoder.channels
    return len(config.encoder.dilations) * 4 * width * width + 3 * width


def rates(run: Callable[[], int], runs: int) -> list[float]:
    """Samples per second of each of ``runs`` calls, after one that is not counted."""
    run()
    measured = []
    for _ in range(runs):
        started = time.perf_counter()
        samples = run()
        measured.append(samples / (time.perf_counter() - started))
    return measured


def measure(bundle: Bundle, backend_name: str, seconds: float, runs: int) -> list[Measurement]:
    """Encoder and decoder of one bundle under one backend."""
    config = bundle.config
    backend = open_backend(backend_name, bundle)
    rng = np.random.default_rng(0)
    hops = max(1, round(seconds * SAMPLE_RATE / config.hop_samples))
    audio = rng.normal(0, 0.2, hops * config.hop_samples).astype(np.float32)
    latents = rng.normal(0, 1, (hops, config.latent_channels)).astype(np.float32)
    uniforms = rng.random(len(audio), dtype=np.float32)
    encoder, encoder_state = backend.encoder, backend.encoder.initial_state()
    decoder = backend.decoders[0]
    decoder_state = decoder.initial_state()

    def encode() -> int:
        encoder.encode(audio, encoder_state)
        return len(audio)

    def decode() -> int:
        return len(decoder.generate(latents, uniforms, decoder_state))

    network = config.decoder
    decoder_shape = f"{len(network.dilations)}/{network.residual_channels}/{network.skip_channels}"
    encoder_shape = f"{len(config.encoder.dilations)}/{config.encoder.channels}"
    commit, machine = current_commit(), describe_machine()

    def row(part: str, shape: str, macs: int, measured: list[float]) -> Measurement:
        middle = median(measured)
        return Measurement(
            commit=commit,
            machine=machine,
            part=part,
            shape=shape,
            backend=backend_name,
            threads=1,
            runs=runs,
            samples_per_s=round(middle),
            samples_per_s_min=round(min(measured)),
            samples_per_s_max=round(max(measured)),
            x_realtime=round(middle / SAMPLE_RATE, 3),
            gmac_per_s=round(middle * macs / 1e9, 2),
        )

    return [
        row("encode", encoder_shape, encoder_macs(config), rates(encode, runs)),
        row("decode", decoder_shape, decoder_macs(config), rates(decode, runs)),
    ]


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


def main() -> None:
    """Measure the live and paper profiles and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each part")
    parser.add_argument("--seconds", type=float, default=0.5, help="audio in one run")
    parser.add_argument("--json", type=Path, default=RESULTS, help="where to write the results")
    options = parser.parse_args()

    console = Console()
    rows: list[Measurement] = []
    for profile_name in ("live", "paper"):
        bundle = random_bundle(profile_name, domains=("a",))
        for backend in BACKENDS:
            with console.status(f"measuring {profile_name}, {backend}"):
                rows += measure(bundle, backend, options.seconds, options.runs)
    table = Table("part", "shape", "backend", "samples/s", "min", "max", "x real time", "GMAC/s")
    for row in rows:
        table.add_row(
            row.part,
            row.shape,
            row.backend,
            f"{row.samples_per_s:,.0f}",
            f"{row.samples_per_s_min:,.0f}",
            f"{row.samples_per_s_max:,.0f}",
            f"{row.x_realtime:.2f}",
            f"{row.gmac_per_s:.1f}",
        )
    console.print(table)
    console.print(f"medians of {options.runs} runs of {options.seconds} s, one thread")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    console.print(f"written to {options.json}")


if __name__ == "__main__":
    main()
