"""What the compiler makes of the kernels, for devices that are not here: no GPU, no driver."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

pytest.importorskip("triton", reason="triton is not installed: pip install 'umt-live[gpu]'")
pytest.importorskip("torch", reason="torch is not installed: pip install 'umt-live[gpu]'")

from benchmarks.gpu_figures import nothing, ping
from model.config import DecoderConfig
from tests.ahead_of_time import (
    A100,
    H100,
    MI200,
    RTX_4090,
    RTX_5090,
    SHARED_LIMIT,
    Compiled,
    compiled,
)
from triton_kernels.choice import pipeline_bytes
from triton_kernels.condition import OUTPUTS, condition
from triton_kernels.fused_layer import begin, finish, fused_layer, tick
from triton_kernels.parts import OPTIONS, PRIME, SAMPLE, SCORE
from triton_kernels.persistent import persistent
from triton_kernels.pipeline import pipeline
from triton_kernels.samplers import ALL_REGISTERS
from triton_kernels.stream_encoder import encoder_front, encoder_latent, encoder_layer

LIVE = (20, 64, 64, 128)
DEEP_VOICE = (20, 64, 128, 256)
PAPER = (40, 128, 128, 256)
"""Layers, residual, skip and head channels."""

TARGETS = {
    "sm_80": A100,
    "sm_90": H100,
    "sm_89": RTX_4090,
    "sm_120": RTX_5090,
    "gfx90a": MI200,
}
MAIN_TARGETS = ("sm_80", "sm_90", "gfx90a")


@pytest.fixture(autouse=True, scope="module")
def _fresh_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compile what is there now, not what an earlier run left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def constants(
    name: str, shape: tuple[int, int, int, int], fast: bool, task: int = SAMPLE.value
) -> dict[str, Any]:
    layers, residual, skip, head = shape
    widths = {"R": residual, "S": skip}
    whole = {**widths, "H": head, "LAYERS": layers, "CYCLE": 10, "TASK": task, "FAST": fast}
    return {
        "persistent": whole,
        "pipeline": {**whole, "STREAMS": 8},
        "fused_layer": {**widths, "STREAMS": 16, "FAST": fast},
        "begin": widths,
        "finish": {**widths, "H": head, "TASK": task},
        "tick": {},
        "ping": {},
        "nothing": {},
        "condition": {"CHANNELS": 16, "PADDED": 16, "OUTPUTS": OUTPUTS},
        "encoder_front": {"C": residual, "ROWS": 16},
        "encoder_latent": {"Z": 16, "LATENTS": 16, "C": residual},
        "encoder_layer": {
            "C": residual,
            "PART": 32,
            "ROWS": 16,
            "PRECISION": "tf32x3" if fast else "ieee",
        },
    }[name]


KERNELS = {
    "persistent": persistent,
    "pipeline": pipeline,
    "fused_layer": fused_layer,
    "begin": begin,
    "finish": finish,
    "tick": tick,
    "ping": ping,
    "nothing": nothing,
    "condition": condition,
    "encoder_front": encoder_front,
    "encoder_layer": encoder_layer,
    "encoder_latent": encoder_latent,
}
LARGE = ("persistent", "pipeline", "fused_layer", "finish", "encoder_layer")
"""Kernels that a sample's time is spent in."""


@cache
def build(
    name: str,
    shape: tuple[int, int, int, int],
    target: str,
    task: int = SAMPLE.value,
) -> Compiled:
    device = TARGETS[target]
    # The encoder's weights are float32.
    weights = "fp32" if name == "encoder_layer" else "fp16"
    options = OPTIONS | (ALL_REGISTERS if name == "pipeline" else {})
    fast = device.backend == "cuda"
    values = constants(name, shape, fast, task)
    return compiled(KERNELS[name], device, options, weights, **values)


# The pipeline is for NVIDIA's devices alone: its hand-off was thought through for their memory.
ALL = [
    (name, shape, target)
    for name in LARGE
    for shape in (LIVE, PAPER)
    for target in MAIN_TARGETS
    if not (name == "pipeline" and target == "gfx90a")
]


@pytest.mark.parametrize(("name", "shape", "target"), ALL)
def test_nothing_is_spilled_and_shared_memory_suffices(
    name: str, shape: tuple[int, int, int, int], target: str
) -> None:
    built = build(name, shape, target)
    assert built.spilled == 0
    assert built.shared <= SHARED_LIMIT[TARGETS[target]]


@pytest.mark.parametrize("target", ["sm_89", "sm_120"])
@pytest.mark.parametrize("name", LARGE)
def test_players_devices_run_the_live_profile(name: str, target: str) -> None:
    built = build(name, LIVE, target)
    assert built.spilled == 0
    assert built.shared <= SHARED_LIMIT[TARGETS[target]]


@pytest.mark.parametrize("task", [SCORE.value, PRIME.value])
@pytest.mark.parametrize("name", ["persistent", "pipeline", "finish"])
def test_scoring_and_priming_compile_too(name: str, task: int) -> None:
    built = build(name, PAPER, "sm_90", task)
    assert built.spilled == 0
    assert "cp.async" not in built.assembly


