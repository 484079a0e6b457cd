"""The encoder's kernels against the reference, in blocks of any size."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from model.config import EncoderConfig, ModelConfig, profile
from model.errors import ShapeError
from model.reference import ReferenceEncoder
from model.weights import Weights, encoder_shapes, random_weights
from triton_kernels.encoder import ENCODER_CHUNK, TritonEncoder


def network(channels: int, causal: bool) -> tuple[ModelConfig, Weights]:
    config = replace(profile("tiny"), encoder=EncoderConfig(1, 3, channels, causal))
    return config, random_weights(encoder_shapes(config), np.random.default_rng(0))


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-0.5, 0.5, samples).astype(np.float32)


@pytest.mark.parametrize(("channels", "causal"), [(16, True), (48, False)])
def test_latents_are_the_references(channels: int, causal: bool) -> None:
    """Over more than one chunk, and with a part of a hop at the end."""
    config, weights = network(channels, causal)
    audio = noise(ENCODER_CHUNK + 113)
    reference = ReferenceEncoder(config, weights, np.float64)
    expected = reference.encode(audio, reference.initial_state())
    ours = TritonEncoder(config, weights)
    latents = ours.encode(audio, ours.initial_state())
    np.testing.assert_allclose(latents, expected, atol=1e-5)
    assert ours.delay_samples == config.encoder.lookahead_samples


def test_any_split_gives_the_same_latents() -> None:
    config, weights = network(16, causal=True)
    ours = TritonEncoder(config, weights)
    audio = noise(420)
    whole = ours.encode(audio, ours.initial_state())
    state = ours.initial_state()
    cuts = [0, 0, 1, 79, 80, 300, 420]
    parts = [ours.encode(audio[a:b], state) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_state_is_saved_and_restored() -> None:
    config, weights = network(16, causal=True)
    ours = TritonEncoder(config, weights)
    audio = noise(400)
    state = ours.initial_state()
    ours.encode(audio[:200], state)
    saved, copy = state.arrays(), state.copy()
    expected = ours.encode(audio[200:], state)
    np.testing.assert_array_equal(ours.encode(audio[200:], copy), expected)
    fresh = ours.initial_state()
    fresh.restore(saved)
    np.testing.assert_array_equal(ours.encode(audio[200:], fresh), expected)
    with pytest.raises(ShapeError, match="saved by another network"):
        fresh.restore({**saved, "levels": saved["levels"][:-1]})


def test_other_arrays_are_refused() -> None:
    config, weights = network(16, causal=True)
    ours = TritonEncoder(config, weights)
    with pytest.raises(ShapeError, match="mix to mono"):
        ours.encode(np.zeros((2, 10), np.float32), ours.initial_state())
