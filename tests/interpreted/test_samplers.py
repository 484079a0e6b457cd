"""Every sampler against the reference: samples, logits, calls in parts, states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

from model.reference import ReferenceDecoder
from tests.concurrent_grid import concurrent_grid
from tests.interpreted.networks import (
    RoundingReference,
    Take,
    midway,
    rest,
    run,
    sampled,
    sampler,
    samples_are_the_references,
    scored,
    shape,
    typed_weights,
)
from triton_kernels import samplers
from triton_kernels.calls import Sampler
from triton_kernels.layer_graphs import FusedLayers
from triton_kernels.pack import pack_decoder
from triton_kernels.parts import PRIME, SAMPLE, SCORE
from triton_kernels.samplers import SAMPLERS, Persistent, Pipeline

KINDS = list(SAMPLERS.values())
SHAPES = [
    # residual, layers, skip, head, streams
    (16, 1, 16, 16, 1),
    (48, 3, 32, 48, 2),
    (64, 10, 64, 16, 5),
    (128, 3, 16, 128, 1),
    (16, 10, 128, 32, 2),
    (16, 1, 32, 256, 1),
]


@pytest.fixture
def grid(request: pytest.FixtureRequest) -> Iterator[None]:
    """All programs at once, for the sampler whose programs wait for one another."""
    kind = request.getfixturevalue("kind")
    with concurrent_grid(seed=0) if kind is Pipeline else nullcontext():
        yield


@pytest.mark.parametrize(("residual", "layers", "skip", "head", "streams"), SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_float32_samples_are_the_references(
    kind: type[Sampler], residual: int, layers: int, skip: int, head: int, streams: int, grid: None
) -> None:
    samples_are_the_references(kind, shape(residual, layers, skip, head), streams)


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        # Vectors stay float32; only weights are float16, which hold theirs exactly.
        (Persistent, lambda config, weights: ReferenceDecoder(config, weights, np.float32)),
        (FusedLayers, lambda config, weights: RoundingReference(config, weights, head=False)),
        (Pipeline, lambda config, weights: RoundingReference(config, weights, head=True)),
    ],
)
def test_float16_logits_are_those_of_a_reference_that_rounds_alike(
    kind: type[Sampler], reference: Any, grid: None
) -> None:
    config = shape(48, 10, 32, 48)
    weights = typed_weights(config, torch.float16)
    take = Take.random(config, 2, hops=2)
    streams, states = midway(config, 2, time=11)
    _, same = midway(config, 2, time=11)
    expected = scored(reference(config, weights), take, states)
    ours = sampler(kind, config, weights, torch.float16)
    scores = run(ours, SCORE.value, take, streams)
    # A sum in another order may round to the other neighbour: a few float16 steps of a unit.
    np.testing.assert_allclose(scores, expected, atol=4e-3, rtol=0)
    if kind is not Persistent:
        exact = scored(ReferenceDecoder(config, weights, np.float32), take, same)
        assert np.abs(scores - expected).mean() < 0.5 * np.abs(scores - exact).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_references(kind: type[Sampler], grid: None) -> None:
    config = shape(16, 3)
    weights = typed_weights(config, torch.float32)
    take = Take.random(config, 2, hops=4)
    expected = scored(ReferenceDecoder(config, weights, np.float64), take)
    ours = sampler(kind, config, weights, torch.float32)
    scores = run(ours, SCORE.value, take, rest(config, 2))
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_calls_in_parts_equal_one_long_call(kind: type[Sampler], grid: None) -> None:
    config = shape(16, 3)
    weights = typed_weights(config, torch.float32)
    take = Take.random(config, 2, hops=6)
    ours = sampler(kind, config, weights, torch.float32)
    whole = run(ours, SAMPLE.value, take, rest(config, 2))
    streams = rest(config, 2)
    parts = [
        run(ours, SAMPLE.value, take.hops(a, b), streams)
        for a, b in ((0, 1), (1, 1), (1, 4), (4, 6))
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copied_state_goes_on_from_its_moment(kind: type[Sampler], grid: None) -> None:
    """Even when the sampler has been elsewhere in between: further on, and with another stream."""
    config = shape(16, 3)
    weights = typed_weights(config, torch.float32)
    take = Take.random(config, 1, hops=5)
    ours = sampler(kind, config, weights, torch.float32)
    streams = rest(config, 1)
    run(ours, SAMPLE.value, take.hops(0, 2), streams)
    kept = streams.copy()
    first = run(ours, SAMPLE.value, take.hops(2, 5), streams)
    run(ours, SAMPLE.value, Take.random(config, 1, hops=2, seed=9), rest(config, 1))
    np.testing.assert_array_equal(run(ours, SAMPLE.value, take.hops(2, 5), kept), first)


@pytest.mark.parametrize("kind", KINDS)
def test_priming_leaves_what_scoring_leaves(kind: type[Sampler], grid: None) -> None:
    config = shape(16, 3)
    ours = sampler(kind, config, typed_weights(config, torch.float32), torch.float32)
    take = Take.random(config, 2, hops=5)
    primed, told = rest(config, 2), rest(config, 2)
    run(ours, PRIME.value, take, primed)
    run(ours, SCORE.value, take, told)
    assert torch.equal(primed.queues, told.queues)
    assert torch.equal(primed.previous, told.previous)
    assert primed.time == told.time == 15 % 4


def test_a_pipeline_primes_in_short_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two samples here, so that a hop of three is cut in its middle."""
    config = shape(16, 3)
    ours = sampler(Pipeline, config, typed_weights(config, torch.float32), torch.float32)
    take = Take.random(config, 2, hops=3)
    whole, cut = rest(config, 2), rest(config, 2)
    with concurrent_grid(seed=0):
        run(ours, PRIME.value, take, whole)
        assert ours._tag == 9
        monkeypatch.setattr(samplers, "PRIMED_AT_ONCE", 2)
        run(ours, PRIME.value, take, cut)
    assert torch.equal(cut.queues, whole.queues)
    assert torch.equal(cut.previous, whole.previous)
    assert cut.time == whole.time


