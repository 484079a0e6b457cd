"""The model of what samplers cost, and the choice it makes."""

from __future__ import annotations

import re
from dataclasses import replace
from math import inf
from pathlib import Path

import pytest

from benchmarks.shapes import config_of_shape
from triton_kernels.choice import (
    DEVICES,
    choose,
    fits_pipeline,
    known_device,
    predicted_us,
    weight_bytes,
)
from triton_kernels.layer_graphs import FusedLayers
from triton_kernels.samplers import Persistent, Pipeline

DOCS = Path(__file__).parents[2] / "docs" / "kernels.md"
A100 = DEVICES["A100"]
LIVE, PAPER = (config_of_shape(shape).decoder for shape in ("20/64/64", "40/128/128"))


def test_the_weights_of_the_live_shape_are_counted() -> None:
    """Layers of two taps, two gates, residual and skip; a head of 128 x 64 and 256 x 128."""
    assert weight_bytes(LIVE) == 2 * (20 * (4 + 2) * 64 * 64 + 128 * 64 + 256 * 128)


def test_the_table_in_the_docs_is_the_models() -> None:
    rows = re.findall(r"^\| (\d+/\d+/\d+)[^|]*\| ([\d.]+) \| (.*) \|$", DOCS.read_text(), re.M)
    assert len(rows) == 5
    for shape, megabytes, cells in rows:
        config = config_of_shape(shape).decoder
        assert float(megabytes) == round(weight_bytes(config) / 1e6, 2)
        names = ("A100", "H100", "L4", "RTX 4090")
        for name, cell in zip(names, cells.split(" | "), strict=True):
            times = [
                predicted_us(one.name, config, 1, DEVICES[name])
                for one in (Persistent, Pipeline, FusedLayers)
            ]
            assert cell == " / ".join(
                "\N{EN DASH}" if time == inf else f"{time:.0f}" for time in times
            )


def test_the_papers_shape_goes_to_the_pipeline_while_it_fits() -> None:
    assert choose(PAPER, 1, A100) is Pipeline
    assert choose(PAPER, 64, A100) is Persistent
    assert choose(PAPER, 256, A100) is FusedLayers
    assert predicted_us("pipeline", PAPER, 64, A100) == inf


@pytest.mark.parametrize("streams", [2, 16, 64])
def test_many_streams_of_a_small_network_go_to_programs_of_their_own(streams: int) -> None:
    wide = replace(A100, exchange_us=2.0)
    assert choose(LIVE, streams, wide) is Persistent


@pytest.mark.parametrize(
    "change",
    [{"processors": 80}, {"shared_bytes": 64_000}],
    ids=["too few processors", "too little shared memory"],
)
def test_a_pipeline_that_would_not_be_resident_is_never_chosen(change: dict[str, int]) -> None:
    """Programs that wait for one that is not running would wait for ever."""
    assert fits_pipeline(PAPER, 1, A100)
    smaller = replace(A100, **change)
    assert not fits_pipeline(PAPER, 1, smaller)
    assert choose(PAPER, 1, smaller) is not Pipeline


def test_a_device_is_known_by_the_name_torch_gives() -> None:
    assert known_device("NVIDIA A100-SXM4-80GB", 108, 166_912) == A100
    assert known_device("NVIDIA GeForce RTX 4090", 128, 101_376).name == "RTX 4090"
    other = known_device("Some GPU", 30, 65_536)
    assert known_device("NVIDIA L40S", 142, 101_376).name == "NVIDIA L40S"
    assert (other.name, other.processors, other.shared_bytes) == ("Some GPU", 30, 65_536)


@pytest.mark.parametrize(
    ("name", "processors", "namesake"),
    [
        ("NVIDIA A100-SXM4-40GB MIG 3g.20gb", 42, "A100"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 76, "RTX 4090"),
    ],
)
def test_a_smaller_namesake_has_the_processors_it_reports(
    name: str, processors: int, namesake: str
) -> None:
    known = known_device(name, processors, 100_000)
    assert (known.processors, known.shared_bytes) == (processors, 100_000)
    assert known.cache_bytes_s < DEVICES[namesake].cache_bytes_s
    assert choose(PAPER, 1, known) is not Pipeline


def test_layers_of_a_larger_network_are_slower_to_read() -> None:
    """Both have 40 layers: launches and dependent steps alike, weights more than thrice as many."""
    smaller = config_of_shape("40/64/128").decoder
    for one in ("fused_layer", "persistent"):
        assert predicted_us(one, PAPER, 1, A100) > 1.5 * predicted_us(one, smaller, 1, A100)


def test_a_head_that_is_read_at_every_sample_costs_the_pipeline_time() -> None:
    narrow = replace(PAPER, head_channels=128)
    hand_offs = predicted_us("pipeline", narrow, 1, A100)
    assert predicted_us("pipeline", PAPER, 1, A100) > hand_offs + 1.0
