"""The probe of harmony: what sounds can be told where it is told, and silence asks nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("librosa")
pytest.importorskip("torch")

from evaluation.harmony import agreement, chance, chroma, learn_chroma, spectra
from model.config import SAMPLE_RATE
from model.errors import DataError

HOP = 800


def scale(seed: int, seconds: float = 20.0) -> np.ndarray:
    """Half-second tones of random pitch classes."""
    rng = np.random.default_rng(seed)
    time = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    notes = [
        0.1 * np.sin(2 * np.pi * 261.63 * 2 ** (pitch / 12) * time)
        for pitch in rng.integers(0, 12, round(2 * seconds))
    ]
    return np.concatenate(notes).astype(np.float32)


def test_chroma_names_the_note_at_each_hop_and_says_nothing_of_silence() -> None:
    time = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    a440 = (0.1 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    found = chroma(np.concatenate([a440, np.zeros_like(a440)]), HOP)
    assert found.shape == (80, 12)
    assert (found[3:37].argmax(axis=1) == 9).all()
    assert not found[43:].any()


def test_half_minutes_are_joined_as_if_they_were_one_piece() -> None:
    long = scale(3, 35.0)
    for of in (chroma, spectra):
        whole = of(long, HOP)
        assert len(whole) == 700
        np.testing.assert_allclose(whole[580:620], of(long[560 * HOP : 640 * HOP], HOP)[20:60])
        assert of(long[: HOP - 1], HOP).shape[0] == 0


def test_what_is_told_is_found_and_what_is_not_told_is_at_chance() -> None:
    train, test = [scale(0), scale(1)], [scale(2)]
    known, unknown = {"a": [chroma(x, HOP) for x in train]}, {"a": [chroma(x, HOP) for x in test]}
    told = [{"a": [spectra(x, HOP) for x in part]} for part in (train, test)]
    blind = [{"a": [np.zeros_like(x) for x in part["a"]]} for part in told]
    floor = chance(known, unknown)
    hearing = learn_chroma(told[0], known, HOP, seed=0, steps=150)
    assert agreement(hearing, told[1], unknown) > 0.85
    guessing = learn_chroma(blind[0], known, HOP, seed=0, steps=20)
    assert abs(agreement(guessing, blind[1], unknown) - floor) < 0.1
    assert floor < 0.3


def test_what_an_encoder_that_looks_ahead_has_not_heard_yet_is_left_out() -> None:
    sound = [scale(0)]
    known = {"a": [chroma(x, HOP) for x in sound]}
    told = {"a": [spectra(x, HOP)[:-4] for x in sound]}
    network = learn_chroma(told, known, HOP, seed=0, steps=40)
    assert agreement(network, told, known) > 0.6


def test_too_little_music_is_said() -> None:
    short, silent = ({"a": [np.zeros((frames, 12), np.float32)]} for frames in (39, 60))
    with pytest.raises(DataError, match="domain a has no training recording of 2 s"):
        learn_chroma(short, short, HOP, seed=0, steps=1)
    with pytest.raises(DataError, match="nothing sounds in the test recordings of domain a"):
        chance(silent, silent)
