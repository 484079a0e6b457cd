"""Measures the GPU samplers on the machine's GPU, for ``umt bench gpu``.

Every sampler that can run a shape with so many streams is checked against the reference with the
very network it is timed with. Its times stand beside what the model of ``triton_kernels.choice``
predicts, the floors no sampler of its kind can go below, and PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import inf
from statistics import median
from typing import Any

import numpy as np
import torch
import triton
from numpy.typing import NDArray

from benchmarks.commit import current_commit
from benchmarks.gpu_figures import timed
from benchmarks.shapes import config_of_shape, decoder_macs
from benchmarks.torch_decoder import TorchDecoder
from model.config import LEVELS, SAMPLE_RATE, ModelConfig
from model.errors import ConfigError
from model.reference import ReferenceDecoder
from model.weights import Weights, decoder_shapes, random_weights
from realtime.machine import describe_machine
from triton_kernels.calls import Call
from triton_kernels.choice import predicted_us, read_us, weight_bytes
from triton_kernels.decoder import sampler_for
from triton_kernels.device import find_device, known_here
from triton_kernels.layer_graphs import FusedLayers
from triton_kernels.pack import Streams, pack_decoder
from triton_kernels.parts import SAMPLE, SCORE
from triton_kernels.samplers import Persistent, Pipeline

SHAPES = ("20/64/64", "20/64/128", "40/128/128", "20/32/128", "40/64/128")
STREAMS = (1, 8, 64)
RUNS = 5
TEMPERATURE = 0.8
LARGEST_ERROR = 0.05
"""Of a logit with float16 weights, against the reference: between what rounding does (at most 0.007
with 20 layers, 0.02 with 40, with a tanh as coarse as the device's) and what a fault of a kernel
does (0.08 for the last layer's missing bias, 0.5 or more for 16 channels of a tap, a skip or the
latent, or a queue read one sample late). One weight alone may go unnoticed: the wrong sign of one
moves a logit by 0.002 to 0.6."""
BASELINES = ("torch-eager", "torch-compile")
MEASURED = (Persistent.name, FusedLayers.name, Pipeline.name, *BASELINES)
"""In this order: what is surest first, should a later one never come to an end."""
_CHECKED_AFTER = 16
"""Samples checked once every queue has gone round."""


@dataclass(frozen=True)
class Task:
    """One sampler, to be checked and timed with one network and so many streams."""

    shape: str
    """Layers, residual and skip channels, as L/R/S."""
    streams: int
    sampler: str
    """One of the kernels, or of BASELINES."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.shape} {self.sampler} x {self.streams}"

    @property
    def config(self) -> ModelConfig:
        """The network's."""
        return config_of_shape(self.shape)

    @property
    def fits(self) -> bool:
        """Whether the device can run it; the interpreter stands in for no baseline."""
        if self.sampler in BASELINES:
            return find_device().type == "cuda"
        return self.predicted_us < inf

    @property
    def predicted_us(self) -> float:
        """What a sample of every stream should take of a kernel, in microseconds."""
        device = known_here(find_device())
        return predicted_us(self.sampler, self.config.decoder, self.streams, device)


def tasks(
    shapes: Sequence[str] = SHAPES,
    streams: Sequence[int] = STREAMS,
    samplers: Sequence[str] = MEASURED,
) -> list[Task]:
    """Every combination, sampler by sampler; baselines have one stream.

    Raises ConfigError for a shape that is none, or a sampler.
    """
    for name in samplers:
        if name not in MEASURED:
            raise ConfigError(f"no sampler {name!r}; choose one of {', '.join(MEASURED)}")
    for shape in shapes:
        config_of_shape(shape)
    return [
        Task(shape, count, sampler)
        for sampler in sorted(samplers, key=MEASURED.index)
        for shape in shapes
        for count in ((1,) if sampler in BASELINES else streams)
    ]


def longest_row_s() -> float | None:
    """A row that takes longer waits for something that will not come; the interpreter may."""
    return 180.0 if find_device().type == "cuda" else None


def machine_report() -> dict[str, Any]:
    """What rows are to be read with: commit, machine, GPU and versions.

    Raises BackendUnavailable if there is no GPU.
    """
    device = find_device()
    return {
        "commit": current_commit(),
        "machine": describe_machine(),
        "device": asdict(known_here(device)),
        "torch": torch.__version__,
        "triton": triton.__version__,
    }


def measured(task: Task, hops: int) -> dict[str, Any]:
    """A row: rates of all streams together and floors; of a kernel, errors and a prediction, too.

    hops: of every stream, in one run of a kernel.
    """
    if task.sampler in BASELINES:
        run, samples = baseline(task)
        more: dict[str, Any] = {"dtype": "float32"}
    else:
        run, samples = sampling(task, hops), hops * task.config.hop_samples
        more = {"dtype": "float16", **checked(task), "predicted_us": task.predicted_us}
    run()
    seconds = [timed(run) for _ in range(RUNS)]
    each = median(seconds) / samples * 1e6
    row = {
        **more,
        "samples_per_s": task.streams * samples / median(seconds),
        "samples_per_s_min": task.streams * samples / max(seconds),
        "samples_per_s_max": task.streams * samples / min(seconds),
        "x_realtime": 1e6 / each / SAMPLE_RATE,
        "us_per_sample": each,
    }
    row["gmac_per_s"] = row["samples_per_s"] * decoder_macs(task.config) / 1e9
    floors = floors_us(task)
    row["roofline"] = {
        "from": "data sheet",
        **{f"{floor}_us": value for floor, value in floors.items()},
        "floor_samples_per_s": task.streams * 1e6 / max(floors.values()),
    }
    row["fraction_of_roofline"] = max(floors.values()) / each
    if task.sampler not in BASELINES:
        row["us_per_stage"] = each / stages(task)
    return row


def described(task: Task) -> dict[str, Any]:
    """What a row says before anything is measured."""
    return {
        "commit": current_commit(),
        "machine": describe_machine(),
        "part": "decode",
        **asdict(task),
        "backend": task.sampler if task.sampler in BASELINES else "triton",
        "threads": 1,
        "runs": RUNS,
    }


def compare(rows: Sequence[dict[str, Any]]) -> None:
    """Set each row beside the baselines of its shape, as far as they have been measured.

    A baseline has one stream; the ratio is that of all of a row's streams together to it.
    """
    rated = [row for row in rows if "samples_per_s" in row]
    for row in rated:
        row["baselines"] = {
            other["sampler"]: {
                "samples_per_s": other["samples_per_s"],
                "min": other["samples_per_s_min"],
                "max": other["samples_per_s_max"],
                "ratio": row["samples_per_s"] / other["samples_per_s"],
            }
            for other in rated
            if other["sampler"] in BASELINES and other["shape"] == row["shape"]
        }


def checked(task: Task) -> dict[str, Any]:
    """Whether a kernel is right, and how far off it is."""
    error = Check.of(task.shape).largest_error(task)
    return {"right": error <= LARGEST_ERROR, "largest_error": error}


def sampling(task: Task, hops: int) -> Callable[[], object]:
    """A call that samples ``hops`` hops of each stream, going on from the call before."""
    device, config, streams = find_device(), task.config, task.streams
    packed = pack_decoder(config.decoder, float16_weights(task.shape), torch.float16, device)
    sampler = sampler_for(config, packed, streams, task.sampler)
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
    return lambda: sampler.run(call, state)


@dataclass(frozen=True)
class Check:
    """Logits of a network by the reference, late enough that every queue has gone round."""

    config: ModelConfig
    weights: Weights
    latents: NDArray[np.float32]
    codes: NDArray[np.uint8]
    logits: NDArray[np.float32]

    @classmethod
    @cache
    def of(cls, shape: str) -> Check:
        """Random input for a network, and what the reference makes of it."""
        weights = float16_weights(shape)
        rng = np.random.default_rng(1)
        config = replace(config_of_shape(shape), hop_samples=_CHECKED_AFTER)
        hops = -(-max(config.decoder.dilations) // _CHECKED_AFTER) + 1
        latents = rng.normal(size=(hops, config.latent_channels)).astype(np.float32)
        codes = rng.integers(0, LEVELS, hops * _CHECKED_AFTER).astype(np.uint8)
        reference = ReferenceDecoder(config, weights, np.float32)
        logits = reference.teacher_force(latents, codes, reference.initial_state())
        return cls(config, weights, latents, codes, logits)

    def largest_error(self, task: Task) -> float:
        """Of any logit of the first and the last of a task's streams, in any hop."""
        device, streams = find_device(), task.streams
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
        sampler_for(self.config, packed, streams, task.sampler).run(call, state)
        ends = call.scores[[0, -1]].cpu().numpy()
        return float(np.abs(ends - self.logits).max())


def stages(task: Task) -> int:
    """Steps of one sample that wait for one another: products, or hand-offs, or launches."""
    layers = len(task.config.decoder.dilations)
    return {
        Persistent.name: 2 * layers + 3,
        Pipeline.name: layers + 2,
        FusedLayers.name: layers + 2,
    }[task.sampler]


def floors_us(task: Task) -> dict[str, float]:
    """What a sampler of this kind cannot go below, in microseconds a sample of every stream."""
    device, name = known_here(find_device()), task.sampler
    element = 4 if name in BASELINES else 2
    reads = 0 if name == Pipeline.name else weight_bytes(task.config.decoder, element)
    times = task.streams if name == Persistent.name else -(-task.streams // FusedLayers.STREAMS)
    waits = {
        Persistent.name: 0.0,
        Pipeline.name: stages(task) * device.exchange_us,
        FusedLayers.name: stages(task) * device.launch_us,
    }
    return {"bandwidth": read_us(reads * times, device), "latency": waits.get(name, 0.0)}


def baseline(task: Task) -> tuple[Callable[[], object], int]:
    """A call that samples one stream in PyTorch on the GPU, float32; and how many samples."""
    compiled, weights = task.sampler == "torch-compile", float16_weights(task.shape)
    decoder = TorchDecoder(task.config, weights, 1, compiled=compiled, device="cuda")
    latents = np.zeros((1, task.config.latent_channels), np.float32)
    uniforms = np.random.default_rng(0).random(64, dtype=np.float32)
    return lambda: decoder.generate(latents, uniforms), len(uniforms)


@cache
def float16_weights(shape: str) -> Weights:
    """Random weights of a network that float16 holds exactly."""
    rng = np.random.default_rng(0)
    weights = random_weights(decoder_shapes(config_of_shape(shape)), rng)
    return {name: value.astype(np.float16).astype(np.float32) for name, value in weights.items()}


if __name__ == "__main__":
    raise SystemExit("this module measures for a command: run umt bench gpu")
