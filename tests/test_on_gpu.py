"""The GPU's kernels on a GPU: what the interpreter and the compiler cannot show.

``umt bench gpu`` checks and times more shapes. Skipped where there is no GPU.
"""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest

from model.bundle import Bundle, load_bundle
from model.errors import BackendUnavailable
from model.reference import ReferenceEncoder

pytest.importorskip("torch", reason="torch is not installed: pip install 'umt-live[gpu]'")
pytest.importorskip("triton", reason="triton is not installed: pip install 'umt-live[gpu]'")

from benchmarks import gpu
from triton_kernels.decoder import TritonDecoder
from triton_kernels.device import find_device
from triton_kernels.encoder import TritonEncoder

try:
    find_device()
except BackendUnavailable as unavailable:
    pytest.skip(str(unavailable), allow_module_level=True)

HOPS = 12
TASKS = gpu.tasks(("20/64/64", "20/64/128"), (1, 18), ("persistent", "fused_layer", "pipeline"))


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(None)


@pytest.fixture(scope="module", params=["persistent", "fused_layer", "pipeline"])
def decoder(bundle: Bundle, request: pytest.FixtureRequest) -> TritonDecoder:
    weights = next(iter(bundle.decoders.values()))
    try:
        return TritonDecoder(bundle.config, weights, sampler=request.param)
    except BackendUnavailable as unavailable:
        pytest.skip(str(unavailable))


def drawn(decoder: TritonDecoder, cuts: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A stream's samples, drawn in parts that end at so many hops."""
    rng, config = np.random.default_rng(seed), decoder.config
    latents = rng.normal(size=(HOPS, config.latent_channels)).astype(np.float32)
    uniforms = rng.random((HOPS, config.hop_samples), dtype=np.float32)
    state = decoder.initial_state()
    parts = [
        decoder.generate(latents[begin:end], uniforms[begin:end].ravel(), state, 0.8)
        for begin, end in pairwise((0, *cuts))
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name.replace(" ", "-"))
def test_logits_are_the_references(task: gpu.Task) -> None:
    if not task.fits:
        pytest.skip(f"{task.name} cannot run on this device")
    assert gpu.checked(task)["right"]


def test_any_split_draws_the_same_samples(decoder: TritonDecoder) -> None:
    whole = drawn(decoder, (HOPS,))
    assert len(np.unique(whole)) > 1
    np.testing.assert_array_equal(drawn(decoder, (1, 2, 7, HOPS)), whole)


def test_a_stream_does_not_hear_another(decoder: TritonDecoder) -> None:
    """Two threads draw two streams at once, as a crossfade does."""
    alone = [drawn(decoder, (HOPS,), seed) for seed in (1, 2)]
    beside: dict[int, np.ndarray] = {}

    def draw(seed: int) -> None:
        beside[seed] = drawn(decoder, tuple(range(1, HOPS + 1)), seed)

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    np.testing.assert_array_equal(beside[1], alone[0])
    np.testing.assert_array_equal(beside[2], alone[1])


def test_latents_are_the_references(bundle: Bundle) -> None:
    """Three products of tf32 stand in for one of float32."""
    audio = np.random.default_rng(3).uniform(-0.5, 0.5, 4_000).astype(np.float32)
    reference = ReferenceEncoder(bundle.config, bundle.encoder, np.float64)
    expected = reference.encode(audio, reference.initial_state())
    ours = TritonEncoder(bundle.config, bundle.encoder)
    state = ours.initial_state()
    latents = np.concatenate([ours.encode(part, state) for part in np.split(audio, [160, 1_300])])
    np.testing.assert_allclose(latents, expected, atol=1e-3)
