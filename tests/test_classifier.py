"""Judges: what can be told apart is, what cannot is not, and guesses are counted right."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("librosa")
torch = pytest.importorskip("torch")

from evaluation.classifier import Judge, learn_latents, learn_sounds  # noqa: E402
from evaluation.probe import Music, encoded, excerpts, probe, tried  # noqa: E402
from evaluation.recognition import Guesses, recognise  # noqa: E402
from evaluation.translation import Segment  # noqa: E402
from model.bundle import Bundle, random_bundle, save_bundle  # noqa: E402
from model.config import SAMPLE_RATE, profile  # noqa: E402
from model.errors import DataError  # noqa: E402
from realtime.backends import open_backend  # noqa: E402
from tests.command_line import umt  # noqa: E402
from tests.test_translation_scores import prepare_music  # noqa: E402


def tone(seed: int, partials: int, seconds: float = 5.0) -> np.ndarray:
    """Notes of a timbre with so many partials, at a level that says nothing."""
    rng = np.random.default_rng(seed)
    time = np.arange(4000) / SAMPLE_RATE
    notes = []
    for pitch in rng.integers(-12, 13, round(seconds * 4)):
        waves = [
            np.sin(2 * np.pi * 330 * 2 ** (pitch / 12) * k * time + k)
            for k in range(1, partials + 1)
        ]
        notes.append(rng.uniform(0.02, 0.2) * sum(waves))
    return np.concatenate(notes).astype(np.float32)


def test_timbres_are_told_apart_whatever_their_level() -> None:
    sounds = {"pure": [tone(0, 1), tone(1, 1)], "rich": [tone(2, 8), tone(3, 8)]}
    judge = learn_sounds(sounds, seed=0, steps=60)
    for seed in range(10, 14):
        assert judge.guess(0.3 * tone(seed, 1)) == "pure"
        assert judge.guess(0.3 * tone(seed, 8)) == "rich"


def test_one_timbre_under_two_names_is_not_told_apart() -> None:
    sounds = {"one": [tone(0, 4, 20.0)], "other": [tone(1, 4, 20.0)]}
    judge = learn_sounds(sounds, seed=0, steps=60)
    unknown = {"one": [tone(2, 4, 60.0)], "other": [tone(3, 4, 60.0)]}
    right, stretches = tried(judge, unknown, 2 * SAMPLE_RATE)
    assert stretches == 60
    # Three standard deviations of so many blind guesses.
    assert abs(right - 0.5) < 0.2


def test_a_judge_follows_its_seed() -> None:
    sounds = {"pure": [tone(0, 1)], "rich": [tone(2, 8)]}
    first, again, other = (learn_sounds(sounds, seed, steps=3).network for seed in (4, 4, 5))
    for name, value in first.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=0, atol=0)
    assert not torch.equal(first.guess.weight, other.guess.weight)


def test_a_probe_finds_what_one_latent_channel_betrays_and_nothing_where_none_does() -> None:
    rng = np.random.default_rng(0)

    def latents(offset: float) -> list[np.ndarray]:
        noise = rng.standard_normal((4000, 8)).astype(np.float32) * np.float32(1e-3)
        noise[:, 3] += offset
        return [noise]

    told = learn_latents({"a": latents(0.0), "b": latents(2e-3)}, 50, seed=0, steps=80)
    right, _ = tried(told, {"a": latents(0.0), "b": latents(2e-3)}, 50)
    assert right > 0.95
    blind = learn_latents({"a": latents(0.0), "b": latents(0.0)}, 50, seed=0, steps=80)
    right, _ = tried(blind, {"a": latents(0.0), "b": latents(0.0)}, 50)
    assert abs(right - 0.5) < 0.12


def test_who_always_guesses_the_domain_with_most_music_is_at_chance() -> None:
    class Always:
        def guess(self, stretch: np.ndarray) -> str:
            return "much"

    music = {"much": [np.zeros(950, np.float32)] * 3, "little": [np.zeros(130, np.float32)]}
    assert tried(Always(), music, 100) == (0.5, 28)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="domain little has no test recording that is long enough"):
        tried(Always(), music, 131)  # type: ignore[arg-type]


def test_the_probe_of_an_encoder_tells_apart_what_it_lets_through() -> None:
    bundle = random_bundle(profile("tiny"), ("a", "b"), seed=1)
    encoder = open_backend("numba-float32", bundle).encoder
    train = {"pure": [tone(0, 1, 20.0)], "rich": [tone(1, 8, 20.0)]}
    test = {"pure": [tone(2, 1)], "rich": [tone(3, 8)]}
    hop = bundle.config.hop_samples
    known, unknown = Music.of(train, hop), Music.of(test, hop)
    score = probe("latents", encoder, known, unknown, seed=0, steps=60)
    assert (score.stretches, score.chance) == (10, 0.5)
    assert score.accuracy >= 0.9
    assert score.harmony_chance < score.harmony - 0.1
    (latents,) = encoded(encoder, [tone(0, 1, 1.0)])
    assert latents.shape == (SAMPLE_RATE // 80, 8)


def test_excerpts_are_long_and_from_the_middle_of_pieces_all_over_the_list() -> None:
    pieces = [np.full(n * SAMPLE_RATE, n, np.float32) for n in range(20, 60)]
    cut = excerpts(pieces, 45.0)
    assert [len(one) / SAMPLE_RATE for one in cut] == [11.25] * 4
    assert [one[0] for one in cut] == [20, 30, 40, 50]
    ramp = np.arange(100 * SAMPLE_RATE, dtype=np.float32)
    (middle,) = excerpts([ramp], 20.0)
    assert (middle[0], len(middle)) == (40 * SAMPLE_RATE, 20 * SAMPLE_RATE)
    # What is shorter is taken whole, and nothing gives nothing.
    assert [len(one) for one in excerpts([ramp[:100], ramp[:200]], 40.0)] == [100, 200]
    assert excerpts([], 40.0) == []


def test_too_little_to_learn_from_is_said() -> None:
    with pytest.raises(DataError, match="two or more, got a"):
        learn_sounds({"a": [tone(0, 1)]}, seed=0, steps=1)
    with pytest.raises(DataError, match="domain b has no training recording of 2 s"):
        learn_sounds({"a": [tone(0, 1)], "b": [tone(0, 1, 1.0)]}, seed=0, steps=1)
    with pytest.raises(DataError, match="domain a has no training latents of 9 hops"):
        learn_latents({"a": [np.zeros((8, 4), np.float32)], "b": []}, 9, seed=0, steps=1)


def test_guesses_count_by_truth() -> None:
    guesses = Guesses(("a", "b", "c"), ((3, 1, 0), (0, 2, 2), (0, 0, 0)))
    assert guesses.accuracy == 5 / 8
    assert guesses.share("a", "b") == 1 / 4
    assert guesses.chance == 1 / 3
    assert math.isnan(guesses.share("c", "c"))
    assert math.isnan(Guesses(("a",), ((0,),)).accuracy)


class Named(torch.nn.Module):
    """Takes a sound for the domain whose number its first sample is."""

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot((audio[:, 0] * 10).round().long(), 3).float()


def test_translations_are_judged_by_their_target(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("a", "b", "c")
    bundle = random_bundle(profile("tiny"), names, seed=1)
    # A translator that reaches every target but c, where it leaves the source as it is.
    monkeypatch.setattr(
        "evaluation.recognition.translate",
        lambda _b, _e, audio, target, _s: (
            audio if target == "c" else np.full(8, names.index(target) / 10, np.float32)
        ),
    )
    segments = [Segment(name, np.full(8, i / 10, np.float32), {}) for i, name in enumerate(names)]
    found = recognise(
        Judge(names, Named()), bundle, open_backend("numba-int8", bundle), segments, seed=0
    )
    assert found.real.accuracy == found.autoencoded.accuracy == 1.0
    assert found.translations.counts == ((2, 0, 0), (0, 2, 0), (1, 1, 0))
    assert found.translations.accuracy == 4 / 6
    assert found.taken_for_source == 2 / 6


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Bundle]:
    folder = tmp_path_factory.mktemp("judged")
    bundle = random_bundle(profile("tiny"), ("flat", "soft"), seed=1)
    save_bundle(bundle, folder / "bundle")
    prepare_music(folder / "data", bundle.domain_names)
    return folder / "bundle", folder / "data", bundle


def test_eval_recognition_reports_chance_and_ceiling(
    trained: tuple[Path, Path, Bundle], tmp_path: Path
) -> None:
    bundle, data, _ = trained
    result = umt(
        *(
            "eval",
            "recognition",
            "--bundle",
            bundle,
            "--data-dir",
            data,
            "--segments",
            2,
            "--steps",
            5,
        ),
        *("--json", tmp_path / "r.json", "--plot", tmp_path / "r.png"),
    )
    assert result.status == 0, result.err
    assert "chance 50%" in result.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert sum(map(sum, report["real"]["counts"])) == 4
    assert 0 <= report["translations"]["accuracy"] <= 1
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_eval_probe_puts_a_control_beside_the_bundle(
    trained: tuple[Path, Path, Bundle], tmp_path: Path
) -> None:
    bundle, data, _ = trained
    result = umt(
        *(
            "eval",
            "probe",
            "--bundle",
            bundle,
            "--control",
            bundle,
            "--data-dir",
            data,
            "--steps",
            5,
        ),
        *("--json", tmp_path / "p.json", "--plot", tmp_path / "p.png"),
    )
    assert result.status == 0, result.err
    rows = json.loads((tmp_path / "p.json").read_text())["probes"]
    assert [row["name"] for row in rows] == ["latents", "control", "random encoder", "sound"]
    # The same bundle twice must come to the same figure.
    assert rows[0]["accuracy"] == rows[1]["accuracy"]
    assert rows[0]["harmony"] == rows[1]["harmony"]
    assert all(row["chance"] == 0.5 for row in rows)
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
