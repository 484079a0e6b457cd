"""Held-out likelihood: known answers, and the backends agree on it."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.nll import CHANCE, held_out_nll, nats_per_sample
from model.bundle import Bundle
from model.errors import DataError, ShapeError
from realtime.backends import open_backend


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


def test_a_domain_without_recordings_is_named(tiny_bundle: Bundle) -> None:
    with pytest.raises(DataError, match="domain a"):
        held_out_nll(tiny_bundle, open_backend("reference", tiny_bundle), {"a": []}, 1.0)
