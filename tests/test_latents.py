"""The embedding on its way to the decoder: smoothed, held, roughened, or left as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from model.bundle import Bundle
from realtime.backends import open_backend
from realtime.chain import Chain
from realtime.controls import Controls
from realtime.latents import LatentShaper
from realtime.switch import DomainPlayer

HOP_S = 0.01
REST = np.full((1, 8), -0.5, np.float32)


def heard(hops: int, seed: int = 0) -> NDArray[np.float32]:
    """(hops, 1, 8)."""
    return np.random.default_rng(seed).normal(size=(hops, 1, 8)).astype(np.float32)


def shaped(latents: NDArray[np.float32], controls: Controls, seed: int = 0) -> NDArray[np.float32]:
    shaper = LatentShaper(REST, HOP_S, seed)
    return np.stack([shaper.shape(one, i, controls).copy() for i, one in enumerate(latents)])


def test_without_any_control_the_latent_passes_bit_for_bit() -> None:
    latents = heard(5)
    np.testing.assert_array_equal(shaped(latents, Controls()), latents)


def test_smoothing_follows_with_its_time_constant() -> None:
    """A step from rest has gone all but 1/e of its way after that time."""
    step = np.ones((10, 1, 8), np.float32)
    followed = shaped(step, Controls(latent_smooth=0.1))
    np.testing.assert_allclose(followed[9], 1.0 - 1.5 / math.e, rtol=1e-5)
    assert (np.diff(followed[:, 0, 0]) > 0).all()


def test_a_frozen_latent_stays_and_then_goes_on_with_what_is_heard() -> None:
    latents, shaper = heard(6), LatentShaper(REST, HOP_S, 0)
    played = [
        shaper.shape(one, i, Controls(freeze=2 <= i < 5)).copy() for i, one in enumerate(latents)
    ]
    for held in played[2:5]:
        np.testing.assert_array_equal(held, latents[1])
    np.testing.assert_array_equal(played[5], latents[5])


def test_what_is_held_does_not_change_with_the_callers_buffer() -> None:
    shaper, buffer = LatentShaper(REST, HOP_S, 0), np.ones((1, 8), np.float32)
    shaper.shape(buffer, 0, Controls())
    buffer[:] = 7.0
    assert (shaper.shape(buffer, 1, Controls(freeze=True)) == 1.0).all()


def test_noise_is_normal_of_the_deviation_asked_for() -> None:
    silent = np.zeros((4_000, 1, 8), np.float32)
    noise = shaped(silent, Controls(latent_noise=0.5)).ravel()
    assert noise.mean() == pytest.approx(0.0, abs=0.01)
    assert noise.std() == pytest.approx(0.5, rel=0.02)
    assert (np.abs(noise) < 1.0).mean() == pytest.approx(0.9545, abs=0.005)
    assert np.isfinite(noise).all()


def test_noise_is_a_matter_of_seed_and_hop() -> None:
    latents, controls = heard(5), Controls(latent_noise=1.0)
    whole = shaped(latents, controls, seed=3)
    np.testing.assert_array_equal(shaped(latents, controls, seed=3), whole)
    assert not np.array_equal(shaped(latents, controls, seed=4), whole)
    alone = LatentShaper(REST, HOP_S, 3).shape(latents[4], 4, controls)
    np.testing.assert_array_equal(alone, whole[4])


def test_a_frozen_sound_can_live() -> None:
    latents, controls = heard(4), Controls(freeze=True, latent_noise=0.1)
    noise = shaped(latents, controls) - REST
    assert noise.std() == pytest.approx(0.1, rel=0.5)
    assert not np.array_equal(noise[0], noise[1])


def test_the_decoder_plays_what_the_controls_make_of_the_latent(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[NDArray[np.float32]] = []
    play = DomainPlayer.play

    def noting(self: DomainPlayer, latent: NDArray[np.float32], *rest: float) -> object:
        played.append(latent.copy())
        return play(self, latent, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(DomainPlayer, "play", noting)
    chain = Chain(tiny_bundle, open_backend("numba-float32", tiny_bundle))
    audio = np.random.default_rng(0).normal(0, 0.2, 400).astype(np.float32)
    played.clear()
    chain.process(audio[:160])
    chain.process(audio[160:320], Controls(freeze=True))
    chain.process(audio[320:], Controls())
    assert len(played) == 5
    np.testing.assert_array_equal(played[2], played[1])
    np.testing.assert_array_equal(played[3], played[1])
    assert not np.array_equal(played[4], played[1])
    # The encoder went on listening meanwhile.
    after_freeze = played[4]
    Chain(tiny_bundle, open_backend("numba-float32", tiny_bundle)).process(audio)
    np.testing.assert_array_equal(played[-1], after_freeze)
