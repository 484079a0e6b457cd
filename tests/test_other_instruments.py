"""Instruments that no SoundFont has: one recording played at any pitch, and sung vowels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from training.humanise import Played
from training.render import SYNTH_RATE, Samples
from training.sampled import RELEASE_S, play_recording
from training.sung import VIBRATO_AFTER_S, VOWELS, sing

NOTE = Played(start_s=0.25, duration_s=0.8, pitch=64, velocity=100, part=0)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Half a second of a sine of MIDI pitch 69, at a rate of its own."""
    path = tmp_path / "note.wav"
    time = np.arange(22050) / 44100
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * time), 44100)
    return path


def pitch_of(sound: Samples, start_s: float, stop_s: float) -> float:
    """MIDI pitch of the strongest partial."""
    heard = sound[round(start_s * SYNTH_RATE) : round(stop_s * SYNTH_RATE)]
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 1 << 19))
    return float(69 + 12 * np.log2(spectrum.argmax() * SYNTH_RATE / (1 << 19) / 440))


def level_of(sound: Samples, start_s: float, stop_s: float) -> float:
    heard = sound[round(start_s * SYNTH_RATE) : round(stop_s * SYNTH_RATE)]
    return float(np.sqrt(np.square(heard).mean()))


@pytest.mark.parametrize("pitch", [52, 64, 69, 81])
def test_a_recording_plays_at_any_pitch_for_as_long_as_asked(recording: Path, pitch: int) -> None:
    note = Played(0.25, 1.4, pitch, 127, 0)
    sound = play_recording([note], recording, 69.0)
    assert pitch_of(sound, 0.3, 1.6) == pytest.approx(pitch, abs=0.1)
    assert not sound[: round(0.25 * SYNTH_RATE)].any()
    # The recording lasts half a second: it goes over into itself, and never pauses.
    for start in np.arange(0.3, 1.6, 0.05):
        assert level_of(sound, start, start + 0.05) > 0.1
    assert level_of(sound, 1.85, 2.2) < 1e-6


@pytest.mark.parametrize("pitch", [45, 64, 69, 81, 93])
def test_a_note_of_any_pitch_dies_away_and_is_not_cut_off(recording: Path, pitch: int) -> None:
    note = Played(0.0, 0.5, pitch, 127, 0)
    sound = play_recording([note], recording, 69.0)
    # Its release, over which it falls evenly from what it was to nothing.
    for share in (0.25, 0.5, 0.75):
        middle = 0.5 + share * RELEASE_S
        level = level_of(sound, middle - 0.01, middle + 0.01)
        # More, by half, where the recording goes over into itself.
        assert 0.8 < level / ((1 - share) * 0.5 / 2**0.5) < 1.5


def test_notes_of_a_recording_are_as_loud_as_struck_and_sound_together(recording: Path) -> None:
    soft = Played(0.0, 0.5, 69, 64, 0)
    loud = Played(0.0, 0.5, 69, 127, 0)
    alone = [play_recording([one], recording, 69.0) for one in (soft, loud)]
    levels = [level_of(one, 0.05, 0.4) for one in alone]
    assert levels[1] / levels[0] == pytest.approx((127 / 64) ** 2, rel=0.02)
    together = play_recording([soft, loud], recording, 69.0)
    assert np.abs(together - alone[0] - alone[1]).max() < 1e-5


def test_a_sung_note_glides_to_its_pitch_and_trembles_about_it() -> None:
    long = Played(0.0, 2.0, 57, 100, 0)
    partials = sing([long])
    settled = [pitch_of(partials, at, at + 0.09) for at in np.arange(0.6, 1.8, 0.03)]
    harmonic = 12 * np.log2(np.arange(1, 17))
    off = [min(pitch - 57 - harmonic, key=abs) for pitch in settled]
    assert np.mean(off) == pytest.approx(0.0, abs=0.05)
    assert max(off) - min(off) > 0.3
    assert VIBRATO_AFTER_S < 0.6


def test_each_vowel_has_its_own_first_resonance() -> None:
    # A low note has a partial near every resonance.
    sound = sing([Played(float(i), 0.9, 40, 100, 0) for i in range(len(VOWELS))])
    whole = sound[: len(VOWELS) * SYNTH_RATE].reshape(len(VOWELS), SYNTH_RATE)
    heard = whole[:, round(0.3 * SYNTH_RATE) : round(0.85 * SYNTH_RATE)]
    power = np.abs(np.fft.rfft(heard * np.hanning(heard.shape[1]))) ** 2
    hertz = np.fft.rfftfreq(heard.shape[1], 1 / SYNTH_RATE)
    for own, (first, *_) in enumerate(VOWELS):
        share = power[:, np.abs(hertz - first) < 60].max(axis=1) / power.max(axis=1)
        for other, (theirs, *_) in enumerate(VOWELS):
            assert share[own] > share[other] or abs(first - theirs) < 150, (first, theirs)


def test_a_performance_is_sung_the_same_again() -> None:
    notes = [NOTE, Played(0.5, 0.4, 60, 80, 1)]
    assert np.array_equal(sing(notes), sing(notes))
