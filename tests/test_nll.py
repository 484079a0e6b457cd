"""Held-out likelihood: known answers, and the backends agree on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bridge.scores import cost_warning
from evaluation.nll import CHANCE, HeldOutScore, compare_weights, held_out_nll, nats_per_sample
from model.bundle import Bundle, HeldOutNll, random_bundle
from model.config import LEVELS, ModelConfig, profile
from model.errors import DataError, ShapeError
from realtime.backends import Backend, open_backend


def test_equal_logits_score_chance() -> None:
    assert nats_per_sample(np.zeros((5, 256)), np.arange(5, dtype=np.uint8)) == pytest.approx(
        CHANCE
    )


def test_a_certain_guess_scores_zero_and_a_wrong_one_its_margin() -> None:
    logits = np.full((2, 256), -100.0)
    logits[:, 7] = 0.0
    assert nats_per_sample(logits[:1], np.array([7], np.uint8)) == pytest.approx(0.0, abs=1e-9)
    assert nats_per_sample(logits[:1], np.array([8], np.uint8)) == pytest.approx(100.0)


def test_two_to_one_odds_score_their_logarithm() -> None:
    logits = np.full((3, 256), -1e3)
    logits[:, 0], logits[:, 1] = np.log(2 / 3), np.log(1 / 3)
    codes = np.array([0, 0, 1], np.uint8)
    assert nats_per_sample(logits, codes) == pytest.approx((2 * np.log(1.5) + np.log(3)) / 3)


def test_shapes_must_agree() -> None:
    with pytest.raises(ShapeError, match="3 codes"):
        nats_per_sample(np.zeros((2, 256)), np.zeros(3, np.uint8))


def test_backends_agree_with_the_reference(tiny_bundle: Bundle) -> None:
    rng = np.random.default_rng(0)
    test = {name: [rng.normal(0, 0.2, 1000).astype(np.float32)] for name in "abc"}
    scored = {
        name: held_out_nll(tiny_bundle, open_backend(name, tiny_bundle), test, 0.05)
        for name in ("reference", "numba-float32", "numba-int8")
    }
    for exact, f32, i8 in zip(*scored.values(), strict=True):
        assert exact.domain == f32.domain == i8.domain
        assert exact.seconds == 0.05
        assert f32.nats == pytest.approx(exact.nats, abs=1e-4)
        assert i8.nats == pytest.approx(exact.nats, abs=0.02)


class Constant:
    """A backend part that hears nothing: even latents, and certainty that silence follows."""

    def __init__(self, config: ModelConfig, margin: float = 0.0) -> None:
        self.config = config
        self.margin = margin

    def initial_state(self) -> None:
        return None

    def encode(self, audio: np.ndarray, state: None) -> np.ndarray:
        frames = (len(audio) - self.config.encoder.lookahead_samples) // self.config.hop_samples
        return np.zeros((frames, self.config.latent_channels), np.float32)

    def teacher_force(self, latents: np.ndarray, codes: np.ndarray, state: None) -> np.ndarray:
        logits = np.full((len(codes), LEVELS), -1e3)
        logits[:, 128], logits[:, 255] = 0.0, -self.margin
        return logits


def score(bundle: Bundle, test: dict[str, list[np.ndarray]], seconds: float) -> list[HeldOutScore]:
    decoders = tuple(Constant(bundle.config, margin) for margin in (30.0, 40.0, 50.0))
    backend = Backend("constant", bundle.config, Constant(bundle.config), decoders, (1.0,) * 3)
    return held_out_nll(bundle, backend, test, seconds)


def test_long_recordings_count_for_more_and_each_domain_has_its_decoder(
    tiny_bundle: Bundle,
) -> None:
    quiet, loud = np.zeros(4800, np.float32), np.ones(1600, np.float32)
    scores = score(tiny_bundle, {name: [quiet, loud] for name in "abc"}, seconds=60)
    assert [one.nats for one in scores] == pytest.approx([30 / 4, 40 / 4, 50 / 4])
    assert [one.seconds for one in scores] == pytest.approx([0.4] * 3)


def test_the_middle_of_a_recording_is_scored(tiny_bundle: Bundle) -> None:
    audio = np.concatenate([np.ones(1600), np.zeros(800), np.ones(1600)]).astype(np.float32)
    for one in score(tiny_bundle, {name: [audio] for name in "abc"}, seconds=0.05):
        assert one.nats == pytest.approx(0.0, abs=1e-9)
        assert one.seconds == 0.05


def test_an_encoder_that_looks_ahead_gets_to_hear_ahead() -> None:
    config = replace(profile("tiny"), encoder=replace(profile("tiny").encoder, causal=False))
    bundle = random_bundle(config, domains=("a",))
    ahead = config.encoder.lookahead_samples
    recording = np.zeros(config.hop_samples + ahead, np.float32)
    (one,) = score(bundle, {"a": [recording, recording[1:]]}, seconds=1e-3)
    assert one.seconds * 16_000 == config.hop_samples
    with pytest.raises(DataError, match="look-ahead"):
        score(bundle, {"a": [recording[1:]]}, seconds=1.0)


def test_a_domain_without_recordings_is_named(tiny_bundle: Bundle) -> None:
    with pytest.raises(DataError, match="domain a"):
        held_out_nll(tiny_bundle, open_backend("reference", tiny_bundle), {"a": []}, 1.0)


def test_weights_that_round_to_nothing_lost_cost_nothing(tiny_bundle: Bundle) -> None:
    # Zeros are exact in both weight types, and leave every code equally likely.
    decoders = {
        name: {key: np.zeros_like(value) for key, value in weights.items()}
        for name, weights in tiny_bundle.decoders.items()
    }
    uniform = replace(tiny_bundle, decoders=decoders)
    rng = np.random.default_rng(3)
    test = {name: [rng.normal(0, 0.2, 1000).astype(np.float32)] for name in "abc"}
    told: list[str] = []
    scores = compare_weights(uniform, test, 0.05, told.append)
    assert scores == dict.fromkeys("abc", HeldOutNll(round(CHANCE, 5), round(CHANCE, 5), 800))
    assert told == [*"abc", *"abc"]


def test_compared_weights_hear_the_same_audio(tiny_bundle: Bundle) -> None:
    rng = np.random.default_rng(4)
    test = {name: [rng.normal(0, 0.2, 2000).astype(np.float32)] for name in "abc"}
    scores = compare_weights(tiny_bundle, test, 0.1)
    for name, backend in (("float32", "numba-float32"), ("int8", "numba-int8")):
        alone = held_out_nll(tiny_bundle, open_backend(backend, tiny_bundle), test, 0.1)
        assert [getattr(scores[one.domain], name) for one in alone] == [
            round(one.nats, 5) for one in alone
        ]
        assert [scores[one.domain].samples for one in alone] == [one.samples for one in alone]


def test_only_domains_that_int8_costs_too_much_are_warned_of() -> None:
    fine, gain, dear = (HeldOutNll(3.0, int8, 800) for int8 in (3.009, 2.9, 3.02))
    assert cost_warning({"fine": fine, "gain": gain}) is None
    warning = cost_warning({"fine": fine, "dear": dear, "gain": gain})
    assert warning is not None
    assert "dear 0.020" in warning
    assert "fine" not in warning
    assert "\n" not in warning
