"""Backends by name, and the states a stream rests in."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest

from model.bundle import Bundle, random_bundle
from model.config import SILENCE, profile
from model.errors import BackendUnavailable, ConfigError
from numba_kernels import decoder as decoder_kernels
from numba_kernels import encoder as encoder_kernels
from realtime.backends import BACKENDS, open_backend, rest_states, warm_up
from realtime.stream_encoder import StreamEncoder

CPU_BACKENDS = [name for name in BACKENDS if name != "triton"]
NUMBA_BACKENDS = [name for name in BACKENDS if name.startswith("numba")]


def test_an_unknown_backend_is_refused_with_the_names(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="no backend 'cuda'; choose one of numba-int8"):
        open_backend("cuda", tiny_bundle)


def test_the_triton_backend_says_what_it_lacks(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in [name for name in sys.modules if name.startswith("triton_kernels")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(BackendUnavailable, match=r"needs torch and triton .*umt-live\[gpu\]"):
        open_backend("triton", tiny_bundle)


def test_the_triton_backend_needs_a_gpu(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        BackendUnavailable, match="torch finds none; the CPU has --backend numba-int8"
    ):
        open_backend("triton", tiny_bundle)


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_a_backend_holds_every_domain_in_order(name: str, tiny_bundle: Bundle) -> None:
    backend = open_backend(name, tiny_bundle)
    config = tiny_bundle.config
    latents = np.ones((1, config.latent_channels), np.float32)
    codes = np.full(config.hop_samples, SILENCE, np.uint8)
    reference = open_backend("reference", tiny_bundle)
    assert len(backend.decoders) == 3
    for decoder, exact in zip(backend.decoders, reference.decoders, strict=True):
        logits = decoder.teacher_force(latents, codes, decoder.initial_state())
        expected = exact.teacher_force(latents, codes, exact.initial_state())
        assert np.abs(logits - expected).max() < 0.1


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_silence_changes_nothing_in_a_resting_encoder(name: str, tiny_bundle: Bundle) -> None:
    backend = open_backend(name, tiny_bundle)
    rest = rest_states(backend)
    hop = backend.config.hop_samples
    state = rest.encoder.copy()
    for _ in range(3):
        latent = backend.encoder.encode(np.zeros(hop, np.float32), state)
        np.testing.assert_array_equal(latent, rest.latent)


@pytest.mark.parametrize("name", NUMBA_BACKENDS)
def test_silence_changes_nothing_in_a_resting_live_network(name: str, live_bundle: Bundle) -> None:
    backend = open_backend(name, live_bundle)
    rest = rest_states(backend)
    hop = backend.config.hop_samples
    encoder_state = rest.encoder.copy()
    latent = backend.encoder.encode(np.zeros(hop, np.float32), encoder_state)
    np.testing.assert_array_equal(latent, rest.latent)
    codes = np.full(hop, SILENCE, np.uint8)
    for decoder, resting in zip(backend.decoders, rest.decoders, strict=True):
        state = resting.copy()
        logits = decoder.teacher_force(rest.latent, codes, state)
        assert np.all(logits == logits[0]), "the decoder had not settled"


@pytest.mark.parametrize("name", NUMBA_BACKENDS)
def test_nothing_is_compiled_after_the_warm_up(name: str, tiny_bundle: Bundle) -> None:
    backend = open_backend(name, tiny_bundle)
    warm_up(backend)
    compiled = [len(k.signatures) for k in (encoder_kernels.encode, decoder_kernels.decode)]
    hop = backend.config.hop_samples
    encoder, decoder = backend.encoder, backend.decoders[1]
    latents = encoder.encode(np.zeros(3 * hop + 5, np.float32), encoder.initial_state())
    state = decoder.initial_state()
    codes = decoder.generate(latents, np.full(3 * hop, 0.5, np.float32), state, 0.7)
    decoder.teacher_force(latents, codes, state)
    decoder.prime(latents, codes, state)
    after = [len(k.signatures) for k in (encoder_kernels.encode, decoder_kernels.decode)]
    assert after == compiled


def test_the_reference_has_one_thread(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="reference backend has one thread, got 2; use one"):
        open_backend("reference", tiny_bundle, threads=2)


@pytest.mark.parametrize(("channels", "sampling"), [(64, 1), (128, 2)])
def test_two_threads_share_a_decoder_only_where_that_pays(channels: int, sampling: int) -> None:
    tiny = profile("tiny")
    decoder = replace(tiny.decoder, residual_channels=channels, skip_channels=channels)
    bundle = random_bundle(replace(tiny, decoder=decoder), ("a",))
    backend = open_backend("numba-int8", bundle, threads=2)
    assert backend.threads == 2
    assert isinstance(backend.encoder, StreamEncoder)
    assert backend.encoder.threads == 2
    assert [getattr(decoder, "threads", 0) for decoder in backend.decoders] == [sampling]
