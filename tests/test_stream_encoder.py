"""The streaming encoder: block splits, the reference, causality, delay, states, bad input."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle import Bundle, random_bundle
from model.config import ModelConfig, profile
from model.errors import ShapeError
from model.reference import ReferenceEncoder
from model.weights import Weights
from numba_kernels import encoder as kernels
from numba_kernels.encoder import CHUNK
from numba_kernels.pack import quantise_rows
from realtime.stream_encoder import EncoderState, StreamEncoder

TINY = profile("tiny")
LOOKAHEAD = replace(
    TINY, latent_channels=24, hop_samples=50, encoder=replace(TINY.encoder, causal=False)
)
WIDE = replace(TINY, encoder=replace(TINY.encoder, channels=48))
LATENT_TOLERANCE = 1e-4
"""Largest error of a latent against the float64 reference, as a part of the largest latent.

int8 encoders are held to their rounded weights: what is left is rounding inputs to 16 bits.
"""


def encoder_of(
    config: ModelConfig | str, dtype: str = "float32", threads: int = 1
) -> StreamEncoder:
    bundle = random_bundle(config, ("a",), seed=3)
    return StreamEncoder(bundle.config, bundle.encoder, dtype, threads)


def quantised_encoder(weights: Weights) -> Weights:
    """The weights as the int8 encoder holds them: what quantisation alone changes."""
    held = dict(weights)
    for name, rows in weights.items():
        if name.startswith("layers.") and name.endswith(".weight"):
            taps = np.hstack(list(rows)) if rows.ndim == 3 else rows
            levels, scales = quantise_rows(taps)
            rounded = levels * scales[:, None]
            held[name] = np.stack(np.hsplit(rounded, 3)) if rows.ndim == 3 else rounded
    return held


ENCODERS = {
    "causal": encoder_of(TINY),
    "lookahead": encoder_of(LOOKAHEAD),
    "wide": encoder_of(WIDE),
    "live": encoder_of("live"),
    "causal-int8": encoder_of(TINY, "int8"),
    "lookahead-int8": encoder_of(LOOKAHEAD, "int8"),
    "wide-int8": encoder_of(WIDE, "int8"),
    "live-int8": encoder_of("live", "int8"),
    "lookahead-int8-shared": encoder_of(LOOKAHEAD, "int8", threads=2),
    "live-shared": encoder_of("live", threads=2),
}


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.3, samples).astype(np.float32)


def spoil_scratch(state: EncoderState) -> None:
    for array in (state.buffers.hidden, *(array for room in state.scratch for array in room)):
        array[...] = np.nan if array.dtype == np.float32 else 123


def encode_in_blocks(
    encoder: StreamEncoder, audio: np.ndarray, blocks: Sequence[int]
) -> np.ndarray:
    state = encoder.initial_state()
    parts = []
    start = 0
    for size in [*blocks, len(audio)]:
        spoil_scratch(state)
        parts.append(encoder.encode(audio[start : start + size], state))
        start = min(start + size, len(audio))
    return np.concatenate(parts)


@pytest.mark.parametrize("name", ENCODERS)
@given(
    blocks=st.lists(
        st.one_of(st.integers(0, 7), st.sampled_from([63, 64, 65, CHUNK]), st.integers(8, 3000)),
        max_size=12,
    ),
    samples=st.integers(0, 4000),
)
@settings(max_examples=25, deadline=None)
def test_any_block_split_gives_the_same_latents(name: str, blocks: list[int], samples: int) -> None:
    encoder, audio = ENCODERS[name], noise(samples)
    whole = encoder.encode(audio, encoder.initial_state())
    np.testing.assert_array_equal(encode_in_blocks(encoder, audio, blocks), whole)


@pytest.mark.parametrize("name", ["causal", "lookahead", "causal-int8", "lookahead-int8"])
def test_blocks_of_one_sample_give_the_same_latents(name: str) -> None:
    encoder, audio = ENCODERS[name], noise(400)
    whole = encoder.encode(audio, encoder.initial_state())
    assert len(whole) > 0
    np.testing.assert_array_equal(encode_in_blocks(encoder, audio, [1] * 400), whole)


@pytest.mark.parametrize("name", ENCODERS)
def test_latents_equal_the_reference(name: str) -> None:
    encoder = ENCODERS[name]
    bundle = random_bundle(encoder.config, ("a",), seed=3)
    audio = noise(5 * encoder.config.hop_samples + encoder.delay_samples + 1)
    audio[10:13] = np.nan, np.inf, -7.0
    weights = bundle.encoder
    if encoder.dtype == "int8":
        weights = quantised_encoder(weights)
    reference = ReferenceEncoder(bundle.config, weights)
    expected = reference.encode(audio, reference.initial_state())
    latents = encoder.encode(audio, encoder.initial_state())
    assert latents.shape == (5, encoder.config.latent_channels)
    assert latents.dtype == np.float32
    assert latents.flags.c_contiguous
    tolerance = LATENT_TOLERANCE * max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(latents, expected, atol=tolerance)


@pytest.mark.parametrize("name", ["causal", "lookahead", "live", "causal-int8", "lookahead-int8"])
def test_a_latent_appears_with_the_last_sample_it_needs(name: str) -> None:
    encoder = ENCODERS[name]
    hop, delay = encoder.config.hop_samples, encoder.delay_samples
    audio, state = noise(3 * hop + delay), encoder.initial_state()
    assert len(encoder.encode(audio[: 2 * hop + delay - 1], state)) == 1
    assert len(encoder.encode(audio[2 * hop + delay - 1 : 2 * hop + delay], state)) == 1


@pytest.mark.parametrize("name", ["causal", "lookahead", "live", "causal-int8", "lookahead-int8"])
@given(frame=st.integers(0, 4), late=st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_later_input_never_changes_earlier_latents(name: str, frame: int, late: int) -> None:
    encoder = ENCODERS[name]
    hop, delay = encoder.config.hop_samples, encoder.delay_samples
    audio = noise(6 * hop + delay + 200)
    changed = audio.copy()
    changed[(frame + 1) * hop + delay + late :] = noise(len(audio), 9)[
        (frame + 1) * hop + delay + late :
    ]
    before = encoder.encode(audio, encoder.initial_state())[: frame + 1]
    after = encoder.encode(changed, encoder.initial_state())[: frame + 1]
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", ["causal", "lookahead", "live", "causal-int8", "lookahead-int8"])
def test_an_impulse_measures_the_declared_delay(name: str) -> None:
    encoder = ENCODERS[name]
    hop, delay = encoder.config.hop_samples, encoder.delay_samples
    quiet = np.zeros(12 * hop + delay, np.float32)
    rest = encoder.encode(quiet, encoder.initial_state())

    def first_changed(at: int) -> int:
        audio = quiet.copy()
        audio[at] = 1.0
        moved = encoder.encode(audio, encoder.initial_state()) != rest
        return int(np.argmax(moved.any(axis=1)))

    # The last sample frame 4 can hear moves it; one sample later moves frame 5 and no earlier one.
    assert first_changed(5 * hop + delay - 1) == 4
    assert first_changed(5 * hop + delay) == 5


@pytest.mark.parametrize("name", ["causal", "lookahead", "causal-int8", "lookahead-int8"])
def test_input_older_than_the_receptive_field_is_forgotten(name: str) -> None:
    encoder = ENCODERS[name]
    hop, field = encoder.config.hop_samples, encoder.config.encoder.receptive_field
    audio = noise(field + 3 * hop)
    changed = audio.copy()
    changed[: 2 * hop] = noise(2 * hop, 9)
    before = encoder.encode(audio, encoder.initial_state())
    after = encoder.encode(changed, encoder.initial_state())
    settled = -(-(2 * hop + field) // hop)
    assert np.any(before[:2] != after[:2])
    np.testing.assert_array_equal(before[settled:], after[settled:])


@pytest.mark.parametrize("name", ["causal", "lookahead", "causal-int8", "lookahead-int8"])
def test_a_copied_state_goes_its_own_way(name: str) -> None:
    encoder, audio = ENCODERS[name], noise(700)
    state = encoder.initial_state()
    encoder.encode(audio[:333], state)
    fork = state.copy()
    expected = encoder.encode(audio[333:], state)
    encoder.encode(noise(500, 4), state)
    np.testing.assert_array_equal(encoder.encode(audio[333:], fork), expected)


def test_a_saved_state_is_restored() -> None:
    encoder, audio = ENCODERS["lookahead"], noise(700)
    state = encoder.initial_state()
    encoder.encode(audio[:333], state)
    saved = state.arrays()
    expected = encoder.encode(audio[333:], state)
    fresh = encoder.initial_state()
    fresh.restore(saved)
    np.testing.assert_array_equal(encoder.encode(audio[333:], fresh), expected)


def test_a_state_of_another_network_is_refused_whole() -> None:
    state = ENCODERS["causal"].initial_state()
    before = state.arrays()
    foreign = ENCODERS["live"].initial_state().arrays() | {"cursor": np.array([5])}
    with pytest.raises(ShapeError, match="state 'queues' must be .* got .*another network"):
        state.restore(foreign)
    with pytest.raises(ShapeError, match="state 'pool' must be .* got nothing"):
        state.restore({"queues": before["queues"], "past": before["past"]})
    for name, array in state.arrays().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    "audio",
    [
        np.zeros((2, 80), np.float32),
        np.zeros(80, np.float64),
        np.zeros(80, np.int16),
        np.float32(0.5).reshape(()),
    ],
)
def test_anything_but_mono_float32_is_refused(audio: np.ndarray) -> None:
    encoder = ENCODERS["causal"]
    with pytest.raises(ShapeError, match="audio must be .time,. float32, got"):
        encoder.encode(audio, encoder.initial_state())


def test_strided_and_read_only_blocks_compile_nothing_new() -> None:
    encoder = ENCODERS["causal"]
    audio = noise(800)
    expected = encoder.encode(audio, encoder.initial_state())
    compiled = len(kernels.encode.signatures)
    strided = np.repeat(audio, 2)[::2]
    frozen = audio.copy()
    frozen.flags.writeable = False
    for block in (strided, frozen):
        np.testing.assert_array_equal(encoder.encode(block, encoder.initial_state()), expected)
    assert len(kernels.encode.signatures) == compiled


def test_streams_on_several_threads_do_not_meet(live_bundle: Bundle) -> None:
    encoder = StreamEncoder(live_bundle.config, live_bundle.encoder)
    audio = [noise(8000, seed) for seed in range(3)]
    expected = [encoder.encode(signal, encoder.initial_state()) for signal in audio]
    results: list[np.ndarray | None] = [None] * 3

    def work(i: int) -> None:
        results[i] = encoder.encode(audio[i], encoder.initial_state())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, latents in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, latents)
