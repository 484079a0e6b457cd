"""From played notes to sound: the MIDI file, the level, the synthesiser, the example."""

import math
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from model.errors import DataError
from training.humanise import Played
from training.render import (
    SAMPLE_RATE,
    Voice,
    at_loudness,
    find_fluidsynth,
    midi_file,
    synthesise,
    trimmed,
)
from training.sources import GENERAL_SOUNDFONT

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "bridge" / "example" / "performance.flac"


def rms_db(sound: np.ndarray) -> float:
    return float(10 * np.log10(np.square(sound, dtype=np.float64).mean()))


def tone(seconds: float, level: float = 0.1, pitch_hz: float = 440.0) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * pitch_hz * time)).astype(np.float32)


def nearest_pitch(sound: np.ndarray, rate: int) -> int:
    """MIDI number of the lowest strong partial."""
    windowed = sound * np.hanning(len(sound))
    spectrum = np.abs(np.fft.rfft(windowed, 4 * len(sound)))
    spectrum[: round(60 * 4 * len(sound) / rate)] = 0
    strong = np.flatnonzero(spectrum > 0.25 * spectrum.max())
    first = strong[0]
    peak = first + np.argmax(spectrum[first : first + 60])
    return round(69 + 12 * math.log2(peak * rate / (4 * len(sound)) / 440))


def test_a_note_is_the_bytes_the_midi_standard_says() -> None:
    stored = midi_file([Played(0.5, 0.1, 60, 100, 0)], {0: Voice(73)})
    assert stored == (
        b"MThd\x00\x00\x00\x06\x00\x00\x00\x01\x03\xc0MTrk\x00\x00\x00\x12"
        b"\x00\xc0\x49"  # flute at once
        b"\x87\x40\x90\x3c\x64"  # after 960 ticks
        b"\x81\x40\x80\x3c\x00"  # after 192 more
        b"\x8f\x00\xff\x2f\x00"  # and a second of tail
    )


def test_a_repeated_note_is_released_before_it_is_struck_again() -> None:
    twice = [Played(0.0, 0.5, 60, 100, 0), Played(0.5, 0.5, 60, 100, 0)]
    stored = midi_file(twice, {0: Voice(0)})
    assert stored.index(b"\x80\x3c\x00") < stored.index(b"\x90\x3c\x64", stored.index(b"\x90") + 1)


def test_parts_keep_off_the_percussion_channel() -> None:
    played = [Played(0.0, 1.0, 60, 100, part) for part in range(15)]
    stored = midi_file(played, {part: Voice(40) for part in range(15)})
    starts = {byte for byte in stored if 0x90 <= byte <= 0x9F}
    assert len(starts) == 15
    assert 0x99 not in starts
    with pytest.raises(DataError, match="16 parts"):
        midi_file([Played(0.0, 1.0, 60, 9, part) for part in range(16)], {})


def test_a_double_plays_every_note_more_softly_on_a_channel_of_its_own() -> None:
    played = [Played(0.5, 0.1, 60, 100, 0), Played(0.5, 0.1, 48, 100, 1)]
    stored = midi_file(played, {0: Voice(52, doubled_by=48), 1: Voice(43)})
    assert b"\xc0\x34" in stored
    assert b"\xc1\x30" in stored
    assert b"\xc2\x2b" in stored
    assert b"\x90\x3c\x64" in stored
    assert b"\x91\x3c\x46" in stored
    assert b"\x92\x30\x64" in stored
    with pytest.raises(DataError, match="16 instruments, doublings included"):
        midi_file(
            [Played(0.0, 1.0, 60, 9, part) for part in range(8)],
            {part: Voice(52, doubled_by=48) for part in range(8)},
        )


@pytest.mark.parametrize("level", [1e-3, 0.1, 0.9])
def test_music_is_brought_to_one_level(level: float) -> None:
    assert rms_db(at_loudness(tone(2.0, level))) == pytest.approx(-21.0, abs=0.01)


def test_pauses_do_not_make_the_music_louder() -> None:
    with_pause = np.concatenate([tone(2.0), np.zeros(8 * SAMPLE_RATE, np.float32)])
    assert rms_db(at_loudness(with_pause)[: 2 * SAMPLE_RATE]) == pytest.approx(-21.0, abs=0.2)


def test_peaks_are_bent_and_never_reach_full_scale() -> None:
    clicks = np.zeros(SAMPLE_RATE, np.float32)
    clicks[::1600] = 1.0
    sound = at_loudness(clicks)
    assert 0.66 < np.abs(sound).max() < 0.951


@pytest.mark.parametrize("length", [0, 1, 63, 8193])
def test_silence_has_no_level(length: int) -> None:
    with pytest.raises(DataError, match="silent"):
        at_loudness(np.zeros(length, np.float32))


def test_trimming_leaves_a_quarter_second_around_the_music() -> None:
    quiet = np.zeros(SAMPLE_RATE, np.float32)
    cut = trimmed(np.concatenate([quiet, tone(1.0), quiet]))
    assert len(cut) / SAMPLE_RATE == pytest.approx(1.5, abs=0.002)
    assert len(trimmed(quiet)) == len(quiet)


def test_without_fluidsynth_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="apt install fluidsynth"):
        find_fluidsynth()


@pytest.mark.parametrize("status", [0, 1])
def test_a_failing_synthesiser_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    # fluidsynth itself ends with status 0 after an error, having played something else.
    program = tmp_path / "fluidsynth"
    program.write_text(f"#!/bin/sh\necho 'fluidsynth: error: no such font' >&2\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(DataError, match=r"with .*none\.sf2 \(fluidsynth: error: no such font\)"):
        synthesise([Played(0.0, 0.2, 60, 100, 0)], {0: Voice(73)}, tmp_path / "none.sf2")


@pytest.mark.skipif(shutil.which("fluidsynth") is None, reason="fluidsynth is not installed")
@pytest.mark.skipif(
    not GENERAL_SOUNDFONT.installed.exists(), reason="musescore-general-soundfont is not installed"
)
def test_the_synthesiser_plays_the_notes_it_is_given() -> None:
    pitches = (60, 67, 74, 79)
    played = [Played(0.6 * i, 0.55, pitch, 90, 0) for i, pitch in enumerate(pitches)]
    sound = synthesise(played, {0: Voice(73)}, GENERAL_SOUNDFONT.installed, SAMPLE_RATE)
    heard = [
        nearest_pitch(sound[int((note.start_s + 0.2) * SAMPLE_RATE) :][: SAMPLE_RATE // 4], 16000)
        for note in played
    ]
    assert heard == list(pitches)
    again = synthesise(played, {0: Voice(73)}, GENERAL_SOUNDFONT.installed, SAMPLE_RATE)
    np.testing.assert_array_equal(sound, again)


def test_the_example_performance_is_the_tune_it_says() -> None:
    sound, rate = soundfile.read(EXAMPLE, dtype="float32")
    assert (rate, sound.ndim) == (48000, 1)
    assert EXAMPLE.stat().st_size < 1_000_000
    assert 20 < len(sound) / rate < 25
    assert np.abs(sound).max() < 0.95
    assert rms_db(sound) == pytest.approx(-21.0, abs=0.5)
    performance = runpy.run_path(str(ROOT / "examples" / "performance.py"))["performance"]
    long_notes = [note for note in performance() if note.duration_s > 0.45]
    heard = [
        nearest_pitch(sound[int((note.start_s + 0.2) * rate) :][: rate // 5], rate)
        for note in long_notes
    ]
    assert heard == [note.pitch for note in long_notes]
