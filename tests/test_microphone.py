"""The made-up microphone: what it may change of a recording, and what not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from training.microphone import HISS_DB, through_microphone

RATE = 16_000


def tone(seconds: float = 0.5) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


def heard(audio: np.ndarray, seed: int) -> np.ndarray:
    return through_microphone(audio, np.random.default_rng(seed))


@pytest.mark.parametrize("length", [1, 63, 6401])
@pytest.mark.parametrize("seed", range(4))
def test_length_level_and_range_are_kept(length: int, seed: int) -> None:
    audio = np.random.default_rng(9).uniform(-0.5, 0.5, length).astype(np.float32)
    out = heard(audio, seed)
    assert out.shape == audio.shape
    assert out.dtype == np.float32
    assert np.abs(out).max() <= 1.0
    hiss = 10 ** (HISS_DB[1] / 20)
    assert np.sqrt(np.mean(out**2)) == pytest.approx(np.sqrt(np.mean(audio**2)), abs=4 * hiss)


def test_the_direct_sound_is_not_delayed() -> None:
    click = np.zeros(4000, np.float32)
    click[1000] = 0.9
    for seed in range(20):
        out = heard(click, seed)
        assert np.abs(out[:1000]).max() < 6 * 10 ** (HISS_DB[1] / 20), "nothing before the click"
        assert np.abs(out[1000:1016]).max() == np.abs(out).max(), "the click itself is loudest"


def test_pitch_is_kept_and_timbre_changes() -> None:
    audio = tone() + np.float32(0.3) * tone() ** 3
    for seed in range(8):
        before, after = np.abs(np.fft.rfft(audio)), np.abs(np.fft.rfft(heard(audio, seed)))
        assert after[100:800].argmax() == before[100:800].argmax()
        assert not np.allclose(before, after, rtol=0.05)


def test_one_seed_gives_one_microphone_and_the_input_is_left_alone() -> None:
    audio = tone()
    kept = audio.copy()
    np.testing.assert_array_equal(heard(audio, 3), heard(audio, 3))
    assert not np.array_equal(heard(audio, 3), heard(audio, 4))
    np.testing.assert_array_equal(audio, kept)


def test_silence_stays_finite() -> None:
    assert np.isfinite(heard(np.zeros(500, np.float32), 0)).all()
