"""``umt eval pitch``: scores of embeddings whose likeness is known, notes, and the command."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("librosa")
pytest.importorskip("torch")

from evaluation.pitch import (
    SUSTAINED_S,
    Notes,
    centred,
    cosine,
    note_embedding,
    notes_of,
    score_pitches,
)
from model.bundle import Bundle, save_bundle
from model.config import SAMPLE_RATE
from model.errors import DataError, ShapeError
from realtime.backends import open_backend
from tests.command_line import umt
from training.catalogue import Instrument
from training.notes import INSTRUMENTS, NOTE_S, TWO_TAKES, Playing, single_notes
from training.sources import GENERAL_SOUNDFONT

PITCHES = tuple(range(60, 72))


def one_hot(instrument: str, shift: int = 0, offset: float = 0.0) -> Notes:
    """Every pitch a direction of its own; ``shift`` gives each the direction of another pitch."""
    rows = np.roll(np.eye(len(PITCHES)), shift, axis=1) + offset
    return Notes(instrument, PITCHES, (rows, 2.0 * rows))


def tone(pitch: int, level: float = 0.2, seconds: float = NOTE_S) -> np.ndarray:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    wave = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in (1, 2, 3))
    return (level * wave).astype(np.float32)


def test_an_embedding_of_pitch_alone_reaches_the_ceiling() -> None:
    own, pair, other = score_pitches([one_hot("x"), one_hot("y")], seed=0)
    assert [(row.one, row.other) for row in (own, pair, other)] == [
        ("x", "x"), ("x", "y"), ("y", "y"),
    ]  # fmt: skip
    for row in (own, pair, other):
        assert row.same == row.ceiling == row.nearest == row.nearest_ceiling == pytest.approx(1.0)
        assert row.different == pytest.approx(0.0)
        # A shuffle keeps one note in place on average.
        assert row.chance == pytest.approx(1 / len(PITCHES), abs=0.02)
        assert row.chance_p95 == pytest.approx(3 / len(PITCHES), abs=0.05)
        assert row.nearest_chance == 1 / len(PITCHES)


def test_an_embedding_of_the_instrument_alone_tells_no_pitch() -> None:
    rng = np.random.default_rng(0)
    x, y = (np.tile(rng.normal(size=8), (len(PITCHES), 1)) for _ in range(2))
    pair = score_pitches([Notes("x", PITCHES, (x, x)), Notes("y", PITCHES, (y, y))], seed=0)[1]
    assert pair.same == pytest.approx(pair.different)
    assert pair.chance == pytest.approx(pair.same)
    assert pair.nearest == pair.nearest_chance


def test_an_instrument_that_is_out_by_a_semitone_scores_nothing() -> None:
    pair = score_pitches([one_hot("x"), one_hot("y", shift=1)], seed=0)[1]
    assert (pair.same, pair.nearest) == (0.0, 0.0)
    assert pair.ceiling == pytest.approx(1.0)


def test_a_common_offset_hides_the_pitch_until_the_mean_is_taken_off() -> None:
    loud = [one_hot("x", offset=5.0), one_hot("y", offset=5.0)]
    plain, about = score_pitches(loud, 0)[1], score_pitches([centred(one) for one in loud], 0)[1]
    assert plain.different > 0.98
    assert about.same == pytest.approx(1.0)
    assert about.different < 0.0


def test_only_pitches_that_both_have_are_compared() -> None:
    low = one_hot("low")
    rows = np.eye(len(PITCHES))[5:]
    high = Notes("high", PITCHES[5:], (rows, rows))
    pair = score_pitches([low, high], seed=0)[1]
    assert pair.pitches == PITCHES[5:]
    assert pair.similarity.shape == (12, 7)
    assert pair.same == pytest.approx(1.0)
    lone = Notes("lone", (20, 71), (np.eye(12)[:2], np.eye(12)[:2]))
    with pytest.raises(DataError, match="low and lone share 1 pitches"):
        score_pitches([low, lone], seed=0)


def test_similarity_does_not_notice_size() -> None:
    rows = np.random.default_rng(0).normal(size=(3, 5))
    np.testing.assert_allclose(np.diag(cosine(rows, 7.0 * rows)), 1.0)
    np.testing.assert_allclose(np.diag(cosine(rows, -rows)), -1.0)
    assert not cosine(np.zeros((1, 5)), rows).any()


def test_a_note_is_embedded_in_its_sustained_part_alone(tiny_bundle: Bundle) -> None:
    backend = open_backend("numba-int8", tiny_bundle)
    note = tone(69)
    other = note.copy()
    other[: round(0.3 * SAMPLE_RATE)] = 0.0
    other[round(SUSTAINED_S[1] * SAMPLE_RATE) :] = 0.0
    np.testing.assert_allclose(note_embedding(backend, note), note_embedding(backend, other))
    assert not np.allclose(note_embedding(backend, note), note_embedding(backend, tone(70)))
    with pytest.raises(ShapeError, match=r"last 0.9 s, got 8193"):
        note_embedding(backend, note[:8193])


def test_both_takes_need_the_same_notes(tiny_bundle: Bundle) -> None:
    backend = open_backend("numba-int8", tiny_bundle)
    with pytest.raises(DataError, match="x needs two pitches or more.*got 2 and 1"):
        notes_of(backend, "x", {60: tone(60), 61: tone(61)}, {60: tone(60)})
    with pytest.raises(DataError, match="x needs two pitches or more"):
        notes_of(backend, "x", {60: tone(60)}, {60: tone(60)})


@pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not GENERAL_SOUNDFONT.installed.is_file(),
    reason="needs fluidsynth and the MuseScore General SoundFont",
)
def test_notes_of_the_synthesiser_have_the_pitch_asked_for() -> None:
    notes = single_notes(
        INSTRUMENTS["flute"], (59, 60, 72), TWO_TAKES[0], GENERAL_SOUNDFONT.installed
    )
    # The flute ends at 60.
    assert list(notes) == [60, 72]
    for pitch, sound in notes.items():
        assert sound.shape == (SAMPLE_RATE,)
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
        strong = np.flatnonzero(spectrum > 0.3 * spectrum.max())
        assert abs(12 * math.log2(strong[0] / 440) + 69 - pitch) < 0.3


def test_the_command_draws_every_pair(
    tmp_path: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rendered(
        instrument: Instrument, pitches: Iterable[int], playing: Playing, _soundfont: Path
    ) -> dict[int, np.ndarray]:
        chosen = [one for one in pitches if instrument.lowest <= one <= instrument.highest]
        return {one: tone(one, playing.velocity / 300) for one in chosen}

    monkeypatch.setattr("training.notes.single_notes", rendered)
    monkeypatch.setattr("training.sources.find_sounds", lambda font, folder: folder / font.file)
    save_bundle(tiny_bundle, tmp_path / "bundle")
    report, picture = tmp_path / "p.json", tmp_path / "p.png"
    said = umt(
        "eval", "pitch", "--bundle", tmp_path / "bundle", "--instrument", "violin",
        "--instrument", "flute", "--lowest", 57, "--highest", 63, "--json", report,
        "--plot", picture,
    )  # fmt: skip
    assert said.status == 0, said.err
    assert "across instruments, cosine: same pitch 1.00" in said.out
    stored = json.loads(report.read_text())
    assert stored["pitches"] == {"violin": list(range(57, 64)), "flute": list(range(60, 64))}
    for measure in ("cosine", "about_mean"):
        pairs = [(row["one"], row["other"]) for row in stored[measure]]
        assert pairs == [("violin", "violin"), ("violin", "flute"), ("flute", "flute")]
        assert np.shape(stored[measure][1]["similarity"]) == (7, 4)
    # Both "instruments" are the same tones here.
    assert stored["cosine"][1]["same"] == pytest.approx(1.0, abs=0.01)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_compared_is_said_in_a_line() -> None:
    assert (
        "no instrument 'kazoo'; choose of piano"
        in umt("eval", "pitch", "--instrument", "kazoo").complaint
    )
    assert "another beside flute" in umt("eval", "pitch", "--instrument", "flute").complaint
    said = umt("eval", "pitch", "--lowest", 70, "--highest", 70)
    assert said.status == 2
    assert "--lowest 70 must be below --highest 70" in said.complaint
