"""What fills a gap: silence, the last moment, or the input, and never a step."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from model.errors import ConfigError
from realtime.edges import EdgeFader
from realtime.engine import Engine
from realtime.filling import LATE, Held, filling
from realtime.rings import CaptureRing
from tests.echo_backend import echo_backend, echo_bundle, echo_config

Audio = NDArray[np.float32]
RATE = 48_000


def tone(frames: int, hertz: float = 440.0) -> Audio:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(frames) / RATE)).astype(np.float32)


@pytest.mark.parametrize("block", [1, 63, 64, 256, 5000])
def test_the_last_moment_goes_to_and_fro_and_dies_away(block: int) -> None:
    held, sound = Held(RATE), tone(RATE)
    for at in range(0, len(sound), block):
        held.remember(sound[at : at + block])
    filled = np.full(RATE, np.nan, np.float32)
    for at in range(0, RATE, block):
        held.fill(0, filled[at : at + block])
    whole = np.concatenate([sound[-2000:], filled])
    assert np.abs(np.diff(whole)).max() <= 1.01 * np.abs(np.diff(sound)).max()
    np.testing.assert_allclose(filled[:1000], sound[-1000:][::-1], atol=0.1)
    first, later = (np.abs(filled[at : at + 2400]).max() for at in (0, 14_400))
    assert 0.4 < first <= 0.5
    assert 0.02 < later < 0.3 * first
    assert not filled[-RATE // 4 :].any()


def test_each_gap_holds_the_moment_before_it() -> None:
    held, out = Held(RATE), np.empty(480, np.float32)
    held.remember(np.full(2400, 0.5, np.float32))
    held.fill(0, out)
    assert out[0] == np.float32(0.5)
    held.remember(np.full(2400, -0.25, np.float32))
    held.fill(0, out)
    assert out[0] == np.float32(-0.25)


def test_input_of_the_past_is_there_read_or_not() -> None:
    ring, out = CaptureRing(100), np.empty(8, np.float32)
    for at in range(0, 250, 10):
        ring.write(np.arange(at, at + 10, dtype=np.float32))
    ring.copy_past(200, out)
    np.testing.assert_array_equal(out, np.arange(200, 208))
    for gone in (100, 247):
        ring.copy_past(gone, out)
        assert not out.any()
    young = CaptureRing(100)
    young.write(np.arange(1, 21, dtype=np.float32))
    young.copy_past(-3, out)
    np.testing.assert_array_equal(out, [0, 0, 0, 1, 2, 3, 4, 5])
    young.copy_past(-20, out)
    assert not out.any()


@pytest.mark.parametrize("late", LATE)
def test_an_engine_that_stands_still_plays_its_filling_without_a_step(late: str) -> None:
    """The echo repeats its input, so that its own sound and the dry one fit each other."""
    config = echo_config()
    engine = Engine(echo_bundle(config), echo_backend(config, (1.0, 1.0)), RATE, 256, late=late)
    engine.start(threaded=False)
    sound = tone(200 * 256, 220.0)
    heard = np.empty_like(sound)
    for block, at in enumerate(range(0, len(sound), 256)):
        # It makes no turn for a while, less than an overload.
        while not 100 <= block < 104 and engine.step():
            pass
        engine.exchange(sound[at : at + 256], heard[at : at + 256])
    engine.close()
    assert engine.meter.underruns == 1
    steps = np.abs(np.diff(heard[10 * 256 :]))
    assert steps.max() < 2.5 * np.abs(np.diff(sound)).max()
    silent = np.abs(heard[102 * 256 : 104 * 256]).max() < 1e-6
    assert silent == (late == "fade")
    if late == "dry":
        delayed = np.concatenate([np.zeros(engine.delay_samples, np.float32), sound])
        part = slice(103 * 256, 104 * 256)
        np.testing.assert_allclose(heard[part], delayed[: len(heard)][part], atol=1e-6)


def test_a_filling_that_is_none_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="one of fade, hold, dry, got 'loop'"):
        filling("loop", RATE, 0, lambda *_: None)


def test_an_edge_between_two_sounds_has_no_step() -> None:
    edges = EdgeFader(RATE)
    first, gap = np.full(256, 0.5, np.float32), np.full(256, -0.5, np.float32)
    edges.smooth(first, 256)
    edges.smooth(gap, 0)
    assert np.abs(np.diff(np.concatenate([first, gap]))).max() < 0.02
    assert gap[-1] == np.float32(-0.5)
