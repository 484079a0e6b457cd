"""What a domain in training sounds like so far, by the engine that will play it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bridge.files import RateConverter, Translation
from bridge.performance import example_path, read_performance
from bridge.soundfiles import new_sound
from model.bundle import Bundle
from model.config import SAMPLE_RATE
from realtime.backends import open_backend
from realtime.chain import Chain
from realtime.controls import Controls

PERFORMANCE = "performance"
"""How previews name the bundled example performance."""


class EnginePreviews:
    """Writes translations of test audio, and of the example performance, into every domain."""

    def __init__(self, backend: str, seconds: float, seed: int = 0) -> None:
        """backend: by name, as ``open_backend`` takes it.  seconds: of the performance."""
        audio, rate = read_performance(example_path(), seconds)
        self._performance = RateConverter(rate, SAMPLE_RATE).process(audio, last=True)
        self._backend = backend
        self._seed = seed

    def __call__(
        self, bundle: Bundle, sources: dict[str, NDArray[np.float32]], folder: Path
    ) -> list[Path]:
        """Write each source as ``FROM.wav`` and its translations as ``FROM-to-TO.wav``.

        Returns the translations' paths. Raises AudioFileError if one cannot be written.
        """
        backend = open_backend(self._backend, bundle)
        heard = sources | {PERFORMANCE: self._performance}
        written = []
        for source, audio in heard.items():
            _write(folder / f"{source}.wav", audio)
            for index, name in enumerate(bundle.domain_names):
                chain = Chain(bundle, backend, seed=self._seed, controls=Controls(domain=index))
                with chain:
                    translation = Translation(chain, SAMPLE_RATE)
                    translated = np.concatenate([translation.process(audio), translation.finish()])
                written.append(folder / f"{source}-to-{name}.wav")
                _write(written[-1], translated)
        return written


def _write(path: Path, audio: NDArray[np.float32]) -> None:
    with new_sound(path, SAMPLE_RATE, "PCM_16") as sound:
        sound.write(audio)
