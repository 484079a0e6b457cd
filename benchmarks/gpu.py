"""Measures the GPU samplers on the machine's GPU: ``python -m benchmarks.gpu --json FILE``.

Every sampler that can run a shape with so many streams is checked against the reference as it is
timed; one that is wrong is an error at the end. Its times stand beside what the model of
``triton_kernels.choice`` predicts, the floors no sampler of its kind can go below, and PyTorch.
What the model takes from data sheets, an exchange through L2 and a launch of a captured graph, is
measured, too. Everything takes under eight minutes; what time is left for is measured in the order
of the shapes, and results are written as they come.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import compress
from math import inf
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import triton
import triton.language as tl
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.commit import current_commit
from benchmarks.shapes import config_of_shape
from benchmarks.torch_decoder import TorchDecoder
from model.config import LEVELS, SAMPLE_RATE, ModelConfig
from model.errors import BackendUnavailable
from model.reference import ReferenceDecoder
from model.weights import Weights, decoder_shapes, random_weights
from realtime.machine import describe_machine
from triton_kernels.backend import find_device, known_here, sampler_for
from triton_kernels.choice import Device, predicted_us, read_us, weight_bytes
from triton_kernels.pack import Streams, pack_decoder
from triton_kernels.parts import OPTIONS, SAMPLE, SCORE
from triton_kernels.pipeline import receive, send
from triton_kernels.samplers import SAMPLERS, Call, FusedLayers, Persistent, Pipeline

SHAPES = ("20/64/64", "20/64/128", "40/128/128", "20/32/128", "40/64/128")
STREAMS = (1, 8, 64)
RUNS = 5
TEMPERATURE = 0.8
LARGEST_ERROR = 0.05
"""Of a logit with float16 weights, against the reference: far above what rounding makes of small
networks in the interpreter (0.0005); what it makes of these no GPU has measured."""
_CHECKED_AFTER = 16
"""Samples checked once every queue has gone round."""
_BASELINES = ("torch-eager", "torch-compile")
_EXCHANGES = 20_000
_LAUNCHES = 500

console = Console()
app = typer.Typer(add_completion=False)


@app.command()
def main(
    json_file: Annotated[Path, typer.Option("--json", help="Where results go.")] = Path(
        "benchmarks/results/gpu.json"
    ),
    shapes: Annotated[
        list[str] | None, typer.Option("--shape", metavar="L/R/S", help="Measure these alone.")
    ] = None,
    streams: Annotated[
        list[int] | None, typer.Option("--streams", metavar="N", min=1, help="Streams at once.")
    ] = None,
    hops: Annotated[int, typer.Option(min=1, metavar="N", help="Hops in a run.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.1, metavar="M", help="Stop after these.")] = 7.0,
    baselines: Annotated[bool, typer.Option(help="PyTorch, eager and compiled, too.")] = True,
) -> None:
    """Check and time every GPU sampler.

    Example: python -m benchmarks.gpu --shape 20/64/64 --streams 1 --json gpu.json
    """
    try:
        device = find_device()
    except BackendUnavailable as error:
        console.print(f"benchmarks.gpu: {error}")
        raise typer.Exit(1) from error
    deadline = time.monotonic() + 60 * minutes
    known = known_here(device)
    report: dict[str, Any] = {
        "commit": current_commit(),
        "machine": describe_machine(),
        "device": asdict(known),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "measured": device_figures() if device.type == "cuda" else {},
        "results": [],
    }
    for shape in shapes or SHAPES:
        config = config_of_shape(shape)
        weights = float16_weights(config)
        check = Check.of(config, weights)
        for count in streams or STREAMS:
            for name in runnable(config, count, known):
                if time.monotonic() > deadline:
                    console.print("out of time; what was measured is written")
                    raise typer.Exit(_status(report))
                row = measured(name, shape, config, weights, count, hops, known)
                row["largest_error"] = check.largest_error(name, count)
                report["results"].append(row)
                write(json_file, report)
                show(row)
        if baselines and device.type == "cuda":
            report.setdefault("baselines", {})[shape] = {
                name: baseline_rate(config, weights, compiled=name == "torch-compile")
                for name in _BASELINES
                if time.monotonic() < deadline
            }
            write(json_file, report)
    raise typer.Exit(_status(report))


def _status(report: dict[str, Any]) -> int:
    """1 if any sampler was wrong, else 0."""
    wrong = [row for row in report["results"] if not row["largest_error"] <= LARGEST_ERROR]
    for row in wrong:
        console.print(
            f"benchmarks.gpu: {row['sampler']} is wrong for {row['shape']} and {row['streams']} "
            f"streams: a logit is off by {row['largest_error']:.3g}; its times mean nothing"
        )
    return int(bool(wrong))


def runnable(config: ModelConfig, streams: int, device: Device) -> list[str]:
    """Samplers that the device can run for so many streams."""
    can = (predicted_us(name, config.decoder, streams, device) < inf for name in SAMPLERS)
    return list(compress(SAMPLERS, can))


def measured(
    name: str,
    shape: str,
    config: ModelConfig,
    weights: Weights,
    streams: int,
    hops: int,
    device: Device,
) -> dict[str, Any]:
    """One sampler's row: right or wrong, rates of all streams together, prediction and floors."""
    run = sampling(name, config, weights, streams, hops)
    run()
    seconds = [timed(run) for _ in range(RUNS)]
    samples = hops * config.hop_samples
    each = median(seconds) / samples * 1e6
    floors = floors_us(name, config, streams, device)
    return {
        "shape": shape,
        "sampler": name,
        "dtype": "float16",
        "streams": streams,
        "samples_per_s": streams * samples / median(seconds),
        "samples_per_s_min": streams * samples / max(seconds),
        "samples_per_s_max": streams * samples / min(seconds),
        "x_realtime": 1e6 / each / SAMPLE_RATE,
        "us_per_sample": each,
        "us_per_stage": each / stages(name, config),
        "predicted_us": predicted_us(name, config.decoder, streams, device),
        **{f"{floor}_floor_us": value for floor, value in floors.items()},
        "fraction_of_floor": max(floors.values()) / each,
    }


