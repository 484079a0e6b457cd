"""The live resampler: exact, block-exact, in band, and as late as it says."""

from __future__ import annotations

from itertools import pairwise
from math import gcd

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import freqz, upfirdn

from model.errors import ConfigError, ShapeError
from realtime.resample import SUPPORTED_RATES, PolyphaseResampler, prototype

PAIRS = [
    pair for rate in SUPPORTED_RATES if rate != 16000 for pair in ((rate, 16000), (16000, rate))
]


def noise(length: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.3, length).astype(np.float32)


def expected(audio: NDArray[np.float32], source: int, target: int) -> NDArray[np.float64]:
    """The same filter in float64, as scipy applies it."""
    divisor = gcd(source, target)
    up, down = target // divisor, source // divisor
    outputs = -(-len(audio) * up // down)
    whole = upfirdn(prototype(source, target), audio.astype(np.float64), up, down)
    return np.asarray(whole[:outputs])


def centre(audio: NDArray[np.floating]) -> float:
    """Place of an impulse's centre of energy."""
    power = audio.astype(np.float64) ** 2
    return float((np.arange(len(power)) * power).sum() / power.sum())


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_it_equals_the_float64_filter(source: int, target: int) -> None:
    audio = noise(4001)
    result = PolyphaseResampler(source, target).process(audio)
    reference = expected(audio, source, target)
    assert len(result) == len(reference)
    np.testing.assert_allclose(result, reference, atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(
    pair=st.sampled_from([(44100, 16000), (16000, 44100), (48000, 16000), (16000, 48000)]),
    cuts=st.lists(st.integers(0, 3000), max_size=12),
)
def test_any_block_split_gives_the_same_output(pair: tuple[int, int], cuts: list[int]) -> None:
    audio = noise(3000)
    edges = [0, *sorted(cuts), len(audio)]
    split = PolyphaseResampler(*pair)
    parts = [split.process(audio[a:b]) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), PolyphaseResampler(*pair).process(audio))


@pytest.mark.parametrize("size", [1, 63, 64, 65, 1024, 1025])
def test_every_output_that_is_due_is_out(size: int) -> None:
    resampler, fed, out = PolyphaseResampler(44100, 16000), 0, 0
    for _ in range(9):
        out += len(resampler.process(noise(size)))
        fed += size
        assert out == -(-fed * 160 // 441)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_an_impulse_measures_the_declared_delay(source: int, target: int) -> None:
    at = source // 100
    impulse = np.zeros(source // 20, np.float32)
    impulse[at] = 1.0
    resampler = PolyphaseResampler(source, target)
    place = centre(resampler.process(impulse))
    assert place == pytest.approx(at * target / source + resampler.delay_samples, abs=0.01)
    assert resampler.delay_s == pytest.approx(resampler.delay_samples / target)


@pytest.mark.parametrize("rate", [16000, 32000, 44100, 48000, 88200, 96000, 176400, 192000])
def test_down_and_up_again_is_a_whole_number_of_samples_late(rate: int) -> None:
    down, up = PolyphaseResampler(rate, 16000), PolyphaseResampler(16000, rate)
    delay = (down.delay_s + up.delay_s) * rate
    assert delay == pytest.approx(round(delay), abs=1e-9)
    assert down.delay_s + up.delay_s <= 0.002
    tone = np.sin(2 * np.pi * 1000 / rate * np.arange(rate // 10)).astype(np.float32)
    back = up.process(down.process(tone))
    assert len(back) >= len(tone)
    late = back[round(delay) : len(tone)]
    skip = rate // 100
    np.testing.assert_allclose(late[skip:], tone[: len(late)][skip:], atol=2e-3)


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_the_band_is_kept_and_aliases_are_not(rate: int) -> None:
    taps = prototype(rate, 16000)
    grid = rate * 16000 // gcd(rate, 16000)
    hertz, response = freqz(taps / taps.sum(), worN=1 << 18, fs=grid)
    decibels = 20 * np.log10(np.abs(response) + 1e-12)
    assert np.abs(decibels[hertz <= 6000]).max() < 0.1
    assert decibels[hertz >= 8500].max() < -80


def test_equal_rates_pass_through_unchanged() -> None:
    resampler = PolyphaseResampler(16000, 16000)
    audio = noise(777)
    np.testing.assert_array_equal(resampler.process(audio), audio)
    assert resampler.delay_s == 0.0
    assert resampler.delay_samples == 0


def test_only_what_is_due_is_written() -> None:
    resampler = PolyphaseResampler(48000, 16000)
    out = np.full(50, np.nan, np.float32)
    assert resampler.process_into(noise(65), out) == 22
    assert np.isfinite(out[:22]).all()
    assert np.isnan(out[22:]).all()


def test_one_channel_of_an_interleaved_block_is_accepted() -> None:
    stereo = noise(1000).reshape(500, 2)
    result = PolyphaseResampler(48000, 16000).process(stereo[:, 1])
    np.testing.assert_array_equal(
        result, PolyphaseResampler(48000, 16000).process(stereo[:, 1].copy())
    )


def test_forgetting_silences_the_past_and_keeps_the_timeline() -> None:
    resampler, fresh = PolyphaseResampler(44100, 16000), PolyphaseResampler(44100, 16000)
    resampler.process(noise(100))
    resampler.forget()
    fresh.process(np.zeros(100, np.float32))
    np.testing.assert_array_equal(resampler.process(noise(300)), fresh.process(noise(300)))


def test_a_reset_resampler_is_a_new_one() -> None:
    resampler = PolyphaseResampler(16000, 44100)
    resampler.process(noise(101))
    resampler.reset()
    fresh = PolyphaseResampler(16000, 44100)
    np.testing.assert_array_equal(resampler.process(noise(300)), fresh.process(noise(300)))


@pytest.mark.parametrize("rates", [(12345, 16000), (16000, 0)])
def test_an_unsupported_rate_is_refused_with_the_choices(rates: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"(12345|0) Hz; choose one of 8000, .*192000"):
        PolyphaseResampler(*rates)


def test_wrong_arrays_are_refused() -> None:
    resampler = PolyphaseResampler(48000, 16000)
    with pytest.raises(ShapeError, match="one-dimensional float32, got float64"):
        resampler.process(np.zeros(9))  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"one-dimensional float32, got float32 \(2, 9\)"):
        resampler.process(np.zeros((2, 9), np.float32))
    with pytest.raises(ShapeError, match="must hold 34 samples, got 20"):
        resampler.process_into(np.zeros(99, np.float32), np.zeros(20, np.float32))