@pytest.mark.parametrize("kernel", [persistent, pipeline, fused_layer])
def test_a_call_of_another_length_or_number_of_streams_compiles_nothing(kernel: Any) -> None:
    """Triton makes a kernel of its own for a number that is 1, or a multiple of 16."""
    changing = {"streams", "samples", "time", "first_tag", "dilation"}
    kept = {one.name for one in kernel.params if not one.do_not_specialize}
    assert not changing & kept


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_where_threads_outnumber_words_one_thread_reads_each(target: str) -> None:
    """Two that read one word could see two values, and only one of them its right tag."""
    assembly = build("pipeline", (2, 16, 16, 16), target).assembly
    for after in assembly.split("ld.relaxed.gpu")[1:]:
        assert re.match(r"[^$]*?st\.shared(?:[^$]*?)bar\.sync", after)


@pytest.mark.parametrize("target", ["sm_90", "gfx90a"])
@pytest.mark.parametrize("name", [one for one in KERNELS if one not in LARGE])
def test_the_small_kernels_compile(name: str, target: str) -> None:
    built = build(name, PAPER, target)
    assert built.spilled == 0
    assert "cp.async" not in built.assembly


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("name", ["persistent", "pipeline", "fused_layer", "finish"])
def test_nothing_is_fetched_ahead_of_a_wait(name: str, target: str) -> None:
    """Asynchronous copies would read queues and words before the barrier or the tag allows it."""
    assert "cp.async" not in build(name, PAPER, target).assembly


# Instructions of a kernel, at most: a tenth above what triton 3.9 makes of it.
MOST_INSTRUCTIONS = {
    ("persistent", LIVE): {"MUFU": 8, "SHFL": 160, "BAR": 32, "LDG": 57},
    ("persistent", PAPER): {"MUFU": 20, "SHFL": 490, "BAR": 34, "LDG": 156},
    ("pipeline", LIVE): {"MUFU": 20, "SHFL": 146, "BAR": 86, "LDG": 64},
    ("pipeline", PAPER): {"MUFU": 20, "SHFL": 176, "BAR": 87, "LDG": 155},
    ("fused_layer", LIVE): {"MUFU": 19, "BAR": 21, "LDG": 29},
    ("fused_layer", PAPER): {"MUFU": 19, "BAR": 21, "LDG": 81},
}


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize(("name", "shape"), MOST_INSTRUCTIONS)
def test_instructions_stay_in_bounds(
    name: str, shape: tuple[int, int, int, int], target: str
) -> None:
    """A gate computed by every thread, or weights loaded twice, would show here."""
    counted = build(name, shape, target).instructions
    bounds = MOST_INSTRUCTIONS[name, shape]
    assert {one: counted[one] for one, most in bounds.items() if counted[one] > most} == {}


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("shape", [LIVE, PAPER])
def test_the_pipelines_critical_loop_reads_no_weights(
    shape: tuple[int, int, int, int], target: str
) -> None:
    """The gate program's loop loads nothing from memory but the words it waits for."""
    built = build("pipeline", shape, target)
    critical = [body for body in loops(built.assembly) if "tanh.approx" in body]
    assert len(critical) == 1
    assert "ld.global" not in critical[0]
    assert len(re.findall(r"ld\.relaxed\.gpu\.global\S*\.b64", critical[0])) >= 3
    assert len(re.findall(r"st\.relaxed\.gpu\.global\S*\.b64", critical[0])) >= 2


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
@pytest.mark.parametrize("shape", [LIVE, DEEP_VOICE, PAPER])
def test_the_host_expects_the_shared_memory_that_the_pipeline_takes(
    shape: tuple[int, int, int, int], target: str
) -> None:
    """A launch that does not fit could not have all its programs at once."""
    layers, residual, skip, head = shape
    expected = pipeline_bytes(DecoderConfig(layers // 10, 10, residual, skip, head))
    assert 0.5 * expected <= build("pipeline", shape, target).shared <= expected


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_a_value_and_its_tag_are_one_word(target: str) -> None:
    """Words are of 64 bits, each seen whole or not at all, even where two go in one instruction."""
    assembly = build("pipeline", PAPER, target).assembly
    exchanges = re.findall(r"(?:ld|st)\.relaxed\.\S+", assembly)
    assert exchanges
    assert {exchange.split(".")[-1] for exchange in exchanges} == {"b64"}


@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_matrix_instructions_do_the_products(target: str) -> None:
    counted = build("fused_layer", PAPER, target).instructions
    assert counted["HMMA"] + counted["HGMMA"] >= 24


def loops(assembly: str) -> list[str]:
    """The bodies of a PTX listing's loops."""
    lines = assembly.splitlines()
    labels = {
        found[1]: i
        for i, line in enumerate(lines)
        if (found := re.match(r"\s*(\$L__BB\w+):", line))
    }
    spans = [
        (labels[found[1]], i)
        for i, line in enumerate(lines)
        if (found := re.search(r"\sbra(?:\.uni)?\s+(\$L__BB\w+)", line)) and labels[found[1]] < i
    ]
    return ["\n".join(lines[begin:end]) for begin, end in spans]