@pytest.mark.parametrize("kind", KINDS)
def test_more_streams_than_one_program_carries(kind: type[Sampler], grid: None) -> None:
    """And then fewer again, with what the larger call has left behind."""
    config = shape(16, 2)
    weights = typed_weights(config, torch.float32)
    reference = ReferenceDecoder(config, weights, np.float32)
    ours = sampler(kind, config, weights, torch.float32)
    for streams in (3, 18, 3):
        take = Take.random(config, streams, hops=1, seed=streams)
        ours_now = run(ours, SAMPLE.value, take, rest(config, streams))
        np.testing.assert_array_equal(ours_now, sampled(reference, take))


def test_what_a_latent_adds_does_not_depend_on_those_beside_it() -> None:
    """At the width of the live profile, where a matrix product's order of summing may change."""
    config = shape(64, 10, 64, 128)
    weights = typed_weights(config, torch.float32)
    packed = pack_decoder(config.decoder, weights, torch.float32, torch.device("cpu"))
    latents = torch.from_numpy(Take.random(config, 1, hops=7).latents)
    whole = packed.conditions(latents)
    each = [packed.conditions(latents[:, i : i + 1]) for i in range(7)]
    assert torch.equal(torch.cat(each, dim=1), whole)
    linear = torch.nn.functional.linear(latents, packed.condition, packed.condition_bias)
    torch.testing.assert_close(whole, linear, atol=1e-5, rtol=1e-5)


def test_a_stream_may_change_from_one_sampler_to_another() -> None:
    config = shape(16, 3)
    weights = typed_weights(config, torch.float32)
    take = Take.random(config, 2, hops=6)
    streams, parts = rest(config, 2), []
    with concurrent_grid(seed=3):
        for i, kind in enumerate((Persistent, Pipeline, FusedLayers)):
            ours = sampler(kind, config, weights, torch.float32)
            parts.append(run(ours, SAMPLE.value, take.hops(2 * i, 2 * i + 2), streams))
    expected = sampled(ReferenceDecoder(config, weights, np.float32), take)
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)


@pytest.mark.parametrize(
    ("uniform", "code"), [(0.0, 3), (0.499, 3), (0.5, 7), (np.float32(1) - np.float32(2**-24), 7)]
)
def test_no_uniform_draws_a_code_without_probability(uniform: float, code: int) -> None:
    """Two codes of one half each, all others so unlikely that their weight is zero."""
    config = shape(16, 1)
    weights = {name: np.zeros_like(v) for name, v in typed_weights(config, torch.float32).items()}
    weights["head.logits.bias"] = np.full(256, -200.0, np.float32)
    weights["head.logits.bias"][[3, 7]] = 0.0
    take = Take.random(config, 1, hops=1)
    take.uniforms[:] = uniform
    for kind in (Persistent, FusedLayers):
        ours = sampler(kind, config, weights, torch.float32)
        assert (run(ours, SAMPLE.value, take, rest(config, 1)) == code).all()