def sampling(
    name: str, config: ModelConfig, weights: Weights, streams: int, hops: int
) -> Callable[[], torch.Tensor]:
    """A call that samples ``hops`` hops of each stream, going on from the call before."""
    device = find_device()
    packed = pack_decoder(config.decoder, weights, torch.float16, device)
    sampler = sampler_for(config, packed, streams, name)
    state = Streams.at_rest(config.decoder, streams, device)
    samples = hops * config.hop_samples
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(streams, hops, config.latent_channels, generator=generator)
    call = Call(
        task=SAMPLE.value,
        conditions=packed.conditions(latents.to(device)),
        hop=config.hop_samples,
        codes=torch.zeros(streams, samples, dtype=torch.uint8, device=device),
        uniforms=torch.rand(streams, samples, generator=generator).to(device),
        scores=torch.empty(streams, 0, LEVELS, device=device),
        sharpness=1 / TEMPERATURE,
    )

    def run() -> torch.Tensor:
        sampler.run(call, state)
        return call.codes

    return run


@dataclass(frozen=True)
class Check:
    """Logits of a network by the reference, late enough that every queue has gone round."""

    config: ModelConfig
    weights: Weights
    latents: NDArray[np.float32]
    codes: NDArray[np.uint8]
    logits: NDArray[np.float32]

    @classmethod
    def of(cls, config: ModelConfig, weights: Weights) -> Check:
        """Random input for a network, and what the reference makes of it."""
        rng = np.random.default_rng(1)
        config = replace(config, hop_samples=_CHECKED_AFTER)
        hops = -(-max(config.decoder.dilations) // _CHECKED_AFTER) + 1
        latents = rng.normal(size=(hops, config.latent_channels)).astype(np.float32)
        codes = rng.integers(0, LEVELS, hops * _CHECKED_AFTER).astype(np.uint8)
        reference = ReferenceDecoder(config, weights, np.float32)
        logits = reference.teacher_force(latents, codes, reference.initial_state())
        return cls(config, weights, latents, codes, logits)

    def largest_error(self, name: str, streams: int) -> float:
        """Of any logit of the first and the last of so many streams, in any hop."""
        device = find_device()
        packed = pack_decoder(self.config.decoder, self.weights, torch.float16, device)
        latents = torch.from_numpy(self.latents).to(device).expand(streams, -1, -1)
        codes = torch.from_numpy(self.codes).to(device).expand(streams, -1).contiguous()
        call = Call(
            task=SCORE.value,
            conditions=packed.conditions(latents),
            hop=self.config.hop_samples,
            codes=codes,
            uniforms=torch.empty(streams, 0, device=device),
            scores=torch.empty(*codes.shape, LEVELS, device=device),
        )
        state = Streams.at_rest(self.config.decoder, streams, device)
        sampler_for(self.config, packed, streams, name).run(call, state)
        ends = call.scores[[0, -1]].cpu().numpy()
        return float(np.abs(ends - self.logits).max())


def stages(name: str, config: ModelConfig) -> int:
    """Steps of one sample that wait for one another: products, or hand-offs, or launches."""
    layers = len(config.decoder.dilations)
    return {
        Persistent.name: 2 * layers + 3,
        Pipeline.name: layers + 2,
        FusedLayers.name: layers + 2,
    }[name]


def floors_us(name: str, config: ModelConfig, streams: int, device: Device) -> dict[str, float]:
    """What a sampler of this kind cannot go below, in microseconds a sample of every stream."""
    reads = 0 if name == Pipeline.name else weight_bytes(config.decoder)
    times = streams if name == Persistent.name else -(-streams // FusedLayers.STREAMS)
    layers = len(config.decoder.dilations)
    waits = {
        Persistent.name: 0.0,
        Pipeline.name: (layers + 2) * device.exchange_us,
        FusedLayers.name: (layers + 2) * device.launch_us,
    }
    return {"bandwidth": read_us(reads * times, device), "latency": waits[name]}


def baseline_rate(config: ModelConfig, weights: Weights, *, compiled: bool) -> float:
    """Samples per second of one stream in PyTorch on the GPU, float32."""
    decoder = TorchDecoder(config, weights, 1, compiled=compiled, device="cuda")
    latents = np.zeros((1, config.latent_channels), np.float32)
    uniforms = np.random.default_rng(0).random(64, dtype=np.float32)
    decoder.generate(latents, uniforms[:8])
    return len(uniforms) / timed(lambda: decoder.generate(latents, uniforms))


def device_figures() -> dict[str, float]:
    """What the model assumes of the device, measured: an exchange through L2, a launch in a
    graph."""
    words = torch.zeros(2, 32, dtype=torch.int64, device="cuda").view(torch.uint64)

    def exchanges() -> None:
        words.view(torch.int64).zero_()
        _ping[(2,)](words, _EXCHANGES, launch_cooperative_grid=True, **OPTIONS)

    exchanges()
    counter = torch.zeros(1, device="cuda")
    _nothing[(1,)](counter)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(_LAUNCHES):
            _nothing[(1,)](counter)
    graph.replay()
    return {
        "exchange_us": timed(exchanges) / (2 * _EXCHANGES) * 1e6,
        "launch_us": timed(graph.replay) / _LAUNCHES * 1e6,
    }


@triton.jit
def _ping(words, times):  # type: ignore[no-untyped-def]
    """Two programs hand 32 tagged words back and forth."""
    own = tl.program_id(0)
    word = tl.arange(0, 32)[None, :]
    values = tl.zeros([1, 32], tl.float32)
    for n in tl.range(1, times + 1, num_stages=1):
        if own == 0:
            send(words + word, values, n)
            values = receive(words + 32 + word, n)
        else:
            values = receive(words + word, n)
            send(words + 32 + word, values, n)


@triton.jit
def _nothing(counter):  # type: ignore[no-untyped-def]
    tl.store(counter, tl.load(counter) + 1.0)


def float16_weights(config: ModelConfig) -> Weights:
    """Random weights that float16 holds exactly."""
    weights = random_weights(decoder_shapes(config), np.random.default_rng(0))
    return {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}


def timed(work: Callable[[], Any]) -> float:
    """Seconds until the device has done it, and nothing before it."""
    synchronise()
    started = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - started


def synchronise() -> None:
    """Wait until the device has nothing left to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def write(path: Path, report: dict[str, Any]) -> None:
    """Keep what there is so far, in one step."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def show(row: dict[str, Any]) -> None:
    """One line for whoever waits."""
    console.print(
        f"{row['shape']:>11} {row['sampler']:>11} {row['streams']:>3} streams: "
        f"{row['us_per_sample']:8.1f} us a sample ({row['predicted_us']:.1f} predicted), "
        f"{row['x_realtime']:6.2f} x real time, logits within {row['largest_error']:.1e}"
    )


if __name__ == "__main__":
    app()
