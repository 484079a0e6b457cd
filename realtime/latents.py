"""What a performer does to the embedding on its way to the decoder: smooth, hold, roughen."""

from __future__ import annotations

import math

import numpy as np

from model.interface import Latents
from realtime.controls import Controls
from realtime.seed import Uniforms

_NOISE_STREAM = 2**63
"""Its place among the domains, far behind them all, in the numbers that a seed gives."""


class LatentShaper:
    """Holds the latent that sounds, and moves it towards the one that is heard."""

    def __init__(self, rest: Latents, hop_s: float, seed: int) -> None:
        """rest: (1, channels) float32, the latent of silence, which comes before the first."""
        self._held = rest.astype(np.float32, copy=True)
        self._hop_s = hop_s
        self._uniforms = Uniforms(seed, 2 * rest.size)
        self._drawn = np.empty(2 * rest.size, np.float32)

    def shape(self, heard: Latents, hop: int, controls: Controls) -> Latents:
        """The latent to play for the one that is heard, both (1, channels) float32.

        Smoothing is one pole with the time constant ``latent_smooth``; ``freeze`` stops it where
        it is.  ``latent_noise`` is added last, so that a frozen sound can live; it depends on seed
        and hop alone.  With none of them the latent passes as it is.  Valid until the next call.
        """
        if not controls.freeze:
            if controls.latent_smooth:
                nearer = -math.expm1(-self._hop_s / controls.latent_smooth)
                self._held += np.float32(nearer) * (heard - self._held)
            else:
                np.copyto(self._held, heard)
        if not controls.latent_noise:
            return self._held
        return self._held + np.float32(controls.latent_noise) * self._normal(hop)

    def seed(self, seed: int) -> None:
        """Draw noise from here on as a run with this seed does from its beginning."""
        self._uniforms = Uniforms(seed, self._uniforms.hop_samples)

    def _normal(self, hop: int) -> Latents:
        """(1, channels) from the standard normal distribution (Box and Muller, 1958)."""
        first, second = np.split(self._uniforms.fill(_NOISE_STREAM, hop, self._drawn), 2)
        radius = np.sqrt(-2.0 * np.log1p(-first))
        return (radius * np.cos(np.float32(2.0 * math.pi) * second))[None]
