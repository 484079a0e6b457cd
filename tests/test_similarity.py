"""Scores of tunes, on tunes whose score is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("librosa")

from evaluation.similarity import (
    METRICS,
    chroma_ncc,
    features,
    normalised,
    pitch_dtw,
    pitch_ncc,
)
from model.errors import ShapeError

RATE = 16_000
TUNE = (60, 64, 67, 72, 71, 67, 62, 65, 69, 64)
OTHER_TUNE = (73, 61, 70, 63, 68, 75, 66, 61, 78, 70)


def played(pitches: tuple[int, ...], partials: int = 1, note_s: float = 0.5) -> np.ndarray:
    time = np.arange(round(note_s * RATE)) / RATE
    notes = []
    for pitch in pitches:
        hertz = 440 * 2 ** ((pitch - 69) / 12)
        wave = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in range(1, partials + 1))
        notes.append(wave * np.minimum(1, 40 * np.minimum(time, time[::-1])))
    return (0.2 * np.concatenate(notes)).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_tune_is_itself_on_any_instrument_and_not_another(metric) -> None:
    tune = features(played(TUNE))
    assert metric(tune, tune) == pytest.approx(1.0)
    assert metric(tune, features(played(TUNE, partials=6))) > 0.85
    assert metric(tune, features(played(OTHER_TUNE))) < 0.65


def test_a_transposition_is_heard_in_chroma_alone() -> None:
    tune = features(played(TUNE))
    moved = features(played(tuple(pitch + 3 for pitch in TUNE)))
    assert pitch_ncc(tune, moved) > 0.9
    assert pitch_dtw(tune, moved) > 0.9
    assert chroma_ncc(tune, moved) < 0.5


def test_a_delay_is_no_fault() -> None:
    tune = played(TUNE)
    late = np.concatenate([np.zeros(1600, np.float32), tune[:-1600]])
    for metric in METRICS.values():
        assert metric(features(tune), features(late)) > 0.85


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("kind", ["constant", "noise", "silence"])
def test_what_carries_no_tune_scores_low(metric, kind: str) -> None:
    length = len(played(TUNE))
    sound = {
        "constant": played((70,), note_s=length / RATE),
        "noise": np.random.default_rng(0).uniform(-0.3, 0.3, length).astype(np.float32),
        "silence": np.zeros(length, np.float32),
    }[kind]
    score = metric(features(played(TUNE)), features(sound))
    assert np.isfinite(score)
    assert score < 0.6


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_digital_silence_is_like_nothing_not_even_itself(metric) -> None:
    silence = features(np.zeros(5 * RATE + 63, np.float32))
    assert metric(silence, features(np.zeros(5 * RATE + 63, np.float32))) == 0.0
    tune = features(played(TUNE)[: 5 * RATE + 63])
    assert metric(silence, tune) == metric(tune, silence) == 0.0
    assert silence.pitch.shape == features(np.full(5 * RATE + 63, 0.1, np.float32)).pitch.shape
    assert silence.chroma.shape == features(np.full(5 * RATE + 63, 0.1, np.float32)).chroma.shape


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_silence_is_not_a_tune_that_two_recordings_share(metric) -> None:
    one, other = np.zeros((2, 5 * RATE), np.float32)
    one[0], other[0] = 1e-7, 2e-7
    assert metric(features(one), features(other)) < 0.9


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"1 s or more .* \(63,\)"):
        features(np.zeros(63, np.float32))
    with pytest.raises(ShapeError, match="one-dimensional|1 s or more"):
        features(np.zeros((2, RATE), np.float32))
    with pytest.raises(ShapeError, match="not finite"):
        features(np.full(2 * RATE, np.nan, np.float32))


def test_a_normalised_score_lies_between_chance_and_ceiling() -> None:
    assert normalised(0.4, 0.1, 0.7) == pytest.approx(0.5)
    assert normalised(0.1, 0.1, 0.7) == 0.0
    assert np.isnan(normalised(0.4, 0.5, 0.5))
