"""The laws of streaming, for both weight types on a small and a full network.

1. Any split of the input into blocks gives the same output, bit for bit.
2. A stream that was saved and restored goes on as if nothing had happened; a chain that was reset
   is a new one.
3. Latents, logits and samples are those of the reference.
4. Later input never changes earlier output, and input begins to count when the delay says so.
6. A run is determined by bundle, backend, input, seed and controls.

The encoder's and the decoder's own tests hold 1 to 4 for each part at awkward shapes; the fifth,
that the callback always returns a full block, is held by the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.bundle import Bundle
from model.reference import ReferenceDecoder, ReferenceEncoder
from realtime.backends import Backend, open_backend
from realtime.chain import Chain
from realtime.controls import Controls
from realtime.decoder import WEIGHT_TYPES
from tests.test_decoder import quantised
from tests.test_stream_encoder import quantised_encoder

Audio = NDArray[np.float32]
RATE = 44100
TOLERANCE = {"numba-float32": 1e-3, "numba-int8": 0.02}
"""Largest logit error against the reference with the weights as they are held."""
SEEDS = st.integers(0, 2**64 - 1)
SCRIPTS = st.lists(
    st.builds(
        Controls,
        domain=st.integers(0, 1),
        mix=st.floats(0.0, 1.0),
        temperature=st.floats(0.05, 2.0),
        gain_in=st.floats(-20.0, 12.0),
        gain_out=st.floats(-20.0, 12.0),
    ),
    min_size=1,
    max_size=3,
)
"""Controls for as many equal parts of a run."""


@pytest.fixture(scope="module", params=WEIGHT_TYPES)
def backend(request: pytest.FixtureRequest, any_bundle: Bundle) -> Backend:
    return open_backend(f"numba-{request.param}", any_bundle)


@pytest.fixture(scope="module")
def chain(any_bundle: Bundle, backend: Backend) -> Chain:
    return Chain(any_bundle, backend, RATE)


@pytest.fixture(scope="module")
def wet_chain(any_bundle: Bundle, backend: Backend) -> Chain:
    """At the network's own rate, where nothing is resampled."""
    return Chain(any_bundle, backend)


@pytest.fixture(scope="module")
def twin(any_bundle: Bundle, backend: Backend) -> Chain:
    """Another chain, of weights laid out anew."""
    return Chain(any_bundle, open_backend(backend.name, any_bundle), RATE)


def noise(samples: int, seed: int = 0) -> Audio:
    return np.random.default_rng(seed).normal(0, 0.2, samples).astype(np.float32)


def begin(chain: Chain, controls: Controls, seed: int = 0) -> None:
    """Start a run with ``controls`` in force."""
    chain.process(np.zeros(0, np.float32), controls)
    chain.reset(seed)


