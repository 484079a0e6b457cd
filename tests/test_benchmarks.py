"""Benchmarks: known counts of multiply-adds, and what a measurement holds."""

from __future__ import annotations

import json
from dataclasses import asdict

from benchmarks.throughput import current_commit, decoder_macs, encoder_macs, measure, rates
from model.bundle import Bundle
from model.config import profile


def test_multiply_adds_of_the_paper_are_counted() -> None:
    paper = profile("paper")
    # A layer: two taps of 256 x 128, and 256 x 128 to both paths; then 256 x 128 and 256 x 256.
    assert decoder_macs(paper) == 40 * 3 * 256 * 128 + 256 * 128 + 256 * 256
    # A layer: three taps and a 1x1 of 128 x 128; the front has three taps of one channel.
    assert encoder_macs(paper) == 30 * 4 * 128 * 128 + 3 * 128


def test_the_first_run_is_not_counted() -> None:
    calls: list[int] = []

    def run() -> int:
        calls.append(1)
        return 100

    measured = rates(run, 3)
    assert len(calls) == 4
    assert len(measured) == 3
    assert min(measured) > 0


def test_a_measurement_says_what_was_measured_and_where(tiny_bundle: Bundle) -> None:
    encode, decode = measure(tiny_bundle, "numba-float32", seconds=0.05, runs=3)
    assert (encode.part, encode.shape) == ("encode", "4/16")
    assert (decode.part, decode.shape) == ("decode", "4/16/16")
    for row in (encode, decode):
        assert row.commit == current_commit()
        assert row.backend == "numba-float32"
        assert row.samples_per_s_min <= row.samples_per_s <= row.samples_per_s_max
        assert json.loads(json.dumps(asdict(row)))["machine"] == row.machine
