"""``umt eval translation``: segments, rows, averages, and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("librosa")
pytest.importorskip("torch")

from evaluation.similarity import METRICS
from evaluation.translation import (
    SEGMENT_S,
    PairScore,
    Segment,
    across,
    score_translations,
    starts_of,
    translate,
)
from model.bundle import Bundle, random_bundle, save_bundle
from model.config import SAMPLE_RATE, profile
from model.errors import DataError
from realtime.backends import open_backend
from tests.command_line import umt

LENGTH = round(SEGMENT_S * SAMPLE_RATE)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return random_bundle(profile("tiny"), ("a", "b"), seed=1)


def music(seed: int, seconds: float = 6.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(4000) / SAMPLE_RATE
    notes = [
        0.2 * np.sin(2 * np.pi * 440 * 2 ** (pitch / 12) * time)
        for pitch in rng.integers(-12, 13, round(seconds * 4))
    ]
    return np.concatenate(notes).astype(np.float32)


def prepare_music(data: Path, domains: Sequence[str]) -> None:
    """What umt data prepare makes of three recordings of seven seconds for each domain."""
    arguments = []
    for number, name in enumerate(domains):
        folder = data.with_name("recordings") / name
        folder.mkdir(parents=True)
        for take in range(3):
            soundfile.write(folder / f"{take}.wav", music(10 * number + take, 7.0), SAMPLE_RATE)
        arguments += ["--wav-dir", f"{name}={folder}"]
    assert umt("data", "prepare", "--data-dir", data, *arguments).status == 0


def test_segments_are_spread_over_long_recordings_and_pass_over_silence() -> None:
    half_silent = np.concatenate([np.zeros(40 * SAMPLE_RATE, np.float32), music(1, 60.0)])
    recordings = [music(0, 2.0), half_silent, music(2)]
    chosen = starts_of(recordings, 40, np.random.default_rng(0))
    assert {index for index, _ in chosen} == {1, 2}
    for index, start in chosen:
        assert 0 <= start <= len(recordings[index]) - LENGTH
    silent = sum(start + LENGTH <= 40 * SAMPLE_RATE for index, start in chosen if index == 1)
    assert silent <= 3
    with pytest.raises(DataError, match="no test recording lasts 5 s"):
        starts_of([music(0, 2.0)], 1, np.random.default_rng(0))


def test_a_few_segments_are_not_all_of_the_first_recordings() -> None:
    recordings = [music(number, 6.0) for number in range(12)]
    heard = set()
    for seed in range(30):
        indices = [i for i, _ in starts_of(recordings, 3, np.random.default_rng(seed))]
        assert len(set(indices)) == 3
        heard |= set(indices)
    assert heard == set(range(12))


def test_a_translation_lasts_as_long_and_follows_the_seed(bundle: Bundle) -> None:
    backend = open_backend("numba-int8", bundle)
    audio = music(3)[:LENGTH]
    one = translate(bundle, backend, audio, "b", seed=4)
    assert one.shape == audio.shape
    np.testing.assert_array_equal(one, translate(bundle, backend, audio, "b", seed=4))
    assert not np.array_equal(one, translate(bundle, backend, audio, "b", seed=5))
    assert not np.array_equal(one, translate(bundle, backend, audio, "a", seed=4))


def test_every_pair_is_scored_beside_chance_and_ceiling(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A translator that gives back what it hears reaches the ceiling, whatever chance is.
    monkeypatch.setattr("evaluation.translation.translate", lambda _b, _e, audio, *_: audio)
    pieces = [music(seed)[:LENGTH] for seed in range(3)]
    segments = [Segment("a", piece, {"b": piece}) for piece in pieces]
    segments += [Segment("b", piece, {}) for piece in pieces[:2]]
    rows = score_translations(bundle, open_backend("numba-int8", bundle), segments, seed=0)
    assert [(row.source, row.target) for row in rows] == [
        ("a", "a"), ("a", "b"), ("b", "a"), ("b", "b"),
    ]  # fmt: skip
    assert [row.ceiling_from for row in rows] == ["identity", "ideal", "identity", "identity"]
    for row in rows:
        for name in METRICS:
            assert row.translation[name] == pytest.approx(1.0)
            assert row.chance[name] < 0.7
            assert row.normalised[name] == pytest.approx(1.0)
        assert row.constant["chroma_ncc"] < 0.5
    assert across(rows) == pytest.approx(dict.fromkeys(METRICS, 1.0))


def test_a_translator_that_ignores_its_input_scores_nothing(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "evaluation.translation.translate",
        lambda _b, _e, _audio, _target, seed: music(100 + seed)[:LENGTH],
    )
    segments = [Segment("a", music(seed)[:LENGTH], {}) for seed in range(5)]
    rows = score_translations(bundle, open_backend("numba-int8", bundle), segments, seed=0)
    assert abs(across(rows)["chroma_ncc"]) < 0.25


def test_chance_needs_a_second_segment(bundle: Bundle) -> None:
    with pytest.raises(DataError, match="two segments of a or more, got 1"):
        score_translations(
            bundle, open_backend("numba-int8", bundle), [Segment("a", music(0)[:LENGTH], {})], 0
        )


def test_averages_are_of_pairs_that_change_the_domain() -> None:
    def row(source: str, target: str, value: float) -> PairScore:
        same = dict.fromkeys(METRICS, 0.1)
        return PairScore(
            source, target, 2, dict.fromkeys(METRICS, value), same,
            dict.fromkeys(METRICS, 0.9), same, "ideal",
        )  # fmt: skip

    rows = [row("a", "a", 0.9), row("a", "b", 0.3), row("b", "a", 0.7)]
    assert across(rows) == pytest.approx(dict.fromkeys(METRICS, 0.5))
    assert all(np.isnan(value) for value in across(rows[:1]).values())


def test_the_command_scores_a_users_own_recordings(tmp_path: Path, bundle: Bundle) -> None:
    folder, data = tmp_path / "bundle", tmp_path / "data"
    save_bundle(bundle, folder)
    prepare_music(data, bundle.domain_names)
    report, picture = tmp_path / "scores.json", tmp_path / "scores.png"
    said = umt(
        "eval", "translation", "--data-dir", data, "--bundle", folder, "--segments", 2,
        "--json", report, "--plot", picture,
    )  # fmt: skip
    assert said.status == 0, said.err
    assert "every domain to every other" in said.out
    stored = json.loads(report.read_text())
    assert [(row["source"], row["target"]) for row in stored["pairs"]] == [
        ("a", "a"), ("a", "b"), ("b", "a"), ("b", "b"),
    ]  # fmt: skip
    assert {row["ceiling_from"] for row in stored["pairs"]} == {"identity"}
    assert set(stored["normalised"]) == set(METRICS)
    assert picture.read_bytes().startswith(b"\x89PNG")
    unseen = umt("eval", "translation", "--data-dir", data, "--bundle", folder, "--unseen")
    assert unseen.complaint.endswith("unseen instruments need one to play")
    missing = umt("eval", "translation", "--data-dir", tmp_path / "none", "--bundle", folder)
    assert missing.status == 1
    assert "umt data prepare" in missing.complaint