def play(
    chain: Chain, audio: Audio, script: Sequence[Controls], seed: int, cuts: Sequence[int] = ()
) -> Audio:
    """A whole run, the script's controls taking turns, cut into blocks at ``cuts`` as well."""
    begin(chain, script[0], seed)
    turns = [len(audio) * i // len(script) for i in range(len(script))]
    edges = sorted({*turns, *(cut % len(audio) for cut in cuts), len(audio)})
    parts = []
    for start, stop in pairwise(edges):
        controls = script[np.searchsorted(turns, start, side="right") - 1]
        parts.append(chain.process(audio[start:stop], controls))
    return np.concatenate([*parts, chain.flush()])


@given(cuts=st.lists(st.integers(0, 3000), max_size=12), script=SCRIPTS, seed=SEEDS)
@settings(max_examples=6, deadline=None)
def test_any_block_split_gives_the_same_output(
    chain: Chain, cuts: list[int], script: list[Controls], seed: int
) -> None:
    audio = noise(3000)
    whole = play(chain, audio, script, seed)
    np.testing.assert_array_equal(play(chain, audio, script, seed, cuts), whole)


@given(cut=st.integers(1, 7), sample=st.integers(0, 1200), seed=st.integers(0, 99))
@settings(max_examples=8, deadline=None)
def test_a_restored_stream_goes_on_as_if_nothing_had_happened(
    backend: Backend, cut: int, sample: int, seed: int
) -> None:
    encoder, decoder, hop = backend.encoder, backend.decoders[1], backend.config.hop_samples
    audio, uniforms = noise(8 * hop, seed), np.random.default_rng(seed).random(8 * hop, np.float32)
    latents = encoder.encode(audio, encoder.initial_state())
    codes = decoder.generate(latents, uniforms, decoder.initial_state())

    first, second = encoder.initial_state(), encoder.initial_state()
    before = encoder.encode(audio[:sample], first)
    second.restore(first.arrays())
    after = encoder.encode(audio[sample:], second)
    np.testing.assert_array_equal(np.concatenate([before, after]), latents)

    first, second = decoder.initial_state(), decoder.initial_state()
    decoder.prime(latents[:cut], codes[: cut * hop], first)
    second.restore(first.arrays())
    again = decoder.generate(latents[cut:], uniforms[cut * hop :], second)
    np.testing.assert_array_equal(again, codes[cut * hop :])


@given(used=SCRIPTS, script=SCRIPTS, seed=SEEDS, skipped=st.integers(0, 3))
@settings(max_examples=4, deadline=None)
def test_a_chain_that_was_reset_is_a_new_one(
    any_bundle: Bundle,
    backend: Backend,
    chain: Chain,
    used: list[Controls],
    script: list[Controls],
    seed: int,
    skipped: int,
) -> None:
    audio = noise(2000)
    play(chain, noise(1801, 1), used, 5)
    chain.skip(skipped)
    chain.process(noise(333, 2))
    fresh = Chain(any_bundle, backend, RATE, seed, controls=script[0])
    np.testing.assert_array_equal(
        play(chain, audio, script, seed), play_fresh(fresh, audio, script)
    )


def play_fresh(chain: Chain, audio: Audio, script: Sequence[Controls]) -> Audio:
    """``play`` on a chain that has not run yet, without resetting it."""
    parts = np.array_split(audio, [len(audio) * i // len(script) for i in range(1, len(script))])
    heard = [chain.process(part, controls) for part, controls in zip(parts, script, strict=True)]
    return np.concatenate([*heard, chain.flush()])


@given(seed=st.integers(0, 2**32 - 1), domain=st.integers(0, 1))
@settings(max_examples=4, deadline=None)
def test_the_network_is_that_of_the_reference(
    any_bundle: Bundle, backend: Backend, seed: int, domain: int
) -> None:
    config, weights = any_bundle.config, any_bundle.decoders[any_bundle.domain_names[domain]]
    encoder_weights = any_bundle.encoder
    if backend.name == "numba-int8":
        # What rounding the weights costs is measured with the parts; this is all the rest.
        weights, encoder_weights = quantised(weights), quantised_encoder(encoder_weights)
    audio, rng = noise(2 * config.hop_samples, seed), np.random.default_rng(seed)
    encoder, decoder = backend.encoder, backend.decoders[domain]
    true_encoder = ReferenceEncoder(config, encoder_weights)
    true_decoder = ReferenceDecoder(config, weights)

    latents = encoder.encode(audio, encoder.initial_state())
    expected = true_encoder.encode(audio, true_encoder.initial_state())
    tolerance = 1e-4 * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(latents, expected, atol=tolerance)

    uniforms = rng.random(len(audio), np.float32)
    codes = decoder.generate(latents, uniforms, decoder.initial_state())
    logits = decoder.teacher_force(latents, codes, decoder.initial_state())
    exact = true_decoder.teacher_force(latents, codes, true_decoder.initial_state())
    error = np.abs(logits - exact).max()
    assert error < TOLERANCE[backend.name]

    # An error of e in every logit moves a cumulative probability by tanh(e / 2) at most.
    slack = np.tanh(error / 2) + 1e-5
    cumulative = np.cumsum(np.exp(exact - exact.max(axis=1, keepdims=True)), axis=1, dtype=float)
    cumulative = np.hstack([np.zeros((len(codes), 1)), cumulative / cumulative[:, -1:]])
    n = np.arange(len(codes))
    assert np.all(cumulative[n, codes] <= uniforms + slack)
    assert np.all(uniforms <= cumulative[n, codes.astype(int) + 1] + slack)


@given(at=st.integers(0, 6 * 80 - 1), seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_input_begins_to_count_when_the_declared_delay_says_so(
    wet_chain: Chain, at: int, seed: int
) -> None:
    chain, hop = wet_chain, wet_chain.config.hop_samples
    audio = noise(8 * hop)
    changed = audio.copy()
    changed[at:] = -0.9 * np.sign(audio[at:])
    before = play(chain, audio, [Controls()], seed)
    after = play(chain, changed, [Controls()], seed)
    first = int(np.flatnonzero(before != after)[0])
    # A sample counts from the start of its hop on, and its hop sounds a delay later.
    earliest = at // hop * hop + chain.delay_samples
    assert earliest <= first < earliest + 2 * hop


@given(script=SCRIPTS, seed=SEEDS, cuts=st.lists(st.integers(0, 3000), max_size=4))
@settings(max_examples=5, deadline=None)
def test_a_run_is_determined_by_its_arguments(
    chain: Chain, twin: Chain, script: list[Controls], seed: int, cuts: list[int]
) -> None:
    audio = noise(3000)
    heard = play(chain, audio, script, seed)
    np.testing.assert_array_equal(play(twin, audio, script, seed, cuts), heard)


def test_another_seed_is_another_run(chain: Chain) -> None:
    audio = noise(2000)
    heard = [play(chain, audio, [Controls()], seed) for seed in (1, 2, 2**63 + 1)]
    assert np.any(heard[0] != heard[1])
    assert np.any(heard[0] != heard[2])
