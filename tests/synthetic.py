"""Small synthetic recordings, so that no test needs prepared data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.bundle import Domain
from model.config import SAMPLE_RATE, profile
from training.run import Recordings
from training.settings import TEACHING, TrainSettings


def tones(domain: int, seconds: float, seed: int) -> NDArray[np.float32]:
    """A run of short random notes; each domain has a timbre of its own."""
    rng = np.random.default_rng([domain, seed])
    notes = []
    while sum(map(len, notes)) < seconds * SAMPLE_RATE:
        time = np.arange(int(rng.uniform(0.1, 0.3) * SAMPLE_RATE)) / SAMPLE_RATE
        pitch = 220 * 2 ** (rng.integers(0, 24) / 12)
        partials = sum(
            np.sin(2 * np.pi * pitch * k * time) / k ** (1 + domain) for k in range(1, 6)
        )
        notes.append(0.15 * partials * np.minimum(1, 50 * (time[-1] - time)))
    return np.concatenate(notes)[: int(seconds * SAMPLE_RATE)].astype(np.float32)


def recordings(domains: tuple[str, ...] = ("flat", "soft")) -> Recordings:
    """Two seconds of training audio and one of test audio for each domain."""
    return Recordings(
        train={name: [tones(i, 1.2, 0), tones(i, 0.8, 1)] for i, name in enumerate(domains)},
        test={name: [tones(i, 1.0, 2)] for i, name in enumerate(domains)},
        about={name: Domain(name, "synthetic tones") for name in domains},
    )


def settings(**changes: object) -> TrainSettings:
    """A run of the tiny network on the synthetic domains."""
    fields: dict[str, object] = {
        "config": profile("tiny"),
        "domains": ("flat", "soft"),
        "steps": 8,
        "batch": 2,
        "segment_hops": 7,
        "content_weight": 0.0,
    }
    # Nothing beside the paper's own, but for what a test asks for.
    fields |= dict.fromkeys(TEACHING, 0.0)
    return TrainSettings(**(fields | changes))  # type: ignore[arg-type]
