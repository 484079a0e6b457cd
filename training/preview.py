"""Short translations of held-out audio, written while a network trains so that ears can judge."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from model import mulaw
from model.bundle import Bundle
from model.config import SAMPLE_RATE
from model.reference import ReferenceDecoder, ReferenceEncoder


def write_previews(
    bundle: Bundle, sources: dict[str, NDArray[np.float32]], folder: Path, seed: int = 0
) -> list[Path]:
    """Translate each source into the next domain, by the reference sampler.

    sources: domain name to (time,) float32 audio at 16 kHz; each is written beside its
    translation as ``FROM.wav`` and ``FROM-to-TO.wav``. A second of audio takes about twelve with
    the ``live`` profile and a minute with ``paper``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder = ReferenceEncoder(bundle.config, bundle.encoder, np.float32)
    names = bundle.domain_names
    written = []
    for source, audio in sources.items():
        target = names[(names.index(source) + 1) % len(names)]
        decoder = ReferenceDecoder(bundle.config, bundle.decoders[target], np.float32)
        latents = encoder.encode(audio, encoder.initial_state())
        uniforms = np.random.default_rng(seed).random(
            len(latents) * bundle.config.hop_samples, dtype=np.float32
        )
        warmth = bundle.domains[bundle.domain_index(target)].temperature
        codes = decoder.generate(latents, uniforms, decoder.initial_state(), warmth)
        for path, sound in (
            (folder / f"{source}.wav", audio),
            (folder / f"{source}-to-{target}.wav", mulaw.decode(codes)),
        ):
            soundfile.write(path, sound, SAMPLE_RATE, subtype="PCM_16")
            written.append(path)
    return written
