"""Loudness, held to what the standard itself gives."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from evaluation.loudness import ABSOLUTE_GATE_LUFS, integrated_loudness, k_weighting
from model.errors import ShapeError
from model.loudness import sounding_rms


def sine(seconds: float, level: float, rate: int = 16_000, hertz: float = 997.0) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def test_the_filters_are_those_of_the_standard_at_48_khz() -> None:
    # ITU-R BS.1770-4, tables 1 and 2.
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285]
    shelf += [1.0, -1.69065929318241, 0.73248077421585]
    low_cut = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]
    np.testing.assert_allclose(k_weighting(48_000), [shelf, low_cut], atol=1e-6)


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_full_scale_tone_of_997_hz_has_minus_three_lufs(rate: int) -> None:
    assert integrated_loudness([sine(5.0, 1.0, rate)], rate) == pytest.approx(-3.01, abs=0.05)
    assert integrated_loudness([sine(5.0, 0.1, rate)], rate) == pytest.approx(-23.01, abs=0.05)


def test_a_rumble_is_hardly_heard() -> None:
    assert integrated_loudness([sine(5.0, 0.5, hertz=20.0)]) < -20.0


def test_pauses_do_not_make_music_softer() -> None:
    loud, soft, silent = sine(6.0, 0.1), sine(6.0, 0.02), np.zeros(96_000, np.float32)
    assert integrated_loudness([loud, silent]) == pytest.approx(-23.01, abs=0.1)
    # 14 dB softer: below the relative gate.
    assert integrated_loudness([loud, soft]) == pytest.approx(-23.01, abs=0.1)
    assert integrated_loudness([loud, sine(6.0, 0.05)]) == pytest.approx(-25.05, abs=0.1)


@pytest.mark.parametrize("audio", [[], [np.zeros(63, np.float32)], [np.zeros(16_000, np.float32)]])
def test_what_passes_no_gate_is_as_loud_as_the_gate(audio: list[np.ndarray]) -> None:
    assert integrated_loudness(audio) == ABSOLUTE_GATE_LUFS


def test_two_channels_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"one channel .* \(2, 16000\)"):
        integrated_loudness([np.zeros((2, 16_000), np.float32)])


def test_the_level_of_a_domain_passes_over_rests() -> None:
    tone = sine(2.0, 0.2)
    assert sounding_rms(tone) == pytest.approx(0.2 / np.sqrt(2), rel=1e-3)
    rests = np.concatenate([tone, np.zeros(32_000, np.float32), tone])
    assert sounding_rms(rests) == pytest.approx(0.2 / np.sqrt(2), rel=1e-3)
    assert sounding_rms(np.zeros(0, np.float32)) == 0.0
