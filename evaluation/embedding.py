"""The embedding of whole recordings, and back: what ``umt translate`` does, in two steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model import mulaw
from model.interface import Latents
from realtime.backends import Backend, rest_states
from realtime.seed import Uniforms

Samples = NDArray[np.float32]


def embed(backend: Backend, audio: Samples) -> Latents:
    """(frames, latent_channels): one latent for each whole hop of ``audio``, silence around it.

    audio: (time,) float32 at 16 kHz. Raises ShapeError if it is anything else.
    """
    config = backend.config
    # As many hops of silence as the encoder remembers, so that none of them hears a beginning.
    settling = -(-config.encoder.receptive_field // config.hop_samples)
    before = np.zeros(settling * config.hop_samples, np.float32)
    ahead = np.zeros(config.encoder.lookahead_samples, np.float32)
    given = np.concatenate([before, audio, ahead])
    return backend.encoder.encode(given, backend.encoder.initial_state())[settling:]


def decode(backend: Backend, domain: int, latents: Latents, seed: int) -> Samples:
    """(frames * hop_samples,) float32 at 16 kHz: ``latents`` played after silence.

    domain: index of the decoder. The same seed samples each moment as the chain would.
    """
    hop = backend.config.hop_samples
    drawn = np.empty(len(latents) * hop, np.float32)
    uniforms = Uniforms(seed, hop).fill(domain, 0, drawn)
    state = rest_states(backend).decoders[domain].copy()
    warmth = backend.temperatures[domain]
    return mulaw.decode(backend.decoders[domain].generate(latents, uniforms, state, warmth))
