"""Held-out negative log-likelihood of a bundle, by decoder backend, in nats per sample.

Teacher-forced: every sample is scored given the true ones before it, so weight dtypes can be
compared on the same audio without the chance of sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import mulaw
from model.bundle import Bundle, HeldOutNll
from model.config import LEVELS, SAMPLE_RATE, ModelConfig
from model.errors import DataError, ShapeError
from model.interface import Codes
from realtime.backends import Backend, open_backend

CHANCE = float(np.log(LEVELS))
"""Nats per sample of a guess that holds every code equally likely."""

INT8_COST_LIMIT = 0.01
"""Nats per sample that int8 weights may lose: nothing that can be heard."""

COMPARED = ("numba-float32", "numba-int8")
"""Backends that score a bundle, exact weights first."""


def nats_per_sample(logits: NDArray[np.floating], codes: Codes) -> float:
    """Mean negative log-likelihood of ``codes`` under softmax(``logits``).

    logits: (time, 256). codes: (time,) uint8. Raises ShapeError if they do not agree or are empty.
    """
    if logits.shape != (len(codes), LEVELS) or not len(codes):
        raise ShapeError(f"{len(codes)} codes need logits ({len(codes)}, 256), got {logits.shape}")
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    chosen = shifted[np.arange(len(codes)), codes]
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - chosen))


@dataclass(frozen=True)
class HeldOutScore:
    """One domain's score under one backend."""

    domain: str
    backend: str
    nats: float
    samples: int
    """How many were scored."""

    @property
    def seconds(self) -> float:
        """Audio scored."""
        return self.samples / SAMPLE_RATE


def held_out_nll(
    bundle: Bundle,
    backend: Backend,
    test: Mapping[str, Sequence[NDArray[np.float32]]],
    seconds: float,
    progress: Callable[[str], None] = lambda domain: None,
) -> list[HeldOutScore]:
    """Score the middle of every test recording of every domain, about ``seconds`` a domain.

    test: domain name to 16 kHz float32 recordings. Raises DataError for a domain without any.
    """
    scores = []
    for index, name in enumerate(bundle.domain_names):
        segments = _segments(test.get(name, ()), seconds, bundle.config)
        if not segments:
            raise DataError(
                f"no test recording of domain {name} lasts a hop and the encoder's look-ahead; "
                "run umt data prepare"
            )
        nats, samples = 0.0, 0
        for audio in segments:
            latents = backend.encoder.encode(audio, backend.encoder.initial_state())
            codes = mulaw.encode(audio[: len(latents) * bundle.config.hop_samples])
            decoder = backend.decoders[index]
            logits = decoder.teacher_force(latents, codes, decoder.initial_state())
            nats += nats_per_sample(logits, codes) * len(codes)
            samples += len(codes)
        scores.append(HeldOutScore(name, backend.name, nats / samples, samples))
        progress(name)
    return scores


def compare_weights(
    bundle: Bundle,
    test: Mapping[str, Sequence[NDArray[np.float32]]],
    seconds: float,
    progress: Callable[[str], None] = lambda domain: None,
) -> dict[str, HeldOutNll]:
    """Score float32 and int8 weights on the same audio, by domain, to 1e-5 nat.

    Latents come from the streaming encoder, logits from the decoders that play.
    test, seconds: as ``held_out_nll`` takes them. progress: told of each domain, twice.
    Raises DataError for a domain without recordings, BundleError for scores that are no numbers.
    """
    exact, small = (
        held_out_nll(bundle, open_backend(name, bundle), test, seconds, progress)
        for name in COMPARED
    )
    return {
        one.domain: HeldOutNll(round(one.nats, 5), round(other.nats, 5), one.samples)
        for one, other in zip(exact, small, strict=True)
    }


def _segments(
    recordings: Sequence[NDArray[np.float32]], seconds: float, config: ModelConfig
) -> list[NDArray[np.float32]]:
    """An equal share of ``seconds`` from the middle of each recording, in whole hops.

    After each comes what the encoder must hear ahead; shorter recordings are left out.
    """
    if not recordings:
        return []
    hop, ahead = config.hop_samples, config.encoder.lookahead_samples
    share = max(hop, int(seconds * SAMPLE_RATE / len(recordings)) // hop * hop)
    cuts = []
    for audio in recordings:
        length = min(share, (len(audio) - ahead) // hop * hop)
        if length > 0:
            start = (len(audio) - ahead - length) // 2
            cuts.append(audio[start : start + length + ahead])
    return cuts
