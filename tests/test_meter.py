"""Meters, percentiles and the latency table on cases with a known answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from realtime.latency import LatencyItem, LatencyTable, engine_latency
from realtime.meter import Meter, level_db, percentile


@pytest.mark.parametrize(
    ("count", "share", "answer"),
    [
        (1, 0.5, 1), (1, 1.0, 1), (2, 0.5, 1), (3, 0.5, 2), (4, 0.5, 2), (5, 0.5, 3),
        (20, 0.95, 19), (21, 0.95, 20), (100, 0.5, 50), (100, 0.95, 95), (100, 0.99, 99),
        (101, 0.99, 100), (1000, 0.999, 999), (10, 1.0, 10), (10, 0.001, 1),
        (100, 0.07, 7), (100, 0.55, 55),
    ],
)  # fmt: skip
def test_percentile_is_the_nearest_rank(count: int, share: float, answer: int) -> None:
    values = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
    before = values.copy()
    assert percentile(values, share) == answer
    np.testing.assert_array_equal(values, before)


def test_percentile_of_nothing_is_zero() -> None:
    assert percentile(np.zeros(0), 0.5) == 0.0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_percentile_refuses_a_share_outside_its_range(share: float) -> None:
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        percentile(np.ones(3), share)


def test_hop_times_become_percentiles_and_misses() -> None:
    meter = Meter(hop_s=0.010)
    for i in range(100):
        meter.count_hop((i + 1) * 1.25e-4)
    shown = meter.snapshot()
    assert shown.hops == 100
    assert shown.p50_ms == pytest.approx(6.25)
    assert shown.p95_ms == pytest.approx(11.875)
    assert shown.p99_ms == pytest.approx(12.375)
    assert shown.max_ms == pytest.approx(12.5)
    assert shown.misses == 20
    assert shown.deadline_ms == pytest.approx(10.0)


def test_percentiles_forget_old_hops_and_the_maximum_does_not() -> None:
    meter = Meter(0.010)
    meter.count_hop(1.0)
    for _ in range(5000):
        meter.count_hop(0.002)
    assert meter.snapshot().p99_ms == pytest.approx(2.0)
    assert meter.hop_time_s(1.0) == pytest.approx(0.002)
    assert meter.snapshot().max_ms == pytest.approx(1000.0)


def test_events_are_counted_apart() -> None:
    meter = Meter(0.010)
    meter.count_missing(100, begins=True)
    meter.count_missing(50, begins=False)
    meter.count_overload(480)
    meter.count_late(7)
    meter.count_xrun()
    meter.count_switch(0.05)
    meter.count_switch(0.03)
    shown = meter.snapshot()
    assert (shown.underruns, shown.missing_frames) == (1, 150)
    assert (shown.overloads, shown.dropped_frames, shown.late_frames) == (1, 480, 7)
    assert (shown.xruns, shown.switches) == (1, 2)
    assert shown.last_switch_ms == pytest.approx(30.0)
    assert shown.max_switch_ms == pytest.approx(50.0)


def test_a_fresh_meter_shows_nothing() -> None:
    shown = Meter(0.010).snapshot()
    assert shown.hops == shown.switches == 0
    assert shown.p99_ms == shown.last_switch_ms == shown.max_switch_ms == 0.0
    assert shown.level_in_db == -120.0


def test_a_peak_holds_and_falls_20_db_a_second() -> None:
    meter = Meter(hop_s=0.010)
    meter.show_levels(1.0, 0.5)
    assert meter.snapshot().level_in_db == pytest.approx(0.0)
    assert meter.snapshot().level_out_db == pytest.approx(-6.02, abs=0.01)
    for _ in range(100):
        meter.show_levels(0.0, 0.0)
    assert meter.snapshot().level_in_db == pytest.approx(-20.0)


@pytest.mark.parametrize(("peak", "db"), [(1.0, 0.0), (0.1, -20.0), (0.0, -120.0), (1e-9, -120.0)])
def test_levels_in_decibels(peak: float, db: float) -> None:
    assert level_db(peak) == pytest.approx(db)


def test_a_snapshot_is_json_ready() -> None:
    meter = Meter(0.010)
    meter.count_hop(0.003)
    shown = json.loads(json.dumps(meter.snapshot().to_dict()))
    assert shown["hops"] == 1
    assert shown["p50_ms"] == pytest.approx(3.0)


def table(generation_s: float, device: LatencyItem | None = None) -> LatencyTable:
    return engine_latency(
        resampling_in_s=0.001,
        lookahead_s=0.0,
        hop_s=0.010,
        resampling_out_s=0.001,
        headroom_s=0.015,
        generation_s=generation_s,
        device=device,
    )


@pytest.mark.parametrize("generation_s", [0.0, 0.004, 0.015, 0.1])
def test_slow_generation_takes_from_the_ring_and_adds_no_latency(generation_s: float) -> None:
    latency = table(generation_s)
    assert latency.total_ms == pytest.approx(27.0)
    items = {item.name: item.ms for item in latency.items}
    assert items["generation"] + items["render ring"] == pytest.approx(15.0)
    assert min(items.values()) >= 0.0


def test_a_device_adds_its_own_time() -> None:
    latency = table(0.004, LatencyItem("device", 10.5, "measured"))
    assert latency.total_ms == pytest.approx(37.5)
    written = json.loads(json.dumps(latency.to_dict()))
    assert written["total_ms"] == pytest.approx(37.5)
    assert written["items"][-1] == {"name": "device", "ms": 10.5, "origin": "measured"}
