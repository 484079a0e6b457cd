"""The CPU decoders: the reference, splits, tasks, sampling, causality, states, bad input."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle import Bundle, random_bundle
from model.config import LEVELS, SILENCE, DecoderConfig, ModelConfig, profile
from model.errors import ConfigError, ShapeError
from model.reference import ReferenceDecoder
from model.weights import Weights
from numba_kernels import decoder as kernels
from numba_kernels.pack import quantise_rows
from numba_kernels.sampling import draw_codes
from realtime.decoder import WEIGHT_TYPES, DecoderState, NumbaDecoder
from tests.conftest import TOLERANCE

TINY = profile("tiny")
# Rows and columns that leave every kind of remainder behind whole tiles.
UNEVEN = replace(
    TINY,
    hop_samples=37,
    latent_channels=24,
    decoder=DecoderConfig(2, 3, residual_channels=48, skip_channels=80, head_channels=112),
)
CONFIGS = {"tiny": TINY, "uneven": UNEVEN, "live": profile("live")}

QUANTISED = ("past", "current", "output", "hidden", "logits")

dtypes = pytest.mark.parametrize("dtype", WEIGHT_TYPES)
shapes = pytest.mark.parametrize("shape", CONFIGS)


@cache
def bundle_of(shape: str) -> Bundle:
    return random_bundle(CONFIGS[shape], ("a",), seed=6)


@cache
def decoder_of(shape: str, dtype: str) -> NumbaDecoder:
    bundle = bundle_of(shape)
    return NumbaDecoder(bundle.config, bundle.decoders["a"], dtype)


def performance(config: ModelConfig, frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents and codes at random."""
    rng = np.random.default_rng(seed)
    latents = rng.normal(size=(frames, config.latent_channels)).astype(np.float32)
    return latents, rng.integers(0, LEVELS, frames * config.hop_samples).astype(np.uint8)


