"""Rings by absolute frame: nothing is played at another frame than its own, nothing waits."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from realtime.edges import EdgeFader
from realtime.rings import CaptureRing, RenderRing

Audio = NDArray[np.float32]


def counting(start: int, length: int) -> Audio:
    return np.arange(start, start + length, dtype=np.float32)


@settings(max_examples=100, deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=40))
def test_capture_keeps_every_frame_in_order(moves: list[tuple[int, int]]) -> None:
    ring, heard = CaptureRing(128), []
    for size, room in moves:
        if ring.backlog + size > 64:
            continue
        ring.write(counting(ring.written, size))
        out = np.full(room, np.nan, np.float32)
        heard.append(out[: ring.read_into(out)].copy())
    whole = np.concatenate([*heard, np.zeros(0, np.float32)])
    np.testing.assert_array_equal(whole, counting(0, len(whole)))
    assert ring.position == len(whole)


def test_capture_accepts_a_strided_channel() -> None:
    ring, out = CaptureRing(64), np.zeros(10, np.float32)
    ring.write(np.stack([counting(0, 10), counting(50, 10)], axis=1)[:, 1])
    assert ring.read_into(out) == 10
    np.testing.assert_array_equal(out, counting(50, 10))


def test_a_reader_left_far_behind_reads_nothing_until_it_skips() -> None:
    ring, out = CaptureRing(64), np.zeros(64, np.float32)
    for start in range(0, 320, 32):
        ring.write(counting(start, 32))
    assert ring.backlog == 320
    assert ring.read_into(out) == 0
    ring.skip(300)
    assert ring.read_into(out) == 20
    np.testing.assert_array_equal(out[:20], counting(300, 20))


def test_the_half_of_the_ring_that_may_be_overwritten_is_not_read() -> None:
    ring, out = CaptureRing(64), np.zeros(64, np.float32)
    ring.write(counting(0, 33))
    assert ring.read_into(out) == 0
    ring.skip(1)
    assert ring.read_into(out) == 32
    np.testing.assert_array_equal(out[:32], counting(1, 32))


def test_a_block_larger_than_the_ring_keeps_its_end() -> None:
    ring, out = CaptureRing(64), np.zeros(64, np.float32)
    ring.write(counting(0, 1000))
    ring.skip(980)
    assert ring.read_into(out) == 20
    np.testing.assert_array_equal(out[:20], counting(980, 20))


@settings(max_examples=100, deadline=None)
@given(
    moves=st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(0, 20)), max_size=40
    )
)
def test_a_frame_is_played_at_its_own_position_or_not_at_all(
    moves: list[tuple[int, int, int]],
) -> None:
    ring, written = RenderRing(64), 0
    for size, gap, frames in moves:
        dropped = ring.write(written + gap, counting(written + gap, size))
        assert 0 <= dropped <= size
        written += gap + size
        start, out = ring.position, np.full(frames, np.nan, np.float32)
        ready = ring.read_into(out)
        assert ring.position == start + frames
        assert np.isnan(out[ready:]).all()
        heard = out[:ready]
        right = (heard == counting(start, ready)) | (heard == 0.0)
        assert right.all(), heard


def test_late_output_is_dropped_and_counted() -> None:
    ring, out = RenderRing(64), np.zeros(10, np.float32)
    ring.read_into(out)
    assert ring.write(0, counting(0, 10)) == 10
    assert ring.write(5, counting(5, 10)) == 5
    assert ring.read_into(out) == 5
    np.testing.assert_array_equal(out[:5], counting(10, 5))


def test_a_jump_forward_is_silent() -> None:
    ring, out = RenderRing(32), np.full(20, np.nan, np.float32)
    ring.write(0, counting(1, 20))
    ring.read_into(out)
    ring.write(20, counting(21, 4))
    ring.write(30, counting(31, 10))
    assert ring.read_into(out) == 20
    np.testing.assert_array_equal(out[:4], counting(21, 4))
    np.testing.assert_array_equal(out[4:10], np.zeros(6))
    np.testing.assert_array_equal(out[10:], counting(31, 10))


def test_output_beyond_the_ring_is_dropped() -> None:
    ring, out = RenderRing(16), np.zeros(16, np.float32)
    assert ring.write(0, counting(0, 20)) == 4
    assert ring.write(100, counting(100, 3)) == 3
    assert ring.read_into(out) == 16
    np.testing.assert_array_equal(out, counting(0, 16))


def test_lead_in_silence_is_ready_to_play() -> None:
    ring, out = RenderRing(16), np.full(12, np.nan, np.float32)
    ring.write_silence(10)
    assert ring.read_into(out) == 10
    np.testing.assert_array_equal(out[:10], np.zeros(10))


def test_two_threads_never_see_a_frame_out_of_place() -> None:
    """One writes and one reads as fast as they can; every frame carries its own position."""
    ring, total = CaptureRing(4096), 300_000
    wrong: list[str] = []

    def read() -> None:
        out = np.zeros(97, np.float32)
        while ring.position < total and not wrong:
            if ring.backlog > 1024:
                ring.skip(ring.backlog - 64)
            start = ring.position
            size = ring.read_into(out)
            if not np.array_equal(out[:size], counting(start, size)):
                wrong.append(f"at {start}")

    reader = threading.Thread(target=read)
    reader.start()
    while ring.written < total:
        ring.write(counting(ring.written, 113))
    reader.join(20)
    assert not reader.is_alive()
    assert wrong == []


def test_a_gap_falls_and_rises_without_a_step() -> None:
    fader = EdgeFader(48000)
    blocks = [(64, 64), (64, 20), (64, 0), (64, 64), (64, 64)]
    begins, heard = [], []
    for frames, ready in blocks:
        out = np.zeros(frames, np.float32)
        out[:ready] = 0.8
        begins.append(fader.smooth(out, ready))
        heard.append(out)
    whole = np.concatenate(heard)
    assert begins == [False, True, False, False, False]
    assert np.abs(np.diff(whole)).max() < 0.02
    assert (whole[84 + 72 : 192] == 0.0).all()
    assert whole[-1] == np.float32(0.8)


@pytest.mark.parametrize("missing", [1, 20, 71, 72, 73, 200])
@pytest.mark.parametrize("block", [1, 16, 64, 256])
def test_a_gap_of_any_length_has_no_step(missing: int, block: int) -> None:
    fader = EdgeFader(48000)
    ready = np.ones(2048, bool)
    ready[300 : 300 + missing] = False
    ready[512 : 512 + missing] = False
    heard = []
    for part in np.split(ready, len(ready) // block):
        out, frames = np.zeros(block, np.float32), int(part.sum())
        out[:frames] = 0.8
        fader.smooth(out, frames)
        heard.append(out)
    whole = np.concatenate(heard)
    assert np.abs(np.diff(whole)).max() < 0.02
    assert whole.min() < 0.8
    assert whole.max() <= np.float32(0.8) + 1e-6
    assert (whole[-100:] == np.float32(0.8)).all()


@pytest.mark.parametrize("ready", [0, 1, 63])
def test_a_gap_that_goes_on_is_one_gap(ready: int) -> None:
    fader = EdgeFader(48000)
    fader.smooth(np.ones(64, np.float32), 64)
    assert fader.smooth(np.ones(64, np.float32), ready)
    assert not fader.smooth(np.ones(64, np.float32), 0)
    assert not fader.smooth(np.ones(64, np.float32), 64)
    assert fader.smooth(np.ones(64, np.float32), 0)


def test_audio_between_two_gaps_makes_them_two() -> None:
    fader = EdgeFader(48000)
    begins = [fader.smooth(np.ones(64, np.float32), ready) for ready in (64, 0, 20, 0, 5)]
    assert begins == [False, True, True, False, True]
