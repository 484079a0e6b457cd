"""Backends by name: the encoder and every domain's decoder of a bundle, ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from model.bundle import Bundle
from model.config import SILENCE, ModelConfig
from model.errors import BackendUnavailable, ConfigError
from model.interface import Decoder, Encoder, Latents
from model.reference import ReferenceDecoder, ReferenceEncoder
from model.weights import Weights
from realtime.decoder import NumbaDecoder
from realtime.stream_encoder import StreamEncoder

DEFAULT_BACKEND = "numba-int8"

SHARED_CHANNELS = 128
"""Residual channels from which two threads sample faster than one; see ``umt bench decode``."""


@dataclass(frozen=True)
class Backend:
    """One bundle's network on one backend."""

    name: str
    config: ModelConfig
    encoder: Encoder
    decoders: tuple[Decoder, ...]
    """In the bundle's order."""
    temperatures: tuple[float, ...]
    """Of each decoder, as the bundle has it: what the control's value is multiplied by."""
    threads: int = 1
    """Threads that may work on one stream."""


@dataclass(frozen=True)
class RestStates:
    """States as endless silence leaves them: what a stream starts from and falls back to.

    They are templates: copy one before running it.
    """

    encoder: Any
    """At the end of a hop: the next latent comes out after one more."""
    decoders: tuple[Any, ...]
    latent: Latents
    """(1, latent_channels): the latent of silence."""


_Maker = tuple[
    Callable[[ModelConfig, Weights, int], Encoder], Callable[[ModelConfig, Weights, int], Decoder]
]


def _numba(dtype: str) -> _Maker:
    def make_encoder(config: ModelConfig, weights: Weights, threads: int) -> Encoder:
        return StreamEncoder(config, weights, dtype, threads)

    def make_decoder(config: ModelConfig, weights: Weights, threads: int) -> Decoder:
        return NumbaDecoder(config, weights, dtype, threads)

    return make_encoder, make_decoder


def _reference_encoder(config: ModelConfig, weights: Weights, _threads: int) -> Encoder:
    return ReferenceEncoder(config, weights)


def _reference_decoder(config: ModelConfig, weights: Weights, _threads: int) -> Decoder:
    return ReferenceDecoder(config, weights)


def _triton_encoder(config: ModelConfig, weights: Weights, _threads: int) -> Encoder:
    return _triton("encoder").TritonEncoder(config, weights)


def _triton_decoder(config: ModelConfig, weights: Weights, _threads: int) -> Decoder:
    return _triton("decoder").TritonDecoder(config, weights)


def _triton(part: str) -> Any:
    """A module of the GPU backend, which only who asks for it needs to have installed."""
    try:
        return import_module(f"triton_kernels.{part}")
    except ImportError as error:
        raise BackendUnavailable(
            f"the triton backend needs torch and triton ({error}); pip install 'umt-live[gpu]', "
            f"or use --backend {DEFAULT_BACKEND}"
        ) from error


_MAKERS: dict[str, _Maker] = {
    "numba-int8": _numba("int8"),
    "numba-float32": _numba("float32"),
    "triton": (_triton_encoder, _triton_decoder),
    "reference": (_reference_encoder, _reference_decoder),
}

BACKENDS = tuple(_MAKERS)


def open_backend(name: str, bundle: Bundle, threads: int = 1) -> Backend:
    """Lay a bundle's weights out for a backend.

    threads: that may work on one stream. Two encode together; they sample together only where that
    pays, and otherwise take a decoder each while a crossfade has two. Only numba's backends have
    two. Raises ConfigError if there is none of this name, listing the names, or it cannot have so
    many threads; BackendUnavailable if it cannot run here.
    """
    if name not in _MAKERS:
        raise ConfigError(f"no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    if not name.startswith("numba") and threads > 1:
        raise ConfigError(f"the {name} backend has one thread, got {threads}; use one")
    make_encoder, make_decoder = _MAKERS[name]
    wide = bundle.config.decoder.residual_channels >= SHARED_CHANNELS
    sampling = threads if wide else 1
    return Backend(
        name=name,
        config=bundle.config,
        encoder=make_encoder(bundle.config, bundle.encoder, threads),
        decoders=tuple(
            make_decoder(bundle.config, bundle.decoders[domain], sampling)
            for domain in bundle.domain_names
        ),
        temperatures=tuple(domain.temperature for domain in bundle.domains),
        threads=threads,
    )


def rest_states(backend: Backend) -> RestStates:
    """Run a backend over silence until nothing changes any more."""
    config = backend.config
    hop = config.hop_samples
    encoder_state = backend.encoder.initial_state()
    # One hop beyond the receptive field, so that every output in the last mean has settled.
    settling = config.encoder.receptive_field + config.encoder.lookahead_samples
    hops = -(-settling // hop) + 1
    silence = np.zeros(config.encoder.lookahead_samples + hops * hop, np.float32)
    heard = backend.encoder.encode(silence, encoder_state)
    latent = heard[-1:].copy()
    hops = config.receptive_field_hops
    codes = np.full(hops * hop, SILENCE, np.uint8)
    decoder_states = []
    for decoder in backend.decoders:
        state = decoder.initial_state()
        decoder.prime(np.repeat(latent, hops, axis=0), codes, state)
        decoder_states.append(state)
    return RestStates(encoder_state, tuple(decoder_states), latent)


def is_interpreted(backend: Backend) -> bool:
    """Whether Triton's interpreter stands in for a GPU: thousands of times slower."""
    return backend.name == "triton" and bool(_triton("device").is_interpreted())


def warm_up(backend: Backend) -> None:
    """Compile every kernel and touch every weight, so that no stream has to."""
    hop = backend.config.hop_samples
    silence = np.zeros(hop, np.float32)
    backend.encoder.encode(silence, backend.encoder.initial_state())
    latent = np.zeros((1, backend.config.latent_channels), np.float32)
    codes = np.full(hop, SILENCE, np.uint8)
    for decoder in backend.decoders:
        state = decoder.initial_state()
        decoder.prime(latent, codes, state)
        decoder.teacher_force(latent, codes, state)
        decoder.generate(latent, silence, state)
