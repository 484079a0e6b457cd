"""``umt eval endurance``: figures of recordings that are known to be well or not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("librosa")
pytest.importorskip("torch")

from evaluation.endurance import (
    Health,
    Standard,
    course_of,
    endure,
    health_of,
    long_take,
    standard_of,
    white_noise,
)
from model import mulaw
from model.bundle import Bundle, Domain
from model.config import SAMPLE_RATE
from model.errors import DataError
from realtime.backends import open_backend
from tests.command_line import umt
from tests.prepared import prepared
from tests.synthetic import tones

SECOND = SAMPLE_RATE


@pytest.fixture(scope="module")
def music() -> np.ndarray:
    return tones(0, 20.0, 3)


@pytest.fixture(scope="module")
def standard() -> Standard:
    training = [tones(0, 20.0, seed) for seed in range(3)]
    return standard_of(Domain("flat", loudness_db=-17.5), training)


def test_recordings_are_played_again_until_the_take_is_long_enough() -> None:
    first, second = np.full(100, 0.1, np.float32), np.full(63, 0.2, np.float32)
    take = long_take([first, second], 250 / SAMPLE_RATE)
    np.testing.assert_array_equal(take, np.concatenate([first, second, first[:87]]))
    with pytest.raises(DataError, match="no test recording"):
        long_take([np.zeros(0, np.float32)], 1.0)


def test_a_tone_has_a_sharp_spectrum_and_noise_a_flat_one() -> None:
    time = np.arange(2 * SECOND + 8193) / SAMPLE_RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * SECOND).astype(np.float32)
    assert len(course_of(tone).level_db) == 2
    np.testing.assert_allclose(course_of(tone).level_db, -9.03, atol=0.01)
    assert (course_of(tone).flatness < 1e-4).all()
    np.testing.assert_allclose(course_of(noise).level_db, -20.0, atol=0.1)
    assert (course_of(noise).flatness > 0.95).all()
    assert course_of(tone[:63]).level_db.shape == (0,)


def test_the_domains_own_music_holds(music: np.ndarray, standard: Standard) -> None:
    health = health_of(mulaw.as_heard(music), music, standard)
    assert health.verdict == "holds"
    assert health.loudness_lu == pytest.approx(0.0, abs=1.0)
    assert health.drift_db == pytest.approx(0.0, abs=0.05)
    assert (health.clipped, health.silent, health.noisy) == (0.0, 0.0, 0.0)


def test_a_translation_ten_db_down_is_ten_lu_down(music: np.ndarray, standard: Standard) -> None:
    soft = (music * 10 ** (-10 / 20)).astype(np.float32)
    own, other = health_of(music, music, standard), health_of(soft, music, standard)
    assert other.loudness_lu - own.loudness_lu == pytest.approx(-10.0, abs=0.01)
    assert other.level_db - own.level_db == pytest.approx(-10.0, abs=0.01)
    assert "LU" in other.verdict


def test_seconds_of_silence_are_counted_where_the_input_sounds(
    music: np.ndarray, standard: Standard
) -> None:
    broken = music.copy()
    broken[4 * SECOND : 9 * SECOND] = 0.0
    assert health_of(broken, music, standard).silent == pytest.approx(5 / 20)
    assert "25.0% silent" in health_of(broken, music, standard).verdict
    # Nobody expects sound of a pause.
    assert health_of(broken, broken, standard).silent == 0.0
    with pytest.raises(DataError, match="no second of the test audio sounds"):
        health_of(music, np.zeros_like(music), standard)


def test_seconds_of_noise_are_counted(music: np.ndarray, standard: Standard) -> None:
    broken = music.copy()
    broken[17 * SECOND :] = white_noise(3 * SECOND, standard)
    health = health_of(broken, music, standard)
    assert health.noisy == pytest.approx(3 / 20)
    assert health.silent == 0.0


def test_a_level_that_runs_away_is_a_drift(music: np.ndarray, standard: Standard) -> None:
    decay = 10 ** (-np.linspace(0, 18, len(music)) / 20)
    health = health_of((music * decay).astype(np.float32), music, standard)
    # The middles of the outer thirds lie two thirds of the way apart.
    assert health.drift_db == pytest.approx(-12.0, abs=1.0)


def test_samples_at_the_rail_are_clipped(music: np.ndarray, standard: Standard) -> None:
    broken = music.copy()
    broken[:320] = 0.976
    health = health_of(broken, music, standard)
    assert health.clipped == pytest.approx(320 / len(music))
    assert "0.100% clipped" in health.verdict


def test_a_verdict_names_every_fault() -> None:
    well = Health(60.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.01)
    assert well.verdict == "holds"
    ill = replace(well, loudness_lu=-4.2, drift_db=-5.0, silent=0.5, noisy=0.25)
    assert ill.faults == ("-4.2 LU", "drifts -5.0 dB", "50.0% silent", "25.0% noise")


def test_noise_and_silence_are_known_for_what_they_are(
    tiny_bundle: Bundle, music: np.ndarray, standard: Standard
) -> None:
    seconds: list[None] = []
    rows = endure(
        tiny_bundle, open_backend("numba-int8", tiny_bundle), "b", music[: 3 * SECOND + 63], music,
        standard, seed=0, progress=lambda: seconds.append(None),
    )  # fmt: skip
    health = {row.name: row.health for row in rows}
    assert list(health) == ["translation", "real", "white noise", "silence"]
    assert health["translation"].seconds == pytest.approx(3.0, abs=0.01)
    assert len(seconds) == 4
    assert health["real"].verdict == "holds"
    assert health["white noise"].noisy == 1.0
    assert abs(health["white noise"].loudness_lu) < 0.2
    assert health["silence"].silent == 1.0


def test_silent_training_audio_sets_no_standard() -> None:
    with pytest.raises(DataError, match="training audio of flat sounds"):
        standard_of(Domain("flat"), [np.zeros(3 * SECOND, np.float32)])


def test_the_command_gives_a_verdict_for_each_domain(tmp_path: Path, tiny_bundle: Bundle) -> None:
    given = prepared(tiny_bundle, tmp_path, seconds=4.0, takes=3)
    report, picture = tmp_path / "e.json", tmp_path / "e.png"
    said = umt("eval", "endurance", *given, "--minutes", 0.1, "--json", report, "--plot", picture)
    assert said.status == 0, said.err
    stored = json.loads(report.read_text())
    assert [(row["domain"], row["row"]) for row in stored["rows"]] == [
        (domain, row)
        for domain in ("a", "b", "c")
        for row in ("translation", "real", "white noise", "silence")
    ]
    for row in stored["rows"]:
        assert len(row["level_db_by_second"]) == len(row["flatness_by_second"]) == 6
        assert f"{row['domain']}: {row['verdict']}" in said.out or row["row"] != "translation"
    assert stored["standards"]["a"]["level_db"] == -21.0
    assert picture.read_bytes().startswith(b"\x89PNG")
    other = umt(
        "eval", "endurance", *given, "--minutes", 0.05, "--to", "c", "--from", "a", "--json", report
    )
    assert other.status == 0, other.err
    assert {row["domain"] for row in json.loads(report.read_text())["rows"]} == {"c"}
    assert "no domain 'd'" in umt("eval", "endurance", *given, "--to", "d").complaint
    assert "'d'" in umt("eval", "endurance", *given, "--from", "d").complaint
