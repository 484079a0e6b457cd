"""The pipeline's hand-off, under many orders of its programs, and with faults planted in it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from model.reference import ReferenceDecoder
from tests.concurrent_grid import Stuck, concurrent_grid
from tests.interpreted.networks import Take, rest, run, sampled, sampler, shape, typed_weights
from triton_kernels import pipeline as original
from triton_kernels import samplers
from triton_kernels.parts import SAMPLE
from triton_kernels.samplers import LAST_TAG, Pipeline

CONFIG = shape(16, 2)
WEIGHTS = typed_weights(CONFIG, torch.float32)
TAKE = Take.random(CONFIG, 1, hops=2)
EXPECTED = sampled(ReferenceDecoder(CONFIG, WEIGHTS, np.float32), TAKE)


def is_right(seed: int, patience: int = 20_000) -> bool:
    """Whether two launches of three samples each, in one order, sample what the reference does."""
    ours = sampler(Pipeline, CONFIG, WEIGHTS, torch.float32)
    streams = rest(CONFIG, 1)
    with concurrent_grid(seed, patience):
        parts = [run(ours, SAMPLE.value, TAKE.hops(i, i + 1), streams) for i in range(2)]
    return np.array_equal(np.concatenate(parts, axis=1), EXPECTED)


@pytest.mark.parametrize("first", range(0, 200, 20))
def test_every_order_of_programs_samples_the_reference(first: int) -> None:
    wrong = [seed for seed in range(first, first + 20) if not is_right(seed)]
    assert not wrong


FAULTS = {
    "a wait missing": (
        "now = receive(signals + layer * R * STREAMS + word, tag)\n            typed",
        "now = (tl.atomic_load(signals + layer * R * STREAMS + word, sem='relaxed', scope='gpu')"
        " & 0xFFFFFFFF).to(tl.uint32).to(tl.float32, bitcast=True)\n            typed",
    ),
    "a wait for one word of many": (
        "while tl.max(tl.max(((taken >> 32).to(tl.int32) != tag)",
        "while tl.min(tl.min(((taken >> 32).to(tl.int32) != tag)",
    ),
    "trust in the order of two vectors": (
        "filtered = receive(from_past, tag)\n"
        "            gated = receive(from_past + R * STREAMS, tag)",
        "gated = receive(from_past + R * STREAMS, tag)\n            filtered = (tl.atomic_load("
        "from_past, sem='relaxed', scope='gpu') & 0xFFFFFFFF).to(tl.uint32)"
        ".to(tl.float32, bitcast=True)",
    ),
    "a wrong tag": (
        "send(signals + word, embedded",
        "tag += 1\n            send(signals + word, embedded",
    ),
    "a vector never sent": ("send(outs + layer * R * STREAMS + word, out, tag)", "pass"),
    "a queue overwritten early": (
        "tl.store(slot, now, mask=here)",
        "tl.store(queue + ((time + n + 1) & (dilation - 1)) * R, now, mask=here)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samplers, "pipeline", faulty(*FAULTS[fault], tmp_path).pipeline)
    assert any(is_caught(seed) for seed in range(20))


def test_a_tag_used_twice_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the last launch left behind is then taken for this one's first."""
    address = Pipeline._address

    def forgetful(self: Pipeline, groups: int, samples: int, device: torch.device) -> int:
        self._tag = max(0, self._tag - 1)
        return address(self, groups, samples, device)

    monkeypatch.setattr(Pipeline, "_address", forgetful)
    assert any(is_caught(seed) for seed in range(20))


def test_mailboxes_are_emptied_before_tags_run_out() -> None:
    ours = sampler(Pipeline, CONFIG, WEIGHTS, torch.float32)
    ours._tag = LAST_TAG - 4
    streams = rest(CONFIG, 1)
    tags, parts = [], []
    with concurrent_grid(0):
        for i in range(2):
            parts.append(run(ours, SAMPLE.value, TAKE.hops(i, i + 1), streams))
            tags.append(ours._tag)
    assert tags == [3, 6]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), EXPECTED)


def is_caught(seed: int) -> bool:
    """Whether a run in this order gets stuck or goes wrong."""
    try:
        return not is_right(seed, patience=3_000)
    except Stuck:
        return True


def faulty(right: str, wrong: str, folder: Path) -> ModuleType:
    """The kernel with one piece of its source exchanged."""
    source = Path(original.__file__).read_text(encoding="utf-8")
    assert source.count(right) == 1, right
    path = folder / "faulty_pipeline.py"
    path.write_text(source.replace(right, wrong), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"faulty_{folder.name}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