def uniforms_for(config: ModelConfig, frames: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random(frames * config.hop_samples, dtype=np.float32)


def reference_logits(
    config: ModelConfig, weights: Weights, latents: np.ndarray, codes: np.ndarray
) -> np.ndarray:
    reference = ReferenceDecoder(config, weights)
    return reference.teacher_force(latents, codes, reference.initial_state()).astype(np.float64)


def quantised(weights: Weights) -> dict[str, np.ndarray]:
    """The weights as the int8 decoder holds them: what quantisation alone changes."""
    rounded = dict(weights)
    for name, rows in weights.items():
        if name.endswith(tuple(f"{part}.weight" for part in QUANTISED)):
            levels, scales = quantise_rows(rows)
            rounded[name] = levels * scales[:, None]
    return rounded


def spoil_scratch(state: DecoderState) -> None:
    buffers = state.buffers
    for array in (buffers.gates, buffers.partials, buffers.skips, buffers.turns, *state.scratch[0]):
        array[...] = np.nan if array.dtype == np.float32 else 123


def cross_entropy(logits: np.ndarray, codes: np.ndarray) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sums = np.log(np.exp(shifted).sum(axis=1))
    return float(np.mean(log_sums - shifted[np.arange(len(codes)), codes]))


@shapes
@dtypes
def test_logits_equal_the_reference(shape: str, dtype: str) -> None:
    bundle, decoder = bundle_of(shape), decoder_of(shape, dtype)
    latents, codes = performance(bundle.config, 4)
    expected = reference_logits(bundle.config, bundle.decoders["a"], latents, codes)
    state = decoder.initial_state()
    spoil_scratch(state)
    logits = decoder.teacher_force(latents, codes, state)
    assert logits.dtype == np.float32
    assert np.abs(logits - expected).max() < TOLERANCE[dtype]


@shapes
def test_int8_adds_nothing_to_the_error_of_its_weights(shape: str) -> None:
    bundle, decoder = bundle_of(shape), decoder_of(shape, "int8")
    latents, codes = performance(bundle.config, 4)
    expected = reference_logits(bundle.config, quantised(bundle.decoders["a"]), latents, codes)
    logits = decoder.teacher_force(latents, codes, decoder.initial_state())
    assert np.abs(logits - expected).max() < 0.02


@pytest.mark.parametrize("shape", ["tiny", "live"])
def test_int8_costs_less_than_a_hundredth_of_a_nat(shape: str) -> None:
    bundle, decoder = bundle_of(shape), decoder_of(shape, "int8")
    frames = 8
    latents, _ = performance(bundle.config, frames)
    # Codes the network itself finds likely, so that its cross-entropy means something.
    exact = decoder_of(shape, "float32")
    codes = exact.generate(latents, uniforms_for(bundle.config, frames), exact.initial_state())
    expected = reference_logits(bundle.config, bundle.decoders["a"], latents, codes)
    logits = decoder.teacher_force(latents, codes, decoder.initial_state()).astype(np.float64)
    assert abs(cross_entropy(logits, codes) - cross_entropy(expected, codes)) < 0.01


def queued_values(state: DecoderState, config: ModelConfig) -> np.ndarray:
    """The int8 decoder's queues as whole numbers, (slots, channels)."""
    queues = state.buffers.queues.astype(np.int32)
    channels = config.decoder.residual_channels
    if state.buffers.queues.dtype == np.int16:
        return queues.reshape(-1, channels)
    planes = queues.reshape(-1, 2, channels)
    return (planes[:, 0] - 128) * 256 + planes[:, 1]


def driven_to_the_bound(weights: Weights) -> dict[str, np.ndarray]:
    """Gates all saturated, outputs all pushing one way, weights that quantising makes larger."""
    driven = dict(weights)
    for name, value in weights.items():
        if name == "embedding.weight":
            driven[name] = np.full_like(value, 0.1)
        elif name.endswith("current.bias"):
            driven[name] = np.full_like(value, 30.0)
        elif name.endswith("output.weight"):
            driven[name] = np.full_like(value, 1.51 / 127)
            driven[name][:, 0] = 1.0
        elif name.endswith("output.bias"):
            driven[name] = np.full_like(value, 0.5)
    return driven


@pytest.mark.parametrize("shape", ["tiny", "uneven"])
def test_int16_inputs_cannot_saturate_even_at_their_bound(shape: str) -> None:
    config = CONFIGS[shape]
    weights = driven_to_the_bound(bundle_of(shape).decoders["a"])
    decoder = NumbaDecoder(config, weights, "int8")
    latents, codes = performance(config, 2)
    state = decoder.initial_state()
    logits = decoder.teacher_force(latents, codes, state)
    # A wrapped input would be off by its whole range.
    expected = reference_logits(config, quantised(weights), latents, codes)
    assert np.abs(logits - expected).max() < 2e-3 * np.abs(expected).max()
    queued = np.abs(queued_values(state, config)).max()
    assert 32_700 < queued <= 32_767


@shapes
@dtypes
@given(cuts=st.lists(st.integers(0, 12), max_size=5), tasks=st.lists(st.integers(0, 2), min_size=6))
@settings(max_examples=15, deadline=None)
def test_many_calls_equal_one_long_call_whatever_their_tasks(
    shape: str, dtype: str, cuts: list[int], tasks: list[int]
) -> None:
    decoder = decoder_of(shape, dtype)
    config, frames = decoder.config, 12
    hop = config.hop_samples
    latents, _ = performance(config, frames)
    uniforms = uniforms_for(config, frames)
    codes = decoder.generate(latents, uniforms, decoder.initial_state())
    scores = decoder.teacher_force(latents, codes, decoder.initial_state())
    state = decoder.initial_state()
    edges = [0, *sorted(cuts), frames]
    for start, stop, task in zip(edges[:-1], edges[1:], tasks, strict=False):
        spoil_scratch(state)
        piece, span = latents[start:stop], slice(start * hop, stop * hop)
        if task == 0:
            decoder.prime(piece, codes[span], state)
        elif task == 1:
            np.testing.assert_array_equal(
                decoder.teacher_force(piece, codes[span], state), scores[span]
            )
        else:
            np.testing.assert_array_equal(
                decoder.generate(piece, uniforms[span], state), codes[span]
            )


@dtypes
def test_priming_leaves_the_state_that_scoring_leaves(dtype: str) -> None:
    decoder = decoder_of("uneven", dtype)
    latents, codes = performance(decoder.config, 3)
    primed, scored = decoder.initial_state(), decoder.initial_state()
    decoder.prime(latents, codes, primed)
    decoder.teacher_force(latents, codes, scored)
    for name, array in primed.arrays().items():
        np.testing.assert_array_equal(array, scored.arrays()[name])


@shapes
@dtypes
@pytest.mark.parametrize("temperature", [0.05, 1.0, 2.0])
def test_scoring_sampled_codes_gives_the_logits_they_were_drawn_from(
    shape: str, dtype: str, temperature: float
) -> None:
    decoder = decoder_of(shape, dtype)
    latents, _ = performance(decoder.config, 4)
    uniforms = uniforms_for(decoder.config, 4)
    codes = decoder.generate(latents, uniforms, decoder.initial_state(), temperature)
    assert len(np.unique(codes)) > 1
    logits = decoder.teacher_force(latents, codes, decoder.initial_state())
    again = np.zeros_like(codes)
    scratch = [np.empty(size, np.float32) for size in (LEVELS, LEVELS, 16)]
    draw_codes(logits, uniforms, np.float32(1 / temperature), again, *scratch)
    np.testing.assert_array_equal(again, codes)


@shapes
@dtypes
def test_sampled_codes_are_those_the_reference_would_draw(shape: str, dtype: str) -> None:
    decoder = decoder_of(shape, dtype)
    weights: Mapping[str, np.ndarray] = bundle_of(shape).decoders["a"]
    if dtype == "int8":
        weights = quantised(weights)
    latents, _ = performance(decoder.config, 4)
    uniforms = uniforms_for(decoder.config, 4)
    codes = decoder.generate(latents, uniforms, decoder.initial_state())
    logits = reference_logits(decoder.config, weights, latents, codes)
    cumulative = np.cumsum(np.exp(logits - logits.max(axis=1, keepdims=True)), axis=1)
    cumulative = np.hstack([np.zeros((len(codes), 1)), cumulative / cumulative[:, -1:]])
    # How far a boundary can lie from the reference's, given the logits' own error.
    slack = {"float32": 1e-4, "int8": 0.02}[dtype]
    n = np.arange(len(codes))
    assert np.all(cumulative[n, codes] <= uniforms + slack)
    assert np.all(uniforms <= cumulative[n, codes.astype(int) + 1] + slack)


@dtypes
def test_a_run_is_determined_by_its_arguments(dtype: str) -> None:
    latents, _ = performance(UNEVEN, 4)
    uniforms = uniforms_for(UNEVEN, 4)
    weights = bundle_of("uneven").decoders["a"]
    runs = []
    for _ in range(2):
        decoder = NumbaDecoder(UNEVEN, weights, dtype)
        runs.append(decoder.generate(latents, uniforms, decoder.initial_state()))
    np.testing.assert_array_equal(runs[0], runs[1])
    other = decoder.generate(latents, uniforms_for(UNEVEN, 4, seed=2), decoder.initial_state())
    assert np.any(other != runs[0])


@shapes
@dtypes
@given(place=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_a_code_changes_no_logits_up_to_its_own(shape: str, dtype: str, place: int) -> None:
    decoder = decoder_of(shape, dtype)
    latents, codes = performance(decoder.config, 3)
    sample = place % (len(codes) - 1)
    changed = codes.copy()
    changed[sample:] = performance(decoder.config, 3, seed=9)[1][sample:]
    changed[sample] = codes[sample] ^ 85
    before = decoder.teacher_force(latents, codes, decoder.initial_state())
    after = decoder.teacher_force(latents, changed, decoder.initial_state())
    np.testing.assert_array_equal(after[: sample + 1], before[: sample + 1])
    assert np.any(after[sample + 1] != before[sample + 1])


@shapes
@dtypes
@given(frame=st.integers(0, 2), seed=st.integers(0, 99))
@settings(max_examples=6, deadline=None)
def test_a_latent_changes_no_logits_before_its_hop(
    shape: str, dtype: str, frame: int, seed: int
) -> None:
    decoder = decoder_of(shape, dtype)
    latents, codes = performance(decoder.config, 3, seed)
    changed = latents.copy()
    changed[frame:] += 1.0
    before = decoder.teacher_force(latents, codes, decoder.initial_state())
    after = decoder.teacher_force(changed, codes, decoder.initial_state())
    start = frame * decoder.config.hop_samples
    np.testing.assert_array_equal(after[:start], before[:start])
    assert np.any(after[start] != before[start])


@dtypes
def test_codes_older_than_the_receptive_field_are_forgotten(dtype: str) -> None:
    decoder = decoder_of("uneven", dtype)
    field = UNEVEN.decoder.receptive_field
    latents, codes = performance(UNEVEN, 3)
    changed = codes.copy()
    changed[5] ^= 127
    before = decoder.teacher_force(latents, codes, decoder.initial_state())
    after = decoder.teacher_force(latents, changed, decoder.initial_state())
    assert np.any(after[5 + field] != before[5 + field])
    np.testing.assert_array_equal(after[6 + field :], before[6 + field :])


@dtypes
def test_a_latent_that_is_not_a_number_is_survived(dtype: str) -> None:
    decoder = decoder_of("uneven", dtype)
    hop, field = UNEVEN.hop_samples, UNEVEN.decoder.receptive_field
    frames = 2 + -(-field // hop)
    latents, codes = performance(UNEVEN, frames)
    bad = latents.copy()
    bad[0] = np.nan, *([np.inf, -np.inf, 3e38] * 8)[1:]
    clean = decoder.teacher_force(latents, codes, decoder.initial_state())
    state = decoder.initial_state()
    logits = decoder.teacher_force(bad, codes, state)
    np.testing.assert_array_equal(logits[hop + field :], clean[hop + field :])
    assert len(decoder.generate(bad, uniforms_for(UNEVEN, frames), state)) == len(codes)


@dtypes
def test_a_copied_state_goes_its_own_way(dtype: str) -> None:
    decoder = decoder_of("uneven", dtype)
    latents, codes = performance(UNEVEN, 2)
    state = decoder.initial_state()
    decoder.prime(latents, codes, state)
    fork = state.copy()
    expected = decoder.teacher_force(latents, codes, state)
    decoder.prime(*performance(UNEVEN, 2, seed=3), state)
    np.testing.assert_array_equal(decoder.teacher_force(latents, codes, fork), expected)


@dtypes
def test_a_saved_state_is_restored(dtype: str) -> None:
    decoder = decoder_of("uneven", dtype)
    latents, codes = performance(UNEVEN, 2)
    state = decoder.initial_state()
    decoder.prime(latents, codes, state)
    saved = state.arrays()
    expected = decoder.teacher_force(latents, codes, state)
    fresh = decoder.initial_state()
    fresh.restore(saved)
    np.testing.assert_array_equal(decoder.teacher_force(latents, codes, fresh), expected)


def test_a_state_of_another_weight_type_is_refused() -> None:
    float_state = decoder_of("tiny", "float32").initial_state()
    with pytest.raises(ShapeError, match="state 'queues' must be .* u?int(8|16), got .* float32"):
        decoder_of("tiny", "int8").initial_state().restore(float_state.arrays())


@dtypes
def test_no_frames_change_nothing(dtype: str) -> None:
    decoder = decoder_of("tiny", dtype)
    state = decoder.initial_state()
    latents, codes = performance(TINY, 0)
    decoder.prime(latents, codes, state)
    assert decoder.teacher_force(latents, codes, state).shape == (0, LEVELS)
    assert decoder.generate(latents, uniforms_for(TINY, 0), state).shape == (0,)
    assert list(state.buffers.cursor) == [0, SILENCE]


def test_wrong_arrays_are_refused_with_the_right_ones_named() -> None:
    decoder = decoder_of("tiny", "int8")
    state = decoder.initial_state()
    latents, codes = performance(TINY, 2)
    uniforms = uniforms_for(TINY, 2)
    with pytest.raises(ShapeError, match=r"codes must be \(160,\) uint8 .* got \(159,\)"):
        decoder.prime(latents, codes[:-1], state)
    with pytest.raises(ShapeError, match="codes must be .* uint8 .* got .* int64"):
        decoder.teacher_force(latents, codes.astype(np.int64), state)
    with pytest.raises(ShapeError, match="uniforms must be .* float32 .* got .* float64"):
        decoder.generate(latents, uniforms.astype(np.float64), state)
    with pytest.raises(ShapeError, match=r"latents must be \(frames, 8\) float32, got \(2, 7\)"):
        decoder.prime(latents[:, 1:], codes, state)
    with pytest.raises(ShapeError, match="latents must be .* got .* float64"):
        decoder.generate(latents.astype(np.float64), uniforms, state)
    with pytest.raises(ShapeError, match=r"latents must be .* got \(8,\)"):
        decoder.prime(latents[0], codes[:80], state)
    assert state.buffers.cursor[0] == 0


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_without_meaning_is_refused(temperature: float) -> None:
    decoder = decoder_of("tiny", "int8")
    latents, _ = performance(TINY, 1)
    with pytest.raises(ConfigError, match="temperature must be at least 0.001, got"):
        decoder.generate(latents, uniforms_for(TINY, 1), decoder.initial_state(), temperature)


def test_an_unknown_weight_type_is_refused() -> None:
    with pytest.raises(ConfigError, match="no weight type 'int4'; choose one of int8, float32"):
        NumbaDecoder(TINY, bundle_of("tiny").decoders["a"], "int4")


def test_strided_and_read_only_arrays_compile_nothing_new() -> None:
    decoder = decoder_of("tiny", "int8")
    latents, codes = performance(TINY, 3)
    expected = decoder.teacher_force(latents, codes, decoder.initial_state())
    compiled = len(kernels.decode.signatures)
    frozen = latents.copy()
    frozen.flags.writeable = False
    for odd in (frozen, np.asfortranarray(latents), np.repeat(latents, 2, axis=1)[:, ::2]):
        again = decoder.teacher_force(odd, np.repeat(codes, 2)[::2], decoder.initial_state())
        np.testing.assert_array_equal(again, expected)
    assert len(kernels.decode.signatures) == compiled


@dtypes
def test_streams_on_several_threads_do_not_meet(dtype: str) -> None:
    decoder = decoder_of("live", dtype)
    latents, _ = performance(decoder.config, 5)
    uniforms = [uniforms_for(decoder.config, 5, seed) for seed in range(3)]
    expected = [decoder.generate(latents, u, decoder.initial_state()) for u in uniforms]
    results: list[np.ndarray | None] = [None] * 3

    def work(i: int) -> None:
        results[i] = decoder.generate(latents, uniforms[i], decoder.initial_state())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result, codes in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, codes)
