"""Embedding and decoding whole recordings, held to the chain that plays."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("librosa")

from evaluation.embedding import decode, embed
from evaluation.translation import translate
from model.bundle import Bundle, random_bundle
from realtime.backends import open_backend
from tests.synthetic import tones


@pytest.mark.parametrize("profile", ["tiny", "live"])
def test_in_two_steps_it_is_the_translation_that_plays(profile: str) -> None:
    bundle = random_bundle(profile, ("a", "b"), seed=5)
    backend = open_backend("numba-int8", bundle)
    hop = bundle.config.hop_samples
    audio = tones(0, 1.0, 1)[: 60 * hop]
    played = translate(bundle, backend, audio, "b", seed=7)
    made = decode(backend, 1, embed(backend, audio), seed=7)
    assert made.shape == audio.shape
    # The limiter alone lies between the two.
    soft = np.abs(made) < 0.9
    assert soft.mean() > 0.5
    np.testing.assert_allclose(played[soft], made[soft], atol=1e-6)


def test_an_embedding_has_a_latent_for_each_whole_hop(tiny_bundle: Bundle) -> None:
    backend = open_backend("numba-int8", tiny_bundle)
    config = tiny_bundle.config
    for samples in (config.hop_samples - 1, config.hop_samples, 8193):
        frames = samples // config.hop_samples
        latents = embed(backend, np.full(samples, 0.1, np.float32))
        assert latents.shape == (frames, config.latent_channels)


def test_a_look_ahead_does_not_move_the_latents() -> None:
    bundle = random_bundle("paper", ("a",), seed=3)
    backend = open_backend("numba-float32", bundle)
    hop = bundle.config.hop_samples
    audio = np.zeros(20 * hop, np.float32)
    audio[10 * hop : 11 * hop] = tones(0, 1.0, 0)[:hop]
    moved = np.abs(embed(backend, audio) - embed(backend, np.zeros_like(audio))).max(axis=1)
    reach = -(-bundle.config.encoder.lookahead_samples // hop)
    assert moved[10] > 0
    assert not moved[: 10 - reach].any()
    assert not moved[11 + reach :].any()
